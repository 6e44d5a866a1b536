"""Rows of a table, or the lists in one row, to a light curve: units, zero points, signs and the place on the sky."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from transforms.attempt import Unusable
from transforms.light_curve import AB_NANOJANSKY
from transforms.readers import light_curve_cells as cells
from transforms.readers.format import Source
from transforms.readers.light_curve_columns import Layout, plain
from transforms.readers.light_curve_parsers import Table
from transforms.readers.light_curve_record import FAINTEST, Columns
from transforms.readers.light_curve_times import UNSTATED, days_in, system_of
from transforms.records import Item

GENERATED = "generated"  #: Column that tells which points a model made.
SPREAD = 5.0  #: arcsec; points of a table without identifiers that lie farther apart are not one object.
SPREAD_NAMED = 60.0  #: arcsec; room for the proper motion of an object that the table names.


@dataclass(frozen=True, slots=True)
class Cells:
    """The cells of one object, by column.

    Parameters
    ----------
    table : Table
        Where units and the whole file's values stand.
    numbers, strings : callable
        ``numbers(column) -> ndarray of float64``, ``strings(column) -> ndarray of str``.
    """

    table: Table
    numbers: Callable[[str], np.ndarray]
    strings: Callable[[str], np.ndarray]


def columns_of(layout: Layout, points: Cells, identity: dict[str, Any]) -> Columns:
    """Collect what a light curve is made of.

    Parameters
    ----------
    layout : Layout
        Which column is what.
    points : Cells
        The object's cells.
    identity : dict
        Fields of ``Columns.identity``.

    Returns
    -------
    Columns
        Times in days; fluxes in nJy where they are calibrated.

    Raises
    ------
    Unusable
        Where the brightness lacks the column that gives it a meaning.
    """
    if layout.fault:
        raise Unusable(layout.fault)
    layout = _better(layout, points)
    value = points.numbers(layout.value)
    error = points.numbers(layout.error) if layout.error else None
    factor, unit = (1.0, "") if layout.magnitudes else _flux_scale(layout, points)
    time, system = _times(layout, points)
    return Columns(
        time=time,
        value=value * factor,
        error=None if error is None else error * factor,
        band=_bands(layout, points, time.size),
        bad=_bad(layout, points),
        sign=cells.signs(points.strings(layout.sign).tolist()) if layout.sign else None,
        magnitudes=layout.magnitudes,
        unit=unit,
        system=system,
        coarse=points.table.single_precision(layout.time),
        difference=layout.difference,
        generated=_generated(points),
        identity=identity,
    )


def _better(layout: Layout, points: Cells) -> Layout:
    """The first choice of brightness, unless the second one is there for more than twice as many points."""
    if layout.instead is None:
        return layout
    counts = []
    for choice in (layout, layout.instead):
        value = points.numbers(choice.value)
        counts.append(int(np.sum(np.abs(value[np.isfinite(value)]) <= FAINTEST)))
    return layout if 2 * counts[0] >= counts[1] else layout.instead


def _flux_scale(layout: Layout, points: Cells) -> tuple[np.ndarray | float, str]:
    """Factor for each point, and the unit after it."""
    if layout.zero_point:
        factor = 10 ** (-0.4 * (points.numbers(layout.zero_point) - AB_NANOJANSKY))
        systems = {text.strip().lower() for text in points.strings(layout.zero_system)} if layout.zero_system else set()
        stated = systems == {"ab"} or plain(layout.zero_point) == "zpdiff"
        return factor, "nJy" if stated else ""
    unit, number = cells.flux_unit(layout.value, points.table.units.get(layout.value, "") or layout.unit)
    return number, unit


def _times(layout: Layout, points: Cells) -> tuple[np.ndarray, str]:
    """Times in days, and their system."""
    unit = points.table.units.get(layout.time, "")
    days = 1.0 if layout.system else days_in(unit, layout.time)  # a declared system counts days, whatever a name says
    time = points.numbers(layout.time) * days
    system = layout.system or system_of(layout.time, unit)
    reference = points.table.meta.get("mjdref")
    if not system and reference is not None:
        return time + float(reference), "mjd"
    return time, system if system or days == 1 else UNSTATED


def _bands(layout: Layout, points: Cells, count: int) -> np.ndarray:
    if not layout.band:
        return np.full(count, str(points.table.meta.get("band", "")))
    return cells.bands(points.strings(layout.band), plain(layout.band))


def _generated(points: Cells) -> bool:
    """Whether any point of the object came from a model, as ``nightcat generate`` writes it."""
    if GENERATED not in points.table.names:
        return False
    return any(text.strip().lower() in ("true", "1") for text in points.strings(GENERATED).tolist())


def _bad(layout: Layout, points: Cells) -> np.ndarray | None:
    if not layout.quality:
        return None
    return np.logical_or.reduce([cells.bad(points.strings(name).tolist(), name) for name in layout.quality])


def identity_of(
    source: Source, table: Table, layout: Layout, item: Item, row: int, rows: Any, name: str
) -> dict[str, Any]:
    """Where an object came from and where it lies.

    Parameters
    ----------
    source : Source
        The file.
    table : Table
        All of it, or of one extension.
    layout : Layout
        Which column is what.
    item : Item
        The part of the file.
    row : int
        Number of the object.
    rows : slice or ndarray of int
        Its rows.
    name : str
        Its identifier, empty where the table has none.

    Returns
    -------
    dict
        Fields of ``Columns.identity``.

    Raises
    ------
    Unusable
        Where its points lie too far apart to be one object.
    """
    stem = source.name.split(".", 1)[0] if source.name[0].isdigit() else source.name.rsplit(".", 1)[0]
    return {
        "source": source.file.source,
        "hdu": item.hdu,
        "row": row,
        "object_id": name or str(table.meta.get("object", "")) or stem + (f"#{item.hdu}" if item.hdu else ""),
        **_place(table, layout, rows, name),
    }


def _place(table: Table, layout: Layout, rows: Any, name: str) -> dict[str, float | None]:
    """Median position; right ascensions are compared across 0 and 360 degrees."""
    angles = []
    for axis, column in (("ra", layout.ra), ("dec", layout.dec)):
        stated = [str(table.meta.get(axis, ""))]
        hours = axis == "ra"
        angles.append(table.degrees(column, rows, hours=hours) if column else cells.degrees(stated, hours=hours))
    ra, dec = np.broadcast_arrays(*angles)
    good = (ra >= -180) & (ra <= 360) & (np.abs(dec) <= 90)
    if not good.any():
        return {"ra": None, "dec": None}
    ra, dec = ra[good], dec[good]
    east = (ra - ra[0] + 180) % 360 - 180
    middle, height = float(np.median(east)), float(np.median(dec))
    apart = 3600 * np.hypot((east - middle) * np.cos(np.radians(height)), dec - height)
    limit = SPREAD_NAMED if name else SPREAD
    if apart.max() > limit:
        who = f"the points of object {name!r}" if name else "no column of identifiers is known, and the points"
        raise Unusable(
            f"{who} lie up to {apart.max():.4g} arcsec from their middle by columns {layout.ra!r} and {layout.dec!r}"
            f" ({limit:g} are allowed for one object); columns: {', '.join(table.names)[:300]}"
        )
    return {"ra": (float(ra[0]) + middle) % 360, "dec": height}


def of_rows(table: Table, rows: Any) -> Cells:
    """Cells of an object that has a row for each point.

    Parameters
    ----------
    table : Table
        Long table.
    rows : slice or ndarray of int
        Its rows.

    Returns
    -------
    Cells
        Read when asked for.
    """
    return Cells(table, lambda name: table.numbers(name, rows), lambda name: table.strings(name, rows))


def of_lists(table: Table, row: int) -> Cells:
    """Cells of an object whose points are lists in one row.

    Parameters
    ----------
    table : Table
        Table with list columns.
    row : int
        Its row.

    Returns
    -------
    Cells
        Read when asked for; null members are NaN or empty.
    """

    def numbers(name: str) -> np.ndarray:
        cell = table.cell(name, row)
        if any(isinstance(v, str) for v in cell):
            return cells.numbers(cell, name)
        return np.array([np.nan if v is None else v for v in cell], np.float64)

    def strings(name: str) -> np.ndarray:
        return np.array(["" if v is None else str(v) for v in table.cell(name, row)], str)

    return Cells(table, numbers, strings)
