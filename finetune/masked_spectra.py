"""Masked pretraining on spectra: patches are hidden, and what their lines were is to be said from the others.

The target is flux over its own continuum, weighted by its inverse variance, so that neither flux units nor noise are
learnt; a patch without data is never hidden and never counts. A pixel that is hidden is bad for whatever the input is
made of (the continuum of its neighbours too), so that nothing of it leaks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from finetune import spectral_grid as grid
from finetune.bert import bert_encoder
from finetune.losses import masked_loss
from finetune.masked import Decoder, Objective, PlaceLinear, choose, compact
from finetune.spectral_model import SpectralConfig
from finetune.spectral_network import SpectralTrunk
from finetune.spectral_tokens import N_PATCH, PATCH, features, wavelength_code
from finetune.task import Prepared

LINE = 6.0  #: Target: ``LINE (flux / continuum - 1)``, as in the tokens.
FLOOR = 0.3  #: Error of the target, in its units, below which a spectrum counts no more: 5 % of the continuum.
CONTINUUM = 0.1  #: Weight of the continuum's shape beside the lines.
FEWEST = 6  #: Patches with data that a spectrum needs.
_SMOOTH = 5  #: Bins at the edge of a gap whose mean is interpolated.
_PIXELS = PATCH * grid.BINNING


class MaskedSpectraConfig(SpectralConfig):
    """Sizes of the encoder, as ``SpectralConfig`` has them, and of the decoder.

    Parameters
    ----------
    decoder_layers : int
        Layers of the decoder. With one, an encoder of 128 by 4 layers stayed for good where the mean of all spectra is
        (masked error 0.155 against its 0.144 on MILES, at any rate from 2e-4 to 1e-3); with two it is past it within
        100 steps.
    **kwargs : Any
        Of ``SpectralConfig``.
    """

    model_type = "nightcat_masked_spectra"

    def __init__(self, decoder_layers: int = 1, **kwargs: Any) -> None:
        self.decoder_layers = decoder_layers
        super().__init__(**kwargs)


class MaskedSpectra(SpectralTrunk, PreTrainedModel):
    """The trunk of a spectral member, and a decoder for what was hidden.

    Parameters
    ----------
    config : MaskedSpectraConfig
        Sizes.
    """

    config_class = MaskedSpectraConfig
    main_input_name = "flux"

    def __init__(self, config: MaskedSpectraConfig) -> None:
        super().__init__(config)
        self.add_trunk(config, bert_encoder)
        self.decoder = Decoder(
            config.hidden_size, config.num_attention_heads, config.decoder_layers, 2 * PATCH, N_PATCH
        )
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.02 if module.in_features > 64 else 0.1)
            nn.init.zeros_(module.bias)
        if isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        if isinstance(module, Decoder):
            nn.init.normal_(module.mask, std=0.02)
        if isinstance(module, PlaceLinear):
            nn.init.normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)
        if isinstance(module, MaskedSpectra):
            nn.init.normal_(module.cls, std=0.02)
            module.code.copy_(wavelength_code())  # not stored

    def forward(self, flux: torch.Tensor, ivar: torch.Tensor, hidden: torch.Tensor) -> dict[str, torch.Tensor]:
        """Say what was hidden.

        Parameters
        ----------
        flux, ivar : Tensor, shape (batch, N_PIXEL)
            From ``spectral_input.prepare``.
        hidden : Tensor of bool, shape (batch, N_PATCH)
            Patches that the encoder does not get.

        Returns
        -------
        dict of str to Tensor
            ``loss``; ``prediction``, ``target``, ``weight`` (batch, N_PATCH, PATCH) of the lines; ``level``, of the
            same shape: predicted log continuum over that of the visible patches, times ``LINE``.
        """
        answer, shown = self.answer(flux, ivar, hidden)
        line, level, weight = targets(flux, ivar, hidden)
        unseen = (weight > 0).expand_as(line)
        loss = masked_loss(answer[:, :, 0], line, unseen, weight)
        loss = loss + CONTINUUM * masked_loss(answer[:, :, 1], level, unseen, weight * shown)
        return {"loss": loss, "prediction": answer[:, :, 0], "level": answer[:, :, 1], "target": line, "weight": weight}

    def answer(self, flux: torch.Tensor, ivar: torch.Tensor, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Say what is not shown, whether it was observed or not.

        Parameters
        ----------
        flux, ivar, hidden : Tensor
            As in ``forward``.

        Returns
        -------
        answer : Tensor, shape (batch, N_PATCH, 2, PATCH)
            Line signal, and log continuum over that of the visible patches, times ``LINE``.
        shown : Tensor, shape (batch, 1, 1)
            1 for spectra whose continuum was shown.
        """
        tokens, valid = features(*visible_part(flux, ivar, hidden))
        shown = self.show(tokens)
        valid = valid & ~hidden
        seen, mask, _ = compact(self.patches(tokens, shown), valid)
        first = self.cls.expand(len(tokens), 1, -1)
        mask = torch.cat([torch.ones_like(mask[:, :1]), mask], 1)
        encoded = self.encoder(torch.cat([first, seen], 1), mask)
        places = self.place(self.code).expand(len(tokens), -1, -1)
        return self.decoder(encoded, mask, places, hidden).unflatten(2, (2, PATCH)), shown


def targets(
    flux: torch.Tensor, ivar: torch.Tensor, hidden: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What is to be said, from the whole spectrum.

    Parameters
    ----------
    flux, ivar : Tensor, shape (batch, N_PIXEL)
        Spectra.
    hidden : Tensor of bool, shape (batch, N_PATCH)
        What was hidden.

    Returns
    -------
    line, level, weight : Tensor, shape (batch, N_PATCH, PATCH)
        Line signal; log continuum over that of the visible patches, times ``LINE``; weight, 0 to 1, 0 for all that
        was not hidden and for bins without data.
    """
    tokens, _ = features(flux, ivar)
    line, level, sn = tokens.unbind(2)
    good = (ivar.view(len(ivar), N_PATCH, PATCH, grid.BINNING) > 0).any(-1)
    visible = good & ~hidden[..., None]
    middle = (level * visible).sum((1, 2)) / visible.sum((1, 2)).clamp_min(1)
    error = LINE * 10 ** -(sn + 1.2)
    weight = FLOOR**2 / (error**2 + FLOOR**2)
    return line, LINE * (level - middle[:, None, None]), weight * (good & hidden[..., None])


def visible_part(flux: torch.Tensor, ivar: torch.Tensor, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Make hidden pixels bad ones, whatever they held.

    Parameters
    ----------
    flux, ivar : Tensor, shape (batch, N_PIXEL)
        Spectra.
    hidden : Tensor of bool, shape (batch, N_PATCH)
        What is not to be seen.

    Returns
    -------
    flux, ivar : Tensor, shape (batch, N_PIXEL)
        New ones.
    """
    gone = hidden.repeat_interleave(_PIXELS, 1)
    return flux.masked_fill(gone, 0), ivar.masked_fill(gone, 0)


def hide(batch: dict[str, np.ndarray], rng: np.random.Generator, share: float) -> dict[str, np.ndarray]:
    """Draw the patches that are hidden.

    Parameters
    ----------
    batch : dict of str to ndarray
        ``flux`` and ``ivar``, shape (batch, N_PIXEL).
    rng : Generator
        Source of randomness.
    share : float
        Of the patches that hold data.

    Returns
    -------
    dict of str to ndarray
        ``flux``, ``ivar`` and ``hidden``.
    """
    hidden = choose(_filled(batch["ivar"]), rng, share)
    return {"flux": batch["flux"], "ivar": batch["ivar"], "hidden": hidden}


def hide_range(batch: dict[str, np.ndarray], rng: np.random.Generator, share: float) -> dict[str, np.ndarray]:
    """Hide a whole range of each spectrum, as another instrument would not have observed it.

    Parameters
    ----------
    batch : dict of str to ndarray
        ``flux`` and ``ivar``, shape (batch, N_PIXEL).
    rng : Generator
        Source of randomness.
    share : float
        Of the patches that hold data, in the mean: between a fifth of it and nearly twice as much is hidden.

    Returns
    -------
    dict of str to ndarray
        As ``hide``: for four spectra of five the range begins at the blue or the red end, else anywhere.
    """
    filled = _filled(batch["ivar"])
    count = filled.sum(1)
    wanted = count * share * rng.uniform(0.2, 1.8, len(filled))
    number = np.clip(np.round(wanted), 1, np.maximum(count - 2, 0)).astype(int)
    anywhere = np.floor(rng.random(len(filled)) * (count - number + 1)).astype(int)
    end = np.where(rng.random(len(filled)) < 0.5, 0, count - number)
    start = np.where(rng.random(len(filled)) < 0.2, anywhere, end)
    turn = np.where(filled, np.cumsum(filled, 1) - 1, -1)
    hidden = filled & (turn >= start[:, None]) & (turn < (start + number)[:, None])
    return {"flux": batch["flux"], "ivar": batch["ivar"], "hidden": hidden}


def _filled(ivar: np.ndarray) -> np.ndarray:
    """Patches that ``features`` calls valid."""
    bins = (ivar.reshape(*ivar.shape[:-1], N_PATCH, PATCH, grid.BINNING) > 0).any(-1)
    return bins.mean(-1) > 0.1


def usable(prepared: Prepared) -> bool:
    """Tell whether enough of a spectrum is there.

    Parameters
    ----------
    prepared : Prepared
        One spectrum.

    Returns
    -------
    bool
        True for ``FEWEST`` patches with data.
    """
    return int(_filled(prepared["ivar"]).sum()) >= FEWEST


def trivial(batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A straight line over each gap.

    Parameters
    ----------
    batch : mapping of str to ndarray
        From ``hide``.

    Returns
    -------
    dict of str to ndarray
        ``interpolation``, shape (batch, N_PATCH, PATCH): between the means of the line signal beside the gap.
    """
    flux, ivar, hidden = (torch.as_tensor(batch[name]) for name in ("flux", "ivar", "hidden"))
    tokens, valid = features(*visible_part(flux, ivar, hidden))
    line = tokens[:, :, 0].flatten(1).numpy()
    bins = (valid & ~hidden).repeat_interleave(PATCH, 1).numpy()
    place, kernel = np.arange(grid.N_BIN), np.ones(_SMOOTH)
    out = np.zeros_like(line)
    for row, known, answer in zip(line, bins, out, strict=True):
        if known.any():
            count = np.convolve(known.astype(float), kernel, "same").clip(1)
            smooth = np.convolve(np.where(known, row, 0), kernel, "same") / count
            answer[:] = np.interp(place, place[known], smooth[known])
    return {"interpolation": out.reshape(len(out), N_PATCH, PATCH)}


def build(mask: float, **options: Any) -> MaskedSpectra:
    """Make an untrained model.

    Parameters
    ----------
    mask : float
        Share that is hidden, for the record.
    **options : Any
        Of ``MaskedSpectraConfig``.

    Returns
    -------
    MaskedSpectra
        Random weights.
    """
    return MaskedSpectra(MaskedSpectraConfig(mask=mask, **options))


OBJECTIVE = Objective(
    modality="spectra",
    task="stellar_parameters",
    build=build,
    hide=hide,
    trivial=trivial,
    holes={"patches": hide, "range": hide_range},
    usable=usable,
    little=f"fewer than {FEWEST} of {N_PATCH} patches hold data",
    arrays=("flux", "ivar", "hidden"),
    degrade=True,
    aligned=True,
    whole_files=False,
    shared=("embed.", "place.", "cls", "blind", "encoder."),
    sizes=("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"),
    mask=0.5,
    build_defaults={
        "hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 512,
        "dropout": 0.05, "drop_continuum": 0.35, "decoder_layers": 2,
    },
    training={
        "steps": 4000, "batch_size": 64, "learning_rate": 1e-3, "weight_decay": 0.05, "warmup": 0.05, "ema": 0.997,
    },
)  # fmt: skip
