"""The light-curve transformer as a model of transformers, for training and sharing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from finetune.bert import bert_encoder
from finetune.encoder import choose_encoder
from finetune.light_curve_network import LightCurveLayers


class LightCurveConfig(PretrainedConfig):
    """Sizes.

    Parameters
    ----------
    n_class, n_number, n_slot : int
        Classes, measured numbers, bands of a visit.
    hidden_size, num_hidden_layers, num_attention_heads, intermediate_size : int
        Of the encoder.
    dropout : float
        In the encoder and the head.
    n_wave : int
        Waves of the time encoding.
    backbone : mapping, optional
        Plan of a foreign text encoder, from ``finetune.backbone_source``, in place of our own.
    **kwargs : Any
        Of ``PretrainedConfig``.
    """

    model_type = "nightcat_light_curve"

    def __init__(
        self,
        n_class: int = 10,
        n_number: int = 1,
        n_slot: int = 5,
        hidden_size: int = 64,
        num_hidden_layers: int = 3,
        num_attention_heads: int = 4,
        intermediate_size: int = 256,
        dropout: float = 0.1,
        n_wave: int = 10,
        backbone: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self.n_class, self.n_number, self.n_slot = n_class, n_number, n_slot
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.intermediate_size = intermediate_size
        self.dropout = dropout
        self.n_wave = n_wave
        self.backbone = backbone
        super().__init__(**kwargs)


class LightCurveModel(LightCurveLayers, PreTrainedModel):
    """Visits and measured numbers to class scores.

    Parameters
    ----------
    config : LightCurveConfig
        Sizes.
    """

    config_class = LightCurveConfig
    main_input_name = "magnitude"

    def __init__(self, config: LightCurveConfig) -> None:
        super().__init__(config)
        self.add_layers(config, choose_encoder(config, bert_encoder))
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5 if module.in_features < 256 else 0.04)
            nn.init.zeros_(module.bias)
        if isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
