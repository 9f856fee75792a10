import pytest
from prefect.states import Failed

from tasks.retries import is_transient
from volvox.errors import GateRefused, InvalidInput, ModuleFailed, Unavailable


@pytest.mark.parametrize(
    ("failure", "again"),
    [
        (Unavailable("down"), True),
        (InvalidInput("no"), False),
        (ModuleFailed("no"), False),
        (GateRefused("no"), False),
        (ValueError("a bug"), False),
    ],
)
def test_only_what_did_not_answer_is_asked_again(failure, again) -> None:
    assert is_transient(None, None, Failed(data=failure)) is again
