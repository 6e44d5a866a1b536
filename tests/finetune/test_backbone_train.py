"""Training with a foreign backbone, from the command line to a bundle that needs neither hub nor folder."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from finetune import tasks
from finetune.__main__ import main
from finetune.bert import bert_encoder
from finetune.bundle import load_bundle
from finetune.card import model_card
from finetune.commands import run_evaluate, run_train
from finetune.encoder import Encoder, choose_encoder
from finetune.task import Task
from finetune.train import start_backbone, start_options, train_task
from finetune.training_options import OptionsError, make_options
from pipeline.cli import main as nightcat
from tests.finetune import tiny_backbones, toy_task


class Config(PretrainedConfig):
    model_type = "nightcat_test_foreign"

    def __init__(self, backbone: Any = None, **kwargs: Any) -> None:
        self.backbone = backbone
        super().__init__(**kwargs)


class Layers(nn.Module):
    def add_layers(self, config: Any, encoder: Any) -> None:
        self.embed = nn.Linear(1, 16)
        self.encoder = encoder(16, 1, 2, 32)
        self.head = nn.Linear(16, 2)

    def forward(self, flux: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
        pooled = self.encoder(self.embed(flux[..., None]), mask).mean(1)
        return {"logits": self.head(pooled), "embedding": pooled}


class Model(Layers, PreTrainedModel):
    config_class = Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.add_layers(config, choose_encoder(config, bert_encoder))
        self.post_init()


class Quick(Layers):
    def __init__(self, config: Any) -> None:
        super().__init__()
        self.add_layers(config, choose_encoder(config, Encoder))


HEAD = (r"^(embed|head|encoder\.(into|back))\.",)
#: The toy, as a task that takes a foreign text encoder.
TASK: Task = replace(
    toy_task.TASK,
    build=lambda **options: Model(Config(**options)),
    network=Quick,
    options={
        "training": toy_task.TASK.options["training"],
        "head": (r"^head\.",),
        "backbone": {"takes": "text", "head": HEAD},
    },
)


@pytest.fixture
def sky(tmp_path: Path, toys: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    rng = np.random.default_rng(0)
    (tmp_path / "night").mkdir()
    values = rng.uniform(2, 12, 60).round(3) * rng.choice([-1, 1], 60)
    (tmp_path / "night" / "f.txt").write_text("TOY\n" + "\n".join(map(str, values)) + "\n")
    lines = [f"f.txt:{i},{'bright' if value > 0 else 'faint'}" for i, value in enumerate(values)]
    (tmp_path / "labels.csv").write_text("\n".join(["object_id,class_name", *lines]) + "\n")
    tiny_backbones.write(tmp_path / "bert", "bert")
    tiny_backbones.write(tmp_path / "vit", "vit")
    monkeypatch.setattr(tasks, "names", lambda: ("toy",))
    monkeypatch.setattr(tasks, "get", {"toy": TASK}.__getitem__)
    return tmp_path


def train(sky: Path, name: str, **options: Any) -> dict[str, Any]:
    given = {"steps": 30, "evaluations": 2, **options}
    return run_train("toy", str(sky / "labels.csv"), [str(sky / "night")], sky / name, options=given, draws=20)


def test_a_bundle_needs_its_backbone_no_more(sky: Path) -> None:
    report = train(sky, "b", backbone=str(sky / "bert"), method="layers:1", storage="fp32")
    shutil.rmtree(sky / "bert")
    bundle = load_bundle(sky / "b")
    again = run_evaluate(sky / "b", str(sky / "labels.csv"), [str(sky / "night")], draws=20)
    assert again["metrics"] == report["metrics"]
    config = json.loads((sky / "b" / "model" / "config.json").read_text())
    assert config["backbone"] == bundle.info.build["backbone"]
    assert config["backbone"]["config"]["num_hidden_layers"] == 3
    assert bundle.info.training["options"]["lr_factors"] == {r"(^|\.)backbone\.(?!.*\.(lora_|ia3_))": 0.1}
    trained, quick = bundle.models(TASK)[0], bundle.networks(TASK)[0]
    assert type(quick) is Quick
    flux, mask = torch.randn(4, 8), torch.ones(4, 8)
    with torch.inference_mode():
        assert torch.allclose(trained(flux, mask)["logits"], quick(flux, mask)["logits"], atol=1e-6)


def test_what_it_came_from_is_remembered(sky: Path) -> None:
    train(sky, "b", backbone=str(sky / "bert"), steps=1)
    info = load_bundle(sky / "b").info
    found = info.data["backbone"]
    assert (found["name"], found["model_type"]) == (str(sky / "bert"), "bert")
    digest = found["sha256"]["model.safetensors"]
    assert f"| backbone | {sky / 'bert'} (bert), model.safetensors SHA-256 `{digest}` |" in model_card(
        TASK, info, "", {}
    )
    train(sky, "c", start=str(sky / "b"), steps=1)
    later = load_bundle(sky / "c").info
    assert later.data["backbone"] == found, "a training that starts from it remembers it too"
    assert later.build == info.build
    assert later.training["options"]["lr_factors"], "and its backbone still learns slowly"
    train(sky, "own", steps=1)
    own = load_bundle(sky / "own").info
    assert "backbone" not in own.data
    assert "backbone" not in own.build
    assert "| backbone |" not in model_card(TASK, own, "", {})


def test_the_training_starts_from_the_pretrained_weights(sky: Path) -> None:
    examples = TASK.simulate(24, 0)
    options = make_options(TASK, {"backbone": str(sky / "bert"), "steps": 0, "members": 2, "storage": "fp32"})
    one, two = (model.encoder for model in train_task(TASK, examples[:16], examples[16:], options).models)
    from transformers import AutoModel

    original = AutoModel.from_pretrained(sky / "bert").state_dict()
    for name, value in one.backbone.state_dict().items():
        if "word_embeddings" not in name:
            assert torch.equal(value, original[name]), name
            assert torch.equal(value, two.backbone.state_dict()[name]), name
    assert not torch.equal(one.into.weight, two.into.weight), "what is new has a seed of its own"
    assert start_options(TASK, options)["backbone"]["config"]["model_type"] == "bert"
    assert start_backbone(TASK, options)["model_type"] == "bert"


def test_faults_are_told_before_any_work(sky: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The files are not read: there are none."""
    common = ["train", "toy", "--labels", "no.csv", "--input", str(sky / "night"), "--output", str(sky / "x")]
    for backbone, text in (
        (sky / "vit", "of type 'vit' is an image model; task toy takes a text encoder (BERT"),
        (sky / "night", "is a folder without config.json; task toy takes a text encoder"),
        ("./nowhere", "backbone './nowhere' is not there"),
    ):
        for command in (main, nightcat):
            assert command([*common, "--backbone", str(backbone)]) == 2
            said = capsys.readouterr().err
            assert f"backbone {str(backbone)!r}" in said
            assert text in " ".join(said.split())
    assert main([*common, "--backbone", str(sky / "bert"), "--start", str(sky / "b")]) == 2
    capsys.readouterr()
    with pytest.raises(OptionsError, match="start 'b' and backbone 'c' exclude each other"):
        make_options(TASK, {"start": "b", "backbone": "c"})
    assert not (sky / "x").exists()


def test_a_rate_of_the_user_counts_first(sky: Path) -> None:
    examples = TASK.simulate(24, 0)
    given = {"backbone": str(sky / "bert"), "steps": 0, "lr_factors": {"backbone": 0.5}}
    trained = train_task(TASK, examples[:16], examples[16:], make_options(TASK, given))
    assert list(trained.options.lr_factors.values()) == [0.5, 0.1]


def test_a_training_with_adapters_goes_on_from_a_checkpoint(sky: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    examples = TASK.simulate(48, 1)
    given: dict[str, Any] = {
        "backbone": str(sky / "bert"), "method": "lora:2", "evaluations": 4, "storage": "fp32", "steps": 16,
    }  # fmt: skip
    whole = train_task(TASK, examples[:32], examples[32:], make_options(TASK, given)).models[0]
    states = {"checkpoints": str(tmp_path / "states")}
    calls, ordinary = [0], TASK.loss

    class Stop(RuntimeError):
        pass

    def loss(outputs: Any, targets: Any) -> Any:
        calls[0] += 1
        if calls[0] == 14:
            raise Stop
        return ordinary(outputs, targets)

    with pytest.raises(Stop):
        train_task(replace(TASK, loss=loss), examples[:32], examples[32:], make_options(TASK, {**given, **states}))
    again = train_task(TASK, examples[:32], examples[32:], make_options(TASK, {**given, **states, "resume": True}))
    for name, parameter in whole.named_parameters():
        assert torch.equal(parameter, again.models[0].get_parameter(name)), name
