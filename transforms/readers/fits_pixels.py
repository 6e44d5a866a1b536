"""Pixels of a FITS extension, a section at a time, in linear numbers."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from transforms.attempt import Unreadable
from transforms.readers.format import Source
from transforms.readers.image_header import Cards

LARGE = 64 << 20  #: Bytes of a plane that is read in tiles.
_MAGNITUDES = 2.5 / np.log(10)  #: Pan-STARRS packs its pixels as asinh magnitudes (Lupton, Gunn & Szalay 1999).


def read_section(source: Source, index: int, view: tuple[int | slice, ...]) -> np.ndarray:
    """Read a section only: a plane of a gigabyte is never held. BSCALE, BZERO, BLANK are applied by astropy.

    Parameters
    ----------
    source : Source
        The opened file.
    index : int
        Number of the extension.
    view : tuple of int or slice
        One for each axis that is cut, the slowest first.

    Returns
    -------
    ndarray
        Of the file's type; float64 where it was scaled or packed.

    Raises
    ------
    Unreadable
        Where the bytes can't be decoded.
    """
    hdu = source.hdus[index]
    try:
        with _handle(source, hdu, index) as reader:
            values = np.asarray(reader.section[view])
    except (OSError, ValueError, TypeError, KeyError, IndexError, RuntimeError) as error:
        raise Unreadable(f"pixels of HDU {index} of {source.file.source} can't be decoded: {error}") from error
    return _linear(values, hdu.header)


@contextmanager
def _handle(source: Source, hdu: Any, index: int) -> Iterator[Any]:
    """Give the HDU, opened once more without a memory map where that is better.

    Astropy refuses to scale mapped integers, and a map keeps the pages about each row of a tile: more than the tile.
    """
    scaled = any(name in hdu.header for name in ("BZERO", "BSCALE", "BLANK"))
    if source.packing or source.local is None or not (scaled or hdu.size > LARGE):
        yield hdu
        return
    from astropy.io import fits

    with warnings.catch_warnings(), fits.open(source.local, memmap=False, lazy_load_hdus=True) as hdus:
        warnings.simplefilter("ignore")  # told when the file was opened first
        yield hdus[index]


def _linear(values: np.ndarray, header: Any) -> np.ndarray:
    """Undo the asinh packing of Pan-STARRS: BOFFSET + 2 BSOFTEN sinh(x / 1.0857); weights are packed like images."""
    softening, offset = Cards(header).number("BSOFTEN"), Cards(header).number("BOFFSET")
    if softening is None or offset is None:
        return values
    with np.errstate(over="ignore"):
        return offset + 2 * softening * np.sinh(values.astype(np.float64) / _MAGNITUDES)


def full_scale(header: Any) -> float | None:
    """Find the largest number that the pixels' type can hold, where that is a limit of the camera.

    Parameters
    ----------
    header : astropy.io.fits.Header
        Of the extension.

    Returns
    -------
    float or None
        A pixel that has it was clipped. None for floats, for integers of 32 bits, and for scaled ones, whose largest
        number is that of the data.
    """
    cards = Cards(header)
    bits_of_pixel, zero = cards.number("BITPIX"), cards.number("BZERO") or 0.0
    if cards.number("BSCALE") not in (None, 1.0) or (bits_of_pixel, zero) not in ((8, 0), (16, 0), (16, 32768)):
        return None
    return 255.0 if bits_of_pixel == 8 else 32767 + zero
