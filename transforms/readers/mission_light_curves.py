"""Kepler, K2 and TESS: light-curve files and target-pixel files, with their quality bits."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from transforms.attempt import Unreadable, Unusable
from transforms.readers.format import Entry, Format, Source
from transforms.readers.light_curve_cells import flux_unit
from transforms.readers.light_curve_record import Columns, make_light_curve
from transforms.readers.light_curve_times import system_of
from transforms.records import Item, LightCurve

#: Detrended fluxes first; KSPSAP and DET are those of the Quick-Look Pipeline (Huang et al. 2020, RNAAS 4, 204).
_FLUXES = (
    ("PDCSAP_FLUX", "PDCSAP_FLUX_ERR"),
    ("KSPSAP_FLUX", "KSPSAP_FLUX_ERR"),
    ("DET_FLUX", "DET_FLUX_ERR"),
    ("SAP_FLUX", "SAP_FLUX_ERR"),
    ("FLUX", "FLUX_ERR"),
)
_QUALITY = ("SAP_QUALITY", "QUALITY")
_OPTIMAL = 2  #: Bit of the aperture image that marks pixels of the photometric aperture (Kepler Archive Manual, 2.3.3).


def _tables(source: Source) -> list[tuple[int, Any]]:
    found = []
    for index, hdu in enumerate(source.hdus):
        names = set(getattr(getattr(hdu, "columns", None), "names", []) or [])
        if {"TIME", "CADENCENO"} <= names and any(flux in names for flux, _ in _FLUXES):
            found.append((index, hdu))
    return found


def _is_pixels(hdu: Any) -> bool:
    return len(hdu.columns["FLUX"].dim or "") > 2 if "FLUX" in hdu.columns.names else False


def _sniff_curve(source: Source) -> bool:
    tables = _tables(source) if source.is_fits else []
    return bool(tables) and not _is_pixels(tables[0][1])


def _sniff_pixels(source: Source) -> bool:
    tables = _tables(source) if source.is_fits else []
    return bool(tables) and _is_pixels(tables[0][1])


def _items(name: str, source: Source) -> list[Item]:
    return [Item(file=source.file, format=name, hdu=str(index)) for index, _ in _tables(source)[:1]]


def _entries(source: Source, item: Item) -> Iterator[Entry]:
    yield Entry(0, partial(_load, source, int(item.hdu)), _identity(source, item.hdu)["object_id"])


def _load(source: Source, index: int) -> LightCurve:
    hdu = source.hdus[index]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data = hdu.data
            time = np.array(data["TIME"], np.float64)
    except (ValueError, TypeError, OSError, IndexError) as fault:
        raise Unreadable(f"table in extension {index} of {source.file.source} is damaged: {fault}") from fault
    if data is None or len(data) == 0:
        raise Unusable(f"table in extension {index} of {source.file.source} has no rows")
    flux, error, unit = _aperture_sum(source, data) if _is_pixels(hdu) else _columns(hdu, data)
    name = next((name for name in _QUALITY if name in hdu.columns.names), "")
    band = _band(source, hdu)
    offset, system = _system(hdu, band)
    return make_light_curve(
        Columns(
            time=time + offset,
            value=flux,
            error=error,
            band=np.full(time.size, band),
            bad=np.asarray(data[name]) != 0 if name else None,
            magnitudes=False,
            unit=unit,
            system=system,
            identity=_identity(source, str(index)),
        )
    )


def _columns(hdu: Any, data: Any) -> tuple[np.ndarray, np.ndarray | None, str]:
    """The corrected flux where it is there and holds numbers, else the simple one; without a unit it is relative."""
    for flux, error in _FLUXES:
        if flux in hdu.columns.names:
            values = np.array(data[flux], np.float64)
            if np.isfinite(values).any():
                errors = np.array(data[error], np.float64) if error in hdu.columns.names else None
                unit, factor = flux_unit(flux, str(hdu.columns[flux].unit or ""))
                return values * factor, None if errors is None else errors * factor, unit
    raise Unusable(f"every flux of the {len(data)} cadences is missing")


def _aperture_sum(source: Source, data: Any) -> tuple[np.ndarray, np.ndarray, str]:
    """Sum over the optimal aperture; a cadence with a missing pixel there has no flux."""
    cube, errors = np.array(data["FLUX"], np.float64), np.array(data["FLUX_ERR"], np.float64)
    plane = next((h.data for h in source.hdus[1:] if h.name == "APERTURE" and h.data is not None), None)
    if plane is None or plane.shape != cube.shape[1:]:
        raise Unusable(f"target-pixel file {source.file.source} has no aperture of shape {cube.shape[1:]}")
    inside = (np.asarray(plane, np.int64) & _OPTIMAL) > 0
    if not inside.any():
        raise Unusable(f"no pixel of the aperture of {source.file.source} is marked optimal (bit {_OPTIMAL})")
    flux = cube[:, inside].sum(1)
    if not np.any(np.nan_to_num(flux) != 0):
        raise Unusable(f"the flux of all {inside.sum()} aperture pixels is zero or missing in every cadence")
    unit, factor = flux_unit("FLUX", str(data.columns["FLUX"].unit or ""))
    return flux * factor, np.sqrt((errors[:, inside] ** 2).sum(1)) * factor, unit


def _system(hdu: Any, band: str) -> tuple[float, str]:
    """Offset of TIME to a full barycentric Julian date, and the system's name."""
    reference = hdu.header.get("BJDREFI")
    if reference is not None:
        return float(reference) + float(hdu.header.get("BJDREFF") or 0.0), "bjd"
    named = system_of("", str(hdu.columns["TIME"].unit or ""))
    return 0.0, named or ("btjd" if band == "tess" else "bkjd")


def _band(source: Source, hdu: Any) -> str:
    head = source.hdus[0].header
    text = f"{head.get('TELESCOP') or ''} {head.get('MISSION') or ''} {hdu.columns['TIME'].unit or ''}".lower()
    return "tess" if "tess" in text or "btjd" in text or "2457000" in text else "kepler"


def _identity(source: Source, hdu: str) -> dict[str, Any]:
    head = source.hdus[0].header
    place: list[float | None] = []
    for card in ("RA_OBJ", "DEC_OBJ"):
        value = head.get(card)
        place.append(float(value) if isinstance(value, (int, float)) and np.isfinite(value) else None)
    name = str(head.get("OBJECT") or "").strip() or source.name.split(".", 1)[0]
    return {"source": source.file.source, "hdu": hdu, "row": 0, "object_id": name, "ra": place[0], "dec": place[1]}


FORMATS: tuple[Format, ...] = (
    Format(
        name="mission_light_curve",
        record=LightCurve,
        description="Kepler, K2 and TESS light curves: PDCSAP_FLUX where present, every quality bit honoured",
        sniff=_sniff_curve,
        items=partial(_items, "mission_light_curve"),
        entries=_entries,
    ),
    Format(
        name="target_pixels",
        record=LightCurve,
        description="Kepler, K2 and TESS target-pixel files: sum over the optimal aperture",
        sniff=_sniff_pixels,
        items=partial(_items, "target_pixels"),
        entries=_entries,
    ),
)
