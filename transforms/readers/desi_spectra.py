"""Spectra of DESI: coadds of many targets in three arms, stacks, and redrock's tables and templates.

Data model: https://desidatamodel.readthedocs.io. Vacuum, barycentric. The arms lie on one grid of 0.8 Angstrom, so
that they are joined pixel by pixel, weighted by inverse variance; nothing is resampled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from transforms.attempt import Unusable
from transforms.numerics.spectra.resample import merge
from transforms.readers import spectrum_header as head
from transforms.readers.format import Entry, Format, Source
from transforms.readers.spectrum_record import FWHM_PER_SIGMA, make_spectrum, row_items, stem
from transforms.readers.spectrum_units import to_angstrom
from transforms.records import FileRef, Item, Spectrum

ARMS = ("B", "R", "Z")
_UNIT = "10**-17 erg/(s cm2 Angstrom)"


def _names(source: Source) -> set[str]:
    return {hdu.name.upper() for hdu in source.hdus} if source.is_fits else set()


def _is_coadd(source: Source) -> bool:
    return {"FIBERMAP", "B_WAVELENGTH", "B_FLUX", "B_IVAR"} <= _names(source)


def _coadd_items(source: Source) -> list[Item]:
    index = source.hdus.index_of("FIBERMAP")
    return row_items(source, "desi_coadd", str(index), len(source.hdus[index].data))


def _coadd_entries(source: Source, item: Item) -> Iterator[Entry]:
    times, redshifts = _times(source), _redshifts(source)
    targets = source.hdus["FIBERMAP"].data
    for row in range(item.start, item.stop):
        name = str(int(targets["TARGETID"][row]))
        yield Entry(row=row, object_id=name, load=partial(_coadd, source, item, row, name, times, redshifts))


def _times(source: Source) -> dict[str, float]:
    """Mean of the middles of each target's exposures, weighted by duration: the table's MJD is when shutters opened."""
    if "EXP_FIBERMAP" not in _names(source):
        return {}
    table = source.hdus["EXP_FIBERMAP"].data
    if "MJD" not in table.names:
        return {}
    begin = np.asarray(table["MJD"], dtype=np.float64)
    seconds = np.asarray(table["EXPTIME"], dtype=np.float64) if "EXPTIME" in table.names else np.zeros(begin.size)
    seconds = np.where(np.isfinite(seconds) & (seconds > 0), seconds, 0.0)
    weight = np.maximum(seconds, 1.0)
    targets, inverse = np.unique(np.asarray(table["TARGETID"], dtype=np.int64), return_inverse=True)
    mean = np.bincount(inverse, weight * (begin + 0.5 * seconds / 86_400.0)) / np.bincount(inverse, weight)
    return {str(target): float(value) for target, value in zip(targets, mean, strict=True)}


def _redshifts(source: Source) -> dict[str, float]:
    """Redshifts of the redrock file beside the coadd: provenance only."""
    name = source.url.rsplit("/", 1)[-1]
    url = source.sibling(name.replace("coadd-", "redrock-", 1)) if name.startswith("coadd-") else None
    if url is None:
        return {}
    with Source(FileRef(url=url, source=url.rsplit("/", 1)[-1])) as companion:
        if "REDSHIFTS" not in _names(companion):
            return {}
        table = companion.hdus["REDSHIFTS"].data
        return {str(int(t)): float(z) for t, z in zip(table["TARGETID"], table["Z"], strict=True) if np.isfinite(z)}


def _coadd(
    source: Source, item: Item, row: int, name: str, times: Mapping[str, float], redshifts: Mapping[str, float]
) -> Spectrum:
    target = source.hdus["FIBERMAP"].data[row]
    kind = str(target["OBJTYPE"]).strip() if "OBJTYPE" in source.hdus["FIBERMAP"].columns.names else ""
    if kind == "SKY":
        raise Unusable(f"target {name} is a sky fibre, no object")
    present = _names(source)
    parts = []
    for arm in ARMS:
        if f"{arm}_FLUX" in present:
            data = [source.hdus[f"{arm}_{kind}"].data for kind in ("WAVELENGTH", "FLUX", "IVAR")]
            mask = source.hdus[f"{arm}_MASK"].data[row] != 0 if f"{arm}_MASK" in present else None
            parts.append(_arm(data[0], data[1][row], data[2][row], mask))
    wavelength, flux, ivar = join_arms(parts)
    ra, dec = float(target["TARGET_RA"]), float(target["TARGET_DEC"])
    return make_spectrum(
        source, wavelength, flux, ivar, air=False, frame="barycentric", fwhm=_fwhm(source, row), hdu=item.hdu, row=row,
        object_id=name, ra=ra if np.isfinite(ra) else None, dec=dec if np.isfinite(dec) else None,
        mjd=times.get(name), time_scale="utc" if name in times else "", unit=_UNIT, z_header=redshifts.get(name),
    )  # fmt: skip


def _fwhm(source: Source, row: int) -> float | None:
    """Width at 5500 Angstrom from the resolution matrix, whose diagonals are the line-spread function by offset."""
    if "B_RESOLUTION" not in _names(source):
        return None
    wavelength = source.hdus["B_WAVELENGTH"].data
    profile = source.hdus["B_RESOLUTION"].data[row][:, int(np.argmin(np.abs(wavelength - 5500.0)))].astype(np.float64)
    offset = np.arange(profile.size) - profile.size // 2
    if profile.sum() <= 0 or (variance := (profile * offset**2).sum() / profile.sum()) <= 0:
        return None
    return float(FWHM_PER_SIGMA * np.sqrt(variance) * (wavelength[1] - wavelength[0]))


def _arm(wavelength: Any, flux: Any, ivar: Any, mask: Any) -> tuple[np.ndarray, ...]:
    flux, ivar = np.asarray(flux, dtype=np.float64), np.asarray(ivar, dtype=np.float64)
    bad = ~(np.isfinite(flux) & np.isfinite(ivar) & (ivar > 0))
    if mask is not None:
        bad |= mask
    return np.asarray(wavelength, dtype=np.float64), np.where(bad, 0.0, flux), np.where(bad, 0.0, ivar), bad


def join_arms(parts: list[tuple[np.ndarray, ...]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Join arms by inverse variance: pixel by pixel where they share a grid, else on the grid of the first.

    Parameters
    ----------
    parts : list of (wavelength, flux, ivar, mask)
        One for each arm, by increasing wavelength.

    Returns
    -------
    wavelength, flux, ivar : ndarray of float64, shape (n,)
        Inverse variance zero where no arm has a good pixel.
    """
    first = parts[0][0]
    step = (first[-1] - first[0]) / (first.size - 1)
    offsets = [(part[0] - first[0]) / step for part in parts]
    n = round(max(offset[-1] for offset in offsets)) + 1
    grid = first[0] + step * np.arange(n)
    if any(np.abs(offset - np.round(offset)).max() > 0.01 for offset in offsets):
        flux, ivar, _ = merge([(p[0], p[1], p[2], p[3]) for p in parts], grid)
        return grid, flux, ivar
    total, weight = np.zeros(n), np.zeros(n)
    for offset, (_, flux, ivar, _) in zip(offsets, parts, strict=True):
        index = np.round(offset).astype(np.int64)
        total[index] += flux * ivar
        weight[index] += ivar
    return grid, np.divide(total, weight, out=np.zeros(n), where=weight > 0), weight


def _is_stack(source: Source) -> bool:
    names = _names(source)
    return {"FLUX", "IVAR", "WAVE"} <= names and len(source.hdus["FLUX"].shape) == 2


def _stack_items(source: Source) -> list[Item]:
    index = source.hdus.index_of("FLUX")
    return row_items(source, "desi_stack", str(index), source.hdus[index].shape[0])


def _stack_entries(source: Source, item: Item) -> Iterator[Entry]:
    for row in range(item.start, item.stop):
        yield Entry(row=row, load=partial(_stack, source, item, row))


def _stack(source: Source, item: Item, row: int) -> Spectrum:
    wave = source.hdus["WAVE"]
    kind = str(wave.header.get("AIRORVAC", "")).lower()
    stacked = "STACKINFO" in _names(source)
    unit = str(head.card(wave.header, "BUNIT", "CUNIT1") or "")
    wavelength = to_angstrom(wave.data if wave.data.ndim == 1 else wave.data[row], unit, "image WAVE")
    return make_spectrum(
        source, wavelength, source.hdus["FLUX"].data[row], source.hdus["IVAR"].data[row],
        unit=str(head.card(source.hdus["FLUX"].header, "BUNIT") or ""), air={"vac": False, "air": True}.get(kind[:3]),
        frame="rest" if stacked else "", hdu=item.hdu, row=row, object_id=f"{stem(source)}-{row}",
        z_header=float(source.hdus["STACKINFO"].data["Z"][row]) if stacked else None,
    )  # fmt: skip


def _is_redrock(source: Source) -> bool:
    names = _names(source)
    return {"REDSHIFTS", "FIBERMAP"} <= names or bool(names & {"BASIS_VECTORS", "ARCHETYPES"})


def _redrock_items(source: Source) -> list[Item]:
    names = _names(source)
    if names & {"BASIS_VECTORS", "ARCHETYPES"}:
        kind = "basis vectors" if "BASIS_VECTORS" in names else "archetypes"
        raise Unusable(f"{source.file.source}: template file with no observed spectrum (redrock {kind})")
    name = source.url.rsplit("/", 1)[-1]
    if source.sibling(name.replace("redrock-", "coadd-", 1)) is None:
        raise Unusable(f"{source.file.source}: redrock table of redshifts without its coadd beside it: no spectrum")
    return []


def _no_entries(source: Source, item: Item) -> Iterator[Entry]:
    yield from ()


FORMATS = (
    Format(
        name="desi_coadd",
        record=Spectrum,
        description="DESI coadd-*.fits: many targets, three arms joined by inverse variance",
        sniff=_is_coadd,
        items=_coadd_items,
        entries=_coadd_entries,
    ),
    Format(
        name="desi_stack",
        record=Spectrum,
        description="FITS with images FLUX, IVAR (one row a spectrum) and WAVE, such as stacks of DESI",
        sniff=_is_stack,
        items=_stack_items,
        entries=_stack_entries,
    ),
    Format(
        name="redrock",
        record=Spectrum,
        description="Redshifts of redrock, read with the coadd beside them; its templates are refused",
        sniff=_is_redrock,
        items=_redrock_items,
        entries=_no_entries,
    ),
)
