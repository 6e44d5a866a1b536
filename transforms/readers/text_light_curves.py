"""Light curves without column names: OGLE (JD, magnitude, error) and MACHO (header lines, MJD, magnitude, error)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from transforms.attempt import Unreadable
from transforms.readers.format import Entry, Format, Source
from transforms.readers.light_curve_columns import known
from transforms.readers.light_curve_record import Columns, make_light_curve
from transforms.readers.light_curve_tables import head_names
from transforms.records import Item, LightCurve

NAME = "light_curve_text"
FEWEST_LINES = 3
_MACHO = "#field tile seq ra(hour) dec(deg) filter"


def _numbers(line: str) -> list[float] | None:
    try:
        values = [float(part) for part in line.replace(",", " ").split()]
    except ValueError:
        return None
    return values if 2 <= len(values) <= 12 else None


def _is_day(value: float) -> bool:
    return 2.4e6 < value < 2.5e6 or 4.0e4 < value < 7.0e4


def _sniff(source: Source) -> bool:
    if not source.is_text or source.is_fits:
        return False
    lines = source.head.decode("latin-1").splitlines()
    if lines and lines[0].lower().startswith(_MACHO):
        return True
    rows = [_numbers(line) for line in lines[:-1][:40] if line.strip() and not line.lstrip().startswith("#")]
    if len(rows) < FEWEST_LINES or any(row is None for row in rows) or known(head_names(source)) is not None:
        return False
    days = [row[0] for row in rows if row]
    return all(map(_is_day, days)) and all(row is not None and abs(row[1]) < 100 for row in rows)


def _items(source: Source) -> list[Item]:
    return [Item(file=source.file, format=NAME)]


def _entries(source: Source, item: Item) -> Iterator[Entry]:
    yield Entry(0, partial(_load, source))


def _load(source: Source) -> LightCurve:
    lines = source.text.split("\n")
    rows: list[list[float]] = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        values = _numbers(line)
        if values is None or (rows and len(values) != len(rows[0])):
            raise Unreadable(f"line {number} of {source.file.source} is not like those before it: {line[:60]!r}")
        rows.append(values)
    if not rows:
        raise Unreadable(f"{source.file.source} has a header but no measurements")
    table = np.array(rows)
    macho = _macho(lines)
    middle = float(np.median(table[:, 0]))
    return make_light_curve(
        Columns(
            time=table[:, 0],
            value=table[:, 1],
            error=table[:, 2] if table.shape[1] > 2 else None,
            band=np.full(len(rows), macho.get("band", "")),
            magnitudes=True,
            unit="relative",  # instrumental magnitudes, or of a filter that the file does not name
            system="hjd" if middle > 2.4e6 else "mjd",
            identity={
                "source": source.file.source,
                "row": 0,
                "object_id": source.name.rsplit(".", 1)[0],
                "ra": macho.get("ra"),
                "dec": macho.get("dec"),
            },
        )
    )


def _macho(lines: list[str]) -> dict[str, float | str]:
    """Position and band from the second line of a MACHO file; right ascension is in hours."""
    if len(lines) < 2 or not lines[0].lower().startswith(_MACHO):
        return {}
    parts = lines[1].lstrip("#").split()
    try:
        ra, dec = 15 * float(parts[3]), float(parts[4])
    except (ValueError, IndexError) as error:
        raise Unreadable(f"the second line is not a MACHO header: {lines[1][:60]!r}") from error
    return {"ra": ra, "dec": dec, "band": parts[5] if len(parts) > 5 else ""}


FORMAT = Format(
    name=NAME,
    record=LightCurve,
    description="Numbers without column names: OGLE .dat (HJD, magnitude, error) and MACHO .mjd",
    sniff=_sniff,
    items=_items,
    entries=_entries,
)
