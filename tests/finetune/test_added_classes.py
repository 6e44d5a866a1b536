"""A taught class becomes a full one: the head grows, the classes that were there stay, the gate knows."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from finetune import tasks
from finetune.added_classes import not_learnt, plan_classes
from finetune.bundle import BundleError, check_version, load_bundle
from finetune.dataset import read_records
from finetune.gate import Limits
from finetune.grow import grow_model
from finetune.inputs import list_files
from finetune.predict import load_predictor
from finetune.registry import Registry
from finetune.registry_commands import teach_production
from finetune.retrain import Policy, run_retrain
from finetune.snapshot import Material
from finetune.task import Example, Task
from finetune.teach import embed
from finetune.train import predict_rows
from tests.finetune import toy_task
from tests.finetune.test_registry_commands import write_sky
from transforms.flags import bits

POLICY = Policy(min_labels=50, limits=Limits(objects=10, speed=0.01, ece=0.5), draws=50)
OPTIONS = {"steps": 120, "evaluations": 2}


def _task(classes: tuple[str, ...] = toy_task.CLASSES) -> Task:
    return dataclasses.replace(toy_task.make_task(classes), merit=("accuracy",), with_classes=_task)


@pytest.fixture(autouse=True)
def _toy_task(toys: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "names", lambda: ("toy",))
    monkeypatch.setattr(tasks, "get", {"toy": _task()}.__getitem__)
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    torch.set_num_threads(1)


def material(folder: Path, files: int, odd: int, **more: Any) -> Material:
    """Labelled toy stars, ten a file, and some that are neither bright nor faint."""
    labels, inputs = write_sky(folder, files, 0)
    lines = Path(labels).read_text().splitlines()
    values = np.random.default_rng(1).uniform(-0.3, 0.3, odd).round(3)
    (folder / "night" / "odd.txt").write_text("TOY\n" + "".join(f"{value}\n" for value in values))
    lines += [f"odd.txt:{i},odd" for i in range(odd)]
    Path(labels).write_text("\n".join(lines) + "\n")
    rows = []
    for line in lines[1:]:
        name, kind = line.split(",")
        source, _, row = name.partition(":")
        rows.append({"source": source, "hdu": "", "row": int(row), "group": name, "origin": "", "class_name": kind})
    return Material(given=labels, rows=tuple(rows), files=tuple(list_files(inputs)), **{"options": OPTIONS, **more})


def without(given: Material, kind: str) -> Material:
    return dataclasses.replace(given, rows=tuple(row for row in given.rows if row["class_name"] != kind))


def objects(given: Material, name: str) -> list[Example]:
    files = [file for file in given.files if file.source.endswith(name)]
    return [
        Example(record=r, labels={}, group="")
        for _, found in read_records(files, _task().record, {}, {})
        for r in found
    ]


def teach(registry: Path, given: Material, count: int = 5) -> None:
    model = Registry(str(registry)).bundle("toy")
    kept, vectors = embed(model, check_version(_task(), model), objects(given, "odd.txt")[:count])
    teach_production(str(registry), model, "odd", vectors, [str(one.record.object_id) for one in kept])


def rows_of(registry: Path, given: Material, name: str) -> list[dict[str, Any]]:
    predictor = load_predictor(Registry(str(registry)).bundle("toy").path)
    prepared = [predictor.prepare(one.record) for one in objects(given, name)]
    return predict_rows(predictor, prepared, 4)


def test_a_taught_class_becomes_a_full_one(tmp_path: Path) -> None:
    given = material(tmp_path / "sky", 16, 40)
    models = tmp_path / "models"
    assert run_retrain("toy", without(given, "odd"), str(models), POLICY)["outcome"] == "promoted"
    before = Registry(str(models)).bundle("toy")
    teach(models, given)
    rows = rows_of(models, given, "odd.txt")
    assert sum(row["taught_class"] == "odd" and row["flags"] & bits("TAUGHT") > 0 for row in rows) > 30
    assert {row["best_class_name"] for row in rows} <= set(toy_task.CLASSES)

    report = run_retrain("toy", given, str(models), POLICY)
    assert report["outcome"] == "promoted", (report["gate"]["refused"], report["added"])
    assert report["reasons"] == ["class 'odd' has 40 labelled objects, 30 are enough to learn it"]
    assert report["waiting"] == {}
    judged = report["added"]["odd"]
    assert judged["objects"] >= 8
    assert 0 <= judged["examples"] <= 5
    assert judged["taught"]["found"] >= judged["examples"]
    assert judged["full"]["found"] >= 0.9 * judged["objects"]
    assert judged["full"]["false"] == 0
    after = Registry(str(models)).bundle("toy")
    assert after.info.classes == ("faint", "bright", "odd")
    assert after.task().classes == after.info.classes
    rows = rows_of(models, given, "odd.txt")
    assert [row["best_class_name"] for row in rows].count("odd") > 36
    assert not any(row["taught_class"] or row["flags"] & bits("TAUGHT") for row in rows)
    stars = rows_of(models, given, "f0.txt")
    truth = [row["class_name"] for row in given.rows if row["source"].endswith("f0.txt")]
    assert [row["best_class_name"] for row in stars] == truth
    assert after.info.data["start"]["digest"] != before.digest, "it starts from the taught one"
    page = (Path(report["path"]) / "report.md").read_text()
    assert "## Added classes" in page
    assert run_retrain("toy", given, str(models), POLICY)["outcome"] == "nothing to do"


def test_with_too_few_objects_it_stays_taught_in_the_new_model(tmp_path: Path) -> None:
    given = material(tmp_path / "sky", 16, 20)
    models = tmp_path / "models"
    run_retrain("toy", without(given, "odd"), str(models), POLICY)
    teach(models, given)
    first = Registry(str(models)).state("toy").production
    waits = run_retrain("toy", given, str(models), POLICY)
    assert waits["outcome"] == "nothing to do"
    assert waits["waiting"] == {"odd": "20 labelled objects, 30 are needed"}
    alarmed = dataclasses.replace(given, alarms=("value x since 2026-11-11",))
    report = run_retrain("toy", alarmed, str(models), POLICY)
    assert report["outcome"] == "promoted"
    assert Registry(str(models)).state("toy").production != first
    assert report["taught"] == {"odd": 20}
    assert Registry(str(models)).bundle("toy").info.classes == toy_task.CLASSES
    rows = rows_of(models, given, "odd.txt")
    assert [row["taught_class"] for row in rows].count("odd") > 15
    assert "it stays taught, by 20 examples" in (Path(report["path"]) / "report.md").read_text()
    assert not (Path(report["path"]) / "trained").exists()


def test_a_model_that_has_not_learnt_it_is_refused(tmp_path: Path) -> None:
    given = material(tmp_path / "sky", 16, 40)
    models = tmp_path / "models"
    run_retrain("toy", without(given, "odd"), str(models), POLICY)
    first = Registry(str(models)).state("toy").production
    hopeless = dataclasses.replace(given, options={**OPTIONS, "steps": 0}, add=("odd",))
    report = run_retrain("toy", hopeless, str(models), POLICY)
    assert report["outcome"] == "refused"
    assert any("added class 'odd': 0 of" in reason for reason in report["gate"]["refused"])
    assert Registry(str(models)).state("toy").production == first


def test_which_classes_are_added(tmp_path: Path) -> None:
    given = material(tmp_path / "sky", 4, 40)
    assert plan_classes(_task(), None, given).added == {}, "neither taught nor asked for"
    asked = dataclasses.replace(given, add=("odd", "rare", "bright"))
    plan = plan_classes(_task(), None, asked)
    assert plan.added == {"odd": 40}
    assert plan.waiting == {"rare": "0 labelled objects, 30 are needed"}
    assert plan.task.classes == ("faint", "bright", "odd")
    alone = dataclasses.replace(asked, rows=tuple(r for r in given.rows if r["class_name"] == "odd"))
    assert "would be forgotten" in plan_classes(_task(), None, alone).waiting["odd"]
    spaced = dataclasses.replace(given, add=("quite odd",))
    assert "name of a column" in plan_classes(_task(), None, spaced).waiting["quite odd"]
    fixed = dataclasses.replace(_task(), with_classes=None)
    assert plan_classes(fixed, None, asked).waiting["odd"] == "task toy takes no further classes"


def test_half_of_the_unseen_objects_have_to_be_found() -> None:
    assert not_learnt({"odd": {"objects": 9, "full": {"found": 5, "false": 0}}}) == []
    assert "4 of 9" in not_learnt({"odd": {"objects": 9, "full": {"found": 4, "false": 0}}})[0]
    assert len(not_learnt({"odd": {"objects": 0, "full": {"found": 0, "false": 0}}})) == 1


def test_the_head_grows_and_the_old_rows_stay() -> None:
    torch.manual_seed(0)
    small, large = toy_task.build(), toy_task.build(("a", "b", "c", "d"))
    inputs = {"flux": torch.randn(5, 8), "mask": torch.ones(5, 8)}
    with torch.no_grad():
        before = small.eval()(**inputs)["logits"]
        after = grow_model(small, large)(**inputs)["logits"]
    torch.testing.assert_close(after[:, :2], before)
    torch.testing.assert_close(after[:, 2:], before.mean(1, keepdim=True).expand(-1, 2))
    with pytest.raises(ValueError, match="cannot grow from"):
        grow_model(toy_task.build(("a", "b", "c")), toy_task.build())
    with pytest.raises(ValueError, match="has no counterpart"):
        grow_model(toy_task.build(), toy_task.build(width=32))


@pytest.mark.parametrize("name", ["variable_star", "galaxy_morphology"])
def test_the_tasks_of_the_survey_take_further_classes(name: str) -> None:
    from importlib import import_module

    plain = import_module(f"finetune.tasks.{name}").TASK
    more = plain.with_classes((*plain.classes, "odd_one"))
    assert more.added(more.classes) == ()
    assert plain.added(more.classes) == ("odd_one",)
    new = {column.name for column in more.all_columns()} - {column.name for column in plain.all_columns()}
    assert new == {"p_odd_one", "baseline_p_odd_one", "best_p_odd_one"}
    small = plain.build(**{**plain.options["build"], **plain.options.get("restore", {})})
    large = more.build(**{**plain.options["build"], **plain.options.get("restore", {})})
    grown = dict(grow_model(small, large).named_parameters())
    extended = [n for n, one in small.named_parameters() if grown[n].shape != one.shape]
    assert len(extended) == 2, "weights and biases of the head alone"
    with pytest.raises(ValueError, match="do not begin with"):
        plain.with_classes(("odd_one", *plain.classes))


def test_a_bundle_of_other_classes_is_refused(bundle: Any, tmp_path: Path) -> None:
    from finetune.bundle_writing import derive_bundle

    other = derive_bundle(bundle, tmp_path / "other", classes=("dim", "bright"))
    with pytest.raises(BundleError, match="was made for classes"):
        check_version(_task(), other)
    assert check_version(_task(), load_bundle(bundle.path)).classes == toy_task.CLASSES
