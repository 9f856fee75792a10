from __future__ import annotations

import io
import json
import shlex

import pytest
from rich.console import Console

from tests.volvox.cli.made_up import made_up_cycle
from volvox.cli.report import _places, as_json, bar, curl_line, end_screen, orchestration_seconds
from volvox.foreseen import Foreseen


def screen(width: int = 100, **made: object) -> str:
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    console = Console(file=out, width=width, force_terminal=True, color_system=None, highlight=False)
    end_screen(made_up_cycle(**made), 41.2, console)  # type: ignore[arg-type]
    out.seek(0)
    return out.read()


@pytest.mark.parametrize("made", [{}, {"classes": 2}, {"classes": 400, "attempts": 30}, {"accepted": False}])
def test_the_end_is_one_screen(made: dict[str, object]) -> None:
    lines = screen(**made).splitlines()
    assert len(lines) <= 40
    assert all(len(line) <= 100 for line in lines if "http" not in line)


def test_the_end_says_how_good_and_how_long_and_where_to_go() -> None:
    text = screen()
    for said in (
        "digits version 2", "0.985", "5 left out", "✔ accepted", "of which orchestration 9.2 s", "reused",
        "http://127.0.0.1:8080/models/digits/", "http://127.0.0.1:8080/catalogue/digits/", "Prefect", "MLflow",
    ):  # fmt: skip
        assert said in text


def test_the_end_says_what_was_predicted_of_a_training_beside_what_it_was() -> None:
    thought = Foreseen(seconds=40, low=30, high=50, cost=0.25, said="from 2 runs")
    made = made_up_cycle(classes=400, attempts=30)
    model = made.model.model_copy(update={"foreseen": thought, "cost": 0.3, "seconds": 50.0})
    console = Console(file=io.StringIO(), width=100, highlight=False)
    end_screen(made.model_copy(update={"model": model}), 41.2, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "training     50 s (40 s predicted), cost 0.30 (0.25 predicted)" in text
    assert len(text.splitlines()) <= 40


def test_the_end_says_what_ran_on_which_pool_and_nothing_of_pools_else() -> None:
    assert "on pools" not in screen()
    cycle = made_up_cycle()
    moved = {"training": "docker", "evaluation": "docker", "packaging": "local"}
    stages = tuple(one.model_copy(update={"place": moved.get(one.stage, "")}) for one in cycle.stages * 2)
    assert dict(_places(cycle.model_copy(update={"stages": stages})))["on pools"] == (
        "docker: training, evaluation; local: packaging"
    )


def test_a_refusal_says_so_and_names_no_service() -> None:
    text = screen(accepted=False, attempts=2)
    assert "✘ refused" in text
    assert "curl" not in text
    assert "attempt 2" in text
    assert "epochs=20" in text


def test_of_many_classes_the_worst_are_shown() -> None:
    text = screen(classes=40)
    assert "F1 of the 12 worst of 40 classes" in text
    assert "class 39 " in text
    assert "class 1 " not in text


def test_links_are_never_broken_over_lines() -> None:
    cycle = made_up_cycle()
    text = screen(width=80)
    assert all(f"{url}\n" in text for title, url in cycle.links.items() if title != "example")
    assert curl_line(cycle) in text


def test_the_curl_line_survives_a_shell() -> None:
    words = shlex.split(curl_line(made_up_cycle()))
    assert words == [
        "curl", "-F", "image=@/home/someone/.volvox/demo/digits/3/0017 b.png",
        "http://127.0.0.1:8080/v2/models/digits/predict/",
    ]  # fmt: skip
    assert curl_line(made_up_cycle(accepted=False)) == ""


def test_a_terminal_without_unicode_gets_a_screen_too() -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    end_screen(made_up_cycle(attempts=2), 41.2, Console(file=out, width=100, highlight=False))
    out.seek(0)
    text = out.read()
    assert "accepted" in text
    assert "####" in text


@pytest.mark.parametrize(
    ("value", "drawn"), [(0.0, "    "), (1.0, "████"), (0.5, "██  "), (0.53125, "██▏ "), (7.0, "████"), (-1.0, "    ")]
)
def test_a_bar_is_drawn_in_eighths(value: float, drawn: str) -> None:
    assert bar(value, 4) == drawn


def test_orchestration_is_the_wall_time_less_the_stages_own_work() -> None:
    cycle = made_up_cycle()
    assert orchestration_seconds(cycle, 41.2) == pytest.approx(41.2 - 8 * 4.0)
    assert orchestration_seconds(cycle, 1.0) == 0.0
    told = json.loads(json.dumps(as_json(cycle, 41.2)))
    assert told["orchestration_seconds"] == 9.2
    assert told["version"]["version"] == "2"
