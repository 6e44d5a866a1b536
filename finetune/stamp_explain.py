"""How answers about stamps are explained: by pixel of both views, against blank sky, and by measured number."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from finetune.explanation import ExplainedArray, Explanation, Places, numbers, read_classes, unknown
from finetune.explanation_plots import draw_stamp
from finetune.stamps import SIDE
from finetune.task import Prepared
from transforms.morphology import NUMBERS
from transforms.numerics.stretch import SKY_LEVEL

BLOCK = 8  #: Pixels of a view that are explained together, in both directions: what the eye can tell apart.
NOISE = 6.0  #: Display values: one sigma of the sky in a calibrated stamp (``transforms.numerics.stretch``).
NOISE_WIDTH = 1.2  #: Pixels of a view over which its noise is correlated: views are stamps resampled.
VIEWS = ("whole stamp", "close view")
_TOKENS = (1, 2)


def blank_sky(prepared: Prepared) -> np.ndarray:
    """Both views of empty sky, with its noise: a stamp without any is like nothing that the network has seen.

    Parameters
    ----------
    prepared : Prepared
        With ``views``.

    Returns
    -------
    ndarray of float32, shape (2, 3, SIDE, SIDE)
        Display values, the same for every object.
    """
    return _sky(prepared["views"].shape)


@cache
def _sky(shape: tuple[int, ...]) -> np.ndarray:
    noise = np.random.default_rng(0).normal(size=shape)
    noise = gaussian_filter(noise, [0] * (len(shape) - 2) + [NOISE_WIDTH] * 2, mode="wrap")
    sky = np.clip(SKY_LEVEL + NOISE / noise.std() * noise, 0, 255).astype(np.float32)
    sky.setflags(write=False)
    return sky


def places(prepared: Prepared) -> Places:
    """Blocks of pixels, all three colours together.

    Parameters
    ----------
    prepared : Prepared
        With ``views``.

    Returns
    -------
    Places
        At the middle of each block, pixels of the view.
    """
    across = SIDE // BLOCK
    y, x = np.indices((SIDE, SIDE)) // BLOCK
    one = y * across + x
    view, row, column = np.indices((len(VIEWS), across, across)).reshape(3, -1)
    shown = prepared["views"].astype(float).mean(1)
    return Places(
        group=np.stack([np.broadcast_to(one + v * across**2, (3, SIDE, SIDE)) for v in range(len(VIEWS))]),
        part=tuple(VIEWS[v] for v in view),
        position=(column + 0.5) * BLOCK - 0.5,
        position_y=(row + 0.5) * BLOCK - 0.5,
        value=shown.reshape(len(VIEWS), across, BLOCK, across, BLOCK).mean((2, 4)).ravel(),
    )


def token(prepared: Prepared) -> np.ndarray:
    """Token of each view.

    Parameters
    ----------
    prepared : Prepared
        With ``views``.

    Returns
    -------
    ndarray of int, shape (2, 3, SIDE, SIDE)
        1 and 2.
    """
    return np.broadcast_to(np.array(_TOKENS)[:, None, None, None], prepared["views"].shape)


def last(prepared: Prepared) -> np.ndarray:
    """All numbers are in the last token.

    Parameters
    ----------
    prepared : Prepared
        With ``known``.

    Returns
    -------
    ndarray of int, shape (len(NUMBERS),)
        3.
    """
    return np.full(prepared["known"].shape, 1 + len(VIEWS))


def enter(model: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The frozen stages with gradients: same weights, same function, of values between whole numbers too.

    Parameters
    ----------
    model : MorphologyModel
        Gives the number of turned copies.
    inputs : mapping of str to Tensor
        With ``views``, display values.

    Returns
    -------
    dict of str to Tensor
        ``lower`` in place of ``views``.
    """
    from finetune.morphology_network import lower_features

    lower = lower_features(inputs["views"].float(), model.config.dihedrals, gradients=True)
    return {"lower": lower, **{name: value for name, value in inputs.items() if name != "views"}}


def explain_classes(classes: tuple[str, ...]) -> Explanation:
    """Explanation of a classifier of stamps.

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
            ExplainedArray(name="views", axis="pixel", unit="pix", neutral=blank_sky, places=places, token=token),
            ExplainedArray(name="known", axis="number", unit="", neutral=unknown, places=numbers(NUMBERS), token=last),
        ),
        targets=classes,
        units=("",) * len(classes),
        read=read_classes,
        nothing="blank sky with its noise, and none of the measured numbers known",
        enter=enter,
        chunk=2,
        steps=64,
        bend=2.0,  # a galaxy far fainter than this one has its class already
        draw=draw_stamp,
    )
