"""A small ensemble of transformers for stellar spectra, with the classical answer inside of one of its members.

Each member is a BERT encoder that reads patches of the spectrum behind a continuous encoding of wavelength. *Direct*
members predict the labels; a *residual* member starts from the kernel ridge of ``spectral_ridge`` on the same
spectrum, and its head starts at zero, so that it can only be judged by what it adds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from finetune.encoder import Encoder, choose_encoder
from finetune.spectral_ridge import KernelRidge, one_by_one, ridge_predict
from finetune.spectral_tokens import CHANNELS, PATCH, features, wavelength_code

N_LABEL = 3
LABEL_MEAN = (3.74, 3.0, -0.25)  #: log10 K, dex, dex: about the middle of MILES.
LABEL_SCALE = (0.11, 1.1, 0.55)


class RowLinear(nn.Linear):
    """A linear layer of few outputs whose last bits do not depend on a row's place in the batch.

    Matrix products of three columns take another kernel for the last rows of a batch than for the first.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Apply the layer, row by row.

        Parameters
        ----------
        input : Tensor, shape (batch, in_features)
            Features.

        Returns
        -------
        Tensor, shape (batch, out_features)
            Outputs.
        """
        return (input[:, None, :] * self.weight).sum(-1) + self.bias


class SpectralTrunk(nn.Module):
    """What a member and a masked pretraining share: patches behind their wavelength, and the encoder."""

    code: torch.Tensor

    def add_trunk(self, config: Any, encoder: Callable[..., nn.Module]) -> None:
        """Make the layers.

        Parameters
        ----------
        config : SpectralConfig
            Sizes, or anything with its fields.
        encoder : callable
            ``bert_encoder`` or ``Encoder``.
        """
        width = config.hidden_size
        self.drop_continuum, self.use_continuum = config.drop_continuum, config.use_continuum
        self.embed = nn.Sequential(nn.Linear(CHANNELS * PATCH, 256), nn.GELU(), nn.Linear(256, width))
        self.place = nn.Linear(32, width)
        self.cls = nn.Parameter(torch.zeros(1, 1, width))
        self.blind = nn.Parameter(torch.zeros(1, 1, width))
        self.encoder = encoder(
            width, config.num_hidden_layers, config.num_attention_heads, config.intermediate_size,
            dropout=config.dropout,
        )  # fmt: skip
        self.register_buffer("code", wavelength_code(), persistent=False)

    def show(self, tokens: torch.Tensor) -> torch.Tensor:
        """Whose continuum is shown.

        Parameters
        ----------
        tokens : Tensor, shape (batch, ...)
            Of a batch.

        Returns
        -------
        Tensor, shape (batch, 1, 1)
            1 or 0; drawn while training.
        """
        n = len(tokens)
        if self.training:
            return (torch.rand(n, 1, 1, device=tokens.device) > self.drop_continuum).to(tokens.dtype)
        return torch.full((n, 1, 1), float(self.use_continuum), dtype=tokens.dtype, device=tokens.device)

    def patches(self, tokens: torch.Tensor, shown: torch.Tensor) -> torch.Tensor:
        """Embed the patches.

        Parameters
        ----------
        tokens : Tensor, shape (batch, N_PATCH, CHANNELS, PATCH)
            From ``features``.
        shown : Tensor, shape (batch, 1, 1)
            From ``show``.

        Returns
        -------
        Tensor, shape (batch, N_PATCH, hidden_size)
            Embeddings.
        """
        visible = torch.ones(len(tokens), 1, CHANNELS, 1, dtype=tokens.dtype, device=tokens.device)
        visible[:, :, 1] = shown
        embedded: torch.Tensor = self.embed((tokens * visible).flatten(2))
        return embedded + self.place(self.code) + (1 - shown) * self.blind


class SpectralMember(SpectralTrunk):
    """One transformer: patches to labels and their errors.

    Parameters
    ----------
    config : SpectralConfig
        Sizes.
    residual : bool
        Whether it corrects a base that it is given.
    encoder : callable
        ``bert_encoder`` or ``Encoder``.
    """

    def __init__(self, config: Any, residual: bool, encoder: Callable[..., nn.Module]) -> None:
        super().__init__()
        self.add_trunk(config, encoder)
        width = config.hidden_size
        self.residual = residual
        self.base_token = nn.Linear(N_LABEL + 2, width) if residual else None
        self.neck = nn.Sequential(nn.LayerNorm(2 * width), nn.Linear(2 * width, width), nn.GELU())
        self.head = RowLinear(width, N_LABEL)
        self.error = nn.Sequential(nn.Linear(width, 64), nn.GELU(), RowLinear(64, N_LABEL))

    def forward(
        self, tokens: torch.Tensor, valid: torch.Tensor, context: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Predict in units of ``LABEL_SCALE``.

        Parameters
        ----------
        tokens, valid : Tensor
            From ``features``.
        context : Tensor, shape (batch, 5), or None
            The base in label units and two numbers on how well it applies; residual members only.

        Returns
        -------
        value, log_error : Tensor, shape (batch, 3)
            Value (or correction of the base), natural log of the Laplace scale.
        pooled : Tensor, shape (batch, hidden_size)
            What both are read from.
        """
        x = self.patches(tokens, self.show(tokens))
        first = self.cls.expand(len(tokens), 1, -1)
        if self.base_token is not None and context is not None:
            first = first + self.base_token(context)[:, None]
        attention = torch.cat([torch.ones_like(valid[:, :1]), valid], 1)
        hidden = self.encoder(torch.cat([first, x], 1), attention)
        share = valid.to(hidden.dtype)[..., None]
        mean = (hidden[:, 1:] * share).sum(1) / share.sum(1).clamp_min(1)
        pooled = self.neck(torch.cat([hidden[:, 0], mean], 1))
        return self.head(pooled), self.error(pooled.detach()), pooled


class SpectralLayers(nn.Module):
    """Members, and the kernel ridge that residual members start from: what the trained model and its twin share."""

    config: Any
    ridge_scores: torch.Tensor
    ridge_keys: torch.Tensor
    ridge_folds: torch.Tensor

    def add_layers(self, config: Any, encoder: Callable[..., nn.Module]) -> None:
        """Make the layers.

        Parameters
        ----------
        config : SpectralConfig
            Sizes and kinds of members, or anything with its fields.
        encoder : callable
            ``bert_encoder`` or ``Encoder``.
        """
        self.members = nn.ModuleList(SpectralMember(config, kind == "residual", encoder) for kind in config.members)
        for name, array in KernelRidge.empty(config.ridge_stars, config.ridge_components).items():
            self.register_buffer(f"ridge_{name}", torch.tensor(array))

    def set_ridge(self, ridge: KernelRidge) -> None:
        """Give residual members their base.

        Parameters
        ----------
        ridge : KernelRidge
            Fitted, of any shape.
        """
        for name, array in ridge.arrays.items():
            self.register_buffer(f"ridge_{name}", torch.tensor(array))
        self.config.ridge_stars, self.config.ridge_components = ridge.arrays["scores"].shape

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any, **kwargs: Any) -> None:
        """Take the shape of the kernel ridge from what is loaded: how many stars it has is known after its fit only."""
        for name in KernelRidge.NAMES:
            stored, buffer = state_dict.get(f"{prefix}ridge_{name}"), getattr(self, f"ridge_{name}")
            if stored is not None and stored.shape != buffer.shape:
                self.register_buffer(f"ridge_{name}", torch.zeros(stored.shape, dtype=buffer.dtype))
        self.config.ridge_stars, self.config.ridge_components = self.ridge_scores.shape
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def inner_fold(self, star: torch.Tensor) -> torch.Tensor:
        """Inner fold of stars that the kernel ridge was fitted on.

        Parameters
        ----------
        star : Tensor of int64, shape (batch,)
            Keys of ``prepare``.

        Returns
        -------
        Tensor of int64, shape (batch,)
            -1 for other stars.
        """
        same = star[:, None] == self.ridge_keys[None]
        return torch.where(same.any(1), self.ridge_folds[same.long().argmax(1)], -1)

    def base(self, flux: torch.Tensor, ivar: torch.Tensor, fold: torch.Tensor | None) -> dict[str, torch.Tensor]:
        """Answer of the kernel ridge.

        Parameters
        ----------
        flux, ivar : Tensor, shape (batch, N_PIXEL)
            Spectra.
        fold : Tensor of int, shape (batch,), or None
            Inner fold whose stars must not answer (training only); None or -1: all stars answer.

        Returns
        -------
        dict of str to Tensor
            ``base`` (batch, 3), ``log_chi2`` and ``log_distance`` (batch,).
        """
        if len(self.ridge_scores) == 0:
            zero = flux.new_zeros(len(flux))
            return {"base": flux.new_tensor(LABEL_MEAN).expand(len(flux), -1), "log_chi2": zero, "log_distance": zero}
        arrays = {name: getattr(self, f"ridge_{name}").float() for name in KernelRidge.FLOATS}
        flux, ivar = flux.float(), ivar.float()
        if self.training:
            return ridge_predict(flux, ivar, arrays, fold, torch)
        return one_by_one(
            lambda rows: ridge_predict(flux[rows], ivar[rows], arrays, None if fold is None else fold[rows], torch),
            len(flux), torch,
        )  # fmt: skip

    def forward(
        self,
        flux: torch.Tensor,
        ivar: torch.Tensor,
        star: torch.Tensor | None = None,
        fold: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """Predict labels with every member.

        Parameters
        ----------
        flux, ivar : Tensor, shape (batch, N_PIXEL)
            From the task's ``prepare``.
        star : Tensor of int64, shape (batch,), optional
            Keys: while training, a star of the kernel ridge gets the answer of the fit without its fold.
        fold : Tensor of int64, shape (batch,), optional
            The inner fold itself, where the caller knows it.

        Returns
        -------
        dict of str to Tensor
            ``value`` and ``log_error`` (batch, members, 3) in units of the labels (log10 K, dex, dex) and their
            natural log; ``base`` (batch, 3), ``log_chi2``, ``log_distance`` (batch,); ``embedding`` (batch, members
            times hidden_size).
        """
        tokens, valid = features(flux, ivar)
        mean, scale = flux.new_tensor(LABEL_MEAN), flux.new_tensor(LABEL_SCALE)
        if fold is None and star is not None and self.training and len(self.ridge_keys):
            fold = self.inner_fold(star)
        out = self.base(flux, ivar, fold)
        context = torch.cat(
            [(out["base"] - mean) / scale, torch.stack([out["log_chi2"], out["log_distance"]], 1).clamp(-5, 5)], 1
        )
        values, errors, pooled = [], [], []
        for member in self.members:
            value, log_error, seen = member(tokens, valid, context if member.residual else None)
            pooled.append(seen)
            values.append(value * scale + (out["base"] if member.residual else mean))
            errors.append(log_error + scale.log())
        answer = {
            "value": torch.stack(values, 1),
            "log_error": torch.stack(errors, 1),
            "embedding": torch.cat(pooled, 1),
        }
        return {**out, **answer}


class SpectralNetwork(SpectralLayers):
    """The ensemble for inference, without transformers where no foreign backbone needs it.

    Parameters
    ----------
    config : object
        With the fields of ``SpectralConfig``, as a bundle's ``config.json`` has them.
    """

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.add_layers(config, choose_encoder(config, Encoder))
