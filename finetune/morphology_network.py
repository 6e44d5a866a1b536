"""The morphology network: fine-tuned upper stages of EfficientNet-Lite0 and a small transformer over its views.

Tokens are the whole stamp, its middle, and the classical morphology numbers. Only what fine-tuning changed is stored;
the frozen lower stages come from their package (``finetune.backbones``).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from finetune.backbones import WIDTH, Upper, dihedral, fold_batch_norm, frozen, lite0
from finetune.encoder import Encoder

VIEWS = 2


class QuantileNormal(nn.Module):
    """Map each number to a normal deviate by its quantile in the training set.

    Parameters
    ----------
    numbers, knots : int
        Size of the table.
    """

    def __init__(self, numbers: int, knots: int) -> None:
        super().__init__()
        self.register_buffer("table", torch.linspace(-1, 1, knots).repeat(numbers, 1))

    def forward(self, numbers: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
        """Transform numbers.

        Parameters
        ----------
        numbers : Tensor, shape (n, numbers)
            Raw values.
        known : Tensor, shape (n, numbers)
            1 where there is a value.

        Returns
        -------
        Tensor, shape (n, numbers)
            Within -3 and 3; 0 where unknown.
        """
        table: Any = self.table
        knots = table.shape[1]
        at = torch.searchsorted(table, numbers.T.contiguous()).clamp(1, knots - 1)
        low, high = table.gather(1, at - 1), table.gather(1, at)
        share = ((numbers.T - low) / (high - low).clamp_min(1e-12)).clamp(0, 1)
        quantile = ((at - 1 + share) / (knots - 1)).clamp(0.00135, 0.99865)
        return (torch.erfinv(2 * quantile - 1) * 2**0.5).T.clamp(-3, 3) * known

    def fit(self, numbers: torch.Tensor, known: torch.Tensor) -> None:
        """Learn the table.

        Parameters
        ----------
        numbers, known : Tensor, shape (n, numbers)
            Training set.
        """
        table: Any = self.table
        grid = torch.linspace(0, 1, table.shape[1])
        for index in range(table.shape[0]):
            values = numbers[known[:, index] > 0, index]
            if len(values):
                table[index] = torch.quantile(values, grid)


class MorphologyLayers(nn.Module):
    """Stamps to class probabilities: what the trained model and its quick twin share."""

    config: Any

    def add_layers(self, config: Any, encoder: Callable[..., nn.Module]) -> None:
        """Make the layers.

        Parameters
        ----------
        config : MorphologyConfig
            Shape, or anything with its fields.
        encoder : callable
            ``bert_encoder`` or ``Encoder``.
        """
        plan = getattr(config, "backbone", None)
        self.image = foreign_image(plan) if plan else None
        if self.image is None:
            self.upper = Upper(lite0()).requires_grad_(True).to(memory_format=torch.channels_last)
        width = WIDTH if self.image is None else self.image.width
        projection = min(config.projection, width)
        self.project = nn.Linear(width, projection)
        self.quantiles = QuantileNormal(config.numbers, config.knots)
        self.embed_view = nn.Linear(projection, config.hidden)
        self.embed_numbers = nn.Linear(2 * config.numbers, config.hidden)
        self.start = nn.Parameter(torch.zeros(config.hidden))
        self.encoder = encoder(
            config.hidden, config.layers, config.heads, config.intermediate, positions=VIEWS + 2,
            dropout=config.dropout,
        )  # fmt: skip
        self.classify = nn.Linear(config.hidden, config.classes)
        self.token_dropout = nn.Dropout(config.token_dropout)

    def for_inference(self) -> Any:
        """A copy that answers faster and can no longer be trained: batch norms lie in the convolutions before them.

        Returns
        -------
        Module
            The copy.
        """
        quick = copy.deepcopy(self).eval().requires_grad_(False)
        if self.image is not None:
            return quick
        fold_batch_norm(quick.upper)
        quick.upper.to(memory_format=torch.channels_last)
        return quick

    def lower(self, views: torch.Tensor) -> torch.Tensor:
        """Activations of the frozen stages for all turned copies.

        Parameters
        ----------
        views : Tensor, shape (n, 2, 3, h, h)
            Display values 0 to 255.

        Returns
        -------
        Tensor, shape (n * dihedrals, 2, 80, h / 16, h / 16)
            Copies of one stamp lie together.
        """
        return lower_features(views, self.config.dihedrals)

    def forward(
        self,
        views: torch.Tensor | None = None,
        numbers: torch.Tensor | None = None,
        known: torch.Tensor | None = None,
        lower: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """Classify stamps.

        Parameters
        ----------
        views : Tensor, shape (n, 2, 3, h, h)
            From ``prepare_stamp``.
        numbers, known : Tensor, shape (n, numbers)
            From ``prepare_stamp``.
        lower : Tensor, shape (n, copies, 2, 80, h / 16, h / 16) or (n * copies, 2, 80, h / 16, h / 16), optional
            Activations of the frozen stages, in place of ``views``: fine-tuning keeps them on disk.

        Returns
        -------
        dict of str to Tensor
            ``logits`` (n, classes), the logarithm of the mean probability of the copies; ``embedding`` (n, hidden).
        """
        if numbers is None or known is None:
            raise ValueError("the morphology model needs numbers and known")
        if self.image is not None:
            if views is None:
                raise ValueError("the morphology model with a foreign backbone needs views")
            copies = 1 if self.training else self.config.dihedrals  # views are turned before they come, in training
            return self.head(self.features(views, copies), numbers, known)
        if lower is None:
            if views is None:
                raise ValueError("the morphology model needs views or lower")
            lower = self.lower(views)
        if lower.ndim == 6:  # several copies of each stamp
            lower = lower.flatten(0, 1)
        flat = lower.flatten(0, 1).to(self.start.dtype).contiguous(memory_format=torch.channels_last)
        pooled = self.upper(flat).unflatten(0, (-1, VIEWS))
        return self.head(pooled, numbers, known)

    def features(self, views: torch.Tensor, copies: int) -> torch.Tensor:
        """Pooled features of a foreign backbone for all turned copies.

        Parameters
        ----------
        views : Tensor, shape (n, 2, 3, h, h)
            Display values 0 to 255.
        copies : int
            How many of ``backbones.dihedral``'s copies.

        Returns
        -------
        Tensor, shape (n * copies, 2, width)
            Copies of one stamp lie together.
        """
        pooled: torch.Tensor = self.image(turned(views, copies).to(self.start.dtype))  # type: ignore[misc]
        return pooled.unflatten(0, (-1, VIEWS))

    def head(self, pooled: torch.Tensor, numbers: torch.Tensor, known: torch.Tensor) -> dict[str, torch.Tensor]:
        """Classify from pooled features.

        Parameters
        ----------
        pooled : Tensor, shape (n * copies, 2, width)
            View features; their width is 1280 but for a foreign backbone.
        numbers, known : Tensor, shape (n, numbers)
            As in ``forward``.

        Returns
        -------
        dict of str to Tensor
            As ``forward``.
        """
        copies = len(pooled) // len(numbers)
        seen = self.embed_view(self.token_dropout(self.project(pooled).clamp(-4, 4)))
        deviates = self.token_dropout(self.quantiles(numbers.float(), known.float()))
        measured = self.embed_numbers(torch.cat([deviates, known.to(deviates.dtype)], dim=1))
        measured = measured.repeat_interleave(copies, dim=0)[:, None]
        start = self.start.expand(len(pooled), 1, -1)
        tokens = torch.cat([start, seen, measured.to(seen.dtype)], dim=1)
        encoded = self.encoder(tokens)[:, 0]
        each = self.classify(encoded).float().log_softmax(dim=1).unflatten(0, (-1, copies))
        logits = each.logsumexp(dim=1) - torch.log(torch.tensor(float(copies)))
        return {"logits": logits, "embedding": encoded.float().unflatten(0, (-1, copies)).mean(dim=1)}

    @torch.no_grad()
    def fit_statistics(self, pooled: torch.Tensor, numbers: torch.Tensor, known: torch.Tensor) -> None:
        """Fix the whitening projection and the quantiles from the training set, before any step.

        Parameters
        ----------
        pooled : Tensor, shape (n, 2, width)
            Features of the pretrained network.
        numbers, known : Tensor, shape (n, numbers)
            Training set.
        """
        flat = pooled.reshape(-1, pooled.shape[-1]).double()
        mean, scale = flat.mean(0), flat.std(0).clamp_min(1e-3)
        scaled = (flat - mean) / scale
        values, vectors = torch.linalg.eigh(scaled.T @ scaled / len(scaled))
        width = self.project.out_features
        values, vectors = values.flip(0)[:width].clamp_min(1e-3), vectors.flip(1)[:, :width]
        signs = torch.where(vectors.sum(0) < 0, -1.0, 1.0)  # the sign of an eigenvector is free; fix it
        weight = (vectors * signs / values.sqrt()).T / scale
        self.project.weight.copy_(weight)
        self.project.bias.copy_(-(weight @ mean))
        self.project.requires_grad_(False)
        self.quantiles.fit(numbers.float(), known)


class MorphologyNetwork(MorphologyLayers):
    """The model for inference, without transformers where no foreign backbone needs it.

    Parameters
    ----------
    config : object
        With the fields of ``MorphologyConfig``, as a bundle's ``config.json`` has them.
    """

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.add_layers(config, Encoder)


def lower_features(views: torch.Tensor, dihedrals: int, gradients: bool = False) -> torch.Tensor:
    """Activations of the frozen stages for turned copies of stamps.

    Parameters
    ----------
    views : Tensor, shape (n, 2, 3, h, h)
        Display values 0 to 255.
    dihedrals : int
        How many of ``backbones.dihedral``'s copies.
    gradients : bool
        Whether gradients go through to the pixels, which then may lie between whole numbers.

    Returns
    -------
    Tensor, shape (n * dihedrals, 2, 80, h / 16, h / 16)
        Copies of one stamp lie together.
    """
    copies = turned(views, dihedrals)
    stages = frozen(str(views.device))
    lower: torch.Tensor = stages.through(copies) if gradients else stages.lower(copies)
    return lower.unflatten(0, (-1, VIEWS))


def turned(views: torch.Tensor, copies: int) -> torch.Tensor:
    """Turned and mirrored copies of stamps.

    Parameters
    ----------
    views : Tensor, shape (n, 2, 3, h, h)
        Views.
    copies : int
        How many of ``backbones.dihedral``'s copies.

    Returns
    -------
    Tensor, shape (n * copies * 2, 3, h, h)
        Copies of one stamp lie together, and the views of a copy.
    """
    return torch.stack([dihedral(views, index) for index in range(copies)], dim=1).flatten(0, 2)


def foreign_image(plan: Mapping[str, Any]) -> Any:
    """Make the foreign image model of a plan; this imports transformers.

    Parameters
    ----------
    plan : mapping
        From ``finetune.backbone_source``.

    Returns
    -------
    ImageBackbone
        Random weights.
    """
    from finetune.backbone_model import ImageBackbone

    return ImageBackbone(plan)
