"""Models on the machines of workers: the one that the run was given, wherever it lies, and never another."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

import finetune.bundle
from finetune.bundle import BundleError, bundled, load_bundle
from finetune.registry import Registry
from pipeline.models import ModelError, load_anywhere, resolve_models
from pipeline.options import RunConfig

TASK = "variable_star"
DIGEST = load_bundle(bundled(TASK)).digest[:16]
OPTIONS = {"device": "cpu", "dtype": "fp32", "threads": 1, "embeddings": False}


def test_the_model_that_ships_is_taken_where_the_driver_had_it_elsewhere() -> None:
    (model,) = resolve_models((TASK,), {}, "cpu", "fp32", 1)
    assert pickle.loads(pickle.dumps(model.loader))().digest == DIGEST
    assert load_anywhere(TASK, DIGEST, "/home/somebody/finetune/bundles/variable_star", "", **OPTIONS).digest == DIGEST


def test_a_registry_has_what_the_machine_lacks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    registry = Registry(str(tmp_path / "registry"))
    registry.add(load_bundle(bundled(TASK)))

    def none_ships(task: str) -> Path:
        raise BundleError("none")

    monkeypatch.setattr(finetune.bundle, "bundled", none_ships)
    assert load_anywhere(TASK, DIGEST, "/nowhere", str(tmp_path / "registry"), **OPTIONS).digest == DIGEST
    with pytest.raises(ModelError, match="there is no --registry to fetch it from"):
        load_anywhere(TASK, DIGEST, "/nowhere", "", **OPTIONS)


def test_another_model_is_never_taken_in_its_place(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="the model 0123456789abcdef of task 'variable_star' is not on the machine"):
        load_anywhere(TASK, "0123456789abcdef", str(bundled(TASK)), str(tmp_path), **OPTIONS)


def test_a_device_that_only_workers_have_is_not_looked_for_here() -> None:
    (model,) = resolve_models((TASK,), {}, "cuda:7", "fp32", 1, remote=True)
    assert model.device == "cuda:7"
    with pytest.raises(ModelError, match="--device"):
        resolve_models((TASK,), {}, "cuda:7", "fp32", 1)
    assert RunConfig().where() == "auto"
    assert RunConfig(runner="FlinkRunner").where() == "cpu"
    assert RunConfig(runner="DataflowRunner", accelerator="type:nvidia-l4;count:1").where() == "cuda"
    assert RunConfig(runner="DataflowRunner", device="cuda:1").where() == "cuda:1"
