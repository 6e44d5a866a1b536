"""Tiny models of many families with random weights, written as ``save_pretrained`` writes them: no network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from torch import nn

_SIZES: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 48,
}  # fmt: skip
_MODERN = {"pad_token_id": 19, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}

#: Tokens may be more than the 16 positions that some of these have.
TEXT: dict[str, Callable[[], Any]] = {
    "bert": lambda: hf.BertModel(hf.BertConfig(vocab_size=20, max_position_embeddings=16, **_SIZES)),
    "roberta": lambda: hf.RobertaModel(hf.RobertaConfig(vocab_size=20, max_position_embeddings=16, **_SIZES)),
    "modernbert": lambda: hf.ModernBertModel(hf.ModernBertConfig(vocab_size=20, **_MODERN, **_SIZES)),
    "distilbert": lambda: hf.DistilBertModel(
        hf.DistilBertConfig(vocab_size=20, dim=32, n_layers=3, n_heads=2, hidden_dim=48, max_position_embeddings=16)
    ),
    "albert": lambda: hf.AlbertModel(
        hf.AlbertConfig(vocab_size=20, embedding_size=16, num_hidden_groups=3, max_position_embeddings=16, **_SIZES)
    ),
}
IMAGE: dict[str, Callable[[], Any]] = {
    "vit": lambda: hf.ViTModel(hf.ViTConfig(image_size=32, patch_size=16, **_SIZES), add_pooling_layer=False),
    "dinov2": lambda: hf.Dinov2Model(
        hf.Dinov2Config(
            image_size=28, patch_size=14, hidden_size=32, num_hidden_layers=3, num_attention_heads=2, mlp_ratio=2
        )
    ),
    "convnextv2": lambda: hf.ConvNextV2Model(
        hf.ConvNextV2Config(hidden_sizes=[8, 8, 16, 32], depths=[1, 1, 2, 1], image_size=32)
    ),
    "timm": lambda: timm_wrapper("test_vit"),
    "timm_resnet": lambda: timm_wrapper("test_resnet"),
}


def timm_wrapper(architecture: str, **model_args: Any) -> Any:
    """A timm backbone with random weights, as transformers wraps it."""
    names = ["a", "b"]
    config = {"architecture": architecture, "num_classes": 2, "label_names": names, "model_args": model_args}
    return hf.TimmWrapperModel(hf.TimmWrapperConfig.from_dict(config))


def write(folder: Path, family: str, seed: int = 0) -> Path:
    """Write the tiny model of a family; biases and norms are random too: none can be lost unseen."""
    torch.manual_seed(seed)
    model = {**TEXT, **IMAGE}[family]()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                parameter.normal_(1.0 if name.endswith("weight") else 0.0, 0.1)
            elif parameter.ndim == 4:
                nn.init.kaiming_normal_(parameter)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
    model.save_pretrained(folder)
    return folder
