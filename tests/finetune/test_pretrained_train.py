"""From files without labels to a model: what ``nightcat pretrain`` writes is a backbone of ``nightcat train``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from finetune import tasks
from finetune.backbone_model import BackboneError
from finetune.backbone_source import open_backbone
from finetune.pretrain import run_pretrain
from finetune.pretrained import load_pretrained
from finetune.train import prepare_all, start_model, start_options
from finetune.training_options import make_options
from transforms.measure import measure
from transforms.simulate.night import Size, write_night

KINDS = {
    "stellar_parameters": ("spectra", {"hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 64}),
    "variable_star": ("light_curves", {"hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 64}),
    "galaxy_morphology": ("stamps", {"hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 64}),
}


@pytest.fixture(scope="module")
def backbones(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One of each modality, of a few files and two steps."""
    root = tmp_path_factory.mktemp("pretrained")
    write_night(root, 1, Size(fields=0, stamps=24, spectra=24, light_curves=24, broken=False))
    found = {}
    for task, (modality, sizes) in KINDS.items():
        options = {**sizes, "steps": 2, "batch_size": 4, "evaluations": 1, "held_out": 0.25}
        run_pretrain(modality, [str(root / "night")], root / modality, options=options)
        found[task] = root / modality
    return found


def started(name: str, folder: Path) -> Any:
    task = tasks.get(name)
    examples = [replace(e, record=next(iter(measure(e.record, {})))) for e in task.simulate(24, 0)]
    kept, prepared, _ = prepare_all(task, examples)
    baseline = task.baseline()
    baseline.fit(kept, prepared, seed=0)
    options = make_options(task, {"backbone": str(folder), "members": 1})
    build = start_options(task, options)
    return start_model(task, build, kept, prepared, baseline, options)


@pytest.mark.parametrize("name", list(KINDS))
def test_a_model_starts_from_what_was_pretrained(
    backbones: dict[str, Path], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finetune.morphology_training.HEAD_PASSES", 640)
    model = started(name, backbones[name])
    shared = tuple(load_pretrained(backbones[name]).info["shared"])
    stored = load_file(backbones[name] / "model.safetensors")
    learnt = {key.removeprefix("vit."): value for key, value in stored.items() if key.startswith(shared)}
    own = model.state_dict()
    assert len(learnt) > 20
    for key, value in learnt.items():
        places = [place for place in own if place.endswith(key)]
        assert any(torch.equal(own[place], value) for place in places), key


def test_another_kind_of_record_is_told_before_any_file_is_read(backbones: dict[str, Path]) -> None:
    with pytest.raises(BackboneError, match=r"was pretrained on spectra \(Spectrum\); .* made of LightCurve records"):
        open_backbone(str(backbones["stellar_parameters"]), tasks.get("variable_star"))
    with pytest.raises(BackboneError, match=r"was pretrained on stamps \(Cutout\); .* made of Spectrum records"):
        open_backbone(str(backbones["galaxy_morphology"]), tasks.get("stellar_parameters"))


def test_a_damaged_one_is_told(backbones: dict[str, Path]) -> None:
    file = backbones["variable_star"] / "model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + b"?")
    try:
        with pytest.raises(BackboneError, match=r"model\.safetensors is damaged: SHA-256"):
            open_backbone(str(file.parent), tasks.get("variable_star"))
    finally:
        file.write_bytes(whole)
