"""A transformer for irregular light curves of any bands: one token a visit, and one for what was measured.

Time and the phases of several candidate periods enter by sines, so that a wrong alias is one channel among others.
The measured numbers form the first token and also join its output, since they are what classical methods live on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from finetune.encoder import Encoder, choose_encoder

N_EDGE = 33  #: Quantiles of the training set that put each number on an even scale.
LONGEST = 3000.0  #: Days; longest wave of the time encoding, the shortest is one day.
_HARMONICS = ((1, 2, 4, 6, 8), (2, 4), (2, 4))  # of twice the period, for each candidate


class QuantileScale(nn.Module):
    """Put each number on -1.7 to 1.7 by its rank among the training objects; the scale is a buffer, not trained.

    Parameters
    ----------
    n_number : int
        How many numbers.
    """

    edges: torch.Tensor

    def __init__(self, n_number: int) -> None:
        super().__init__()
        self.register_buffer("edges", torch.linspace(-3, 3, N_EDGE).repeat(n_number, 1))

    def fit(self, numbers: np.ndarray, known: np.ndarray) -> None:
        """Learn the quantiles.

        Parameters
        ----------
        numbers, known : ndarray, shape (n, n_number)
            Training objects; a number counts where ``known`` is above one half.
        """
        levels = np.concatenate([[0.001], np.linspace(0, 1, N_EDGE)[1:-1], [0.999]])
        for index in range(numbers.shape[1]):
            values = numbers[known[:, index] > 0.5, index]
            if values.size >= 10:
                edges = np.quantile(values.astype(np.float64), levels)
                self.edges[index] = torch.as_tensor(edges + 1e-6 * np.arange(N_EDGE), dtype=torch.float32)

    def forward(self, numbers: torch.Tensor, known: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Scale.

        Parameters
        ----------
        numbers, known : Tensor, shape (batch, n_number)
            Inputs; 0 in ``known`` where missing.

        Returns
        -------
        scaled, outside : Tensor, shape (batch, n_number) and (batch,)
            Scaled numbers, 0 where missing; share of the known numbers beyond the 0.1 to 99.9 percent range.
        """
        columns = numbers.T.contiguous()
        place = torch.searchsorted(self.edges, columns).clamp(1, N_EDGE - 1)
        low, high = self.edges.gather(1, place - 1), self.edges.gather(1, place)
        share = ((columns - low) / (high - low).clamp_min(1e-9)).clamp(0, 1)
        rank = (place - 1 + share) / (N_EDGE - 1)
        margin = 0.05 * (self.edges[:, -1:] - self.edges[:, :1])
        beyond = (columns < self.edges[:, :1] - margin) | (columns > self.edges[:, -1:] + margin)
        outside = (beyond.T * known).sum(1) / known.sum(1).clamp_min(1)
        return (3.4 * rank.T - 1.7) * known, outside


class VisitLayers(nn.Module):
    """The embedding of visits: what the model of a task and a masked pretraining share, beside the encoder."""

    config: Any
    embed: nn.Module

    def add_visits(self, config: Any) -> None:
        """Make the embedding.

        Parameters
        ----------
        config : LightCurveConfig
            Sizes, or anything with its fields.
        """
        width = config.hidden_size
        n_phase = 2 * sum(map(len, _HARMONICS))
        self.embed = nn.Sequential(
            nn.Linear(3 * config.n_slot + n_phase + 2 * config.n_wave, 2 * width),
            nn.GELU(),
            nn.Linear(2 * width, width),
        )

    def tokens(
        self, magnitude: torch.Tensor, log_error: torch.Tensor, seen: torch.Tensor, time: torch.Tensor,
        phase: torch.Tensor,
    ) -> torch.Tensor:  # fmt: skip
        """Embed the visits.

        Parameters
        ----------
        magnitude, log_error, seen : Tensor, shape (batch, n_token, n_slot)
            What was observed.
        time : Tensor, shape (batch, n_token)
            Days from the middle.
        phase : Tensor, shape (batch, n_token, 3)
            Cycles of twice each candidate period.

        Returns
        -------
        Tensor, shape (batch, n_token, hidden_size)
            Embeddings.
        """
        periods = torch.logspace(0, np.log10(LONGEST), self.config.n_wave, device=time.device, dtype=time.dtype)
        angles = [2 * np.pi * time[..., None] / periods]
        for index, harmonics in enumerate(_HARMONICS):
            multiples = torch.tensor(harmonics, device=time.device, dtype=time.dtype)
            angles.append(2 * np.pi * phase[..., index, None] * multiples)
        angle = torch.cat(angles, -1)
        observed = torch.cat([magnitude * seen, (log_error + 1) * seen, seen], -1)
        embedded: torch.Tensor = self.embed(torch.cat([observed, angle.sin(), angle.cos()], -1))
        return embedded


class LightCurveLayers(VisitLayers):
    """Visits and measured numbers to class scores: what the trained model and its quick twin share."""

    def add_layers(self, config: Any, encoder: Callable[..., nn.Module]) -> None:
        """Make the layers.

        Parameters
        ----------
        config : LightCurveConfig
            Sizes, or anything with its fields.
        encoder : callable
            ``bert_encoder`` or ``Encoder``.
        """
        width = config.hidden_size
        self.scale = QuantileScale(config.n_number)
        self.add_visits(config)
        self.number = nn.Sequential(
            nn.Linear(2 * config.n_number, 4 * width),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(4 * width, width),
        )
        self.encoder = encoder(
            width, config.num_hidden_layers, config.num_attention_heads, config.intermediate_size,
            dropout=config.dropout,
        )  # fmt: skip
        self.neck = nn.Sequential(
            nn.LayerNorm(3 * width), nn.Dropout(config.dropout), nn.Linear(3 * width, 2 * width), nn.GELU()
        )
        self.head = nn.Linear(2 * width, config.n_class)

    def forward(
        self, magnitude: torch.Tensor, log_error: torch.Tensor, seen: torch.Tensor, time: torch.Tensor,
        phase: torch.Tensor, valid: torch.Tensor, numbers: torch.Tensor, known: torch.Tensor,
    ) -> dict[str, torch.Tensor]:  # fmt: skip
        """Score the classes.

        Parameters
        ----------
        magnitude, log_error, seen, time, phase, valid, numbers, known : Tensor
            From ``light_curve_tokens.prepare``, batch first.

        Returns
        -------
        dict of str to Tensor
            ``logits`` (batch, n_class); ``outside`` (batch,): share of the numbers outside of the training range;
            ``embedding`` (batch, 2 hidden_size).
        """
        scaled, outside = self.scale(numbers, known)
        first = self.number(torch.cat([scaled, known], 1))
        longest = max(int(valid.sum(1).max()), 1) if self.training else valid.shape[1]
        visits = self.tokens(*(x[:, :longest] for x in (magnitude, log_error, seen, time, phase)))
        mask = torch.cat([torch.ones_like(valid[:, :1]), valid[:, :longest]], 1)
        hidden = self.encoder(torch.cat([first[:, None], visits], 1), mask)
        share = valid[:, :longest, None]
        mean = (hidden[:, 1:] * share).sum(1) / share.sum(1).clamp_min(1)
        pooled = self.neck(torch.cat([hidden[:, 0], mean, first], 1))
        return {"logits": self.head(pooled), "outside": outside, "embedding": pooled}


class LightCurveNetwork(LightCurveLayers):
    """The model for inference, without transformers where no foreign backbone needs it.

    Parameters
    ----------
    config : object
        With the fields of ``LightCurveConfig``, as a bundle's ``config.json`` has them.
    """

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.add_layers(config, choose_encoder(config, Encoder))
