"""Every method on every family of backbones: what is trained, what is not, and what is left at the end."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import pytest
import torch
from torch import nn

from finetune import tasks
from finetune.backbone_model import plain_config, pool, without_words
from finetune.methods import apply_method, blocks, depth_factors, finish_method, parse_method, trained_share
from finetune.optimise import parameter_groups
from finetune.train import with_backbone
from finetune.training_options import make_options
from tests.finetune import tiny_backbones

#: The part of the names that the last of the blocks has, and how many there are.
LAST = {
    "bert": ("encoder.layer.2", 3),
    "roberta": ("encoder.layer.2", 3),
    "modernbert": ("layers.2", 3),
    "distilbert": ("transformer.layer.2", 3),
    "albert": ("encoder.albert_layer_groups.2", 3),
    "vit": ("layers.2", 3),
    "dinov2": ("encoder.layer.2", 3),
    "convnextv2": ("encoder.stages.3", 4),
    "timm": ("timm_model.blocks.5", 6),
    "timm_resnet": ("timm_model.layer4", 4),
}
#: What follows the last block is trained with it.
AFTER = {
    "modernbert": {"final_norm.weight"},
    "vit": {"layernorm.weight", "layernorm.bias"},
    "dinov2": {"layernorm.weight", "layernorm.bias"},
    "convnextv2": {"layernorm.weight", "layernorm.bias"},
    "timm": {"timm_model.norm.weight", "timm_model.norm.bias"},
}
METHODS = ("full", "head", "layers:1", "lora:2", "ia3")


@cache
def plan(family: str) -> dict[str, Any]:
    if family in tiny_backbones.TEXT:
        return {"config": plain_config(tiny_backbones.TEXT[family]().config), "pooler": False}
    model = without_words(tiny_backbones.IMAGE[family]()).eval()
    size = 28 if family == "dinov2" else 32
    with torch.inference_mode():
        width = pool(model, model(pixel_values=torch.zeros(1, 3, size, size))).shape[1]
    image = {"channels": 3, "size": size, "mean": [0.5] * 3, "std": [0.5] * 3, "width": width}
    return {"config": plain_config(model.config), "pooler": False, "image": image}


def made(family: str) -> tuple[Any, Any, str]:
    """Model, task with its head, and the place of the backbone in it."""
    if family.startswith("timm"):
        pytest.importorskip("timm")
    image = family in tiny_backbones.IMAGE
    task = tasks.get("galaxy_morphology" if image else "variable_star")
    small = {"dihedrals": 1} if image else {"hidden_size": 16}
    build = {**task.options["build"], **small, "backbone": plan(family)}
    torch.manual_seed(0)
    task, options = with_backbone(task, build, make_options(task, {"lr_decay": 0.5, "learning_rate": 1.0}))
    return task.build(**build), (task, options), "image.backbone" if image else "encoder.backbone"


def batch(family: str) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    if family in tiny_backbones.IMAGE:
        numbers = {"numbers": torch.randn(4, 54), "known": torch.ones(4, 54)}
        return {"views": torch.randint(0, 256, (4, 2, 3, 32, 32)), **numbers}
    task = tasks.get("variable_star")
    count = task.build(**task.options["build"]).config.n_number
    visits = {name: torch.randn(4, 6, 5) for name in ("magnitude", "log_error", "seen")}
    return {
        **visits, "time": torch.randn(4, 6), "phase": torch.rand(4, 6, 3), "valid": torch.ones(4, 6),
        "numbers": torch.randn(4, count), "known": torch.ones(4, count),
    }  # fmt: skip


@pytest.mark.parametrize("family", list(LAST))
def test_blocks_are_found(family: str) -> None:
    model, (task, _), place = made(family)
    head = task.options["head"]
    last, count = LAST[family]
    levels = blocks(model, head)
    assert len(levels) == count
    assert levels[-1] == (f"{place}.{last}",)
    trained = {n for n, p in apply_method(model, parse_method("layers:1"), head).named_parameters() if p.requires_grad}
    inside = {name.removeprefix(f"{place}.") for name in trained if name.startswith(f"{place}.")}
    assert {name for name in inside if not name.startswith(f"{last}.")} == AFTER.get(family, set())
    assert any(name.startswith(f"{last}.") for name in inside)


@pytest.mark.parametrize("family", list(LAST))
def test_rates_fall_with_depth_and_what_is_new_has_the_whole_rate(family: str) -> None:
    model, (task, options), place = made(family)
    head = task.options["head"]
    last, count = LAST[family]
    factors = depth_factors(model, 0.5, head)
    assert factors[rf"^{re.escape(f'{place}.{last}')}\."] == 0.5
    rates = {}
    for group in parameter_groups(model, options, head):
        rates |= {id(parameter): group["lr"] for parameter in group["params"]}
    for name, parameter in model.named_parameters():
        if any(re.search(pattern, name) for pattern in head):
            assert rates[id(parameter)] == 1.0, name
        elif name.startswith(f"{place}.{last}."):
            assert rates[id(parameter)] == pytest.approx(0.05), name
    assert min(rates.values()) == pytest.approx(0.1 * 0.5 ** (count + 1))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", list(LAST))
def test_a_step_of_a_method_moves_what_it_says(family: str, method: str) -> None:
    if method in ("lora:2", "ia3"):
        pytest.importorskip("peft")
    model, (task, _), place = made(family)
    names, before = list(dict(model.named_parameters())), {n: p.clone() for n, p in model.named_parameters()}
    inputs = batch(family)
    model.eval()
    plain = model(**inputs)["logits"]
    wrapped = apply_method(model, parse_method(method), task.options["head"])
    assert torch.allclose(wrapped(**inputs)["logits"], plain, atol=1e-5), "a method begins as nothing"
    share = trained_share(wrapped)
    assert share == 1.0 if method == "full" else share < 0.9
    optimiser = torch.optim.AdamW([p for p in wrapped.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(2):
        optimiser.zero_grad()
        nn.functional.cross_entropy(wrapped(**inputs)["logits"], torch.arange(4)).backward()
        optimiser.step()
    with torch.inference_mode():
        wanted = wrapped(**inputs)["logits"]
    whole = finish_method(wrapped)
    assert type(whole) is type(model)
    assert list(dict(whole.named_parameters())) == names
    with torch.inference_mode():
        assert torch.allclose(whole(**inputs)["logits"], wanted, atol=1e-4), "adapters fold into the weights"
    moved = {n for n, p in whole.named_parameters() if not torch.equal(p, before[n])}
    inside = {name.removeprefix(f"{place}.") for name in moved if name.startswith(f"{place}.")}
    last = LAST[family][0]
    if method == "head":
        assert inside == set()
    elif method == "layers:1":
        assert any(name.startswith(f"{last}.") for name in inside)
        assert {n for n in inside if not n.startswith(f"{last}.")} <= AFTER.get(family, set())
    else:
        assert any(name.startswith(f"{last}.") for name in inside)
    new = "classify.weight" if family in tiny_backbones.IMAGE else "encoder.into.weight"
    assert new in moved, "what is new is trained whatever the method"
