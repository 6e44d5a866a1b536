"""Masked pretraining on light curves: visits are hidden, and their magnitudes are to be said from the others.

Single visits are hidden, or a run of them: a gap, or all that comes after some night; or, where ``hide`` is ``band``,
all that was observed in a band, while the others' part of each visit is shown. The loss is the Gaussian
likelihood of each magnitude under its own error and the one that the model states. The numbers that were measured on
the whole light curve are not given, or a hidden visit would be among them; the candidate periods are, as in the task,
and so they are to the trivial answer, which interpolates in phase as well as in time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from finetune.bert import bert_encoder
from finetune.light_curve_model import LightCurveConfig
from finetune.light_curve_network import VisitLayers
from finetune.light_curve_tokens import N_SLOT
from finetune.losses import gaussian_loss
from finetune.masked import Decoder, Objective, choose, compact
from finetune.task import Prepared

FEWEST = 8  #: Visits that a light curve needs.
RUNS = 0.3  #: Share of the light curves of which a run of visits is hidden.
VISITS = 0.3  #: Share of the light curves of which visits are hidden where the others lose a band.
SINGLE = 0.3  #: Share of those that lose a band which keep a single one.
FLOOR = 0.1  #: Error, over the object's scatter, below which a magnitude counts no more in the figures.
LEAST = -7.0  #: Log variance that the model can state at least: 0.03 of the object's scatter.
_INPUTS = ("magnitude", "log_error", "seen", "time", "phase", "valid")


class MaskedLightCurvesConfig(LightCurveConfig):
    """Sizes of the encoder, as ``LightCurveConfig`` has them, and of the decoder.

    Parameters
    ----------
    decoder_layers : int
        Layers of the decoder.
    **kwargs : Any
        Of ``LightCurveConfig``.
    """

    model_type = "nightcat_masked_light_curves"

    def __init__(self, decoder_layers: int = 1, **kwargs: Any) -> None:
        self.decoder_layers = decoder_layers
        super().__init__(**kwargs)


class MaskedLightCurves(VisitLayers, PreTrainedModel):
    """The embedding and encoder of the light-curve model, and a decoder for what was hidden.

    Parameters
    ----------
    config : MaskedLightCurvesConfig
        Sizes.
    """

    config_class = MaskedLightCurvesConfig
    main_input_name = "magnitude"

    def __init__(self, config: MaskedLightCurvesConfig) -> None:
        super().__init__(config)
        width = config.hidden_size
        self.add_visits(config)
        self.first = nn.Parameter(torch.zeros(1, 1, width))
        self.encoder = bert_encoder(
            width, config.num_hidden_layers, config.num_attention_heads, config.intermediate_size,
            dropout=config.dropout,
        )  # fmt: skip
        self.decoder = Decoder(width, config.num_attention_heads, config.decoder_layers, 2 * config.n_slot)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5 if module.in_features < 256 else 0.04)
            nn.init.zeros_(module.bias)
        if isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        if isinstance(module, Decoder):
            nn.init.normal_(module.mask, std=0.02)
        if isinstance(module, MaskedLightCurves):
            nn.init.normal_(module.first, std=0.02)

    def forward(
        self, magnitude: torch.Tensor, log_error: torch.Tensor, seen: torch.Tensor, time: torch.Tensor,
        phase: torch.Tensor, valid: torch.Tensor, hidden: torch.Tensor,
    ) -> dict[str, torch.Tensor]:  # fmt: skip
        """Say what was hidden.

        Parameters
        ----------
        magnitude, log_error, seen, time, phase, valid : Tensor
            From ``light_curve_tokens.prepare``, batch first.
        hidden : Tensor of bool, shape (batch, n_token) or (batch, n_token, n_slot)
            What the encoder does not get: whole visits, or bands of visits.

        Returns
        -------
        dict of str to Tensor
            ``loss``; ``prediction``, ``target``, ``weight`` (batch, n_token, n_slot).
        """
        hidden = hidden[..., None].expand_as(seen) if hidden.dim() == 2 else hidden
        mean, log_variance = self.answer(magnitude, log_error, seen, time, phase, valid, hidden)
        known = (seen > 0) & hidden
        error = 10**log_error
        loss = gaussian_loss(mean, log_variance, magnitude.masked_fill(~known, torch.nan), error)
        weight = FLOOR**2 / (error**2 + FLOOR**2) * known
        return {"loss": loss, "prediction": mean, "target": magnitude, "weight": weight}

    def answer(
        self, magnitude: torch.Tensor, log_error: torch.Tensor, seen: torch.Tensor, time: torch.Tensor,
        phase: torch.Tensor, valid: torch.Tensor, hidden: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
        """Say what is not shown, whether it was observed or not.

        Parameters
        ----------
        magnitude, log_error, seen, time, phase, valid : Tensor
            As in ``forward``; a moment at which nothing was observed has ``valid`` 0.
        hidden : Tensor of bool, shape (batch, n_token, n_slot)
            What is asked for, and never shown.

        Returns
        -------
        mean, log_variance : Tensor, shape (batch, n_token, n_slot)
            At each moment of which anything is asked: deviation from the slot's median over the object's scatter, and
            the natural log of its variance.
        """
        nothing = torch.zeros_like(seen)
        kept = (valid > 0) & ~hidden.all(-1)
        shown = [x.masked_fill(hidden, 0) for x in (magnitude, log_error, seen)]
        visits = self.tokens(shown[0], shown[1], shown[2], time, phase)
        visible, mask, _ = compact(visits, kept)
        mask = torch.cat([torch.ones_like(mask[:, :1]), mask], 1)
        encoded = self.encoder(torch.cat([self.first.expand(len(visits), 1, -1), visible], 1), mask)
        places = self.tokens(nothing, nothing, nothing, time, phase)  # a moment at which nothing was seen
        mean, log_variance = self.decoder(encoded, mask, places, hidden.any(-1)).chunk(2, -1)
        return mean, log_variance.clamp_min(LEAST)


def hide(batch: dict[str, np.ndarray], rng: np.random.Generator, share: float) -> dict[str, np.ndarray]:
    """Draw the visits that are hidden.

    Parameters
    ----------
    batch : dict of str to ndarray
        Stacked, from ``light_curve_tokens.prepare``.
    rng : Generator
        Source of randomness.
    share : float
        Of the visits of each light curve.

    Returns
    -------
    dict of str to ndarray
        Visits, cut to the longest light curve, and ``hidden``.
    """
    there = (batch["valid"] > 0) & (batch["seen"] > 0).any(-1)
    return _cut(batch, choose(there, rng, share, RUNS))


def _cut(batch: dict[str, np.ndarray], hidden: np.ndarray) -> dict[str, np.ndarray]:
    longest = max(int((batch["valid"] > 0).sum(1).max()), 1)
    return {name: array[:, :longest] for name, array in {**{n: batch[n] for n in _INPUTS}, "hidden": hidden}.items()}


def hide_band(batch: dict[str, np.ndarray], rng: np.random.Generator, share: float) -> dict[str, np.ndarray]:
    """Hide whole bands: one, or all but one; of a share of the light curves, visits, so that those are not forgotten.

    Parameters
    ----------
    batch : dict of str to ndarray
        Stacked, from ``light_curve_tokens.prepare``.
    rng : Generator
        Source of randomness.
    share : float
        Of the visits, where visits are hidden. A light curve of one band loses visits.

    Returns
    -------
    dict of str to ndarray
        As ``hide``, with ``hidden`` of shape (batch, n_token, n_slot).
    """
    seen = (batch["seen"] > 0) & (batch["valid"] > 0)[..., None]
    bands = seen.any(1)
    count = bands.sum(1)
    number = np.where(rng.random(len(seen)) < SINGLE, count - 1, 1)
    rank = np.where(bands, rng.random(bands.shape), np.inf).argsort(1).argsort(1)
    lost = bands & (rank < number[:, None])
    by_band = lost[:, None] & (batch["valid"] > 0)[..., None]
    left = seen & ~by_band
    by_band = by_band | ~left.any(-1, keepdims=True) & (batch["valid"] > 0)[..., None]  # nothing of the visit is left
    by_visit = choose(np.asarray(seen.any(-1)), rng, share, RUNS)[..., None]
    visits = (rng.random(len(seen)) < VISITS) | (count < 2)
    return _cut(batch, np.where(visits[:, None, None], np.broadcast_to(by_visit, seen.shape), by_band))


def usable(prepared: Prepared) -> bool:
    """Tell whether a light curve has visits enough.

    Parameters
    ----------
    prepared : Prepared
        One light curve.

    Returns
    -------
    bool
        True for ``FEWEST`` visits.
    """
    return int(((prepared["valid"] > 0) & (prepared["seen"] > 0).any(-1)).sum()) >= FEWEST


def trivial(batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The median of the band, and straight lines between its visible visits.

    Parameters
    ----------
    batch : mapping of str to ndarray
        From ``hide``.

    Returns
    -------
    dict of str to ndarray
        ``interpolation`` in time, ``phase_interpolation`` in the phase of the best period, and ``median``, which is 0;
        shape (batch, n_token, n_slot). Where a band has no visible visit, all are the median. Where bands are hidden,
        ``other_bands`` too: the mean of the visit's visible bands.
    """
    out = {name: np.zeros_like(batch["magnitude"]) for name in ("interpolation", "median", "phase_interpolation")}
    hidden = batch["hidden"]
    visible = (batch["seen"] > 0) & ~(hidden[..., None] if hidden.ndim == 2 else hidden)
    if hidden.ndim == 3:
        mean = (batch["magnitude"] * visible).sum(-1, keepdims=True) / visible.sum(-1, keepdims=True).clip(1)
        out["other_bands"] = np.broadcast_to(mean, visible.shape)
    for row, slot in np.argwhere(visible.any(1)).tolist():
        known = np.flatnonzero(visible[row, :, slot])
        values = batch["magnitude"][row, known, slot]
        time, phase = batch["time"][row], (2 * batch["phase"][row, :, 0]) % 1  # of one period, not of two
        out["interpolation"][row, :, slot] = np.interp(time, time[known], values)
        out["phase_interpolation"][row, :, slot] = np.interp(phase, phase[known], values, period=1)
    return out


def build(mask: float, **options: Any) -> MaskedLightCurves:
    """Make an untrained model.

    Parameters
    ----------
    mask : float
        Share that is hidden, for the record.
    **options : Any
        Of ``MaskedLightCurvesConfig``.

    Returns
    -------
    MaskedLightCurves
        Random weights.
    """
    return MaskedLightCurves(MaskedLightCurvesConfig(**{"n_slot": N_SLOT, "mask": mask, **options}))


OBJECTIVE = Objective(
    modality="light_curves",
    task="variable_star",
    build=build,
    hide=hide,
    trivial=trivial,
    holes={"visits": hide, "band": hide_band},
    usable=usable,
    little=f"fewer than {FEWEST} visits",
    arrays=(*_INPUTS, "hidden"),
    degrade=True,
    aligned=False,
    whole_files=False,
    shared=("embed.", "encoder."),
    sizes=("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "n_wave"),
    mask=0.4,
    build_defaults={
        "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 256,
        "dropout": 0.05, "n_wave": 10, "decoder_layers": 1,
    },
    training={
        "steps": 6000, "batch_size": 64, "learning_rate": 1.5e-3, "weight_decay": 0.05, "warmup": 0.05, "ema": 0.998,
    },
)  # fmt: skip
