"""Low-resolution spectra of LAMOST: an image of five rows (DR1 to DR7) or a table of one row (later releases)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from transforms.attempt import Unusable
from transforms.readers import spectrum_header as head
from transforms.readers.format import Entry, Format, Source
from transforms.readers.spectrum_record import make_spectrum
from transforms.records import Item, Spectrum

LAMOST_FWHM = 3.05  #: Angstrom at 5500, R = 1800 (Zhao et al. 2012, RAA 12, 723).


def _is_lamost(source: Source) -> bool:
    if not source.is_fits:
        return False
    hdu = source.hdus[0]
    return str(hdu.header.get("TELESCOP", "")).strip().upper() == "LAMOST" and (
        (hdu.is_image and len(hdu.shape) == 2 and hdu.shape[0] >= 3) or "COADD" in source.hdus
    )


def _lamost_items(source: Source) -> list[Item]:
    hdu = "0" if len(source.hdus[0].shape) == 2 else str(source.hdus.index_of("COADD"))
    return [Item(file=source.file, format="lamost", hdu=hdu)]


def _lamost_entries(source: Source, item: Item) -> Iterator[Entry]:
    yield Entry(row=0, load=partial(_lamost_load, source, item))


def _lamost_load(source: Source, item: Item) -> Spectrum:
    """Rows are flux, ivar, continuum or wavelength, AND mask, OR mask; later releases have a table of one row."""
    header = source.hdus[0].header
    name = str(head.card(header, "OBSID", "DESIG", "OBJNAME") or "").strip()
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
    ra, dec = head.position(header)
    mjd, scale = head.middle_of_exposure(header)
    vacuum = head.truth(header, "VACUUM")
    return make_spectrum(
        source, wavelength, flux, ivar, and_mask != 0, air=None if vacuum is None else not vacuum,
        frame=head.frame(header), fwhm=LAMOST_FWHM, hdu=item.hdu, object_id=name, ra=ra, dec=dec, mjd=mjd,
        time_scale=scale, unit="relative", z_header=head.number(header, "Z"),
    )  # fmt: skip


FORMATS = (
    Format(
        name="lamost",
        record=Spectrum,
        description="LAMOST low-resolution spectra: flux, inverse variance, masks as image or table",
        sniff=_is_lamost,
        items=_lamost_items,
        entries=_lamost_entries,
    ),
)
