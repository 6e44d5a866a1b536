"""Spectra of SDSS, BOSS and eBOSS: ``spec-*.fits`` of one object, ``spPlate-*.fits`` of a plate.

Data model: https://data.sdss.org/datamodel; bits: SPPIXMASK of idlutils. Vacuum, heliocentric, steps of 1e-4 in log10.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from transforms.attempt import Unreadable, Unusable
from transforms.readers import spectrum_header as head
from transforms.readers.format import Entry, Format, Source
from transforms.readers.spectrum_record import FWHM_PER_SIGMA, make_spectrum, mask_bits, row_items
from transforms.records import Item, Spectrum

#: FULLREJECT, NOSKY, BRIGHTSKY, NODATA in all exposures; what else is fatal has no inverse variance.
BAD_BITS = (18, 22, 23, 24)
PIXEL = 1e-4 * np.log(10) * 5500.0  #: Angstrom at 5500.


def _columns(hdu: Any) -> set[str]:
    return {name.lower() for name in hdu.columns.names} if hasattr(hdu, "columns") else set()


def _is_spec(source: Source) -> bool:
    return source.is_fits and len(source.hdus) > 1 and {"flux", "loglam", "ivar"} <= _columns(source.hdus[1])


def _spec_items(source: Source) -> list[Item]:
    return [Item(file=source.file, format="sdss_spec", hdu="1")]


def _spec_entries(source: Source, item: Item) -> Iterator[Entry]:
    yield Entry(row=0, load=partial(_spec, source, item))


def _spec(source: Source, item: Item) -> Spectrum:
    header, table = source.hdus[0].header, source.hdus[1].data
    if table is None or not len(table):
        raise Unusable(f"{source.file.source}: the COADD table has 0 rows")
    names = _columns(source.hdus[1])
    fwhm = None
    if "wdisp" in names and len(table):
        near = int(np.argmin(np.abs(table["loglam"] - np.log10(5500.0))))
        fwhm = float(table["wdisp"][near]) * PIXEL * FWHM_PER_SIGMA or None
    mask = mask_bits(table["and_mask"], *BAD_BITS) if "and_mask" in names else None
    object_id = "-".join(str(head.card(header, key)) for key in ("PLATEID", "MJD", "FIBERID"))
    ra, dec = head.position(header)
    mjd, scale = _time(header)
    return make_spectrum(
        source, 10.0 ** table["loglam"].astype(np.float64), table["flux"], table["ivar"], mask, air=False,
        frame="heliocentric", fwhm=fwhm, hdu=item.hdu, object_id=object_id, ra=ra, dec=dec, mjd=mjd, time_scale=scale,
        unit=str(head.card(header, "BUNIT") or "1e-17 erg/cm^2/s/Ang"), z_header=_redshift(source),
    )  # fmt: skip


def _time(header: Any) -> tuple[float | None, str]:
    """Middle of the exposures in TAI where given, else the integer MJD of the night."""
    begin, end = head.number(header, "TAI-BEG", "TAI"), head.number(header, "TAI-END", "TAI")
    if begin is not None and end is not None:
        return 0.5 * (begin + end) / 86_400.0, "tai"
    night = head.number(header, "MJD")
    return night, "tai" if night is not None else ""


def _redshift(source: Source) -> float | None:
    """Redshift of the survey's pipeline: provenance only."""
    if len(source.hdus) < 3 or "z" not in _columns(source.hdus[2]) or not len(source.hdus[2].data):
        return None
    value = float(source.hdus[2].data["Z"][0])
    return value if np.isfinite(value) else None


def _is_plate(source: Source) -> bool:
    if not source.is_fits:
        return False
    hdu = source.hdus[0]
    return bool(
        hdu.is_image
        and len(hdu.shape) == 2
        and {"PLATEID", "COEFF0", "COEFF1"} <= set(hdu.header)
        and hdu.header.get("NAXIS1", 0) > hdu.header.get("NAXIS2", 0)
    )


def _plate_items(source: Source) -> list[Item]:
    return row_items(source, "sdss_plate", "0", source.hdus[0].shape[0])


def _plate_entries(source: Source, item: Item) -> Iterator[Entry]:
    for row in range(item.start, item.stop):
        yield Entry(row=row, load=partial(_fibre, source, row))


def _fibre(source: Source, row: int) -> Spectrum:
    """Extensions: flux, ivar, AND mask, OR mask, dispersion, plug map, sky; any but the first may be missing."""
    hdus = source.hdus
    header = hdus[0].header
    planes = [hdus[k].data[row] if len(hdus) > k and hdus[k].shape == hdus[0].shape else None for k in range(5)]
    flux, ivar, and_mask, _, dispersion = planes
    if flux is None:
        raise Unreadable(f"{source.file.source}: fibre {row + 1} has no flux")
    first, step = head.number(header, "COEFF0"), head.number(header, "COEFF1")
    if first is None or not step or not 3 < first < 4.2:
        raise Unusable(f"{source.file.source}: no wavelength solution (COEFF0 is {first}, COEFF1 is {step})")
    wavelength = 10.0 ** (first + step * np.arange(flux.size))
    plug = hdus[5].data[row] if len(hdus) > 5 and {"ra", "dec"} <= _columns(hdus[5]) else None
    if plug is not None and str(plug["OBJTYPE"]).strip().upper() in {"SKY", "NA"}:
        raise Unusable(f"{source.file.source}: fibre {row + 1} is a {str(plug['OBJTYPE']).strip()} fibre, no object")
    mjd, scale = _time(header)
    fwhm = None
    if dispersion is not None:
        near = int(np.argmin(np.abs(wavelength - 5500.0)))
        fwhm = float(dispersion[near]) * PIXEL * FWHM_PER_SIGMA or None
    return make_spectrum(
        source, wavelength, flux, ivar, None if and_mask is None else mask_bits(and_mask, *BAD_BITS), air=False,
        frame="heliocentric", fwhm=fwhm, hdu="0", row=row, mjd=mjd, time_scale=scale,
        object_id=f"{head.card(header, 'PLATEID')}-{head.card(header, 'MJD')}-{row + 1}",
        ra=None if plug is None else float(plug["RA"]), dec=None if plug is None else float(plug["DEC"]),
        unit=str(head.card(header, "BUNIT") or ""),
    )  # fmt: skip


FORMATS = (
    Format(
        name="sdss_spec",
        record=Spectrum,
        description="SDSS, BOSS and eBOSS spec-*.fits: one object, table of flux, loglam, ivar, masks",
        sniff=_is_spec,
        items=_spec_items,
        entries=_spec_entries,
    ),
    Format(
        name="sdss_plate",
        record=Spectrum,
        description="SDSS and BOSS spPlate-*.fits: all fibres of a plate",
        sniff=_is_plate,
        items=_plate_items,
        entries=_plate_entries,
    ),
)
