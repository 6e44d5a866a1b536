"""A search for training options, on the toy task: every trial is a real training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from finetune import search
from finetune.bundle import load_bundle
from finetune.search import run_search
from finetune.search_space import Choice, Range, default_space, parse_space
from finetune.training_options import OptionsError, make_options
from finetune.watched_trainer import TrainingError
from tests.finetune.toy_task import TASK

QUICK = {"steps": 24, "evaluations": 3}
SPACE = {"learning_rate": "1e-6:0.03:log", "batch_size": "8,16"}
OPTIONS = make_options(TASK, QUICK)


def go(sky: Path, name: str = "s", trials: int = 4, **more: Any) -> dict[str, Any]:
    given: dict[str, Any] = {"space": SPACE, "options": QUICK, "draws": 20, **more}
    return run_search("toy", str(sky / "labels.csv"), [str(sky / "night")], sky / name, trials=trials, **given)


def test_the_best_trial_is_trained_and_judged(sky: Path) -> None:
    said: list[str] = []
    found = go(sky, say=said.append)
    assert [t["number"] for t in found["trials"]] == list(range(4))
    assert {t["state"] for t in found["trials"]} <= {"complete", "pruned"}
    ended = [t["validation_loss"] for t in found["trials"] if t["state"] == "complete"]
    assert found["best"]["validation_loss"] == min(ended)
    assert found["first"]["options"]["learning_rate"] == OPTIONS.learning_rate, "the first is what train would do"
    assert found["best"]["validation_loss"] <= found["first"]["validation_loss"]
    used = load_bundle(sky / "s" / "bundle").info.training["options"]
    assert {name: used[name] for name in SPACE} == found["best"]["options"]
    assert found["n"] == 9, "the test objects of the split"
    assert json.loads((sky / "s" / "search.json").read_text())["best"] == found["best"]
    page = (sky / "s" / "search.html").read_text()
    assert "4 trials." in page
    assert "learning_rate" in page
    assert sum(text.startswith("trial ") for text in said) == 4


def test_a_search_that_was_cut_off_goes_on_and_ends_the_same(sky: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = go(sky, "whole")
    real, count = search._trial, 0

    def cut(*arguments: Any) -> float:
        nonlocal count
        count += 1
        if count == 3:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(search, "_trial", cut)
    with pytest.raises(KeyboardInterrupt):
        go(sky, "parts")
    monkeypatch.setattr(search, "_trial", real)
    parts = go(sky, "parts")
    ended = [t for t in parts["trials"] if t["state"] != "fail"]
    assert len(parts["trials"]) == 5, "the one that was cut off is told"
    assert [(t["options"], t["validation_loss"]) for t in ended] == [
        (t["options"], t["validation_loss"]) for t in whole["trials"]
    ]
    assert parts["best"]["options"] == whole["best"]["options"]


def test_more_trials_are_added_to_those_that_are_there(sky: Path) -> None:
    first = go(sky, trials=2)
    more = go(sky, trials=3)
    assert more["trials"][:2] == first["trials"]
    assert len(more["trials"]) == 3
    assert len(go(sky, trials=3)["trials"]) == 3


def test_another_search_in_the_same_folder_is_refused(sky: Path) -> None:
    go(sky, trials=1)
    with pytest.raises(OptionsError, match="is a search with other space"):
        go(sky, trials=1, space={"dropout": "0:0.5"})
    with pytest.raises(OptionsError, match="is a search with other options"):
        go(sky, trials=1, options={**QUICK, "steps": 25})
    lines = (sky / "labels.csv").read_text().splitlines()
    (sky / "labels.csv").write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(OptionsError, match="is a search with other data"):
        go(sky, trials=1)


def test_options_that_break_a_training_fail_alone(sky: Path) -> None:
    found = go(sky, trials=3, space={"learning_rate": "1e-3:1e-2:log"}, options={**QUICK, "clip": 0})
    assert all(t["state"] != "fail" for t in found["trials"])
    with pytest.raises(TrainingError, match="trials"):
        go(sky, "never", trials=2, options={**QUICK, "steps": 0})


def test_the_default_space_holds_the_task_s_own_values() -> None:
    for name, one in default_space(OPTIONS).items():
        value = getattr(OPTIONS, name)
        if isinstance(one, Range):
            assert value is None or one.low <= value <= one.high, name
        else:
            assert value in one.values, name


def test_what_is_searched_is_read() -> None:
    found = parse_space(
        {"steps": "10:20", "warmup": "0:0.5", "learning_rate": "1e-4:1e-2:log", "method": "full,layers:1"},
        OPTIONS,
        TASK,
    )
    assert found == {
        "learning_rate": Range(1e-4, 1e-2, True), "method": Choice(("full", "layers:1")), "steps": Range(10, 20),
        "warmup": Range(0, 0.5),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("pair", "sentence"),
    [
        (("learning_rate", "3:2"), "numbers that rise"),
        (("learning_rate", "0:1:log"), "above 0"),
        (("learning_rate", "1"), "not of the form"),
        (("learning_rate", "1:99"), "learning_rate 99 is not a number from 0 to 10"),
        (("colour", "1:2"), "unknown training option 'colour'"),
        (("method", "full,half"), "method 'half' is not one of"),
        (("loss", "focal,cross_entropy"), "the same in all trials"),
        (("seed", "1:5"), "the same in all trials"),
    ],
)
def test_a_wrong_space_is_refused(pair: tuple[str, str], sentence: str) -> None:
    with pytest.raises(OptionsError, match=sentence):
        parse_space(dict([pair]), OPTIONS, TASK)
