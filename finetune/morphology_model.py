"""The morphology network as a model of transformers, for training and sharing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from finetune.bert import bert_encoder
from finetune.morphology_network import MorphologyLayers


class MorphologyConfig(PretrainedConfig):
    """Shape of the network.

    Parameters
    ----------
    classes : int
        Number of classes.
    numbers : int
        Number of morphology numbers.
    projection : int
        Width of the whitened view features.
    hidden, layers, heads, intermediate : int
        Of the transformer.
    dropout, token_dropout : float
        Within the transformer, and on the features that enter it.
    dihedrals : int
        Turned and mirrored copies of a stamp whose answers are averaged: 1, 2, 4 or 8.
    knots : int
        Points of each number's quantile function.
    backbone : mapping, optional
        Plan of a foreign image model, from ``finetune.backbone_source``, in place of EfficientNet-Lite0.
    **kwargs
        Of ``PretrainedConfig``.
    """

    model_type = "nightcat_morphology"

    def __init__(
        self,
        classes: int = 5,
        numbers: int = 54,
        projection: int = 128,
        hidden: int = 64,
        layers: int = 2,
        heads: int = 4,
        intermediate: int = 128,
        dropout: float = 0.2,
        token_dropout: float = 0.3,
        dihedrals: int = 4,
        knots: int = 33,
        backbone: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.classes = classes
        self.numbers = numbers
        self.projection = projection
        self.hidden = hidden
        self.layers = layers
        self.heads = heads
        self.intermediate = intermediate
        self.dropout = dropout
        self.token_dropout = token_dropout
        self.dihedrals = dihedrals
        self.knots = knots
        self.backbone = backbone


class MorphologyModel(MorphologyLayers, PreTrainedModel):
    """Class probabilities of stamps.

    Parameters
    ----------
    config : MorphologyConfig
        Its shape.
    """

    config_class = MorphologyConfig
    base_model_prefix = "morphology"
    main_input_name = "views"

    def __init__(self, config: MorphologyConfig) -> None:
        super().__init__(config)
        self.add_layers(config, bert_encoder)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Nothing: torch's and BERT's own starts are kept, and pretrained parts must not be overwritten."""
