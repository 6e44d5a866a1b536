"""Labels that name several classes: what a label says is how likely it is under each class.

A set of labels made for another question still teaches: "galaxy" allows four of five classes, "odd spiral" is likely
for two. With the likelihood L of a label under each class, the loss is ``-log(sum_c p_c L_c)`` (Cour, Sapp & Taskar
2011, JMLR 12, 1501, for L of 0 and 1); an ordinary label is the case of one class, a missing one that of all.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def parse_label(text: str | None, classes: Sequence[str]) -> np.ndarray:
    """Read a label.

    Parameters
    ----------
    text : str or None
        A class; or several joined by ``|``, each with its likelihood after a colon (1 where not said).
    classes : sequence of str
        Allowed names.

    Returns
    -------
    ndarray of float32, shape (classes,)
        Likelihood of the label under each class; all ones for a missing label.

    Raises
    ------
    ValueError
        For a name that is no class, or a likelihood outside of 0 to 1.
    """
    if not text:
        return np.ones(len(classes), np.float32)
    out = np.zeros(len(classes), np.float32)
    for part in text.split("|"):
        name, _, value = part.strip().partition(":")
        if name not in classes:
            raise ValueError(f"label {text!r} names {name!r}, which is not one of {', '.join(classes)}")
        weight = float(value) if value else 1.0
        if not 0 <= weight <= 1:
            raise ValueError(f"label {text!r} has likelihood {value}, which is not between 0 and 1")
        out[list(classes).index(name)] = weight
    if not out.any():
        raise ValueError(f"label {text!r} is impossible under every class")
    return out


def exact_class(likelihood: np.ndarray) -> int | None:
    """The class of a label that names only one.

    Parameters
    ----------
    likelihood : ndarray, shape (classes,)
        From ``parse_label``.

    Returns
    -------
    int or None
        None where several are possible.
    """
    possible = np.flatnonzero(likelihood > 0)
    return int(possible[0]) if possible.size == 1 else None


def partial_log_loss(probability: np.ndarray, likelihood: np.ndarray) -> float:
    """Mean negative logarithm of the probability of the labels, as ``losses.class_loss`` has it.

    Parameters
    ----------
    probability, likelihood : ndarray, shape (n, classes)
        Predictions and labels.

    Returns
    -------
    float
        Mean; NaN for no objects.
    """
    if not len(probability):
        return float("nan")
    return float(-np.log(np.clip((probability * likelihood).sum(axis=1), 1e-9, None)).mean()) + 0.0  # never -0


def responsibilities(probability: np.ndarray, likelihood: np.ndarray) -> np.ndarray:
    """Share of each class in what a label may mean, given a prediction (the E step of EM).

    Parameters
    ----------
    probability, likelihood : ndarray, shape (n, classes)
        Predictions and labels.

    Returns
    -------
    ndarray, shape (n, classes)
        Rows sum to one.
    """
    share = (probability + 1e-6) * likelihood
    return share / share.sum(axis=1, keepdims=True)
