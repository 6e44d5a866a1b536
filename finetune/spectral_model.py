"""The spectral ensemble as a model of transformers, for training and sharing, and its loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from finetune.bert import bert_encoder
from finetune.encoder import choose_encoder
from finetune.spectral_network import LABEL_SCALE, SpectralLayers, SpectralMember
from finetune.spectral_tokens import wavelength_code


class SpectralConfig(PretrainedConfig):
    """Sizes of the ensemble.

    Parameters
    ----------
    members : sequence of str
        ``"direct"`` or ``"residual"`` for each member.
    hidden_size, num_hidden_layers, num_attention_heads, intermediate_size : int
        Of each member's encoder.
    dropout : float
        Dropout in the encoder.
    drop_continuum : float
        Share of the training spectra whose continuum is hidden, so that a poor flux calibration can be survived.
    use_continuum : bool
        Whether the continuum is shown at inference.
    ridge_stars, ridge_components : int
        Shape of the kernel ridge that a residual member starts from; 0 stars: it starts from a constant.
    backbone : mapping, optional
        Plan of a foreign text encoder, from ``finetune.backbone_source``, that takes the place of each member's own.
    **kwargs : Any
        Of ``PretrainedConfig``.
    """

    model_type = "nightcat_spectral_ensemble"

    def __init__(
        self,
        members: tuple[str, ...] = ("direct", "direct", "residual"),
        hidden_size: int = 128,
        num_hidden_layers: int = 4,
        num_attention_heads: int = 4,
        intermediate_size: int = 512,
        dropout: float = 0.05,
        drop_continuum: float = 0.35,
        use_continuum: bool = True,
        ridge_stars: int = 0,
        ridge_components: int = 60,
        backbone: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self.members = list(members)
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.intermediate_size = intermediate_size
        self.dropout = dropout
        self.drop_continuum = drop_continuum
        self.use_continuum = use_continuum
        self.ridge_stars = ridge_stars
        self.ridge_components = ridge_components
        self.backbone = backbone
        super().__init__(**kwargs)


class SpectralEnsemble(SpectralLayers, PreTrainedModel):
    """Members, and the kernel ridge that residual members start from.

    Parameters
    ----------
    config : SpectralConfig
        Sizes and kinds of members.
    """

    config_class = SpectralConfig
    main_input_name = "flux"

    def __init__(self, config: SpectralConfig) -> None:
        super().__init__(config)
        self.add_layers(config, choose_encoder(config, bert_encoder))
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.02 if module.in_features > 64 else 0.1)
            nn.init.zeros_(module.bias)
        if isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        if isinstance(module, SpectralMember):
            nn.init.normal_(module.cls, std=0.02)
            module.code.copy_(wavelength_code())  # not stored: ``from_pretrained`` leaves it empty
            if module.residual:
                nn.init.zeros_(module.head.weight)
                nn.init.zeros_(module.head.bias)


def member_loss(outputs: Mapping[str, torch.Tensor], targets: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Absolute error in units of the labels' spread, and a Laplace likelihood that trains only the error head.

    Parameters
    ----------
    outputs : mapping of str to Tensor
        From ``SpectralEnsemble.forward``.
    targets : mapping of str to Tensor
        ``labels``, shape (batch, 3); NaN where missing.

    Returns
    -------
    Tensor
        Scalar, mean over members.
    """
    labels = targets["labels"].to(outputs["value"])
    known = torch.isfinite(labels)
    scale = labels.new_tensor(LABEL_SCALE)
    truth = torch.where(known, labels, torch.zeros_like(labels))[:, None]
    error = (outputs["value"] - truth).abs() / scale
    log_b = (outputs["log_error"] - scale.log()).clamp(-6, 3)
    each = labels.new_tensor([2.0, 1.0, 1.0]) * error + 0.3 * (error.detach() * torch.exp(-log_b) + log_b)
    weight = known[:, None].to(each).expand_as(each)
    return (each * weight).sum() / weight.sum().clamp_min(1)
