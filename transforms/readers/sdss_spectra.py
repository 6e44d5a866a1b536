"""Spectra of SDSS, BOSS, eBOSS and SDSS-V: ``spec-*.fits`` of one object, ``spPlate-*.fits`` of a plate.

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
from transforms.readers.spectrum_position import position
from transforms.readers.spectrum_record import FWHM_PER_SIGMA, make_spectrum, mask_bits, row_items, stem
from transforms.readers.spectrum_time import duration
from transforms.records import Item, Spectrum

#: FULLREJECT, NOSKY, BRIGHTSKY, NODATA in all exposures; what else is fatal has no inverse variance.
BAD_BITS = (18, 22, 23, 24)
PIXEL = 1e-4 * np.log(10) * 5500.0  #: Angstrom at 5500.


def _columns(hdu: Any) -> set[str]:
    return {name.lower() for name in hdu.columns.names} if hasattr(hdu, "columns") else set()


def _is_spec(source: Source) -> bool:
    if not source.is_fits or len(source.hdus) < 2:
        return False
    telescope = str(head.card(source.hdus[0].header, "TELESCOP") or "").strip().upper()
    return telescope != "LAMOST" and {"flux", "loglam", "ivar"} <= _columns(source.hdus[1])


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
    ra, dec = position(header)
    mjd, scale = _time([hdu.header for hdu in source.hdus[3:]])
    if mjd is None:  # the short form of a file has no exposures
        mjd, scale = _time([header])
    return make_spectrum(
        source, 10.0 ** table["loglam"].astype(np.float64), table["flux"], table["ivar"], mask, air=False,
        frame="heliocentric", fwhm=fwhm, hdu=item.hdu, object_id=_object_id(source), ra=ra, dec=dec, mjd=mjd,
        time_scale=scale, unit=str(head.card(header, "BUNIT") or "1e-17 erg/cm^2/s/Ang"), z_header=_redshift(source),
    )  # fmt: skip


def _object_id(source: Source) -> str:
    """SDSS I to IV: plate, night, fibre; SDSS-V: field, night, catalogue number; else the name of the file."""
    header = source.hdus[0].header
    summary = source.hdus[2] if len(source.hdus) > 2 and hasattr(source.hdus[2], "columns") else None
    row: Any = {}
    if summary is not None and len(summary.data):
        row = {name.upper(): summary.data[name][0] for name in summary.columns.names}
    row.pop("FIELDID", None)  # in the summary, the field of the imaging survey
    for names in (("PLATEID", "MJD", "FIBERID"), ("FIELDID", "MJD", "CATALOGID"), ("FIELD", "MJD", "CATALOGID")):
        parts = [head.card(header, name) if head.card(header, name) is not None else row.get(name) for name in names]
        if all(part is not None for part in parts):
            return "-".join(str(part).strip() for part in parts)
    return stem(source)


def _time(headers: list[Any]) -> tuple[float | None, str]:
    """Mean of the middles of the exposures, weighted by duration, in TAI; none where only the night is given.

    The MJD of an SDSS header is the number of a night, up to a day from the exposures, which may lie in several.
    """
    middles, weights = [], []
    for header in headers:
        begin, end = head.number(header, "TAI-BEG", "TAI"), head.number(header, "TAI-END")
        if begin is not None:
            end = begin + (duration(header) or 0.0) if end is None or end < begin else end
            middles.append(0.5 * (begin + end) / 86_400.0)
            weights.append(max(end - begin, 1.0))
    return (float(np.average(middles, weights=weights)), "tai") if middles else (None, "")


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
    mjd, scale = _time([header])
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
        description="SDSS, BOSS, eBOSS and SDSS-V spec-*.fits: one object, table of flux, loglam, ivar, masks",
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
