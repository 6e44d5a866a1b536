"""From a catalog that the survey wrote to a model in production, by the command."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from finetune import tasks
from finetune.gate import Limits
from finetune.labels import LabelError
from finetune.registry import Registry
from pipeline.cli import main
from pipeline.hats import CatalogError
from pipeline.retrain import alarms, gather
from tests import toy_night
from tests.finetune.test_registry_commands import write_sky
from tests.finetune.toy_task import TASK
from transforms.store import Store


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Two nights that use the same file names for other stars, with labels of all of them."""
    with pytest.MonkeyPatch.context() as patch:
        toy_night.install(patch.setattr)
        patch.setattr(os, "fsync", lambda handle: None)
        patch.setattr(tasks, "names", lambda: ("toy",))
        patch.setattr(tasks, "get", {"toy": dataclasses.replace(TASK, merit=("accuracy",))}.__getitem__)
        yield _make(tmp_path_factory.mktemp("survey"))
    toy_night.forget()


def _make(tmp_path: Path) -> Path:
    lines = ["ra,dec,class_name"]
    for number, night in enumerate(("2026-11-24", "2026-11-25")):
        write_sky(tmp_path / night, 6, number)
        toy_night.run(tmp_path / night / "night", output=tmp_path / "catalog", night=night)
        for path in sorted((tmp_path / night / "night").iterdir()):
            for text in path.read_text().splitlines()[1:]:
                value = float(text)
                lines.append(f"{(value * 7) % 360!r},{(value * 3) % 90!r},{'bright' if value > 0 else 'faint'}")
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_labels_are_joined_to_rows_and_rows_to_files(survey: Path) -> None:
    found = gather(str(survey / "catalog"), "toy", str(survey / "labels.csv"), options={"steps": 5})
    assert {name: found.counts[name] for name in ("rows", "matched", "labels")} == dict.fromkeys(
        ("rows", "matched", "labels"), 120
    )
    assert len(found.files) == 12
    assert len({file.source for file in found.files}) == 12, "the same name on two nights is two files"
    assert all(Path(file.url).is_file() and len(file.digest) == 64 for file in found.files)
    sources = {file.source for file in found.files}
    assert {row["source"] for row in found.rows} == sources
    assert found.options == {"steps": 5}
    by_place = {(row["source"], row["row"]): row["class_name"] for row in found.rows}
    for file in found.files:
        for number, text in enumerate(Path(file.url).read_text().splitlines()[1:]):
            assert by_place[file.source, number] == ("bright" if float(text) > 0 else "faint")


def test_labels_that_match_nothing_show_three_of_each_side(survey: Path) -> None:
    labels = survey / "other.csv"
    labels.write_text("object_id,class_name\n" + "".join(f"star-{i},bright\n" for i in range(5)))
    with pytest.raises(LabelError) as caught:
        gather(str(survey / "catalog"), "toy", str(labels))
    said = str(caught.value)
    assert said.startswith("none of the 5 labels of")
    assert said.count("object_id='star-") == 3
    assert said.count("object_id='f") == 3
    with pytest.raises(LabelError, match="no such file on this machine"):
        gather(str(survey / "catalog"), "toy", str(survey / "nowhere.csv"))
    with pytest.raises(CatalogError, match="no run was committed"):
        gather(str(survey / "empty"), "toy", str(survey / "labels.csv"))
    assert alarms(Store(str(survey / "catalog")), "toy") == ()


def test_the_command_decides_trains_promotes_and_then_has_nothing_to_do(
    survey: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from finetune import retrain

    plain = retrain.Policy
    monkeypatch.setattr(
        retrain, "Policy",
        lambda **given: plain(**{**given, "limits": Limits(objects=10, ece=0.5, speed=0.01), "draws": 50}),
    )  # fmt: skip
    words = ["retrain", "--catalog", str(survey / "catalog"), "--labels", str(survey / "labels.csv")]
    words += ["--registry", str(survey / "models"), "--steps", "40", "--set", "evaluations=2"]
    assert main([*words, "--min-labels", "1000"]) == 0
    shown = capsys.readouterr().out
    assert "toy: nothing to do" in shown
    assert "60 objects with new labels, 1000 are enough" in shown, "an identifier that two nights share is one object"
    words += ["--min-labels", "50"]
    assert main([*words, "--dry-run", "--quiet"]) == 0
    assert not list((survey / "models").glob("*/snapshots"))
    assert main([*words, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["outcome"] == "promoted"
    assert Registry(str(survey / "models")).state("toy").production == report["candidate"]
    assert Path(report["path"], "given", "labels.csv").read_text() == (survey / "labels.csv").read_text()
    assert main(words) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert main(words[:5]) == 2
    assert "retrain needs --registry" in capsys.readouterr().err
    assert main([*words, "--floor", "bright=high"]) == 2
    (survey / "other.csv").write_text("object_id,teff\na,1\n")
    assert main([*words, "--labels", str(survey / "other.csv")]) == 2
    assert "hold no column that a task learns" in capsys.readouterr().err
