"""Spectra of LAMOST.

Low resolution: an image of five rows (DR1 to DR7) or a table of one row (later releases). Medium resolution: tables
COADD_B and COADD_R, 4950 to 5350 and 6300 to 6800 Angstrom, beside those of the single exposures.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from transforms.attempt import Unusable
from transforms.readers import spectrum_header as head
from transforms.readers.format import Entry, Format, Source
from transforms.readers.spectrum_position import position
from transforms.readers.spectrum_record import make_spectrum, stem
from transforms.readers.spectrum_time import middle_of_exposure
from transforms.records import Item, Spectrum

MEDIUM = ("COADD_B", "COADD_R")  #: By wavelength.
MEDIUM_FWHM = 5500.0 / 7500.0  #: Angstrom at 5500, R = 7500 (Liu et al. 2020, arXiv:2005.07210).
LAMOST_FWHM = 3.05  #: Angstrom at 5500, R = 1800 (Zhao et al. 2012, RAA 12, 723).


def _is_lamost(source: Source) -> bool:
    if not source.is_fits:
        return False
    hdu = source.hdus[0]
    return str(hdu.header.get("TELESCOP", "")).strip().upper() == "LAMOST" and (
        (hdu.is_image and len(hdu.shape) == 2 and hdu.shape[0] >= 3) or "COADD" in source.hdus
    )


def _is_medium(source: Source) -> bool:
    if not source.is_fits or str(source.hdus[0].header.get("TELESCOP", "")).strip().upper() != "LAMOST":
        return False
    names = {hdu.name.upper() for hdu in source.hdus}
    return bool(names & set(MEDIUM)) or any(re.match(r"[BR]-\d", name) for name in names)


def _medium_items(source: Source) -> list[Item]:
    present = [name for name in MEDIUM if name in source.hdus]
    if not present:
        raise Unusable(f"{source.file.source}: no {' or '.join(MEDIUM)}, only single exposures of LAMOST")
    return [Item(file=source.file, format="lamost_medium", hdu=str(source.hdus.index_of(present[0])))]


def _medium_entries(source: Source, item: Item) -> Iterator[Entry]:
    yield Entry(row=0, load=partial(_medium_load, source, item))


def _medium_load(source: Source, item: Item) -> Spectrum:
    arms = [_arm(source.hdus[name].data) for name in MEDIUM if name in source.hdus]
    wavelength, flux, ivar, mask = (np.concatenate(planes) for planes in zip(*_apart(arms), strict=True))
    return _record(source, item, (wavelength, flux, ivar, mask), MEDIUM_FWHM)


def _arm(table: Any) -> tuple[np.ndarray, ...]:
    """Wavelength, flux, ivar, mask; a row for each pixel, or one row of arrays."""
    columns = {name.upper(): np.ravel(np.asarray(table[name], dtype=np.float64)) for name in table.names}
    wavelength = columns["WAVELENGTH"] if "WAVELENGTH" in columns else 10.0 ** columns["LOGLAM"]
    mask = next((columns[name] for name in ("PIXMASK", "ANDMASK") if name in columns), np.zeros(wavelength.size))
    return wavelength, columns["FLUX"], columns["IVAR"], mask != 0


def _apart(arms: list[tuple[np.ndarray, ...]]) -> list[tuple[np.ndarray, ...]]:
    """Arms one after another, each closed by a masked pixel: the gap belongs to those, not to the last good pixels."""
    if len(arms) == 1:
        return arms
    ends = [2 * arms[0][0][-1] - arms[0][0][-2], 2 * arms[1][0][0] - arms[1][0][1]]
    if ends[0] >= ends[1]:
        raise Unusable(f"the arms overlap: COADD_B reaches {ends[0]:.1f} Angstrom, COADD_R begins at {ends[1]:.1f}")
    gap = (np.array(ends), np.zeros(2), np.zeros(2), np.ones(2, dtype=bool))
    return [arms[0], gap, arms[1]]


def _lamost_items(source: Source) -> list[Item]:
    hdu = "0" if len(source.hdus[0].shape) == 2 else str(source.hdus.index_of("COADD"))
    return [Item(file=source.file, format="lamost", hdu=hdu)]


def _lamost_entries(source: Source, item: Item) -> Iterator[Entry]:
    yield Entry(row=0, load=partial(_lamost_load, source, item))


def _lamost_load(source: Source, item: Item) -> Spectrum:
    """Rows are flux, ivar, continuum or wavelength, AND mask, OR mask; later releases have a table of one row."""
    header = source.hdus[0].header
    name = _name(source)
    if item.hdu == "0":
        planes = np.asarray(source.hdus[0].data, dtype=np.float64)
        flux, ivar = planes[0], planes[1]
        and_mask = planes[3] if planes.shape[0] > 3 else np.zeros(flux.size)
        first, step = head.number(header, "COEFF0", "CRVAL1"), head.number(header, "COEFF1", "CD1_1")
        if first is None or not step or not 3 < first < 4.2:
            raise Unusable(f"{name}: no logarithmic wavelength solution (COEFF0 is {first}, COEFF1 is {step})")
        wavelength = 10.0 ** (first + step * np.arange(flux.size))
    else:
        row = source.hdus[int(item.hdu)].data[0]
        flux, ivar, wavelength, and_mask = (
            row[c].astype(np.float64) for c in ("FLUX", "IVAR", "WAVELENGTH", "ANDMASK")
        )
    return _record(source, item, (wavelength, flux, ivar, and_mask != 0), LAMOST_FWHM)


def _record(source: Source, item: Item, arrays: tuple[np.ndarray, ...], fwhm: float) -> Spectrum:
    header = source.hdus[0].header
    wavelength, flux, ivar, mask = arrays
    ra, dec = position(header)
    mjd, scale = middle_of_exposure(header)
    vacuum = head.truth(header, "VACUUM") is not False  # all releases are in vacuum; older ones say so in a card
    return make_spectrum(
        source, wavelength, flux, ivar, mask, air=not vacuum, frame=head.frame(header),
        fwhm=fwhm, hdu=item.hdu, object_id=_name(source), ra=ra, dec=dec, mjd=mjd, time_scale=scale, unit="relative",
        z_header=head.number(header, "Z"),
    )  # fmt: skip


def _name(source: Source) -> str:
    return str(head.card(source.hdus[0].header, "OBSID", "DESIG", "OBJNAME") or stem(source)).strip()


FORMATS = (
    Format(
        name="lamost",
        record=Spectrum,
        description="LAMOST low-resolution spectra: flux, inverse variance, masks as image or table",
        sniff=_is_lamost,
        items=_lamost_items,
        entries=_lamost_entries,
    ),
    Format(
        name="lamost_medium",
        record=Spectrum,
        description="LAMOST medium-resolution spectra: tables COADD_B and COADD_R, one after the other",
        sniff=_is_medium,
        items=_medium_items,
        entries=_medium_entries,
    ),
)
