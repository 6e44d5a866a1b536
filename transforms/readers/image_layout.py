"""Which extensions of a FITS file are images, which belong to others, and which can't be used, with the reason."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from transforms.readers.companions import MASK_LSST, VARIANCE, role_of_extension
from transforms.readers.image_header import Cards

SMALLEST = 8  #: Pixels of a side below which neither sky nor source can be told.
MOST_BANDS = 12  #: Planes of a stack of bands; more are a cube.
#: Axes of spectra and of other than the sky (FITS standard 4.0, table 25, and older habits).
_SPECTRAL = ("LAMBDA", "WAVE", "FREQ", "VELO", "VOPT", "VRAD", "AWAV", "ENER", "WAVN", "ZOPT", "BETA", "FELO", "ANGLE")
_SOLAR = ("HPLN", "HPLT", "HGLN", "HGLT", "CRLN", "CRLT", "SOLX", "SOLY")  # Thompson (2006)


@dataclass(frozen=True, slots=True)
class Layer:
    """One extension that holds an image.

    Parameters
    ----------
    index : int
        Number of the extension.
    shape : tuple of int
        ``(ny, nx)``.
    planes : int
        More than one for a stack of bands.
    problem : str
        Why it can't be used; empty where it can.
    companions : dict of str to int
        Role and number of the extensions that belong to it.
    """

    index: int
    shape: tuple[int, int]
    planes: int = 1
    problem: str = ""
    companions: dict[str, int] = field(default_factory=dict)


def is_image(hdu: Any) -> bool:
    """Say whether an extension is an array with at least one pixel.

    Parameters
    ----------
    hdu : astropy HDU
        Any.

    Returns
    -------
    bool
        True for images, compressed images and random groups.
    """
    kind = type(hdu).__name__
    if kind == "GroupsHDU":
        return True
    shape = getattr(hdu, "shape", None) or ()
    return kind in ("PrimaryHDU", "ImageHDU", "CompImageHDU") and len(shape) > 0 and 0 not in shape


def layers(hdus: Any) -> list[Layer]:
    """List the images of a file.

    Parameters
    ----------
    hdus : astropy.io.fits.HDUList
        The file.

    Returns
    -------
    list of Layer
        In the order of the file; weights, variances and masks are listed with the image before them that has their
        shape, and distortion tables not at all.
    """
    found: list[Layer] = []
    unnamed = _unnamed_triple(hdus)
    for index, hdu in enumerate(hdus):
        if not is_image(hdu):
            continue
        role = unnamed.get(index) or role_of_extension(hdu.header)
        if role is None or (not found and role != "not_used"):
            found.append(_layer(index, hdu))
        elif role != "not_used":
            owner = next((layer for layer in reversed(found) if layer.shape == _shape(hdu)[-2:]), None)
            if owner is not None:
                owner.companions.setdefault(role, index)
    return found


def _layer(index: int, hdu: Any) -> Layer:
    if type(hdu).__name__ == "GroupsHDU":
        return Layer(index, (0, 0), problem=f"HDU {index} holds random groups (visibilities), not an image")
    shape = _shape(hdu)
    cards = Cards(hdu.header)
    types = [cards.text(f"CTYPE{axis}") for axis in range(1, hdu.header.get("NAXIS", 0) + 1)]
    text = " x ".join(str(n) for n in reversed(shape))
    if len(shape) < 2:
        return Layer(index, (0, 0), problem=f"HDU {index} has one axis of {text} values, an image has two")
    if any(kind.upper().startswith(_SPECTRAL) for kind in types[:2]):
        return Layer(
            index, (shape[-2], shape[-1]), problem=f"HDU {index} is dispersed: its axes are {', '.join(types[:2])}"
        )
    if any(kind.upper().startswith(_SOLAR) for kind in types[:2]):
        problem = f"HDU {index} shows the Sun, not the sky: its axes are {', '.join(types[:2])}"
        return Layer(index, (shape[-2], shape[-1]), problem=problem)
    plane = (shape[-2], shape[-1])
    planes = 1
    if len(shape) == 3:
        # Bands of one field have a sky and no third coordinate.
        is_stack = shape[0] <= MOST_BANDS and bool(types[0]) and not (types + [""] * 3)[2]
        planes = shape[0] if is_stack else 0
    if len(shape) > 3 or planes == 0:
        return Layer(index, plane, problem=f"HDU {index} is a cube of {text} values, an image has two axes")
    if min(shape[-2:]) < SMALLEST:
        return Layer(index, plane, problem=f"HDU {index} is {text} pixels, an image needs {SMALLEST} a side")
    return Layer(index, plane, planes=planes)


def _shape(hdu: Any) -> tuple[int, ...]:
    """Shape without leading axes of one value, which radio images carry for frequency and polarisation."""
    shape = tuple(getattr(hdu, "shape", None) or ())
    while len(shape) > 2 and shape[0] == 1:
        shape = shape[1:]
    return shape


def _unnamed_triple(hdus: Any) -> dict[int, str]:
    """Image, mask and variance of the LSST stack where a tool has dropped the names: only the first has a sky."""
    if len(hdus) < 4 or is_image(hdus[0]):
        return {}
    first, second, third = hdus[1], hdus[2], hdus[3]
    if not all(is_image(hdu) and _shape(hdu) == _shape(first) for hdu in (first, second, third)):
        return {}
    bare = all(not Cards(hdu.header).text("CTYPE1", "EXTNAME") for hdu in (second, third))
    return {2: MASK_LSST, 3: VARIANCE} if bare and Cards(first.header).text("CTYPE1") else {}
