"""How answers about light curves are explained: by visit, against constant brightness, and by measured number."""

from __future__ import annotations

import numpy as np

from finetune.explanation import ExplainedArray, Explanation, Places, numbers, read_classes, unknown
from finetune.explanation_plots import draw_light_curve
from finetune.light_curve_tokens import INPUTS, N_SLOT, N_TOKEN
from finetune.task import Prepared
from transforms.bands import SLOTS


def constant(prepared: Prepared) -> np.ndarray:
    """The same visits of an object that is always at its median brightness.

    Parameters
    ----------
    prepared : Prepared
        With ``magnitude``.

    Returns
    -------
    ndarray of float32, shape (N_TOKEN, N_SLOT)
        Zeros.
    """
    return np.zeros_like(prepared["magnitude"])


def places(prepared: Prepared) -> Places:
    """Observations, each visit and filter by itself.

    Parameters
    ----------
    prepared : Prepared
        With ``magnitude``, ``seen`` and ``time``.

    Returns
    -------
    Places
        At days from the middle of the light curve; parts are the network's five filters from blue to red.
    """
    visit, slot = np.nonzero((prepared["seen"] > 0) & (prepared["valid"][:, None] > 0))
    group = np.full(prepared["seen"].shape, -1)
    group[visit, slot] = np.arange(visit.size)
    return Places(
        group=group,
        part=tuple(f"magnitudes in {SLOTS[s]}" for s in slot),
        position=prepared["time"][visit].astype(float),
        position_y=np.full(visit.size, np.nan),
        value=prepared["magnitude"][visit, slot].astype(float),
    )


def token(prepared: Prepared) -> np.ndarray:
    """Token of each visit, behind that of the numbers.

    Parameters
    ----------
    prepared : Prepared
        Not used.

    Returns
    -------
    ndarray of int, shape (N_TOKEN, N_SLOT)
        From 1.
    """
    return np.repeat(1 + np.arange(N_TOKEN)[:, None], N_SLOT, axis=1)


def first(prepared: Prepared) -> np.ndarray:
    """All numbers are in the first token.

    Parameters
    ----------
    prepared : Prepared
        With ``known``.

    Returns
    -------
    ndarray of int, shape (len(INPUTS),)
        Zeros.
    """
    return np.zeros(prepared["known"].shape, int)


def explain_classes(classes: tuple[str, ...]) -> Explanation:
    """Explanation of a classifier of light curves.

    Parameters
    ----------
    classes : tuple of str
        In the order of its outputs.

    Returns
    -------
    Explanation
        For the task.
    """
    return Explanation(
        arrays=(
            ExplainedArray(name="magnitude", axis="time", unit="d", neutral=constant, places=places, token=token),
            ExplainedArray(name="known", axis="number", unit="", neutral=unknown, places=numbers(INPUTS), token=first),
        ),
        targets=classes,
        units=("",) * len(classes),
        read=read_classes,
        nothing="the same visits at constant median brightness, and none of the measured numbers known",
        draw=draw_light_curve,
    )
