from __future__ import annotations

import pytest

from deployments.admitting import admitted


@pytest.mark.parametrize(
    ("asked", "taken", "limit", "gpus", "chosen", "held"),
    [
        pytest.param("a b c", "", None, None, "a b c", "", id="without limits all start"),
        pytest.param("a b c", "x", 2, None, "a", "", id="one that runs takes a place"),
        pytest.param("a b", "a", 2, None, "b", "", id="one that is being started is not started again"),
        pytest.param("a b", "x y z", 2, None, "", "", id="a limit that was lowered is kept from now on"),
        pytest.param("a1 b1 c1", "", 4, 2, "a1 b1", "c1", id="no more GPUs than there are"),
        pytest.param("a1 b", "x2", 4, 2, "b", "a1", id="who needs no GPU passes who waits for one"),
        pytest.param("a2 b1", "x1", 4, 2, "", "a2 b1", id="who needs one GPU does not overtake who needs two"),
        pytest.param("a8 b1", "", 4, 2, "a8", "b1", id="who needs more than there are gets all, rather than nothing"),
        pytest.param("a1", "", 4, 0, "a1", "", id="where there are none, the pool's offer has refused it before"),
        pytest.param("a4 b4", "", None, None, "a4 b4", "", id="nobody counts them"),
    ],
)
def test_who_may_start(asked: str, taken: str, limit: int | None, gpus: int | None, chosen: str, held: str) -> None:
    def runs(text: str) -> dict[str, int]:
        return {word: int(word[1:] or 0) for word in text.split()}

    assert admitted(runs(asked), runs(taken), limit, gpus) == (chosen.split(), held.split())
