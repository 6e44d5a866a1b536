"""From the arrays of any spectrum file to a ``Spectrum``: the checks and conversions that all readers share."""

from __future__ import annotations

from typing import Any

import numpy as np

from transforms.attempt import Unusable
from transforms.constants import C_KMS
from transforms.flags import bits
from transforms.numerics.spectra.wavelengths import air_to_vacuum
from transforms.readers.format import Source
from transforms.readers.spectrum_units import per_wavelength
from transforms.records import Item, Spectrum

MIN_PIXELS = 16  #: Fewer are no spectrum.
WAVELENGTHS = (100.0, 1e7)  #: Angstrom, X-rays to 1 mm: outside, the unit of the axis is not what we think it is.
ROWS = 256  #: Spectra of one item.
TEXT_ROWS = 8192  #: The same for text, of which each item parses the whole file: 256 would make the time quadratic.
BLANK = 8  #: Zeros in a row: no noise and no star does that.
SMALL = 1e-8  #: Fluxes below are scaled.
FWHM_PER_SIGMA = 2.354820045  #: 2 sqrt(2 ln 2).


def make_spectrum(
    source: Source,
    wavelength: np.ndarray,
    flux: np.ndarray,
    ivar: np.ndarray | None = None,
    mask: np.ndarray | None = None,
    *,
    air: bool | None,
    frame: str,
    fwhm: float | None = None,
    flags: int = 0,
    **fields: Any,
) -> Spectrum:
    """Check the arrays of one spectrum and make the record.

    Parameters
    ----------
    source : Source
        The file.
    wavelength : ndarray, shape (n,)
        Angstrom, increasing or decreasing.
    flux : ndarray, shape (n,)
        Flux density, per wavelength or (by ``unit``, such as Jy) per frequency; NaN where missing.
    ivar : ndarray, shape (n,), optional
        Inverse variance; not positive or NaN where the pixel is worthless.
    mask : ndarray of bool, shape (n,), optional
        True = bad.
    air : bool or None
        True where ``wavelength`` is in air; None where the file does not say (air is assumed, and flagged).
    frame : str
        As in ``Spectrum``; empty where the file does not say.
    fwhm : float, optional
        Of the line-spread function at 5500 Angstrom, in Angstrom.
    flags : int
        Bits that the reader has set already.
    **fields
        Further fields of ``Spectrum``: ``hdu``, ``row``, ``object_id``, ``ra``, ``dec``, ``mjd``, ...

    Returns
    -------
    Spectrum
        Vacuum wavelengths, increasing; flux per unit wavelength, as ``unit`` then says; flux and ivar zero where
        masked. A spectrum of which every pixel is masked is returned too, with NO_DATA: it was observed, and its row
        says that nothing came of it.

    Raises
    ------
    Unusable
        Where the arrays are no spectrum; the message names the value.
    """
    fields.setdefault("object_id", stem(source))
    fields.setdefault("instrument", source.instrument)
    wavelength = np.asarray(wavelength, dtype=np.float64)
    flux = np.asarray(flux, dtype=np.float64)
    ivar = None if ivar is None else np.asarray(ivar, dtype=np.float64)
    name = fields["object_id"]
    _check(name, wavelength, flux, ivar)
    bad = ~np.isfinite(flux)
    if mask is not None:
        bad |= np.asarray(mask, dtype=bool)
    if ivar is None:
        bad |= blank(flux)
    if ivar is not None:
        bad |= ~(np.isfinite(ivar) & (ivar > 0))
    flux, ivar, unit = per_wavelength(wavelength, flux, ivar, fields.get("unit", ""))
    flux, ivar, fields["unit"] = _scaled(flux, ivar, unit)
    step = -1 if wavelength[0] > wavelength[-1] else 1
    wavelength, flux, bad = wavelength[::step], np.where(bad, 0.0, flux)[::step], bad[::step]
    if ivar is not None:
        ivar = np.ascontiguousarray(np.where(bad, 0.0, ivar[::step]), dtype=np.float32)
    flags |= _flags(fields, ivar, bad, air, frame)
    return Spectrum(
        source=source.file.source,
        wavelength=air_to_vacuum(wavelength) if air or air is None else np.ascontiguousarray(wavelength),
        flux=np.ascontiguousarray(np.where(bad, 0.0, flux), dtype=np.float32),
        ivar=ivar,
        mask=np.ascontiguousarray(bad),
        air=air is not False,
        frame=frame,
        lsf_sigma=None if fwhm is None else float(fwhm / FWHM_PER_SIGMA / 5500.0 * C_KMS),
        flags=flags,
        **fields,
    )


def _check(name: str, wavelength: np.ndarray, flux: np.ndarray, ivar: np.ndarray | None) -> None:
    n = flux.size
    if wavelength.shape != flux.shape or flux.ndim != 1:
        raise Unusable(f"{name}: wavelength has shape {wavelength.shape} and flux {flux.shape}")
    if ivar is not None and ivar.shape != flux.shape:
        raise Unusable(f"{name}: the errors have shape {ivar.shape} and the flux {flux.shape}")
    if n < MIN_PIXELS:
        raise Unusable(f"{name}: {n} pixels are no spectrum (at least {MIN_PIXELS})")
    if not np.isfinite(wavelength).all():
        count = int((~np.isfinite(wavelength)).sum())
        raise Unusable(f"{name}: {count} of {n} wavelengths are not finite")
    steps = np.diff(wavelength)
    wrong = steps <= 0 if wavelength[-1] > wavelength[0] else steps >= 0
    if wrong.any():
        k = int(np.argmax(wrong))
        raise Unusable(
            f"{name}: wavelengths are not monotonic: {wavelength[k]:.6g} at pixel {k}, then {wavelength[k + 1]:.6g}"
        )
    first, last = sorted((wavelength[0], wavelength[-1]))
    if first < WAVELENGTHS[0] or last > WAVELENGTHS[1]:
        raise Unusable(f"{name}: wavelengths from {first:.6g} to {last:.6g} cannot be Angstrom")
    if not np.isfinite(flux).any():
        raise Unusable(f"{name}: none of {n} flux values is finite")
    if ivar is None and not np.any(flux[np.isfinite(flux)]):
        raise Unusable(f"{name}: the flux is zero in all of {n} pixels")
    if ivar is not None and (negative := int((ivar < 0).sum())) > n // 2:
        raise Unusable(f"{name}: the inverse variance is negative in {negative} of {n} pixels ({ivar.min():.3g})")


def _scaled(flux: np.ndarray, ivar: np.ndarray | None, unit: str) -> tuple[np.ndarray, np.ndarray | None, str]:
    """Move a power of ten from tiny fluxes to the unit: float32 holds no inverse variance of an error of 1e-20."""
    level = np.abs(flux[np.isfinite(flux) & (flux != 0)])
    if not level.size or not 0 < (typical := float(np.median(level))) < SMALL:
        return flux, ivar, unit
    power = int(np.floor(np.log10(typical)))
    return flux / 10.0**power, None if ivar is None else ivar * 10.0 ** (2 * power), f"1e{power} {unit}".strip()


def _flags(fields: dict[str, Any], ivar: np.ndarray | None, bad: np.ndarray, air: bool | None, frame: str) -> int:
    names = []
    if fields.get("ra") is None or fields.get("dec") is None:
        fields["ra"] = fields["dec"] = None
        names.append("NO_POSITION")
    if fields.get("mjd") is None:
        names.append("NO_TIME")
    if ivar is None:
        names.append("NO_ERROR")
    if air is None:
        names.append("AIR_ASSUMED")
    if not frame:
        names.append("FRAME_UNKNOWN")
    if bad.all():
        names += ["NO_DATA", "BAD_DATA"]
    elif bad.mean() > 0.5:
        names.append("BAD_DATA")
    return bits(*names)


def blank(flux: np.ndarray) -> np.ndarray:
    """Find what was filled with zeros: gaps between detectors, and ends, which only the errors would tell from data.

    Parameters
    ----------
    flux : ndarray, shape (n,)
        Flux density.

    Returns
    -------
    ndarray of bool, shape (n,)
        True in runs of at least ``BLANK`` zeros.
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flux == 0, [False]]).astype(np.int8)))
    found = np.zeros(flux.size, dtype=bool)
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        found[start:stop] = stop - start >= BLANK
    return found


def stem(source: Source) -> str:
    """Name of a file without its endings: the identifier where the file gives none.

    Parameters
    ----------
    source : Source
        The file.

    Returns
    -------
    str
        Case as in the file's name.
    """
    name = source.file.source.rstrip("/").rsplit("/", 1)[-1]
    lower = name.lower()
    for packing in (".gz", ".bz2", ".xz"):
        if lower.endswith(packing):
            name, lower = name[: -len(packing)], lower[: -len(packing)]
    for ending in (".fits", ".fit", ".fts", ".csv", ".ecsv", ".txt", ".dat", ".xml", ".vot"):
        if lower.endswith(ending):
            return name[: -len(ending)]
    return name


def error_to_ivar(error: np.ndarray) -> np.ndarray | None:
    """Turn one-sigma errors into inverse variances.

    Parameters
    ----------
    error : ndarray
        Not positive or not finite where the pixel is worthless.

    Returns
    -------
    ndarray of float64, or None
        Zero where worthless. None where no pixel has a positive error: the file then does not know its errors (HARPS
        of ESO's archive: NaN throughout), which is no reason to lose the flux.
    """
    error = np.asarray(error, dtype=np.float64)
    use = np.isfinite(error) & (error > 0)
    return np.where(use, 1.0 / np.where(use, error, 1.0) ** 2, 0.0) if use.any() else None


def variance_to_ivar(variance: np.ndarray) -> np.ndarray | None:
    """Turn variances into inverse variances.

    Parameters
    ----------
    variance : ndarray
        Not positive or not finite where the pixel is worthless.

    Returns
    -------
    ndarray of float64, or None
        Zero where worthless; None where no pixel has a positive variance.
    """
    variance = np.asarray(variance, dtype=np.float64)
    use = np.isfinite(variance) & (variance > 0)
    return np.where(use, 1.0 / np.where(use, variance, 1.0), 0.0) if use.any() else None


def row_items(source: Source, format: str, hdu: str, n: int, rows: int = ROWS) -> list[Item]:
    """Cut a file of many spectra into items, so that it does not sit on one worker.

    Parameters
    ----------
    source : Source
        The file.
    format : str
        Name of the format.
    hdu : str
        Extension.
    n : int
        Number of spectra.
    rows : int
        Spectra of one item; more where each item costs the parsing of the whole file.

    Returns
    -------
    list of Item
        Of at most ``rows`` spectra each.

    Raises
    ------
    Unusable
        Where there is none.
    """
    if n < 1:
        raise Unusable(f"{source.file.source}: extension {hdu or 'of text'} holds 0 spectra")
    return [
        Item(file=source.file, format=format, hdu=hdu, start=start, stop=min(start + rows, n))
        for start in range(0, n, rows)
    ]


def mask_bits(values: np.ndarray, *bits: int) -> np.ndarray:
    """Find the pixels of which any of some bits is set.

    Parameters
    ----------
    values : ndarray of int
        Mask values.
    *bits : int
        Bit numbers.

    Returns
    -------
    ndarray of bool
        True = bad.
    """
    wanted = sum(1 << bit for bit in bits)
    return (np.asarray(values).astype(np.int64) & wanted) != 0
