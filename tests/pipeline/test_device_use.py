"""How well the device was used: from the models' counts through the graph to the manifest."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tests.toy_night as toys
from finetune.batches import Batches
from pipeline.device_use import device_use
from pipeline.models import Model
from tests.simulated_device import SimulatedDevice
from tests.toy import ToyPredictor
from transforms.records import LightCurve


class CountingPredictor(ToyPredictor):
    """The toy, whose answers come by way of a simulated device that has room for two objects."""

    def __init__(self) -> None:
        super().__init__()
        self.batches = Batches(SimulatedDevice(memory=2 * 2 * 4, depth=1))

    def predict(self, batch: Sequence[Mapping[str, np.ndarray]], size: int | None = None) -> list[dict[str, Any]]:
        super().predict(batch, size)
        outputs, fitted = self.batches.run(
            [float(one["x"][0]) for one in batch], size or self.batch_size,
            lambda values: {"x": torch.tensor(values, dtype=torch.float32)}, lambda tensors: {"y": 2 * tensors["x"]},
        )  # fmt: skip
        self.batches.meter.add(objects_fp32=len(fitted))
        return [{"toy_answer": float(value), "flags": 0} for value in outputs["y"]]

    def used(self) -> dict[str, int]:
        return self.batches.meter.drain()


def test_the_manifest_tells_how_well_the_device_was_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toys.install(monkeypatch.setattr)
    counting = (Model("toy", "", ToyPredictor.digest, LightCurve, "cpu", CountingPredictor),)
    night = toys.write_night(tmp_path / "night")
    toys.run(night, output=tmp_path / "plain")
    monkeypatch.setattr(toys, "MODELS", counting)
    (result,) = toys.run(night, output=tmp_path / "counted")
    (manifest,) = (json.loads(path.read_text()) for path in (tmp_path / "counted" / "_runs").glob("*.json"))
    use = manifest["timing"]["device"]
    assert use["objects"] == {"fp32": result.rows["toy"]}
    assert use["halved"] >= 1
    assert use["unfit"] == 0
    assert 0.5 < use["batch_fill"] <= 1
    assert use["batches"] >= result.rows["toy"] / 4
    assert 0 <= use["idle_share"] <= 1
    assert use["queue_depth"] >= 0
    assert toys.digests(tmp_path / "counted") == toys.digests(tmp_path / "plain"), (
        "no byte of the catalog depends on it"
    )
    (plain,) = (json.loads(path.read_text()) for path in (tmp_path / "plain" / "_runs").glob("*.json"))
    assert "device" not in plain["timing"], "models that do not count say nothing"
    toys.forget()


def test_shares_and_means() -> None:
    counts = {
        "device.batches": 4, "device.objects": 14, "device.slots": 16, "device.busy_us": 750_000,
        "device.wall_us": 1_000_000, "device.queued": 30, "device.calls": 4, "device.objects_bf16": 14,
        "device.halved": 1, "infer.entered": 14,
    }  # fmt: skip
    assert device_use(counts) == {
        "idle_share": 0.25, "queue_depth": 7.5, "batch_fill": 0.875, "batches": 4, "objects": {"bf16": 14}, "halved": 1,
        "unfit": 0,
    }  # fmt: skip
    assert device_use({"infer.entered": 14}) == {}
    assert (
        device_use({"device.batches": 1, "device.objects": 1, "device.slots": 1, "device.busy_us": 9})["idle_share"]
        == 0
    )


def test_one_that_fits_nowhere_is_counted_where_no_batch_ran() -> None:
    assert device_use({"device.unfit": 3, "device.calls": 1, "device.halved": 4})["unfit"] == 3
