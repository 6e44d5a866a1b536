"""What a task tells so that its answers can be explained: what to attribute to, where that lies, what "nothing" is.

Nothing here imports torch: a task's file declares an ``Explanation`` beside its columns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from finetune.task import Prepared


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Places:
    """What the elements of one input array stand for: elements of one group are explained, and taken away, together.

    Parameters
    ----------
    group : ndarray of int, shape of the array
        Number of the group of each element; -1 where the object has no datum there (bad pixel, empty visit).
    part : tuple of str
        What each group belongs to: a spectral line, a filter, a view, the name of a number; empty for none.
    position, position_y : ndarray of float64, shape (groups,)
        Where each group lies along the axis (and along the second one, for images); NaN where there is no such axis.
    value : ndarray of float64, shape (groups,)
        What was observed there.
    """

    group: np.ndarray
    part: tuple[str, ...]
    position: np.ndarray
    position_y: np.ndarray
    value: np.ndarray


@dataclass(frozen=True, kw_only=True, slots=True)
class ExplainedArray:
    """One of the network's input arrays.

    Parameters
    ----------
    name : str
        Its key in ``prepare``'s answer.
    axis : str
        ``"wavelength"``, ``"time"``, ``"pixel"``, or ``"number"`` for a list of measured numbers.
    unit : str
        Of the positions; empty for none.
    neutral : callable
        ``neutral(prepared) -> ndarray``: the same array where nothing is seen.
    places : callable
        ``places(prepared) -> Places``.
    token : callable or None
        ``token(prepared) -> ndarray of int``, shape of the array: which token of the encoder each element enters, for
        attention rollout; None where there is none.
    """

    name: str
    axis: str
    unit: str
    neutral: Callable[[Prepared], np.ndarray]
    places: Callable[[Prepared], Places]
    token: Callable[[Prepared], np.ndarray] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Explanation:
    """How the answers of a task are explained.

    Parameters
    ----------
    arrays : tuple of ExplainedArray
        What answers are attributed to; the other inputs stay as they are.
    targets : tuple of str
        Columns (regression) or classes that can be explained.
    units : tuple of str
        Of the targets, as the network has them; log-odds of a class have none.
    read : callable
        ``read(outputs) -> Tensor``, shape (batch, targets): the targets among the model's outputs.
    nothing : str
        What the neutral input is, as a person reads it.
    enter : callable or None
        ``enter(model, inputs) -> inputs``: takes the place of a part of the model that gives no gradients.
    chunk : int
        Inputs that run at a time.
    steps : int
        Points of the way from the neutral input, unless the user says otherwise.
    bend : float
        Above 1: more points of the way lie near the neutral input, where the network's answer changes most.
    draw : callable or None
        ``draw(figure, found)``: a picture of one ``finetune.explain.Explained`` on a matplotlib figure; None: a plain
        one.
    """

    arrays: tuple[ExplainedArray, ...]
    targets: tuple[str, ...]
    units: tuple[str, ...]
    read: Callable[[Mapping[str, Any]], Any]
    nothing: str
    enter: Callable[[Any, Mapping[str, Any]], Mapping[str, Any]] | None = None
    chunk: int = 32
    steps: int = 32
    bend: float = 1.0
    draw: Callable[[Any, Any], None] | None = None


def log_odds(logits: Any) -> Any:
    """Log-odds of each class against all others, which do not change when all scores are shifted.

    Parameters
    ----------
    logits : Tensor, shape (batch, classes)
        Scores, or logarithms of probabilities.

    Returns
    -------
    Tensor, shape (batch, classes)
        ``log(p / (1 - p))``.
    """
    import torch

    same = torch.eye(logits.shape[1], dtype=torch.bool, device=logits.device)
    others = logits[:, None, :].masked_fill(same, -torch.inf).logsumexp(-1)
    odds: torch.Tensor = logits - others
    return odds


def in_order(array: np.ndarray, part: tuple[str, ...], value: np.ndarray, known: np.ndarray) -> Places:
    """Places of a list of measured numbers, each a group of its own.

    Parameters
    ----------
    array : ndarray, shape (n,)
        The explained array.
    part : tuple of str
        Names of the numbers.
    value : ndarray, shape (n,)
        The numbers.
    known : ndarray, shape (n,)
        Above 0 where the object has the number.

    Returns
    -------
    Places
        Without positions.
    """
    there = np.flatnonzero(known > 0)
    group = np.full(array.shape, -1)
    group[there] = np.arange(there.size)
    nowhere = np.full(there.size, np.nan)
    return Places(
        group=group,
        part=tuple(part[i] for i in there),
        position=nowhere,
        position_y=nowhere,
        value=value[there].astype(float),
    )


def unknown(prepared: Prepared) -> np.ndarray:
    """None of the measured numbers known.

    Parameters
    ----------
    prepared : Prepared
        With ``known``.

    Returns
    -------
    ndarray of float32, shape (n,)
        Zeros.
    """
    return np.zeros_like(prepared["known"])


def numbers(names: tuple[str, ...]) -> Callable[[Prepared], Places]:
    """Places of a task's measured numbers.

    Parameters
    ----------
    names : tuple of str
        In the order of ``numbers`` and ``known``.

    Returns
    -------
    callable
        ``places(prepared) -> Places``, each number a part of its own.
    """
    return lambda prepared: in_order(prepared["known"], names, prepared["numbers"], prepared["known"])


def read_classes(outputs: Mapping[str, Any]) -> Any:
    """Log-odds of the classes of a classifier.

    Parameters
    ----------
    outputs : mapping of str to Tensor
        With ``logits``.

    Returns
    -------
    Tensor, shape (batch, classes)
        Each against all others.
    """
    return log_odds(outputs["logits"])
