from __future__ import annotations

from flows.summary import NOTHING_NEW, artifact_key, as_markdown, in_a_sentence
from tests.volvox.cli.made_up import made_up_cycle


def test_a_cycle_in_which_nothing_was_new_says_so() -> None:
    made = made_up_cycle()
    reused = made.model_copy(
        update={"stages": tuple(stage.model_copy(update={"reused": True}) for stage in made.stages)}
    )
    assert reused.reused
    assert in_a_sentence(reused) == NOTHING_NEW
    assert NOTHING_NEW.capitalize() in as_markdown(reused)
    assert not made.reused
    assert NOTHING_NEW.capitalize() not in as_markdown(made)


def test_the_page_says_what_was_done_where_and_where_it_is() -> None:
    made = made_up_cycle()
    elsewhere = tuple(
        stage.model_copy(update={"place": "kubernetes" if stage.stage == "training" else "", "reused": False})
        for stage in made.stages
    )
    page = as_markdown(made.model_copy(update={"stages": elsewhere}))
    assert "| training | run | kubernetes |" in page
    assert "| data | run | in this run |" in page
    assert made.service is not None
    assert f"[try it]({made.service.try_url})" in page
    assert "Gate: accepted." in page
    assert "file://" not in page


def test_a_refused_cycle_has_a_page_too() -> None:
    page = as_markdown(made_up_cycle(accepted=False))
    assert "**refused**" in page
    assert "no new version" in page


def test_the_key_is_one_that_prefect_takes() -> None:
    assert artifact_key("Lake_1.b") == "cycle-lake-1-b"
