"""What the values of a mask plane mean: codes or bits, by the pipeline that wrote it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from transforms.attempt import Unusable
from transforms.readers.image_header import Cards
from transforms.readers.plane_roles import MASK, MASK_CP, MASK_LSST, MASK_PS1, MASK_UNCLEAR, MASK_ZTF

#: NOAO community pipeline from V3.5 on: one code a pixel. 7 (seen in the difference image) marks variables and movers,
#: which are what a survey is made for, so it is no reason to mask.
CODES_BAD, CODES_SATURATED = (1, 2, 3, 4, 5, 6, 8), (3, 4)
#: DECam before V3.5: bits for bad, saturated, interpolated, cosmic ray, bleed.
BITS_BAD, BITS_SATURATED = 1 | 2 | 4 | 16 | 64, 2 | 64
#: LSST stack, in the order of its default planes; the header's own MP_ cards go before.
LSST_PLANES = {"BAD": 0, "SAT": 1, "INTRP": 2, "CR": 3, "EDGE": 4, "SUSPECT": 7, "NO_DATA": 8}
LSST_SATURATED = ("SAT",)
FIRST_WITH_CODES = (3, 5)
#: Pan-STARRS: the header's own MASK.VALUE says which bits are bad (Waters et al. 2020); these are its usual ones.
PS1_BAD, PS1_SATURATED = 8575, 32
#: ZTF: all but bits 1 and 11, which mark the sources themselves (ZTF Science Data System, section 4).
ZTF_BAD, ZTF_SATURATED = 6141, 256


@dataclass(frozen=True, slots=True)
class Dialect:
    """The bits of one observatory's masks.

    Parameters
    ----------
    telescope : str
        Pattern of TELESCOP, ORIGIN or DES_EXT in upper case.
    bad : int
        Bits that make a pixel unusable; -1 for all of them.
    saturated : int
        Bits of saturated pixels.
    only_bad : bool
        True where saturation alone leaves a pixel usable: a ramp is fitted to the reads before it.
    """

    telescope: str
    bad: int
    saturated: int
    only_bad: bool = False


#: Asked in this order; a telescope that is not here has masks of which only this is known: zero is good.
DIALECTS = (
    # DO_NOT_USE is the pipeline's verdict; bits such as JUMP_DET (4) tell the history of a good pixel (stcal dqflags).
    Dialect(r"JWST|ROMAN", bad=1, saturated=2, only_bad=True),
    # INVALID sums up what makes a pixel useless; other bits mark stars, ghosts and repaired pixels too.
    Dialect(r"EUCLID", bad=1, saturated=0),
    # 256 full well, 2048 converter. Other bits are bad unless they say "repaired" (then they are 0).
    Dialect(r"HST", bad=-1, saturated=256 | 2048),
    # DES Data Management (pixcorrect): 32 is the light of a bright star, from 2048 on pixels are suspect or repaired.
    Dialect(r"DES:", bad=2047 - 32, saturated=2 | 64),
    Dialect(r"LCOGT", bad=-1, saturated=2),
)


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
    planes: dict[str, float] = dict(LSST_PLANES)
    if cards is not None and cards.starting("MP_"):  # a plane that is not listed is not there; its number is another's
        planes = {name: number for name in planes if (number := cards.number(f"MP_{name}")) is not None}
    for name, number in planes.items():
        bit = 1 << int(number)
        bad |= bit
        saturated |= bit if name in LSST_SATURATED else 0
    return Decoded(values & bad != 0, values & saturated != 0)


def decode_ps1(values: np.ndarray, cards: Cards) -> Decoded:
    """Decode a mask of Pan-STARRS.

    Parameters
    ----------
    values : ndarray of int, shape (ny, nx)
        Mask plane.
    cards : Cards
        Header with pairs of ``MSKNAMnn`` and ``MSKVALnn``.

    Returns
    -------
    Decoded
        Bad by the header's ``MASK.VALUE``; the cores of bright stars, spikes and ghosts are not in it.
    """
    named = {cards.text(key): cards.number(key.replace("NAM", "VAL")) for key in cards.starting("MSKNAM")}
    bad, saturated = named.get("MASK.VALUE"), named.get("SAT")
    return decode_bits(values, int(bad or PS1_BAD), int(saturated or PS1_SATURATED))


def decode_bits(values: np.ndarray, bad: int = -1, saturated: int = 0, only_bad: bool = False) -> Decoded:
    """Decode a mask of bits, zero being good.

    Parameters
    ----------
    values : ndarray, shape (ny, nx)
        Mask plane.
    bad, saturated : int
        Bits; ``bad = -1`` for all of them.
    only_bad : bool
        As in ``Dialect``.

    Returns
    -------
    Decoded
        What is not finite counts as bad.
    """
    values = np.asarray(values)
    lost = ~np.isfinite(values)
    if bad == -1 and not saturated:  # any number: a mask may hold fractions
        return Decoded(lost | (values != 0), np.zeros(values.shape, bool))
    numbers = np.where(lost, 0, values).astype(np.int64)
    wrong = lost | (numbers & bad != 0)
    full = numbers & saturated != 0
    return Decoded(wrong, full & wrong) if only_bad else Decoded(wrong | full, full)


def decode_by_telescope(values: np.ndarray, cards: Cards) -> Decoded:
    """Decode a mask by what its headers say of the telescope.

    Parameters
    ----------
    values : ndarray, shape (ny, nx)
        Mask plane.
    cards : Cards
        Its header and the primary one.

    Returns
    -------
    Decoded
        Any number but zero is bad for a telescope that is not known.
    """
    if cards.starting("MSKNAM"):
        return decode_ps1(values, cards)
    stated = [cards.text("TELESCOP"), cards.text("ORIGIN"), "DES:" if cards.text("DES_EXT") else ""]
    known = next((d for d in DIALECTS if any(re.match(d.telescope, text.upper()) for text in stated)), None)
    return decode_bits(values) if known is None else decode_bits(values, known.bad, known.saturated, known.only_bad)


_DECODERS: dict[str, Callable[[np.ndarray, Cards], Decoded]] = {
    MASK: decode_by_telescope,
    MASK_LSST: decode_lsst,
    MASK_PS1: decode_ps1,
    MASK_CP: lambda values, cards: decode_community_pipeline(values, cards.text("PLVER"), cards.text("INSTRUME")),
    MASK_ZTF: lambda values, cards: decode_bits(values, ZTF_BAD, ZTF_SATURATED),
}


def decode_mask(role: str, values: np.ndarray, cards: Cards) -> Decoded | None:
    """Decode a mask plane by its role.

    Parameters
    ----------
    role : str
        Role of the plane.
    values : ndarray, shape (ny, nx)
        As stored.
    cards : Cards
        Headers of the mask.

    Returns
    -------
    Decoded or None
        None for a plane that is no mask.

    Raises
    ------
    Unusable
        Where a mask says of itself that zero may be bad.
    """
    if role == MASK_UNCLEAR:
        kind = cards.text("HDUCLAS3")
        raise Unusable(f"the quality plane is of the kind HDUCLAS3 = {kind!r}: which of its values are good is unclear")
    return _DECODERS[role](values, cards) if role in _DECODERS else None
