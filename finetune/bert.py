"""transformers' BERT as an encoder of embeddings: what models are trained with."""

from __future__ import annotations

from typing import Any

import torch
from transformers import BertConfig, BertModel


class BertEncoder(BertModel):
    """``BertModel`` that takes embeddings and gives hidden states, as ``finetune.encoder.Encoder`` does.

    Parameters
    ----------
    config : BertConfig
        Sizes; with ``max_position_embeddings`` of 1 every token has the same place.
    """

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config, add_pooling_layer=False)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:  # type: ignore[override]
        """Encode.

        Parameters
        ----------
        x : Tensor, shape (batch, tokens, width)
            Embeddings.
        mask : Tensor, shape (batch, tokens), optional
            Nonzero for tokens that count.

        Returns
        -------
        Tensor, shape (batch, tokens, width)
            Hidden states of the last layer.
        """
        places: dict[str, Any] = {}
        if self.config.max_position_embeddings == 1:
            places = {"position_ids": torch.zeros(x.shape[:2], dtype=torch.long, device=x.device)}
        seen = None if mask is None else mask.long()
        hidden: torch.Tensor = super().forward(inputs_embeds=x, attention_mask=seen, **places).last_hidden_state
        return hidden


def bert_encoder(
    width: int, layers: int, heads: int, intermediate: int, positions: int = 1, dropout: float = 0.0
) -> BertEncoder:
    """Make an encoder.

    Parameters
    ----------
    width, layers, heads, intermediate : int
        Sizes.
    positions : int
        Longest sequence; with 1 every token has the same place.
    dropout : float
        While training.

    Returns
    -------
    BertEncoder
        Random weights.
    """
    return BertEncoder(
        BertConfig(
            vocab_size=1,
            type_vocab_size=1,
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=intermediate,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
            max_position_embeddings=positions,
        )
    )
