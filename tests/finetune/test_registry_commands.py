from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from finetune import tasks
from finetune.bundle import load_bundle
from finetune.bundle_writing import derive_bundle
from finetune.commands import run_train
from finetune.gate import Limits
from finetune.registry import Registry, RegistryError
from finetune.registry_commands import list_models, run_promote, run_rollback
from tests.finetune.toy_task import TASK

LIMITS = Limits(objects=20, speed=0.01)


def write_sky(folder: Path, files: int, seed: int, first: int = 0) -> tuple[str, list[str]]:
    """Stars of ten a file with a label table."""
    rng = np.random.default_rng(seed)
    (folder / "night").mkdir(parents=True)
    lines = ["object_id,class_name"]
    for number in range(first, first + files):
        values = rng.uniform(2, 12, 10).round(3) * rng.choice([-1, 1], 10)
        (folder / "night" / f"f{number}.txt").write_text("TOY\n" + "\n".join(map(str, values)) + "\n")
        lines += [f"f{number}.txt:{i},{'bright' if v > 0 else 'faint'}" for i, v in enumerate(values)]
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return str(folder / "labels.csv"), [str(folder / "night")]


@pytest.fixture
def models(tmp_path: Path, toys: None, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A good and a useless toy model, test stars that neither has seen, and a registry to be."""
    task = dataclasses.replace(TASK, merit=("accuracy",))
    monkeypatch.setattr(tasks, "names", lambda: ("toy",))
    monkeypatch.setattr(tasks, "get", {"toy": task}.__getitem__)
    labels, inputs = write_sky(tmp_path / "train", 6, 0)
    for name, steps in (("good", 80), ("useless", 0)):
        run_train("toy", labels, inputs, tmp_path / name, options={"steps": steps, "evaluations": 2}, draws=20)
    labels, inputs = write_sky(tmp_path / "test", 4, 1, first=50)
    test = {"labels": labels, "inputs": inputs, "limits": LIMITS, "draws": 100}
    return {"registry": str(tmp_path / "models"), "test": test, "folder": tmp_path}


def promote(models: dict[str, Any], name: str, **options: Any) -> dict[str, Any]:
    return run_promote(models["folder"] / name, models["registry"], **{**models["test"], **options})


def test_the_better_one_is_promoted_and_the_worse_one_refused(models: dict[str, Any]) -> None:
    said: list[str] = []
    report = promote(models, "good", say=said.append)
    assert report["promoted"]
    assert report["n"] == 40
    assert any("40 matched" in text for text in said)
    good = load_bundle(models["folder"] / "good").digest[:16]
    (held,) = list_models(models["registry"])
    assert (held["production"], held["candidate"], held["shipped"]) == (good, "", "")

    report = promote(models, "useless")
    assert not report["promoted"]
    assert report["refused"][0].startswith("accuracy is worse than production's by 0.")
    (held,) = list_models(models["registry"])
    assert held["production"] == good
    assert held["candidate"] == report["digest"]
    assert held["events"][-1]["reasons"] == report["refused"]
    with pytest.raises(RegistryError, match="no earlier model"):
        run_rollback("toy", models["registry"])


def test_the_frozen_test_is_remembered_and_does_not_change(models: dict[str, Any]) -> None:
    with pytest.raises(RegistryError, match="no test objects of task 'toy' are known yet; give --labels and --input"):
        promote(models, "good", labels="", inputs=())
    promote(models, "good")
    again = derive_bundle(load_bundle(models["folder"] / "good"), models["folder"] / "again", created_by="again")
    report = promote(models, "again", labels="", inputs=())
    assert report["promoted"]
    assert report["n"] == 40
    assert run_rollback("toy", models["registry"])["candidate"] == again.digest[:16]
    assert run_promote(again.digest[:8], models["registry"], limits=LIMITS, draws=20)["promoted"], "by its digest"

    labels, inputs = write_sky(models["folder"] / "other", 4, 2, first=80)
    with pytest.raises(RegistryError, match=r"are not those of the earlier decisions .* a frozen test does not change"):
        promote(models, "good", labels=labels, inputs=inputs)
    test = Path(models["folder"] / "test" / "night" / "f50.txt")
    test.write_text(test.read_text().replace("TOY\n", "TOY\n99.5\n", 1))
    with pytest.raises(RegistryError, match="are not those of the earlier decisions"):
        promote(models, "again", labels="", inputs=())


def test_objects_that_a_model_was_trained_on_do_not_judge_it(models: dict[str, Any]) -> None:
    labels, inputs = str(models["folder"] / "train" / "labels.csv"), [str(models["folder"] / "train" / "night")]
    said: list[str] = []
    report = promote(models, "good", labels=labels, inputs=inputs, say=said.append)
    assert not report["promoted"]
    assert report["refused"] == ["9 test objects that neither model has seen are too few to decide on; 20 are needed"]
    assert any(text.startswith("51 objects are left out") for text in said)
    assert Registry(models["registry"]).state("toy").production == ""


def test_an_unknown_task_has_nothing_to_go_back_to(models: dict[str, Any]) -> None:
    with pytest.raises(RegistryError, match="no models of task 'stars'; it holds none"):
        run_rollback("stars", models["registry"])
    assert list_models("") == [{"task": "toy", "shipped": ""}]
