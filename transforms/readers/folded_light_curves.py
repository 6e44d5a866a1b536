"""Light curves in JSON: phase-folded eclipsing binaries, and series of even cadence without times."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from transforms.attempt import Unreadable, Unusable
from transforms.readers.format import Entry, Format, Source
from transforms.readers.light_curve_record import Columns, make_light_curve
from transforms.records import Item, LightCurve

NAME = "light_curve_json"
CURVES = "interpolated_light_curves"


def _sniff(source: Source) -> bool:
    if not source.is_text:
        return False
    head = source.head.decode("utf-8", "replace").lstrip()
    return (head.startswith("{") and '"flux"' in head[:200]) or (head.startswith("{") and f'"{CURVES}"' in head)


def _records(source: Source) -> list[dict[str, Any]]:
    """One JSON object, or one a line."""
    try:
        return [json.loads(source.text)]
    except json.JSONDecodeError:
        pass
    out = []
    for number, line in enumerate(source.text.split("\n"), 1):
        if line.strip():
            try:
                out.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise Unreadable(f"line {number} of {source.file.source} is not JSON: {error}") from error
    return out


def _items(source: Source) -> list[Item]:
    return [Item(file=source.file, format=NAME, start=0, stop=len(_records(source)))]


def _entries(source: Source, item: Item) -> Iterator[Entry]:
    records = _records(source)
    for row in range(item.start, min(item.stop, len(records)) if item.stop >= 0 else len(records)):
        yield Entry(row, partial(_load, source, row, records[row]))


def _load(source: Source, row: int, content: dict[str, Any]) -> LightCurve:
    curves = content.get(CURVES)
    stem = source.name.rsplit(".", 1)[0]
    if curves is None:
        return _series(source, row, content)
    phase = np.asarray(curves.get("phase", []), np.float64)
    parts = {name: np.asarray(values, np.float64) for name, values in sorted(curves.items()) if name != "phase"}
    parts = {name: values for name, values in parts.items() if values.shape == phase.shape and values.size}
    if not parts:
        raise Unusable(f"{source.file.source} has no curve as long as its {phase.size} phases")
    return make_light_curve(
        Columns(
            time=np.tile(phase, len(parts)),
            value=np.concatenate(list(parts.values())),
            band=np.repeat([name.removeprefix("flux_").removeprefix("mag_") for name in parts], phase.size),
            magnitudes=False,
            unit="relative",
            phases=True,
            identity={
                "source": source.file.source,
                "row": row,
                "object_id": stem if row == 0 else f"{stem}:{row}",
                "ra": None,
                "dec": None,
            },
        )
    )


def _series(source: Source, row: int, content: dict[str, Any]) -> LightCurve:
    """``time`` and ``flux`` lists of one object."""
    time, flux = content.get("time") or [], content.get("flux") or []
    if not isinstance(time, list) or not isinstance(flux, list) or len(time) != len(flux) or not flux:
        raise Unusable(
            f"object {row} of {source.file.source} has {np.size(flux)} fluxes but {np.size(time)} times "
            f"(keys {', '.join(sorted(content))})"
        )
    values = [np.array([np.nan if v is None else v for v in part], np.float64) for part in (time, flux)]
    name = str(content.get("name") or f"{source.name}:{row}")
    return make_light_curve(
        Columns(
            time=values[0],
            value=values[1],
            band=np.full(len(flux), str(content.get("band") or "")),
            magnitudes=False,
            identity={"source": source.file.source, "row": row, "object_id": name, "ra": None, "dec": None},
        )
    )


FORMAT = Format(
    name=NAME,
    record=LightCurve,
    description="JSON: phase-folded light curves of eclipsing binaries, or time and flux of one object a line",
    sniff=_sniff,
    items=_items,
    entries=_entries,
)
