"""BERT's encoder in plain torch, for inference: the same function and the same weight names as transformers' own.

Models are built, trained and shared as ``transformers.PreTrainedModel``. Only to answer, transformers is not needed,
and its import takes longer than reading a night's first hundred files; so the survey runs this twin. A test holds the
two together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.functional import gelu, scaled_dot_product_attention

EPSILON = 1e-12  #: Of BERT's layer norms.


def choose_encoder(config: Any, own: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """What makes the encoder of a model: ours, or one around a foreign backbone.

    Parameters
    ----------
    config : object
        Of the model; a field ``backbone`` that is not empty is the plan of a foreign one.
    own : callable
        ``Encoder`` or ``finetune.bert.bert_encoder``.

    Returns
    -------
    callable
        Takes what ``Encoder`` takes; a foreign encoder has its own sizes, and imports transformers.
    """
    plan = getattr(config, "backbone", None)
    if not plan:
        return own
    from finetune.backbone_model import TextBackbone

    return lambda width, *_, **__: TextBackbone(plan, width)


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.self = nn.ModuleDict({name: nn.Linear(width, width) for name in ("query", "key", "value")})
        self.output = _Residual(width, width)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        split = (len(x), -1, self.heads, x.shape[-1] // self.heads)
        query, key, value = (self.self[n](x).view(split).transpose(1, 2) for n in ("query", "key", "value"))
        mixed = scaled_dot_product_attention(query, key, value, attn_mask=mask)
        joined: torch.Tensor = self.output(mixed.transpose(1, 2).reshape(x.shape), x)
        return joined


class _Residual(nn.Module):
    """A dense layer, added to what went around it, and normed."""

    def __init__(self, inside: int, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(inside, width)
        self.LayerNorm = nn.LayerNorm(width, EPSILON)

    def forward(self, x: torch.Tensor, around: torch.Tensor) -> torch.Tensor:
        normed: torch.Tensor = self.LayerNorm(self.dense(x) + around)
        return normed


class _Layer(nn.Module):
    def __init__(self, width: int, heads: int, intermediate: int) -> None:
        super().__init__()
        self.attention = _Attention(width, heads)
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(width, intermediate)})
        self.output = _Residual(intermediate, width)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        x = self.attention(x, mask)
        out: torch.Tensor = self.output(gelu(self.intermediate["dense"](x)), x)
        return out


class _Embeddings(nn.Module):
    def __init__(self, width: int, positions: int) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(1, width)  # never looked up; it is among the stored weights
        self.position_embeddings = nn.Embedding(positions, width)
        self.token_type_embeddings = nn.Embedding(1, width)
        self.LayerNorm = nn.LayerNorm(width, EPSILON)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        place = self.position_embeddings.weight
        if len(place) > 1:
            place = place[: x.shape[1]]
        normed: torch.Tensor = self.LayerNorm(x + self.token_type_embeddings.weight + place)
        return normed


class Encoder(nn.Module):
    """``BertModel`` without words: embeddings in, hidden states out.

    Parameters
    ----------
    width, layers, heads, intermediate : int
        ``hidden_size``, ``num_hidden_layers``, ``num_attention_heads`` and ``intermediate_size`` of ``BertConfig``.
    positions : int
        Longest sequence; with 1 every token has the same place.
    dropout : float
        Not used; so that it is made as ``finetune.bert.bert_encoder`` is.
    """

    def __init__(
        self, width: int, layers: int, heads: int, intermediate: int, positions: int = 1, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.embeddings = _Embeddings(width, positions)
        self.encoder = nn.ModuleDict(
            {"layer": nn.ModuleList(_Layer(width, heads, intermediate) for _ in range(layers))}
        )

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Encode.

        Parameters
        ----------
        x : Tensor, shape (batch, tokens, width)
            Embeddings.
        mask : Tensor, shape (batch, tokens), optional
            Nonzero for tokens that count; all where None. It is used even where all of them count, so that a row
            takes the same path whatever its batch mates are.

        Returns
        -------
        Tensor, shape (batch, tokens, width)
            Hidden states of the last layer.
        """
        seen = None if mask is None else mask.bool()[:, None, None, :]
        x = self.embeddings(x)
        for layer in self.encoder["layer"]:  # type: ignore[attr-defined]
            x = layer(x, seen)
        return x
