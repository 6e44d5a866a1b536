"""Infrared spectra of APOGEE: ``apStar-*.fits`` and ``asStar-*.fits``, the visits of one star and their sum.

Data model: https://data.sdss.org/datamodel (apStar): flux, error and mask in extensions 1 to 3 that older releases do
not name; vacuum, at rest, steps of 6e-6 in log10. The first row is the sum of the visits, which is read; of a star
with one visit there is one row. ``aspcapStar`` is the sum over its continuum. A file of one object is one row.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from transforms.attempt import Unusable
from transforms.readers import spectrum_header as head
from transforms.readers.format import Entry, Format, Source
from transforms.readers.spectrum_position import position
from transforms.readers.spectrum_record import error_to_ivar, make_spectrum, mask_bits, stem
from transforms.records import Item, Spectrum

#: BADPIX, CRPIX, SATPIX, UNFIXABLE, BADDARK, BADFLAT, BADERR, NOSKY and SIG_SKYLINE of APOGEE_PIXMASK.
BAD_BITS = (0, 1, 2, 3, 4, 5, 6, 7, 12)
_PIXELS = 8575
LARGEST_ERROR = 1e9  #: APOGEE writes 1e10 where there is no measurement.


def _sniff(source: Source) -> bool:
    if not source.is_fits or len(source.hdus) < 3 or not source.hdus[1].is_image or not source.hdus[1].shape:
        return False
    header = source.hdus[1].header
    return (
        source.hdus[1].shape[-1] == _PIXELS
        and source.hdus[2].shape == source.hdus[1].shape
        and str(head.card(header, "CTYPE1") or "").strip().upper() == "LOG-LINEAR"
        and 4.1 < (head.number(header, "CRVAL1") or 0.0) < 4.3
    )


def _items(source: Source) -> list[Item]:
    return [Item(file=source.file, format="apogee", hdu="1")]


def _entries(source: Source, item: Item) -> Iterator[Entry]:
    yield Entry(row=0, load=partial(_load, source, item))


def _load(source: Source, item: Item) -> Spectrum:
    hdus, primary = source.hdus, source.hdus[0].header
    flux, error = (np.atleast_2d(hdus[k].data)[0].astype(np.float64) for k in (1, 2))
    mask = None
    if len(hdus) > 3 and hdus[3].is_image and hdus[3].shape == hdus[1].shape and "mask" in _what(hdus[3]):
        mask = mask_bits(np.atleast_2d(hdus[3].data)[0], *BAD_BITS)
    unit = str(head.card(hdus[1].header, "BUNIT") or "")
    name = str(head.card(primary, "OBJID", "OBJECT") or stem(source)).strip()
    if not np.isfinite(flux).any():
        raise Unusable(f"{name}: the sum of the visits holds no flux")
    ra, dec = position(primary)
    return make_spectrum(
        source, head.linear_wcs(hdus[1].header, flux.size, name=name), flux,
        error_to_ivar(np.where(error < LARGEST_ERROR, error, 0.0)), mask, air=False, frame="rest", hdu=item.hdu,
        object_id=name, ra=ra, dec=dec, unit=unit,
    )  # fmt: skip


def _what(hdu: object) -> str:
    header = getattr(hdu, "header", {})
    return f"{head.card(header, 'EXTNAME')} {head.card(header, 'BUNIT')}".lower()


FORMATS = (
    Format(
        name="apogee",
        record=Spectrum,
        description="APOGEE apStar, asStar and aspcapStar: the sum of a star's visits, vacuum, at rest",
        sniff=_sniff,
        items=_items,
        entries=_entries,
    ),
)
