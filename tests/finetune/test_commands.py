from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from finetune import commands
from finetune.__main__ import main
from finetune.bundle import BundleError, load_bundle
from finetune.card import model_card
from finetune.commands import find_bundle, run_card, run_evaluate, run_train
from finetune.labels import LabelError
from finetune.split import Split
from finetune.training_options import OptionsError
from tests.finetune.toy_task import TASK

QUICK = {"steps": 80, "evaluations": 2}
NOTES = {
    "intended_use": ["To tell bright from faint."],
    "data": ["Invented; no licence | needed."],
    "limits": ["A toy."],
}


def train(sky: Path, name: str = "b", **options: Any) -> dict[str, Any]:
    given = {"options": QUICK, "draws": 50, "notes": NOTES, "command": "the command", **options}
    return run_train("toy", str(sky / "labels.csv"), [str(sky / "night")], sky / name, **given)


def test_train_evaluate_and_card(sky: Path) -> None:
    said: list[str] = []
    report = train(sky, say=said.append)
    assert (report["n"], report["data"]["matched"]) == (9, 60)
    assert report["metrics"]["learned"]["accuracy"][0] == 1.0
    assert report["untrained"]["accuracy"] < 1.0
    assert any("labels without record" in text for text in said)
    assert any(text == "split: 42 train, 9 validation, 9 test" for text in said)
    bundle = load_bundle(sky / "b")
    assert bundle.info.created_by == "the command"
    assert bundle.info.data["fingerprint"] == report["data"]["fingerprint"]
    assert bundle.info.training["options"]["steps"] == 80
    assert report["model"]["digest"] == bundle.digest[:16]

    again = run_evaluate(sky / "b", str(sky / "labels.csv"), [str(sky / "night")], draws=50)
    assert (again["n"], again["left_out_as_seen"]) == (9, 51), "what it was trained on does not judge it"
    assert again["metrics"] == report["metrics"], "the bundle answers as the training did"
    seen = run_evaluate(sky / "b", str(sky / "labels.csv"), [str(sky / "night")], draws=5, seen=True)
    assert (seen["n"], seen["left_out_as_seen"]) == (60, 0)

    text = run_card(sky / "b", {"Another survey": seen}, sky / "docs" / "toy.md").read_text()
    for part in (
        "# Model card: toy", "To tell bright from faint.", "Invented; no licence | needed.", "A toy.", "the command",
        bundle.digest, bundle.info.data["fingerprint"], "## Another survey", "### By class, learned", "before training",
        "60 objects in 60 groups", "| accuracy |",
    ):  # fmt: skip
        assert part in text, part
    value, low, high = report["metrics"]["best"]["accuracy"]
    assert f"{value:.4g} [{low:.4g}, {high:.4g}]" in text


def test_a_card_without_notes_says_so(sky: Path) -> None:
    train(sky, notes={})
    info = load_bundle(sky / "b").info
    text = model_card(TASK, info, "0" * 64, {"Nothing": {"n": 0, "groups": 0}})
    assert text.count("Not stated by who trained it.") == 3
    assert "No object to judge on." in text


def test_every_table_of_the_card_is_a_table(sky: Path) -> None:
    train(sky)
    lines = run_card(sky / "b", {}, sky / "toy.md").read_text().splitlines()
    widths = {line.replace("\\|", "").count("|") for line in lines if line.startswith("|")}
    assert widths
    for one, two in itertools.pairwise(lines):
        if one.startswith("|") and two.startswith("|"):
            assert one.replace("\\|", "").count("|") == two.replace("\\|", "").count("|")


def test_the_same_data_and_seed_give_the_same_bundle(sky: Path) -> None:
    assert train(sky, "one")["model"]["digest"] == train(sky, "two")["model"]["digest"]


def test_two_models_side_by_side_and_a_split_used_again(sky: Path) -> None:
    train(sky, "one")
    train(sky, "two", options={**QUICK, "seed": 9, "steps": 0}, split=str(sky / "one" / "split.json"))
    assert Split.load(sky / "one" / "split.json") == Split.load(sky / "two" / "split.json")
    labels, night = str(sky / "labels.csv"), [str(sky / "night")]
    report = run_evaluate(sky / "one", labels, night, other=sky / "two", draws=20)
    assert report["n"] == 9
    assert report["against"]["learned"]["accuracy"][0] > 0
    assert report["against"]["digest"] == load_bundle(sky / "two").digest[:16]
    card = run_card(sky / "one", {"Both": report}, sky / "card.md").read_text()
    assert f"Minus the model {report['against']['digest']}" in card


def test_faults_are_told_before_any_work(sky: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OptionsError, match="batch_size 0"):
        train(sky, options={"batch_size": 0})
    with pytest.raises(OptionsError, match="radius 0 is not"):
        train(sky, radius=0)
    with pytest.raises(LabelError, match="cannot be read"):
        run_train("toy", str(sky / "no.csv"), [str(sky / "night")], sky / "b")
    with pytest.raises(BundleError, match="is no bundle"):
        run_evaluate(sky / "nothing", str(sky / "labels.csv"), [])
    assert not (sky / "b").exists()
    monkeypatch.undo()
    with pytest.raises(OptionsError, match="no task named 'astrology'; there are"):
        run_train("astrology", "x", [], sky / "b")


def test_a_training_that_starts_from_a_model_tests_on_what_that_has_not_seen(
    sky: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(sky)
    first = json.loads((sky / "b" / "split.json").read_text())["parts"]
    report = train(sky, "c", options={**QUICK, "steps": 5, "seed": 9, "start": str(sky / "b")})
    assert json.loads((sky / "c" / "split.json").read_text())["parts"] == first
    assert report["n"] == 9
    info = load_bundle(sky / "c").info
    assert info.data["start"] == {"digest": load_bundle(sky / "b").digest, "created_by": "the command"}
    said: list[str] = []
    monkeypatch.setattr(commands, "SPLIT", "other.json")
    train(sky, "d", options={**QUICK, "steps": 0, "start": str(sky / "b")}, say=said.append)
    assert "b does not tell which objects it was trained on: test objects may be among them" in said
    with pytest.raises(BundleError, match="nowhere is no bundle"):
        train(sky, "e", options={**QUICK, "start": "nowhere"})


def test_a_name_means_the_model_that_ships(sky: Path) -> None:
    assert find_bundle(sky) == sky
    assert find_bundle("no/such/folder") == Path("no/such/folder")
    with pytest.raises(BundleError, match="no model ships for the task 'toy'"):
        find_bundle("toy")


def test_the_module_runs(sky: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (sky / "notes.json").write_text(json.dumps(NOTES))
    common = ["--labels", str(sky / "labels.csv"), "--input", str(sky / "night")]
    sets = ["--set", "steps=20", "--set", "evaluations=1", "--set", "storage=fp32", "--notes", str(sky / "notes.json")]
    assert main(["train", "toy", *common, "--output", str(sky / "b"), *sets]) == 0
    assert json.loads(capsys.readouterr().out)["n"] == 9
    info = load_bundle(sky / "b").info
    assert info.created_by.startswith("python -m finetune train toy --labels")
    assert info.training["options"]["storage"] == "fp32"
    page = ["--report", str(sky / "page")]
    assert main(["evaluate", str(sky / "b"), *common, "--seen", "--output", str(sky / "e.json"), *page]) == 0
    assert json.loads((sky / "page" / "report.json").read_text()) == json.loads((sky / "e.json").read_text())
    assert "<h2>Classes</h2>" in (sky / "page" / "index.html").read_text()
    assert json.loads((sky / "e.json").read_text())["n"] == 60
    assert main(["card", str(sky / "b"), "--evaluation", f"All={sky / 'e.json'}", "--output", str(sky / "c.md")]) == 0
    assert "## All" in (sky / "c.md").read_text()
    assert main(["evaluate", str(sky / "nothing"), *common]) == 2
    assert "is no bundle" in capsys.readouterr().err
