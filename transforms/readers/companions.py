"""Weights, variances and masks that belong to an image: which file or extension they are, and how they are applied."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from transforms.attempt import Unusable
from transforms.readers.format import Source
from transforms.readers.image_header import Cards
from transforms.readers.mask_bits import (
    HST_SATURATED,
    Decoded,
    decode_community_pipeline,
    decode_lsst,
    decode_plain,
)
from transforms.records import FileRef

WEIGHT, VARIANCE, SIGMA, NOT_USED = "weight", "variance", "sigma", "not_used"
MASK, MASK_CP, MASK_LSST, MASK_HST = "mask", "mask_cp", "mask_lsst", "mask_hst"

#: Role and the pattern of a companion's name; the science file's name has one of the replacements instead.
#: Legacy Survey and NOAO, unWISE (its counts of exposures and its bits of bright stars are known and not used),
#: 90prime, and the endings that people give to files of their own.
_PATTERNS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    (WEIGHT, r"_oow_", ("_ooi_", "_oki_")),
    (MASK_CP, r"_ood_", ("_ooi_", "_oki_")),
    (WEIGHT, r"-invvar-(?=[mu]\.)", ("-img-",)),
    (NOT_USED, r"-n-[mu](?=\.fits)", ("-img-m", "-img-u")),
    (NOT_USED, r"-msk(?=\.fits)", tuple(f"-w{band}-img-m" for band in range(1, 5))),
    (WEIGHT, r"(?:[._](?:wht|weight|ivar|invvar))(?=\.fits)", ("",)),
    (VARIANCE, r"(?:[._](?:var|variance))(?=\.fits)", ("",)),
    (SIGMA, r"(?:[._](?:sigma|err|error))(?=\.fits)", ("",)),
    (MASK, r"(?:[._]mask)(?=\.fits)", ("",)),
)
_ALONE_IS_AN_ERROR = re.compile(r"_oo[wd]_|-invvar-[mu]\.fits|-n-[mu]\.fits|-msk\.fits", re.I)
_ENDINGS = {
    WEIGHT: (".wht", ".weight", "_weight", "_wht", "_ivar", "_invvar"),
    VARIANCE: ("_variance", "_var"),
    SIGMA: ("_sigma", "_err"),
    MASK: ("_mask", ".mask"),
}
#: Role of an extension by its EXTNAME or EXTTYPE.
_EXTENSIONS = {
    **dict.fromkeys(("WHT", "WEIGHT", "IVAR", "INVVAR"), WEIGHT),
    **dict.fromkeys(("VARIANCE", "VAR"), VARIANCE),
    **dict.fromkeys(("ERR", "ERROR", "SIGMA", "RMS", "UNCERT"), SIGMA),
    "MASK": MASK,
    "DQ": MASK_HST,
    **dict.fromkeys(("D2IMARR", "WCSDVARR", "FOOTPRINT", "PSF"), NOT_USED),
}


def role_of_file(source: Source) -> str | None:
    """Say what a file is to another one beside it.

    Parameters
    ----------
    source : Source
        The file in question.

    Returns
    -------
    str or None
        Its role; None for a file of its own. A name such as ``x_mask.fits`` only counts where ``x.fits`` is there.
    """
    found = partners(source)
    if found is None:
        return None
    role, names = found
    if _ALONE_IS_AN_ERROR.search(source.name) or any(source.sibling(name) for name in names):
        return role
    return None


def partners(source: Source) -> tuple[str, list[str]] | None:
    """List the names that the science file of a companion may have.

    Parameters
    ----------
    source : Source
        The file in question.

    Returns
    -------
    role, names : str, list of str
        None where the name is not that of a companion.
    """
    name = source.url.rstrip("/").rsplit("/", 1)[-1]
    for role, pattern, replacements in _PATTERNS:
        if re.search(pattern, name, re.I):
            names = [re.sub(pattern, new, name, count=1, flags=re.I) for new in replacements]
            return role, [packed for plain in names for packed in _packings(plain)]
    return None


def _packings(name: str) -> list[str]:
    bare = re.sub(r"\.(gz|bz2|fz)\Z", "", name)
    return list(dict.fromkeys([name, bare, bare + ".gz", bare + ".fz"]))


def find_companions(source: Source) -> tuple[tuple[str, str], ...]:
    """Find the files that belong to a science image.

    Parameters
    ----------
    source : Source
        The science image.

    Returns
    -------
    tuple of tuple of str
        ``(role, url)``, one file for a role.
    """
    name = source.url.rstrip("/").rsplit("/", 1)[-1]
    wanted: list[tuple[str, str]] = []
    if match := re.search(r"_o[ok]i_", name, re.I):
        wanted = [(WEIGHT, name.replace(match[0], "_oow_")), (MASK_CP, name.replace(match[0], "_ood_"))]
    elif "-img-" in name:
        wanted = [(WEIGHT, name.replace("-img-", "-invvar-"))]
    elif match := re.search(r"(\.fits?)(\.gz|\.bz2|\.fz)?\Z", name, re.I):
        stem, tail = name[: match.start()], match[0]
        wanted = [(role, stem + ending + tail) for role, endings in _ENDINGS.items() for ending in endings]
    found: dict[str, str] = {}
    for role, plain in wanted:
        for candidate in _packings(plain):
            url = source.sibling(candidate) if role not in found else None
            if url:
                found[role] = url
    return tuple(found.items())


def role_of_extension(header: Any) -> str | None:
    """Say what an extension is to another one of its file.

    Parameters
    ----------
    header : astropy.io.fits.Header
        Of the extension.

    Returns
    -------
    str or None
        Its role; None for a science image.
    """
    cards = Cards(header)
    for name in ("EXTTYPE", "EXTNAME"):
        role = _EXTENSIONS.get(cards.text(name).upper())
        if role == MASK and (cards.text("EXTTYPE") or any(key.startswith("MP_") for key in header)):
            return MASK_LSST
        if role:
            return role
    return None


def read_companion(
    url: str, index: int, shape: tuple[int, ...], read: Callable[[Source, int], np.ndarray]
) -> tuple[np.ndarray, Cards]:
    """Read the plane of a companion file that fits a science plane.

    Parameters
    ----------
    url : str
        The companion.
    index : int
        Extension of the science image; the companion's of the same number is taken where its shape fits.
    shape : tuple of int
        ``(ny, nx)`` of the science plane.
    read : callable
        ``read(source, index)`` gives the wanted section.

    Returns
    -------
    plane : ndarray
        Values as stored.
    cards : Cards
        The companion's headers.

    Raises
    ------
    Unusable
        Where no extension has the shape.
    """
    name = url.rsplit("/", 1)[-1]
    with Source(FileRef(url=url, source=name)) as source:
        shapes = {i: tuple(getattr(hdu, "shape", ()) or ()) for i, hdu in enumerate(source.hdus)}
        order = [index, *shapes]
        match = next((i for i in order if shapes.get(i) == shape), None)
        if match is None:
            raise Unusable(f"companion {name} has planes {list(shapes.values())}, its science image is {shape}")
        return read(source, match), Cards(source.hdus[match].header, source.hdus[0].header)


def inverse_variance(role: str, values: np.ndarray) -> np.ndarray | None:
    """Turn a weight, variance or sigma plane into inverse variance.

    Parameters
    ----------
    role : str
        Role of the plane.
    values : ndarray, shape (ny, nx)
        As stored.

    Returns
    -------
    ndarray of float32, shape (ny, nx), or None
        0 where the pixel is worthless; None for a plane that says nothing of noise.
    """
    if role not in (WEIGHT, VARIANCE, SIGMA):
        return None
    values = np.asarray(values, np.float64)
    good = np.isfinite(values) & (values > 0)
    safe = np.where(good, values, 1.0)
    power = {WEIGHT: 1, VARIANCE: -1, SIGMA: -2}[role]
    return np.where(good, safe**power, 0.0).astype(np.float32)


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
    """
    if role == MASK_CP:
        return decode_community_pipeline(values, cards.text("PLVER"), cards.text("INSTRUME"))
    if role == MASK_LSST:
        return decode_lsst(values, cards)
    if role == MASK_HST:
        return decode_plain(values, HST_SATURATED)
    return decode_plain(values) if role == MASK else None
