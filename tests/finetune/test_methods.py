from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from finetune import tasks
from finetune.methods import Method, apply_method, blocks, depth_factors, finish_method, parse_method, trained_share
from finetune.optimise import parameter_groups
from finetune.train import train_task
from finetune.training_options import OptionsError, make_options
from finetune.watched_trainer import TrainingError
from tests.finetune import toy_task

HEAD = (r"^head\.",)
TASK = replace(
    toy_task.TASK,
    build=lambda width=16: toy_task.ToyModel(
        toy_task.BertConfig(
            vocab_size=2, hidden_size=width, num_hidden_layers=3, num_attention_heads=2, intermediate_size=2 * width,
            max_position_embeddings=8, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        )
    ),
    options={**toy_task.TASK.options, "head": HEAD},
)  # fmt: skip
METHODS = ("full", "head", "layers:1", "layers:3", "lora", "lora:2", "ia3")


def trained_names(model: nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_names_of_methods() -> None:
    assert parse_method("layers:2") == Method("layers", 2)
    assert parse_method("lora") == Method("lora", 8)
    assert parse_method("lora:4") == Method("lora", 4)
    for wrong in ("layers", "layers:0", "head:1", "lora:x", "", "all"):
        with pytest.raises(ValueError, match=r"is not one of full, head, layers:K, lora, lora:RANK, ia3"):
            parse_method(wrong)
    with pytest.raises(OptionsError, match="method 'all' is not one of"):
        make_options(TASK, {"method": "all"})


def test_head_and_last_blocks() -> None:
    model = TASK.build()
    assert blocks(model, HEAD) == [(f"encoder.encoder.layer.{n}",) for n in range(3)]
    assert trained_names(apply_method(TASK.build(), Method("head"), HEAD)) == {"head.weight", "head.bias"}
    one = trained_names(apply_method(TASK.build(), Method("layers", 1), HEAD))
    assert {name.split(".")[3] for name in one if name.startswith("encoder")} == {"2"}
    assert len(one) == 18
    assert apply_method(model, Method("full"), HEAD) is model
    assert trained_share(model) == 1.0
    with pytest.raises(ValueError, match=r"layers:4: the model has 3 blocks: encoder.encoder.layer.0"):
        apply_method(TASK.build(), Method("layers", 4), HEAD)
    with pytest.raises(ValueError, match="'head' needs a head"):
        apply_method(TASK.build(), Method("head"), (r"^classifier\.",))


@pytest.mark.parametrize("kind", ["lora", "ia3"])
def test_adapters_are_few_and_fold_into_the_weights(kind: str) -> None:
    pytest.importorskip("peft")
    torch.manual_seed(0)
    model = TASK.build(width=32).eval()
    names = list(dict(model.named_parameters()))
    batch = {"flux": torch.randn(4, 8), "mask": torch.ones(4, 8)}
    before = model(**batch)["logits"]
    wrapped = apply_method(model, parse_method("lora:1" if kind == "lora" else kind), HEAD)
    assert torch.allclose(wrapped(**batch)["logits"], before, atol=1e-6), "adapters begin as nothing"
    assert trained_share(wrapped) < 0.1
    with torch.no_grad():
        for parameter in wrapped.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn(parameter.shape)
    changed = wrapped(**batch)["logits"]
    assert not torch.allclose(changed, before, atol=1e-3)
    plain = finish_method(wrapped)
    assert type(plain) is toy_task.ToyModel
    assert list(dict(plain.named_parameters())) == names
    assert torch.allclose(plain(**batch)["logits"], changed, atol=1e-5)
    assert trained_share(plain) == 1.0


def test_the_rate_falls_with_depth() -> None:
    model = TASK.build()
    factors = depth_factors(model, 0.5, HEAD)
    options = make_options(TASK, {"lr_decay": 0.5, "learning_rate": 1.0, "lr_factors": {"layer.2": 0.1}})
    rates = {group["lr"] for group in parameter_groups(model, options, HEAD)}
    assert sorted(rates) == pytest.approx([0.05, 0.0625, 0.125, 0.25, 1.0])
    assert factors[""] == 0.0625
    count = sum(len(group["params"]) for group in parameter_groups(model, options, HEAD))
    assert count == len(list(model.parameters()))
    assert depth_factors(nn.Linear(2, 2), 0.5, ()) == {}


@pytest.mark.parametrize("method", METHODS)
def test_each_method_trains_what_it_says_and_nothing_else(method: str, tmp_path: Path) -> None:
    if method.startswith(("lora", "ia3")):
        pytest.importorskip("peft")
    examples = TASK.simulate(48, 1)
    given = {"method": method, "steps": 12, "evaluations": 3, "storage": "fp32", "learning_rate": 1e-2}
    start = TASK.build(**TASK.options["build"])
    trained = train_task(TASK, examples[:32], examples[32:], make_options(TASK, given)).models[0]
    still = train_task(TASK, examples[:32], examples[32:], make_options(TASK, {**given, "steps": 0})).models[0]
    assert list(dict(trained.named_parameters())) == list(dict(start.named_parameters()))
    moved = {n for n, p in trained.named_parameters() if not torch.equal(p, still.get_parameter(n))}
    assert "head.weight" in moved
    encoder = {name.split(".")[3] for name in moved if name.startswith("encoder.encoder")}
    expected: dict[str, set[str]] = {"head": set(), "layers:1": {"2"}}
    assert encoder == expected.get(method, {"0", "1", "2"})
    assert ("embed.weight" in moved) == (method == "full")


def test_a_method_goes_on_from_a_checkpoint(tmp_path: Path) -> None:
    pytest.importorskip("peft")
    examples = TASK.simulate(48, 1)
    given: dict[str, Any] = {"method": "lora:2", "evaluations": 4, "storage": "fp32", "steps": 16}
    whole = train_task(TASK, examples[:32], examples[32:], make_options(TASK, given)).models[0]
    states = str(tmp_path / "states")

    class Stop(RuntimeError):
        pass

    calls = [0]
    ordinary = TASK.loss

    def loss(outputs: Any, targets: Any) -> Any:
        calls[0] += 1
        if calls[0] == 14:
            raise Stop
        return ordinary(outputs, targets)

    with pytest.raises(Stop):
        train_task(
            replace(TASK, loss=loss), examples[:32], examples[32:], make_options(TASK, {**given, "checkpoints": states})
        )
    resumed = {**given, "checkpoints": states, "resume": True}
    again = train_task(TASK, examples[:32], examples[32:], make_options(TASK, resumed)).models[0]
    for name, parameter in whole.named_parameters():
        assert torch.equal(parameter, again.get_parameter(name)), name


def test_a_task_without_a_head_can_only_be_trained_whole() -> None:
    examples = toy_task.TASK.simulate(24, 1)
    with pytest.raises(TrainingError, match="task toy: method 'head' needs a head"):
        train_task(
            toy_task.TASK, examples[:16], examples[16:], make_options(toy_task.TASK, {"method": "head", "steps": 1})
        )


@pytest.mark.parametrize("name", tasks.names())
def test_every_task_has_a_head_and_blocks(name: str) -> None:
    task = tasks.get(name)
    model = task.build(**{**task.options["build"], **task.options.get("restore", {})})
    head = task.options["head"]
    levels = blocks(model, head)
    assert len(levels) >= 2
    assert 0 < trained_share(apply_method(model, Method("head"), head)) < 0.7
