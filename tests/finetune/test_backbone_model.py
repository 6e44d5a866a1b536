"""Foreign models within ours: what goes in, what comes out, and what they must not depend on."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers as hf
from torch import nn

from finetune import tasks
from finetune.backbone_model import BackboneError, ImageBackbone, TextBackbone, band_map, make_model, plain_config
from finetune.backbone_source import open_backbone
from tests.finetune import tiny_backbones

WIDTH = 24


def opened(folder: Path, family: str, task: str) -> tuple[Any, dict[str, Any]]:
    backbone = open_backbone(str(tiny_backbones.write(folder, family)), tasks.get(task))
    plan = json.loads(json.dumps(backbone.build_options({})["backbone"]))
    return backbone, plan


def filled(slot: Any, backbone: Any) -> Any:
    backbone.fill(nn.ModuleList([slot]))
    return slot.eval()


@pytest.fixture(params=list(tiny_backbones.TEXT))
def text(request: pytest.FixtureRequest, tmp_path: Path) -> TextBackbone:
    backbone, plan = opened(tmp_path / "there", request.param, "variable_star")
    torch.manual_seed(1)
    return filled(TextBackbone(plan, WIDTH), backbone)


def test_a_text_encoder_reads_any_number_of_tokens_and_knows_no_place(text: TextBackbone) -> None:
    """40 tokens where most have 16 positions; ModernBERT's window is wider than that."""
    x, mask = torch.randn(2, 40, WIDTH), torch.ones(2, 40)
    turned = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        there = text(x, mask)
        assert there.shape == x.shape
        assert torch.isfinite(there).all()
        assert torch.allclose(text(x[:, turned], mask), there[:, turned], atol=1e-4)


def test_tokens_that_do_not_count_change_nothing(text: TextBackbone) -> None:
    x, mask = torch.randn(2, 12, WIDTH), torch.tensor([[1] * 7 + [0] * 5] * 2)
    other = x.clone()
    other[:, 7:] = 9.0
    with torch.inference_mode():
        assert torch.equal(text(x, mask)[:, :7], text(other, mask)[:, :7])
        assert torch.allclose(text(x[:, :7])[:, :7], text(x, mask)[:, :7], atol=1e-5)
        assert not torch.allclose(text(x)[:, :7], text(x, mask)[:, :7], atol=1e-3)


def test_a_row_does_not_know_its_mates(text: TextBackbone) -> None:
    """transformers takes another path where no token of a whole batch is masked: we never let it."""
    x, whole = torch.randn(4, 12, WIDTH), torch.ones(4, 12)
    broken = whole.clone()
    broken[1:, 5:] = 0
    with torch.inference_mode():
        assert torch.equal(text(x, whole)[0], text(x, broken)[0])


def test_words_are_not_kept(text: TextBackbone) -> None:
    words = text.backbone.get_input_embeddings()
    assert words.num_embeddings == 1
    assert "pooler" not in {name.split(".")[0] for name, _ in text.backbone.named_parameters()}


def test_it_is_the_foreign_model(tmp_path: Path) -> None:
    """Between the two linear maps stands what ``save_pretrained`` wrote, at its first position."""
    for family, first in (("bert", 0), ("roberta", 2), ("distilbert", 0)):
        backbone, plan = opened(tmp_path / family, family, "variable_star")
        slot = filled(TextBackbone(plan, 32), backbone)
        original = hf.AutoModel.from_pretrained(tmp_path / family).eval()
        x = torch.randn(2, 9, 32)
        with torch.inference_mode():
            places = torch.full((2, 9), first)
            wanted = original(inputs_embeds=slot.into(x), position_ids=places).last_hidden_state
            assert torch.allclose(slot(x), slot.back(wanted), atol=1e-5), family


def test_an_encoder_that_cannot_do_without_its_places_says_how_many_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}
    plan = {"config": plain_config(hf.BertConfig(vocab_size=9, max_position_embeddings=16, **sizes)), "pooler": True}
    ordinary = hf.BertModel.forward

    def forward(self: Any, attention_mask: Any = None, inputs_embeds: Any = None, **more: Any) -> Any:
        return ordinary(self, attention_mask=attention_mask, inputs_embeds=inputs_embeds)

    monkeypatch.setattr(hf.BertModel, "forward", forward)
    slot = TextBackbone(plan, WIDTH)
    assert slot(torch.randn(1, 15, WIDTH)).shape == (1, 15, WIDTH)
    with pytest.raises(BackboneError, match="backbone of type 'bert' has 16 positions, and 17 tokens are to be read"):
        slot(torch.randn(1, 16, WIDTH))


def test_a_plan_that_cannot_be_made_says_which() -> None:
    with pytest.raises(BackboneError, match="a backbone of type 'astrology' cannot be made"):
        make_model({"config": {"model_type": "astrology"}, "pooler": True})
    with pytest.raises(BackboneError, match="a backbone of type 'bert' cannot be made"):
        make_model({"config": {"model_type": "bert", "hidden_size": 30, "num_attention_heads": 4}, "pooler": True})


@pytest.mark.parametrize("family", list(tiny_backbones.IMAGE))
def test_an_image_model_gives_one_vector_for_each_view(family: str, tmp_path: Path) -> None:
    if family.startswith("timm"):
        pytest.importorskip("timm")
    backbone, plan = opened(tmp_path / "there", family, "galaxy_morphology")
    image = filled(ImageBackbone(plan), backbone)
    views = torch.randint(0, 256, (6, 3, 40, 40), dtype=torch.uint8)
    with torch.inference_mode():
        found = image(views)
        assert found.shape == (6, plan["image"]["width"])
        assert found.std(0).max() > 1e-4, "different views differ"
        for place in range(6):
            mates = views.roll(place, 0)
            assert torch.equal(image(mates)[place], found[0]), "neither mates nor place count"
    original = hf.AutoModel.from_pretrained(tmp_path / "there").eval()
    blank = torch.full((1, 3, plan["image"]["size"], plan["image"]["size"]), 51.0)
    mean, std = (torch.tensor(plan["image"][name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    with torch.inference_mode():
        wanted = original(pixel_values=(blank / 255 - mean) / std)
        pooled = wanted.last_hidden_state[:, 0] if family == "vit" else wanted.pooler_output.flatten(1)
        assert torch.allclose(image(blank), pooled, atol=1e-5)


def test_a_pooling_layer_counts_only_where_it_was_pretrained(tmp_path: Path) -> None:
    _, plan = opened(tmp_path / "without", "vit", "galaxy_morphology")
    assert not plan["pooler"], "written without one, so one would be random"
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}
    whole = hf.ViTModel(hf.ViTConfig(image_size=32, patch_size=16, **sizes)).eval()
    whole.save_pretrained(tmp_path / "with")
    backbone = open_backbone(str(tmp_path / "with"), tasks.get("galaxy_morphology"))
    image = filled(ImageBackbone(backbone.build_options({})["backbone"]), backbone)
    assert torch.equal(image.backbone.pooler.dense.weight, whole.pooler.dense.weight)


def test_planes_become_channels() -> None:
    assert isinstance(band_map(3, 3), nn.Identity)
    planes = torch.tensor([0.0, 30.0, 90.0]).view(1, 3, 1, 1)
    for channels, wanted in ((1, [40.0]), (5, [0.0, 15.0, 30.0, 60.0, 90.0])):
        mapped = band_map(3, channels)
        assert mapped(planes).flatten().tolist() == pytest.approx(wanted)
    assert band_map(1, 3)(torch.full((1, 1, 1, 1), 7.0)).flatten().tolist() == pytest.approx([7.0] * 3)
    assert all(parameter.requires_grad for parameter in band_map(3, 1).parameters())


@pytest.mark.parametrize("channels", [1, 4])
def test_a_model_of_any_number_of_bands(channels: int, tmp_path: Path) -> None:
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}
    config = hf.ViTConfig(image_size=32, patch_size=16, num_channels=channels, **sizes)
    hf.ViTModel(config, add_pooling_layer=False).save_pretrained(tmp_path)
    backbone = open_backbone(str(tmp_path), tasks.get("galaxy_morphology"))
    image = filled(ImageBackbone(backbone.build_options({})["backbone"]), backbone)
    with torch.inference_mode():
        views = torch.rand(2, 3, 20, 20) * 255
        whole = image(views)
        assert whole.shape == (2, 32)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.allclose(image(views).float(), whole, atol=0.1)


def test_batch_norm_stands_still(tmp_path: Path) -> None:
    pytest.importorskip("timm")
    backbone, plan = opened(tmp_path, "timm_resnet", "galaxy_morphology")
    image = filled(ImageBackbone(plan), backbone).train()
    before = {name: value.clone() for name, value in image.state_dict().items()}
    image(torch.rand(4, 3, 64, 64) * 255)
    assert image.training
    assert all(torch.equal(value, before[name]) for name, value in image.state_dict().items())


def test_a_model_without_a_plan_stays_as_it_was() -> None:
    """A bundle of an earlier version has no such field at all."""
    task = tasks.get("variable_star")
    fields = dict(vars(task.build(**task.options["build"]).config))
    fields.pop("backbone")
    names = set(task.network(SimpleNamespace(**fields)).state_dict())
    assert names == set(task.build(**task.options["build"]).state_dict())
    assert not any("backbone" in name for name in names)
