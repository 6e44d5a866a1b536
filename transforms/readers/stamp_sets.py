"""FITS files of stamps, as training sets ship them: one array of all objects and a table with a row for each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from transforms.attempt import Unusable
from transforms.flags import bits
from transforms.morphology import border_sky
from transforms.readers.fits_integrity import check_integrity
from transforms.readers.fits_pixels import read_section
from transforms.readers.format import Entry, Format, Source
from transforms.readers.image_header import Cards, image_facts
from transforms.readers.image_layout import MOST_BANDS, is_image
from transforms.readers.mask_bits import decode_mask
from transforms.readers.plane_roles import NOT_USED, SCIENCE, inverse_variance, plane_of
from transforms.readers.targets import DECLINATIONS, IDENTIFIERS, RIGHT_ASCENSIONS, degrees
from transforms.records import Cutout, Item

SMALLEST, LARGEST = 16, 512  #: Pixels of a side.
ROWS = 256  #: Stamps of one item.


@dataclass(frozen=True, slots=True)
class StampSet:
    """Where the parts of a set of stamps lie.

    Parameters
    ----------
    index : int
        Extension of the array ``(object, y, x)`` or ``(object, band, y, x)``.
    table : int
        Extension of the table.
    identifier, ra, dec : str
        Columns of the table, empty where there is none.
    companions : dict of str to int
        Role and extension of arrays of the same shape.
    """

    index: int
    table: int
    identifier: str = ""
    ra: str = ""
    dec: str = ""
    companions: dict[str, int] = field(default_factory=dict)


def find_set(hdus: Any) -> StampSet | None:
    """Recognise a set of stamps.

    Parameters
    ----------
    hdus : astropy.io.fits.HDUList
        The file.

    Returns
    -------
    StampSet or None
        None for a cube whose third axis has a coordinate, and where no table of as many rows has a column of
        identifiers or of positions: the planes may then be anything (wavelengths, times, frames of a film).
    """
    arrays = {index: hdu for index, hdu in enumerate(hdus) if is_image(hdu) and len(hdu.shape) in (3, 4)}
    roles = {index: plane_of(hdu.header).role for index, hdu in arrays.items()}
    for index, hdu in arrays.items():
        if roles[index] not in ("", SCIENCE) or not _has_shape_of_stamps(hdu):
            continue
        for number, table in enumerate(hdus):
            if type(table).__name__ in ("BinTableHDU", "TableHDU") and table.header["NAXIS2"] == hdu.shape[0]:
                names = {name.lower(): name for name in table.columns.names}
                identifier, ra, dec = (_pick(names, wanted) for wanted in (IDENTIFIERS, RIGHT_ASCENSIONS, DECLINATIONS))
                if identifier or (ra and dec):
                    beside = {
                        role: other
                        for other, role in roles.items()
                        if role not in ("", SCIENCE, NOT_USED) and arrays[other].shape == hdu.shape
                    }
                    return StampSet(index, number, identifier, ra if dec else "", dec if ra else "", beside)
    return None


def _has_shape_of_stamps(hdu: Any) -> bool:
    sides, bands = hdu.shape[-2:], hdu.shape[1] if len(hdu.shape) == 4 else 1
    cards = Cards(hdu.header)
    has_coordinate = any(cards.text(f"CTYPE{axis}") for axis in (3, 4))
    return SMALLEST <= min(sides) <= max(sides) <= LARGEST and bands <= MOST_BANDS and not has_coordinate


def _pick(names: dict[str, str], wanted: tuple[str, ...]) -> str:
    return next((names[name] for name in wanted if name in names), "")


def _sniff(source: Source) -> bool:
    return source.is_fits and find_set(source.hdus) is not None


def _found(source: Source) -> StampSet:
    found = find_set(source.hdus)
    if found is None:
        raise Unusable(f"{source.file.source} holds no stamps with a table of as many rows")
    return found


def _items(source: Source) -> list[Item]:
    found = _found(source)
    for index in (found.index, found.table, *found.companions.values()):
        check_integrity(source, index)  # once, and not again for each stamp
    n = source.hdus[found.index].shape[0]
    step = n if source.packing else ROWS  # a packed file is unpacked for each item
    return [
        Item(file=source.file, format="fits_stamps", hdu=str(found.index), start=start, stop=min(start + step, n))
        for start in range(0, n, max(step, 1))
    ]


def _entries(source: Source, item: Item) -> Iterator[Entry]:
    found = _found(source)
    rows = slice(item.start, item.stop)
    names, ra, dec = _objects(source, found, rows)
    for place, row in enumerate(range(item.start, item.stop)):
        yield Entry(row, partial(load, source, found, row, names[place], ra[place], dec[place]), names[place])


def _objects(source: Source, found: StampSet, rows: slice) -> tuple[list[str], list[float | None], list[float | None]]:
    from astropy.table import Table

    table = Table(source.hdus[found.table].data[rows])
    for name in (found.ra, found.dec):
        if name:
            table[name].unit = source.hdus[found.table].columns[name].unit
    stem = re.sub(r"\.fits?(\.\w+)?\Z", "", source.file.source.rsplit("/", 1)[-1], flags=re.I)
    names = [f"{stem}:{row}" for row in range(rows.start, rows.stop)]
    if found.identifier:
        names = [v.decode() if isinstance(v, bytes) else str(v).strip() for v in table[found.identifier].tolist()]
    if not found.ra:
        return names, [None] * len(names), [None] * len(names)
    ra = degrees(table[found.ra], found.ra, source.name, "hourangle")
    dec = degrees(table[found.dec], found.dec, source.name, "deg")
    on_sky = np.isfinite(ra) & np.isfinite(dec) & (ra >= 0) & (ra <= 360) & (np.abs(dec) <= 90)
    columns = ([float(v) if good else None for v, good in zip(column, on_sky, strict=True)] for column in (ra, dec))
    return names, next(columns), next(columns)


def _stamp(source: Source, index: int, row: int) -> np.ndarray:
    values = read_section(source, index, (row,))
    return values if values.ndim == 3 else values[None]


def load(source: Source, found: StampSet, row: int, name: str, ra: float | None, dec: float | None) -> Cutout:
    """Decode one stamp.

    Parameters
    ----------
    source : Source
        The opened file.
    found : StampSet
        Its parts.
    row : int
        Number of the stamp.
    name : str
        Identifier.
    ra, dec : float or None
        Degrees.

    Returns
    -------
    Cutout
        In nJy where the header states an AB zero point. A stamp with noise planes is taken above the median of its
        border; without them that is done when it is measured.

    Raises
    ------
    Unreadable
        Where it can't be decoded.
    Unusable
        Where no pixel can be used.
    """
    header, primary = source.hdus[found.index].header, source.hdus[0].header
    cards = Cards(header, primary)
    scale = cards.number("PIXSCALE", "PIXELSCL", "SECPIX")
    facts = image_facts([header, primary], scale)
    flux = np.array(_stamp(source, found.index, row), np.float32) * np.float32(facts.factor)
    mask, ivar = ~np.isfinite(flux), None
    for role, index in found.companions.items():
        values = _stamp(source, index, row)
        weight, decoded = inverse_variance(role, values), decode_mask(role, values, Cards(source.hdus[index].header))
        if weight is not None:
            mask |= weight <= 0
            ivar = (weight / facts.factor**2).astype(np.float32) if ivar is None else ivar
        if decoded is not None:
            mask |= decoded.bad
    if mask.all():
        raise Unusable(f"all {mask.size} pixels of stamp {row} of {source.file.source} are masked or not finite")
    if ivar is not None:
        levels = [border_sky(plane, ~bad)[0] for plane, bad in zip(flux, mask, strict=True)]
        flux -= np.nan_to_num(np.array(levels, np.float32))[:, None, None]
    flags = bits("NO_POSITION") if ra is None else 0
    flags |= bits("NO_TIME") if facts.mjd is None else 0
    flags |= bits("UNCALIBRATED") if facts.zero_point is None else 0
    return Cutout(
        source=source.file.source,
        hdu=str(found.index),
        row=row,
        object_id=name,
        ra=ra,
        dec=dec,
        mjd=facts.mjd,
        time_scale=facts.time_scale,
        flags=flags,
        flux=flux,
        ivar=ivar,
        mask=mask,
        bands=_bands(cards, facts.band, len(flux)),
        pixel_scale=scale,
        unit=facts.unit,
        zero_point=facts.zero_point,
        psf_fwhm=facts.psf_fwhm,
    )


def _bands(cards: Cards, band: str, n: int) -> tuple[str, ...]:
    names = [name for name in re.split(r"[,;\s]+", cards.text("BANDS", "FILTERS")) if name]
    names = list(names[0]) if len(names) == 1 and len(names[0]) == n else names
    return tuple(names) if len(names) == n else (band if n == 1 else "",) * n


STAMP_SETS = Format(
    name="fits_stamps",
    record=Cutout,
    description="FITS array of stamps, (object, y, x) or (object, band, y, x), with a table of as many rows that has "
    "identifiers or positions; arrays of weight, variance, sigma or mask of the same shape are used",
    sniff=_sniff,
    items=_items,
    entries=_entries,
)
