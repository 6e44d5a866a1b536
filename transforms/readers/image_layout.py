"""Which extensions of a FITS file are images, which belong to others, and which can't be used, with the reason."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from transforms.readers.image_header import Cards
from transforms.readers.plane_roles import MASK, MASK_LSST, NOT_USED, SCIENCE, VARIANCE, Plane, plane_of

SMALLEST = 8  #: Pixels of a side below which neither sky nor source can be told.
MOST_BANDS = 12  #: Planes of a stack of bands; more are a cube.
#: Axes of spectra and of other than the sky (FITS standard 4.0, table 25, and older habits).
_SPECTRAL = ("LAMBDA", "WAVE", "FREQ", "VELO", "VOPT", "VRAD", "AWAV", "ENER", "WAVN", "ZOPT", "BETA", "FELO", "ANGLE")
_SOLAR = ("HPLN", "HPLT", "HGLN", "HGLT", "CRLN", "CRLT", "SOLX", "SOLY")  # Thompson (2006)
_BAYER = re.compile(r"(RGGB|BGGR|GRBG|GBRG)\Z", re.I)  #: Filters of the four pixels of a colour camera.


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
    bands : tuple of str
        Of the planes of a colour picture; empty where the header says what the band is.
    """

    index: int
    shape: tuple[int, int]
    planes: int = 1
    problem: str = ""
    companions: dict[str, int] = field(default_factory=dict)
    bands: tuple[str, ...] = ()


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
        In the order of the file. Weights, variances and masks are listed with the image that they name, that shares
        their EXTVER and detector, or that stands next to them, of the same shape. What is not used is not listed: by
        its name, or because an image beside it of the same shape is named as the science (``SCI``, ``DATA``, ...).
    """
    planes = {index: plane_of(hdu.header) for index, hdu in enumerate(hdus) if is_image(hdu)}
    planes |= {index: Plane(role) for index, role in _unnamed_triple(hdus).items()}
    planes |= {index: Plane(MASK, name=planes[index].name) for index in _quality_named(hdus, planes)}
    shapes = {index: _shape(hdus[index])[-2:] for index in planes}
    named = {shapes[index] for index, plane in planes.items() if plane.role == SCIENCE}
    found = {
        index: _layer(index, hdus[index])
        for index, plane in planes.items()
        if plane.role == SCIENCE or (not plane.role and shapes[index] not in named)
    }
    for index, plane in planes.items():
        if index in found or plane.role in ("", NOT_USED, SCIENCE):
            continue
        owners = [number for number in found if shapes[number] == shapes[index]]
        if owners:
            owner = min(owners, key=lambda number: _distance(index, plane, number, planes[number]))
            found[owner].companions.setdefault(plane.role, index)
    return list(found.values())


def _distance(index: int, plane: Plane, number: int, image: Plane) -> tuple[bool, bool, bool, int]:
    """Smallest for the image that a companion belongs to; images come before what belongs to them."""
    other_name = bool(plane.science) and plane.science != image.name
    other_detector = (plane.stem, plane.version) != (image.stem, image.version)
    return other_name, other_detector, number > index, abs(number - index)


def _quality_named(hdus: Any, planes: dict[int, Plane]) -> list[int]:
    """Extensions that an image names as its quality (QUALDATA) and whose own name says nothing."""
    names = {Cards(hdus[index].header).text("QUALDATA").upper() for index in planes} - {""}
    return [index for index, plane in planes.items() if not plane.role and plane.name in names]


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
    mosaic = cards.text("BAYERPAT", "COLORTYP")
    if len(shape) == 2 and _BAYER.match(mosaic):
        problem = f"HDU {index} is a raw colour mosaic ({mosaic}): neighbouring pixels see other colours; debayer it"
        return Layer(index, plane, problem=problem)
    if shape[:-2] == (3,) and (_BAYER.match(mosaic) or "RGB" in (mosaic.upper(), *types[2:])):
        return Layer(index, plane, planes=3, bands=("R", "G", "B"))
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
