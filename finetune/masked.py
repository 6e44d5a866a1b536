"""What all masked pretrainings share: tokens that are left out, what fills them in again, and how well it does.

The encoder never gets a hidden token (He et al. 2021, arXiv:2111.06377): it sees in the pretraining what it will see in
a task, and costs as much as what is visible. A small decoder, which no task takes over, says what was hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from finetune.bert import bert_encoder
from finetune.task import Prepared


@dataclass(frozen=True, kw_only=True, slots=True)
class Objective:
    """The masked pretraining of one modality.

    Parameters
    ----------
    modality : str
        Name on the command line.
    task : str
        Task whose ``record``, ``prepare`` and ``augment`` are used, so that what is learnt can be taken over.
    build : callable
        ``build(mask, **options) -> transformers.PreTrainedModel``. Its ``forward(**batch)`` takes the arrays of
        ``hide`` and gives ``loss`` (scalar), ``prediction``, ``target`` and ``weight`` (of one shape; weight 0 for
        all that was not hidden or is not known).
    hide : callable
        ``hide(batch, rng, share) -> batch``: stacked arrays of ``prepare`` to those that the model takes, with what is
        hidden drawn at random.
    trivial : callable
        ``trivial(batch) -> dict of str to ndarray``: answers without any learning, in the shape of ``target``, from
        what is not hidden alone.
    holes : mapping of str to callable
        What may be hidden, by the name that the option ``hide`` gives it: functions as ``hide``, which is the first.
    usable : callable
        ``usable(prepared) -> bool``: whether enough is there to hide a part of it.
    little : str
        What an unusable record lacks, in words.
    arrays : tuple of str
        What ``hide`` gives.
    degrade : bool
        Whether training batches go through the task's ``augment``; ``hide`` does what is needed where not.
    aligned : bool
        Whether the places of two records mean the same, so that the mean record is an answer.
    whole_files : bool
        Whether files are held out whole, since records of one file share pixels; objects are where not.
    shared : tuple of str
        Prefixes of the weights that a task's model takes over.
    sizes : tuple of str
        Options of ``build`` that set the shape of those weights.
    mask : float
        Share that is hidden.
    build_defaults, training : mapping
        Options of ``build`` and of ``TrainingOptions``.
    processor : mapping
        How the encoder wants its images, as transformers' ``preprocessor_config.json`` says it; empty for no images.
    """

    modality: str
    task: str
    build: Callable[..., Any]
    hide: Callable[[dict[str, np.ndarray], np.random.Generator, float], dict[str, np.ndarray]]
    trivial: Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]
    holes: Mapping[str, Callable[[dict[str, np.ndarray], np.random.Generator, float], dict[str, np.ndarray]]]
    usable: Callable[[Prepared], bool]
    little: str
    arrays: tuple[str, ...]
    degrade: bool
    aligned: bool
    whole_files: bool
    shared: tuple[str, ...]
    sizes: tuple[str, ...]
    mask: float
    build_defaults: Mapping[str, Any]
    training: Mapping[str, Any]
    processor: Mapping[str, Any] = field(default_factory=dict)


class Decoder(nn.Module):
    """A small transformer that answers for the hidden places.

    Parameters
    ----------
    width, heads, layers : int
        Of the encoder that it reads; its own layers.
    outputs : int
        Numbers for each place.
    places : int
        Of records whose places mean the same: each then has an output layer of its own, since one layer would have to
        hold what all places look like, beside what the object is. 0: one layer for all.
    """

    def __init__(self, width: int, heads: int, layers: int, outputs: int, places: int = 0) -> None:
        super().__init__()
        self.encoder = bert_encoder(width, layers, heads, 2 * width)
        self.mask = nn.Parameter(torch.zeros(1, 1, width))
        self.out: nn.Module = PlaceLinear(places, width, outputs) if places else nn.Linear(width, outputs)

    def forward(
        self, seen: torch.Tensor, seen_mask: torch.Tensor, places: torch.Tensor, hidden: torch.Tensor
    ) -> torch.Tensor:
        """Answer.

        Parameters
        ----------
        seen : Tensor, shape (batch, visible, width)
            From the encoder.
        seen_mask : Tensor of bool, shape (batch, visible)
            Which of them count.
        places : Tensor, shape (batch, n, width)
            Where each token lies, without what it holds.
        hidden : Tensor of bool, shape (batch, n)
            Which places are asked for.

        Returns
        -------
        Tensor, shape (batch, n, outputs)
            Zero where nothing was asked for.
        """
        asked, mask, index = compact(places + self.mask, hidden)
        answer = self.encoder(torch.cat([seen, asked], 1), torch.cat([seen_mask, mask], 1))[:, seen.shape[1] :]
        answer = self.out(spread(answer * mask[..., None], index, hidden.shape[1]))
        return answer * hidden[..., None]


class PlaceLinear(nn.Module):
    """A linear layer for each place.

    Parameters
    ----------
    places, inputs, outputs : int
        How many.
    """

    def __init__(self, places: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(places, inputs, outputs) * inputs**-0.5)
        self.bias = nn.Parameter(torch.zeros(places, outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the layers.

        Parameters
        ----------
        x : Tensor, shape (batch, places, inputs)
            Features.

        Returns
        -------
        Tensor, shape (batch, places, outputs)
            Outputs.
        """
        return torch.einsum("npi,pio->npo", x, self.weight) + self.bias


def compact(x: torch.Tensor, keep: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Bring the tokens that count to the front, and cut off what no row needs.

    Parameters
    ----------
    x : Tensor, shape (batch, n, width)
        Tokens; their order tells nothing.
    keep : Tensor of bool, shape (batch, n)
        Which count.

    Returns
    -------
    x, keep, index : Tensor, shape (batch, longest, width), (batch, longest) and (batch, longest)
        Tokens, which of them count, and where they were.
    """
    longest = max(int(keep.sum(1).max()), 1)
    index = torch.argsort(~keep, dim=1, stable=True)[:, :longest]
    return x.gather(1, index[..., None].expand(-1, -1, x.shape[-1])), keep.gather(1, index), index


def spread(x: torch.Tensor, index: torch.Tensor, length: int) -> torch.Tensor:
    """Undo ``compact``.

    Parameters
    ----------
    x : Tensor, shape (batch, longest, width)
        Values, zero where they do not count.
    index : Tensor of int64, shape (batch, longest)
        From ``compact``.
    length : int
        Tokens there were.

    Returns
    -------
    Tensor, shape (batch, length, width)
        Zero elsewhere.
    """
    whole = x.new_zeros(len(x), length, x.shape[-1])
    return whole.scatter(1, index[..., None].expand(-1, -1, x.shape[-1]), x)


def choose(there: np.ndarray, rng: np.random.Generator, share: float, runs: float = 0.0) -> np.ndarray:
    """Draw what is hidden, only among what is there.

    Parameters
    ----------
    there : ndarray of bool, shape (batch, n)
        Tokens with data.
    rng : Generator
        Source of randomness.
    share : float
        Of them, to hide; at least one, and at least one is left.
    runs : float
        Probability, for each row, that neighbours are hidden in one run.

    Returns
    -------
    ndarray of bool, shape (batch, n)
        False where nothing is there, and for rows with a single token.
    """
    there = np.asarray(there, bool)
    count = there.sum(1)
    number = np.clip(np.round(share * count), 1, np.maximum(count - 1, 0)).astype(int)
    number = np.where(count > 1, number, 0)
    order = np.where(there, rng.random(there.shape), np.inf)
    in_run = rng.random(len(there)) < runs
    start = np.floor(rng.random(len(there)) * (count - number + 1)).astype(int)
    turn = np.where(there, np.cumsum(there, 1) - 1, -1)
    run = there & (turn >= start[:, None]) & (turn < (start + number)[:, None])
    rank = order.argsort(1).argsort(1)
    return np.where(in_run[:, None], run, there & (rank < number[:, None]))


class Mean:
    """The weighted mean target at each place: what an answer gets that looks at no object.

    Parameters
    ----------
    shape : tuple of int
        Of one target.
    """

    def __init__(self, shape: Sequence[int]) -> None:
        self.total, self.weight = np.zeros(shape), np.zeros(shape)

    def add(self, target: np.ndarray, weight: np.ndarray) -> None:
        """Take in a batch.

        Parameters
        ----------
        target, weight : ndarray, shape (batch, ...)
            Of training objects.
        """
        self.total += (target * weight).sum(0, dtype=np.float64)
        self.weight += weight.sum(0, dtype=np.float64)

    def value(self) -> np.ndarray:
        """The mean.

        Returns
        -------
        ndarray
            Zero where nothing was seen.
        """
        return self.total / np.where(self.weight > 0, self.weight, 1.0)
