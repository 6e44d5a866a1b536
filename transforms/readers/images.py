"""FITS images, plain or compressed, with the weights and masks that belong to them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from transforms.astrometry import local_scale
from transforms.attempt import Unreadable, Unusable
from transforms.flags import bits
from transforms.numerics.tiles import LARGEST, core_of, tiles
from transforms.readers.companions import (
    NOT_USED,
    decode_mask,
    find_companions,
    inverse_variance,
    partners,
    read_companion,
    role_of_file,
)
from transforms.readers.fits_integrity import check_integrity
from transforms.readers.format import Entry, Format, Source
from transforms.readers.image_header import Cards, ImageFacts, image_facts
from transforms.readers.image_layout import Layer, is_image, layers
from transforms.readers.image_sets import NPZ
from transforms.readers.wcs import celestial_wcs
from transforms.records import Image, Item


def _sniff(source: Source) -> bool:
    if not source.is_fits:
        return False
    arrays = [hdu for hdu in source.hdus if is_image(hdu)]
    if not arrays:  # nothing at all in the file: the reason is ours to give
        return all(type(hdu).__name__ in ("PrimaryHDU", "ImageHDU") for hdu in source.hdus)
    return any(type(hdu).__name__ == "GroupsHDU" or len(hdu.shape) > 1 for hdu in arrays)


def _sniff_companion(source: Source) -> bool:
    return source.is_fits and role_of_file(source) is not None and _sniff(source)


def _companion_items(source: Source) -> list[Item]:
    """Nothing of its own; a companion whose science image is missing is an error that somebody should see."""
    role, names = partners(source) or (NOT_USED, [])
    if not any(source.sibling(name) for name in names):
        raise Unusable(f"{source.file.source} is the {role} of {names[0]}, which is not beside it")
    return []


def _no_entries(source: Source, item: Item) -> Iterator[Entry]:
    return iter(())


def _items(source: Source) -> list[Item]:
    found = layers(source.hdus)
    if not found:
        kinds = ", ".join(f"{i}:{type(hdu).__name__}" for i, hdu in enumerate(source.hdus))
        raise Unusable(f"no HDU of {source.file.source} holds data ({kinds})")
    beside = find_companions(source)
    items = []
    for layer in found:
        sections = list(tiles(*layer.shape)) if not layer.problem else [()]
        if len(sections) > 1:
            check_integrity(source, layer.index)  # once, and not again for each tile
        items += [
            Item(
                file=source.file,
                format="fits_image",
                hdu=str(layer.index),
                start=number if section else 0,
                stop=number + 1 if section else layer.planes,
                section=section,
                companions=beside,
            )
            for number, section in enumerate(sections)
        ]
    return items


def _entries(source: Source, item: Item) -> Iterator[Entry]:
    for row in range(item.start, max(item.stop, item.start + 1)):
        yield Entry(row, partial(load_image, source, item, row))


def load_image(source: Source, item: Item, row: int) -> Image:
    """Decode one plane, or one tile of it.

    Parameters
    ----------
    source : Source
        The opened file.
    item : Item
        Extension and section.
    row : int
        Number of the tile, or of the band in a stack.

    Returns
    -------
    Image
        Float32 in native order, in nJy where the file states an AB zero point.

    Raises
    ------
    Unreadable
        Where the file is cut short, fails its checksums or can't be decoded.
    Unusable
        Where the extension is no image, or has no pixel that can be used.
    """
    index = int(item.hdu)
    layer = next(layer for layer in layers(source.hdus) if layer.index == index)
    if layer.problem:
        raise Unusable(layer.problem)
    if not item.section:
        check_integrity(source, index)
    section = item.section or (0, layer.shape[0], 0, layer.shape[1])
    hdu = source.hdus[index]
    flux = _pixels(source, index, section, row if layer.planes > 1 else 0)
    wcs = celestial_wcs(hdu.header, source.hdus)
    scale = None if wcs is None else local_scale(wcs, layer.shape[1] / 2, layer.shape[0] / 2)
    facts = image_facts([hdu.header] if index == 0 else [hdu.header, source.hdus[0].header], scale)
    mask = ~np.isfinite(flux)
    if facts.factor != 1:
        flux *= np.float32(facts.factor)
    ivar, mask, saturated = _noise_and_mask(source, item, layer, section, facts, flux, mask)
    if mask.all():
        raise Unusable(f"all {mask.size} pixels of HDU {index} of {source.file.source} are masked or not finite")
    return Image(
        source=source.file.source,
        hdu=item.hdu,
        row=row,
        mjd=facts.mjd,
        time_scale=facts.time_scale,
        flags=_flags(facts, wcs),
        flux=flux,
        ivar=ivar,
        mask=mask,
        saturated=saturated,
        wcs=wcs,
        origin=(section[0], section[2]),
        core=core_of(item.section, *layer.shape),
        unit=facts.unit,
        zero_point=facts.zero_point,
        band=facts.band,
        exptime=facts.exptime,
        gain=facts.gain,
        saturation=facts.saturation,
        psf_fwhm=facts.psf_fwhm,
    )


def _flags(facts: ImageFacts, wcs: object) -> int:
    flags = bits("NO_TIME") if facts.mjd is None else 0
    flags |= bits("NO_WCS", "NO_POSITION") if wcs is None else 0
    return flags | (bits("UNCALIBRATED") if facts.zero_point is None else 0)


def _pixels(source: Source, index: int, section: tuple[int, ...], plane: int = 0, raw: bool = False) -> np.ndarray:
    """Read a section only: a plane of a gigabyte is never held. BSCALE, BZERO, BLANK are applied by astropy."""
    hdu = source.hdus[index]
    y0, y1, x0, x1 = section
    leading = (0,) * (len(hdu.shape) - 2)
    if leading and hdu.shape[-3] > 1:
        leading = (*leading[:-1], plane)
    try:
        with _unscaled_handle(source, hdu, index) as reader:
            values = reader.section[(*leading, slice(y0, y1), slice(x0, x1))]
    except (OSError, ValueError, TypeError, KeyError, IndexError, RuntimeError) as error:
        raise Unreadable(f"pixels of HDU {index} of {source.file.source} can't be decoded: {error}") from error
    if raw:
        return np.asarray(values)
    with np.errstate(over="ignore", invalid="ignore"):  # what float32 can't hold becomes infinite, thus masked
        return np.array(values, dtype=np.float32, order="C")


@contextmanager
def _unscaled_handle(source: Source, hdu: Any, index: int) -> Iterator[Any]:
    """Give the HDU, opened once more without a memory map where its integers are scaled: astropy refuses that."""
    scaled = any(name in hdu.header for name in ("BZERO", "BSCALE", "BLANK"))
    if type(hdu).__name__ == "CompImageHDU" or not scaled or source.packing or source.local is None:
        yield hdu
        return
    from astropy.io import fits

    with warnings.catch_warnings(), fits.open(source.local, memmap=False, lazy_load_hdus=True) as hdus:
        warnings.simplefilter("ignore")  # told when the file was opened first
        yield hdus[index]


def _noise_and_mask(
    source: Source,
    item: Item,
    layer: Layer,
    section: tuple[int, ...],
    facts: ImageFacts,
    flux: np.ndarray,
    mask: np.ndarray,
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray | None]:
    """Apply all companions: those of other files and those of other extensions."""
    planes: list[tuple[str, np.ndarray, Cards]] = []
    for role, url in item.companions:
        reader = partial(_pixels, section=section, raw=True)
        planes.append((role, *read_companion(url, layer.index, layer.shape, reader)))
    for role, number in layer.companions.items():
        check_integrity(source, number)
        cards = Cards(source.hdus[number].header, source.hdus[0].header)
        planes.append((role, _pixels(source, number, section, raw=True), cards))
    saturated = flux >= facts.saturation if facts.saturation is not None else np.zeros(mask.shape, bool)
    ivar: np.ndarray | None = None
    for role, values, cards in planes:
        found = inverse_variance(role, values)
        if found is not None and ivar is None:
            ivar = found / np.float32(facts.factor) ** 2
            mask = mask | (ivar <= 0)
        decoded = decode_mask(role, values, cards)
        if decoded is not None:
            mask, saturated = mask | decoded.bad, saturated | decoded.saturated
    return ivar, mask | saturated, saturated if saturated.any() else None


FORMATS = (
    Format(
        name="fits_companion",
        record=Image,
        description="Weight, variance or mask file (oow, ood, invvar, wht, _mask, ...), read with its science image",
        sniff=_sniff_companion,
        items=_companion_items,
        entries=_no_entries,
    ),
    Format(
        name="fits_image",
        record=Image,
        description=f"FITS image extensions, also tile-compressed; taken in tiles above {LARGEST} pixels a side",
        sniff=_sniff,
        items=_items,
        entries=_entries,
    ),
    NPZ,
)
