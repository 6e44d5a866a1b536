"""FITS images, plain or compressed, with the weights and masks that belong to them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import groupby

import numpy as np

from transforms.astrometry import local_scale
from transforms.attempt import Unusable
from transforms.flags import bits
from transforms.numerics.tiles import LARGEST, core_of, tiles
from transforms.readers.companions import find_companions, partners, read_companion, role_of_file
from transforms.readers.fits_integrity import check_integrity
from transforms.readers.fits_pixels import full_scale, read_section
from transforms.readers.format import Entry, Format, Source
from transforms.readers.image_header import Cards, ImageFacts, image_facts
from transforms.readers.image_layout import Layer, is_image, layers
from transforms.readers.image_sets import NPZ
from transforms.readers.mask_bits import decode_mask
from transforms.readers.plane_roles import NOT_USED, POWERS, WHOLE_NOISE, inverse_variance, plane_of
from transforms.readers.stamp_sets import STAMP_SETS
from transforms.readers.wcs import celestial_wcs
from transforms.records import Image, Item

Section = tuple[int, ...]
Kept = dict[tuple[str, str], tuple[np.ndarray, Cards]]


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
        raise Unusable(f"{source.file.source} is the {_words(role)} of {names[0]}, which is not beside it")
    return []


def _words(role: str) -> str:
    return "companion" if role == NOT_USED else "mask" if role.startswith("mask") else role.replace("_", " ")


def _no_entries(source: Source, item: Item) -> Iterator[Entry]:
    return iter(())


def _items(source: Source) -> list[Item]:
    found = layers(source.hdus)
    if not found:
        raise Unusable(_nothing(source))
    beside = find_companions(source)
    items = []
    for layer in found:
        sections: list[Section] = [()] if layer.problem else list(tiles(*layer.shape))
        if len(sections) > 1:  # once, and not again for each tile
            for index in (layer.index, *layer.companions.values()):
                check_integrity(source, index)
        items += [
            Item(
                file=source.file,
                format="fits_image",
                hdu=str(layer.index),
                start=start,
                stop=stop if section else layer.planes,
                section=section,
                companions=beside,
            )
            for start, stop, section in _parts(sections, bool(source.packing))
        ]
    return items


def _nothing(source: Source) -> str:
    kinds = []
    for index, hdu in enumerate(source.hdus):
        plane = plane_of(hdu.header) if is_image(hdu) else None
        kind = type(hdu).__name__ if plane is None else f"{plane.name or 'unnamed'} ({_words(plane.role)})"
        kinds.append(f"{index}:{kind}")
    what = "is an image of the sky" if any("(" in kind for kind in kinds) else "holds data"
    return f"no HDU of {source.file.source} {what} ({', '.join(kinds)})"


def _parts(sections: list[Section], packed: bool) -> Iterator[tuple[int, int, Section]]:
    """Tiles of one item, first and last, with the rectangle they fill: a row of tiles of a file that must be unpacked.

    A packed file is unpacked for each item, so that one tile an item would cost more than what is done with it.
    """
    for _, row in groupby(enumerate(sections), key=lambda pair: pair[1][:2] if packed else pair[0]):
        numbers, found = zip(*row, strict=True)
        yield numbers[0], numbers[-1] + 1, found[0][:3] + found[-1][3:]


def _entries(source: Source, item: Item) -> Iterator[Entry]:
    kept: Kept = {}
    for row in range(item.start, max(item.stop, item.start + 1)):
        yield Entry(row, partial(load_image, source, item, row, kept))


def load_image(source: Source, item: Item, row: int, kept: Kept | None = None) -> Image:
    """Decode one plane, or one tile of it.

    Parameters
    ----------
    source : Source
        The opened file.
    item : Item
        Extension and section.
    row : int
        Number of the tile, or of the band in a stack.
    kept : dict, optional
        Planes of companion files that earlier calls for this item have read; added to.

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
    tile = list(tiles(*layer.shape))[row] if item.section else ()
    if not tile:
        check_integrity(source, index)
    section = tile or (0, layer.shape[0], 0, layer.shape[1])
    hdu = source.hdus[index]
    flux = _pixels(source, index, section, row if layer.planes > 1 else 0)
    wcs = celestial_wcs(hdu.header, source.hdus)
    scale = None if wcs is None else local_scale(wcs, layer.shape[1] / 2, layer.shape[0] / 2)
    facts = image_facts([hdu.header] if index == 0 else [hdu.header, source.hdus[0].header], scale)
    mask = ~np.isfinite(flux)
    full = full_scale(hdu.header) if facts.saturation is None else facts.saturation / facts.factor
    saturated = np.zeros(mask.shape, bool) if full is None else flux >= np.float32(full)
    if facts.factor != 1:
        flux *= np.float32(facts.factor)
    planes = _planes_beside(item, layer, section, {} if kept is None else kept)
    planes += _planes_within(source, layer, section, row if layer.planes > 1 else 0, checked=bool(tile))
    ivar, whole, mask, saturated = _noise_and_mask(planes, facts.factor, mask, saturated)
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
        whole_noise=whole,
        mask=mask,
        saturated=saturated if saturated.any() else None,
        wcs=wcs,
        origin=(section[0], section[2]),
        core=core_of(tile, *layer.shape),
        unit=facts.unit,
        zero_point=facts.zero_point,
        band=layer.bands[row] if layer.bands else facts.band,
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
    """Read a rectangle of a plane; ``raw`` keeps the type of masks and the range of weights."""
    hdu = source.hdus[index]
    y0, y1, x0, x1 = section
    leading = (0,) * (len(hdu.shape) - 2)
    if leading and hdu.shape[-3] > 1:
        leading = (*leading[:-1], plane)
    values = read_section(source, index, (*leading, slice(y0, y1), slice(x0, x1)))
    if raw:
        return values
    with np.errstate(over="ignore", invalid="ignore"):  # what float32 can't hold becomes infinite, thus masked
        return np.array(values, dtype=np.float32, order="C")


def _planes_beside(item: Item, layer: Layer, section: Section, kept: Kept) -> list[tuple[str, np.ndarray, Cards]]:
    """Planes of other files. They are read once for all tiles of an item, since opening may mean unpacking."""
    whole = item.section or (0, layer.shape[0], 0, layer.shape[1])
    view = slice(section[0] - whole[0], section[1] - whole[0]), slice(section[2] - whole[2], section[3] - whole[2])
    for companion in item.companions:
        if companion not in kept:
            kept[companion] = read_companion(
                companion[1], layer.index, layer.shape, partial(_pixels, section=whole, raw=True)
            )
    return [(role, kept[role, url][0][view], kept[role, url][1]) for role, url in item.companions]


def _planes_within(
    source: Source, layer: Layer, section: Section, plane: int, checked: bool
) -> list[tuple[str, np.ndarray, Cards]]:
    """Planes of other extensions."""
    planes = []
    for role, number in layer.companions.items():
        if not checked:
            check_integrity(source, number)
        cards = Cards(source.hdus[number].header, source.hdus[0].header)
        planes.append((role, _pixels(source, number, section, plane, raw=True), cards))
    return planes


def _noise_and_mask(
    planes: list[tuple[str, np.ndarray, Cards]], factor: float, mask: np.ndarray, saturated: np.ndarray
) -> tuple[np.ndarray | None, bool, np.ndarray, np.ndarray]:
    """Apply all companions. The noise is that of the plane which says most; a pixel worthless to any is masked."""
    ivar, whole = None, False
    order = list(POWERS)
    for role, values, cards in sorted(planes, key=lambda plane: order.index(plane[0]) if plane[0] in order else -1):
        found = inverse_variance(role, values)
        if found is not None:
            mask = mask | (found <= 0)
            if ivar is None:
                ivar, whole = (found / factor**2).astype(np.float32), role in WHOLE_NOISE
        decoded = decode_mask(role, values, cards)
        if decoded is not None:
            mask, saturated = mask | decoded.bad, saturated | decoded.saturated
    return ivar, whole, mask | saturated, saturated


FORMATS = (
    Format(
        name="fits_companion",
        record=Image,
        description="Weight, variance or mask file (oow, ood, invvar, wht, _mask, ...), read with its science image",
        sniff=_sniff_companion,
        items=_companion_items,
        entries=_no_entries,
    ),
    STAMP_SETS,
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
