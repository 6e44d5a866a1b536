"""What the values of a mask plane mean: codes or bits, by the pipeline that wrote it."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from transforms.readers.image_header import Cards

#: NOAO community pipeline from V3.5 on: one code a pixel. 7 (seen in the difference image) marks variables and movers,
#: which are what a survey is made for, so it is no reason to mask.
CODES_BAD, CODES_SATURATED = (1, 2, 3, 4, 5, 6, 8), (3, 4)
#: DECam before V3.5: bits for bad, saturated, interpolated, cosmic ray, bleed.
BITS_BAD, BITS_SATURATED = 1 | 2 | 4 | 16 | 64, 2 | 64
#: LSST stack, in the order of its default planes; the header's own MP_ cards go before.
LSST_PLANES = {"BAD": 0, "SAT": 1, "INTRP": 2, "CR": 3, "EDGE": 4, "SUSPECT": 7, "NO_DATA": 8}
LSST_SATURATED = ("SAT",)
#: Space Telescope: 256 full well, 2048 converter. Other bits are bad unless they say "repaired" (0 is good).
HST_SATURATED = 256 | 2048
FIRST_WITH_CODES = (3, 5)


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """A mask plane with its meaning.

    Parameters
    ----------
    bad : ndarray of bool, shape (ny, nx)
        Not to be used.
    saturated : ndarray of bool, shape (ny, nx)
        Saturated or bleeding; also True in ``bad``.
    """

    bad: np.ndarray
    saturated: np.ndarray


def has_codes(plver: str, instrument: str) -> bool:
    """Say whether a community-pipeline mask holds codes rather than bits.

    Parameters
    ----------
    plver : str
        Value of PLVER, such as ``"V4.8.2a"`` or ``"DES Y1"``.
    instrument : str
        Value of INSTRUME: only DECam ever had bits.

    Returns
    -------
    bool
        True for codes, also where DECam's version can't be read (bits ended in 2014).
    """
    if not instrument.lower().startswith("decam"):
        return True
    match = re.search(r"V?(\d+)\.(\d+)", plver)
    return match is None or (int(match[1]), int(match[2])) >= FIRST_WITH_CODES


def decode_community_pipeline(values: np.ndarray, plver: str, instrument: str) -> Decoded:
    """Decode an ``ood`` plane of DECam, Mosaic3 or 90prime.

    Parameters
    ----------
    values : ndarray of int, shape (ny, nx)
        Mask plane.
    plver, instrument : str
        As ``has_codes`` takes them.

    Returns
    -------
    Decoded
        A bad pixel (code 1) that touches a saturated one counts as saturated, as in legacypipe.
    """
    values = np.asarray(values).astype(np.int64)
    if not has_codes(plver, instrument):
        return Decoded(values & BITS_BAD != 0, values & BITS_SATURATED != 0)
    from scipy import ndimage

    saturated = np.isin(values, CODES_SATURATED)
    if saturated.any():
        saturated |= (values == 1) & ndimage.binary_dilation(values == 3, np.ones((3, 3), bool))
    return Decoded(np.isin(values, CODES_BAD), saturated)


def decode_lsst(values: np.ndarray, cards: Cards | None = None) -> Decoded:
    """Decode a mask plane of the LSST or HSC stack.

    Parameters
    ----------
    values : ndarray of int, shape (ny, nx)
        Mask plane; its bits for detected pixels do not make them bad.
    cards : Cards, optional
        Header with ``MP_`` cards; the stack's default planes without them.

    Returns
    -------
    Decoded
        Bad and saturated pixels.
    """
    values = np.asarray(values).astype(np.int64)
    bad = saturated = 0
    for name, default in LSST_PLANES.items():
        stated = None if cards is None else cards.number(f"MP_{name}", f"HIERARCH MP_{name}")
        bit = 1 << int(default if stated is None else stated)
        bad |= bit
        saturated |= bit if name in LSST_SATURATED else 0
    return Decoded(values & bad != 0, values & saturated != 0)


def decode_plain(values: np.ndarray, saturated_bits: int = 0) -> Decoded:
    """Decode a mask of which only this is known: zero is good.

    Parameters
    ----------
    values : ndarray, shape (ny, nx)
        Mask plane.
    saturated_bits : int
        Bits that mean saturation.

    Returns
    -------
    Decoded
        Not finite counts as bad.
    """
    bad = ~np.isfinite(values) | (values != 0)
    if not saturated_bits:
        return Decoded(bad, np.zeros(bad.shape, bool))
    return Decoded(bad, np.asarray(values).astype(np.int64) & saturated_bits != 0)
