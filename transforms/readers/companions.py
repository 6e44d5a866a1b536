"""Weight, variance and mask files beside an image: their names, and the plane of them that fits it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from transforms.attempt import Unusable
from transforms.readers.format import Source
from transforms.readers.image_header import Cards
from transforms.readers.plane_roles import (
    MASK,
    MASK_CP,
    MASK_PS1,
    MASK_ZTF,
    NOT_USED,
    SIGMA,
    SKY_SIGMA,
    VARIANCE,
    WEIGHT,
)
from transforms.records import FileRef

_SUFFIX = r"\.fits?(?:\.(?:gz|bz2|fz))?\Z"


@dataclass(frozen=True, slots=True)
class _Pair:
    """How the name of a companion differs from that of its image.

    Parameters
    ----------
    role : str
        What the companion is.
    own : str
        Part of its name.
    science : tuple of str
        What the image's name may have in its place.
    ending : bool
        True where the part stands at the end, before ``.fits``.
    survey : str
        Pattern that the name must hold; with it, a companion whose image is missing is an error. Names that anybody
        may give (``x_mask.fits``) count only where ``x.fits`` is there.
    """

    role: str
    own: str
    science: tuple[str, ...]
    ending: bool = False
    survey: str = ""

    def swapped(self, name: str, old: str, new: str) -> str | None:
        """Give ``name`` with ``new`` in the place of ``old``, or None where it has no such part."""
        if self.survey and not re.search(self.survey, name, re.I):
            return None
        pattern = re.escape(old) + (f"(?={_SUFFIX})" if self.ending else "")
        changed, count = re.subn(pattern, lambda _: new, name, count=1, flags=re.I)
        return changed if count else None


def _endings(role: str, *words: str) -> tuple[_Pair, ...]:
    return tuple(_Pair(role, word, ("", "_sci", "_drz"), ending=True) for word in words)


_UNWISE, _PS1 = r"unwise-|-w[1-4]-(?:img|invvar|n)-[mu]\.|-msk\.", r"skycell"
#: The special ones first. Legacy Surveys and NOAO; unWISE (its counts of exposures and its bits of bright stars are
#: known and not used); Pan-STARRS, whose ``wt`` is a variance; ZTF; Spitzer and WISE; then endings that people give.
_PAIRS: tuple[_Pair, ...] = (
    _Pair(WEIGHT, "_oow_", ("_ooi_", "_oki_"), survey="_oo[iw]_|_oki_"),
    _Pair(MASK_CP, "_ood_", ("_ooi_", "_oki_"), survey="_oo[id]_|_oki_"),
    *(_Pair(WEIGHT, f"-invvar-{kind}.", (f"-img-{kind}.",), survey=_UNWISE) for kind in "mu"),
    *(_Pair(NOT_USED, f"-n-{kind}.", ("-img-m.", "-img-u."), survey=_UNWISE) for kind in "mu"),
    _Pair(NOT_USED, "-msk", tuple(f"-w{band}-img-m" for band in range(1, 5)), ending=True, survey=_UNWISE),
    _Pair(VARIANCE, ".wt", ("",), ending=True, survey=_PS1),
    _Pair(MASK_PS1, ".mask", ("",), ending=True, survey=_PS1),
    *(_Pair(NOT_USED, kind, ("",), ending=True, survey=_PS1) for kind in (".num", ".exp", ".expwt")),
    _Pair(MASK_ZTF, "_mskimg", ("_sciimg",), survey=r"\Aztf_"),
    _Pair(SIGMA, "_munc", ("_maic",), ending=True),
    _Pair(SIGMA, "-unc-", ("-int-",)),
    *_endings(WEIGHT, ".wht", ".weight", "_weight", "_wht", ".ivar", "_ivar", ".invvar", "_invvar", "_conf"),
    *_endings(VARIANCE, ".variance", "_variance", ".var", "_var"),
    *_endings(SIGMA, ".sigma", "_sigma", ".err", "_err", ".error", "_error"),
    *_endings(SKY_SIGMA, ".rms", "_rms"),
    *_endings(MASK, ".mask", "_mask", "_msk", "_bpm", "_flag", "_dq"),
)


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
    return None if found is None else found[0]


def partners(source: Source) -> tuple[str, list[str]] | None:
    """List the names that the science file of a companion may have.

    Parameters
    ----------
    source : Source
        The file in question.

    Returns
    -------
    role, names : str, list of str
        None where the file is no companion.
    """
    name = _name(source)
    for pair in _PAIRS:
        changed = [pair.swapped(name, pair.own, science) for science in pair.science]
        names = [packed for plain in changed if plain for packed in _packings(plain)]
        if names and (pair.survey or any(source.sibling(other) for other in names)):
            return pair.role, names
    return None


#: Files of facts that are read beside others, by what their names have in place of those: SNANA's list of the objects
#: of a file of points, DESI's redshifts of a file of spectra.
_FACTS = (("HEAD", "PHOT"), ("head", "phot"), ("redrock-", "coadd-"))


def readers_of(source: Source) -> list[str]:
    """List the names that a file which is read beside this one may have: where this one changes, so does that one.

    Parameters
    ----------
    source : Source
        The file in question.

    Returns
    -------
    list of str
        In the same folder; empty where nothing reads it but itself.
    """
    pair = partners(source)
    if pair is not None:
        return pair[1]
    name = _name(source)
    return [packed for own, other in _FACTS if own in name for packed in _packings(other.join(name.rsplit(own, 1)))]


def _name(source: Source) -> str:
    return source.url.rstrip("/").rsplit("/", 1)[-1]


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
    name = _name(source)
    found: dict[str, str] = {}
    for pair in _PAIRS:
        for science in pair.science:
            plain = pair.swapped(name, science, pair.own)
            if pair.role in (NOT_USED, *found) or plain is None:
                continue
            url = next((url for packed in _packings(plain) if (url := source.sibling(packed))), None)
            found |= {pair.role: url} if url else {}
    return tuple(found.items())


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
