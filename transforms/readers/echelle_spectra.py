"""Orders of a spectrograph in one image, with IRAF's MULTISPEC wavelengths, and how orders become one spectrum.

Reference: Valdes (1993), "The IRAF/NOAO Spectral World Coordinate Systems", ASP Conf. Ser. 52, 467.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.polynomial import chebyshev, legendre

from transforms.attempt import Unusable
from transforms.numerics.spectra.continuum import running_continuum
from transforms.numerics.spectra.resample import merge
from transforms.numerics.spectra.wavelengths import log_grid
from transforms.readers import spectrum_header as head
from transforms.readers.format import Entry, Format, Source
from transforms.readers.spectrum_position import position
from transforms.readers.spectrum_record import error_to_ivar, make_spectrum, row_items, stem
from transforms.readers.spectrum_time import middle_of_exposure
from transforms.readers.spectrum_units import to_angstrom
from transforms.records import Item, Spectrum

#: Orders that share more than this part of their range are spectra of different apertures.
SHARED = 0.8


def join_orders(parts: list[tuple[Any, Any, Any, Any]]) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray]:
    """Join orders or arms on a logarithmic grid of their own step, weighted by inverse variance.

    Parameters
    ----------
    parts : list of (wavelength, flux, ivar or None, mask or None)
        In any order; without errors all pixels weigh the same.

    Returns
    -------
    wavelength, flux : ndarray of float64, shape (n,)
        Angstrom; NaN flux where nothing is covered.
    ivar : ndarray of float64, shape (n,), or None
        None where no part has errors.
    mask : ndarray of bool, shape (n,)
        True = not covered or bad.
    """
    ready = []
    for wavelength, flux, ivar, mask in parts:
        rising = slice(None, None, -1 if wavelength[0] > wavelength[-1] else 1)
        bad = ~np.isfinite(flux) if mask is None else mask | ~np.isfinite(flux)
        if np.isfinite(wavelength).all() and (np.diff(wavelength[rising]) > 0).all():
            weight = np.ones(flux.size) if ivar is None else np.nan_to_num(ivar)
            ready.append((wavelength[rising], np.where(bad, 0.0, flux)[rising], weight[rising], bad[rising]))
    if not ready:
        raise Unusable(f"none of {len(parts)} orders has increasing wavelengths")
    first, last = min(part[0][0] for part in ready), max(part[0][-1] for part in ready)
    step = float(np.median([np.log10(part[0][-1] / part[0][0]) / (part[0].size - 1) for part in ready]))
    grid = log_grid(first, step, int(np.log10(last / first) / step) + 1)
    flux, weight, bad = merge(ready, grid)
    return grid, np.where(bad, np.nan, flux), weight if any(part[2] is not None for part in parts) else None, bad


def multispec(header: Any, n: int, rows: int) -> list[np.ndarray]:
    """Wavelengths of all apertures of a MULTISPEC image.

    Parameters
    ----------
    header : astropy.io.fits.Header
        With WAT2_001, WAT2_002, ...
    n : int
        Pixels of a row.
    rows : int
        Number of rows.

    Returns
    -------
    list of ndarray of float64, shape (nw,)
        Angstrom, one for each row, of as many pixels as that aperture has: a row is as long as the longest, and what
        lies beyond an aperture's end is filled up with zeros.

    Raises
    ------
    Unusable
        Where a row has no solution, or one of a kind that is not known.
    """
    cards = [str(header[key]).ljust(68) for key in sorted(k for k in header if k.startswith("WAT2_"))]
    text = "".join(cards)
    found = {int(k): body for k, body in re.findall(r'spec(\d+)\s*=\s*"([^"]*)"', text)}
    if len(found) < rows:
        raise Unusable(f"no wavelength solution for {rows - len(found)} of {rows} apertures")
    unit = head.axis_unit(header)
    solutions = [_solution(found[row + 1], row + 1, n) for row in range(rows)]
    return [to_angstrom(values, unit, f"aperture {row + 1}") for row, values in enumerate(solutions)]


def _solution(text: str, aperture: int, n: int) -> np.ndarray:
    numbers = [float(v) for v in re.sub(r"(?<=\d)\.(?=\d+\.)", ". ", text).split()]
    kind, first, step, used, redshift = int(numbers[2]), numbers[3], numbers[4], int(numbers[5]), numbers[6]
    if kind < 0:
        raise Unusable(f"aperture {aperture}: not calibrated in wavelength (type {kind})")
    n = used if 0 < used < n else n
    pixel = np.arange(1.0, n + 1)
    if kind in (0, 1):  # a start of 9850 cannot be a logarithm, whatever the type says
        values = first + step * (pixel - 1)
        return (10.0**values if kind == 1 and first < 9 else values) / (1 + redshift)
    total = np.zeros(n)
    rest = numbers[9:]
    while rest:
        weight, zero, function = rest[0], rest[1], int(rest[2])
        if function not in (1, 2):
            raise Unusable(
                f"aperture {aperture}: wavelength function {function} is not known (1 Chebyshev, 2 Legendre)"
            )
        order, low, high = int(rest[3]), rest[4], rest[5]
        coefficients, rest = rest[6 : 6 + order], rest[6 + order :]
        x = (pixel - 0.5 * (high + low)) / (0.5 * (high - low))
        series = chebyshev.chebval if function == 1 else legendre.legval
        total += weight * (zero + series(x, coefficients))
    return total / (1 + redshift)


def _sniff(source: Source) -> bool:
    if not source.is_fits or not source.hdus[0].is_image or len(source.hdus[0].shape) not in (1, 2, 3):
        return False
    header = source.hdus[0].header
    return "multispec" in str(header.get("WAT0_001", "")).lower() or str(header.get("CTYPE1", "")).startswith(
        "MULTISPE"
    )


def _planes(source: Source) -> np.ndarray:
    """Apertures of the first band: the spectrum, not the background or the raw sum."""
    data = source.hdus[0].data
    with np.errstate(invalid="ignore"):  # signalling NaNs of old reduction software
        return np.atleast_2d(np.asarray(data if data.ndim < 3 else data[0], dtype=np.float64))


def sigma_band(header: Any, data: np.ndarray) -> np.ndarray | None:
    """Find the errors among the bands that IRAF's apall writes: spectrum, raw sum, background, sigma.

    Parameters
    ----------
    header : astropy.io.fits.Header
        With BANDID1, BANDID2, ...
    data : ndarray, shape (bands, apertures, n)
        The image.

    Returns
    -------
    ndarray of float64, shape (apertures, n), or None
        None where no band is called sigma.
    """
    if data.ndim != 3:
        return None
    for band in range(data.shape[0]):
        if str(head.card(header, f"BANDID{band + 1}") or "").strip().lower().startswith("sigma"):
            return np.asarray(data[band], dtype=np.float64)
    return None


def _are_orders(waves: list[np.ndarray]) -> bool:
    spans = sorted((min(w[0], w[-1]), max(w[0], w[-1])) for w in waves)
    shared = [(a[1] - b[0]) / (a[1] - a[0]) for a, b in pairwise(spans)]
    return len(waves) > 1 and float(np.median(shared)) < SHARED


def _items(source: Source) -> list[Item]:
    flux = _planes(source)
    orders = _are_orders(multispec(source.hdus[0].header, flux.shape[1], flux.shape[0]))
    return row_items(source, "iraf_multispec", "0", 1 if orders else flux.shape[0])


def _entries(source: Source, item: Item) -> Iterator[Entry]:
    flux = _planes(source)
    waves = multispec(source.hdus[0].header, flux.shape[1], flux.shape[0])
    orders = _are_orders(waves)
    for row in range(item.start, item.stop):
        yield Entry(row=row, load=partial(_load, source, row, flux, waves, orders))


def _load(source: Source, row: int, planes: np.ndarray, waves: list[np.ndarray], orders: bool) -> Spectrum:
    header = source.hdus[0].header
    flux = [counts[: wave.size] for wave, counts in zip(waves, planes, strict=True)]
    wavelength, values, ivar, mask, unit = waves[row], flux[row], None, None, str(head.card(header, "BUNIT") or "")
    if not orders and (sigma := sigma_band(header, source.hdus[0].data)) is not None:
        ivar = error_to_ivar(sigma[row][: values.size])
    if orders:  # the blaze of each order is divided out: its counts are not calibrated, and would saw the spectrum
        parts = []
        for wave, counts in zip(waves, flux, strict=True):
            good = np.isfinite(counts)
            level, defined = running_continuum(np.where(good, counts, 0.0), good, counts.size / 8)
            faint = ~defined | (level < 0.1 * level.max())
            parts.append((wave, counts / level, np.where(defined, level, 0.0), faint))  # counts weigh the overlaps
        wavelength, values, _, mask = join_orders(parts)
        unit = "relative"
    name = str(head.card(header, "OBJECT", "OBJNAME") or stem(source)).strip()
    ra, dec = position(header)
    mjd, scale = middle_of_exposure(header)
    return make_spectrum(
        source, wavelength, values, ivar, mask, air=head.in_air(header), frame=head.frame(header), hdu="0", row=row,
        object_id=name if orders or len(waves) == 1 else f"{name}-{row + 1}", ra=ra, dec=dec, mjd=mjd,
        time_scale=scale, unit=unit,
    )  # fmt: skip


FORMATS = (
    Format(
        name="iraf_multispec",
        record=Spectrum,
        description="IRAF MULTISPEC image: echelle orders joined with the blaze divided out, or separate apertures",
        sniff=_sniff,
        items=_items,
        entries=_entries,
    ),
)
