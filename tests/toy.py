"""A toy file format and a toy model, so that the plumbing is tested in milliseconds. A file holds one number a line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from transforms.attempt import Unreadable
from transforms.columns import FLOAT32, Column
from transforms.readers import Entry, Format, Source
from transforms.records import Identity, Item, LightCurve

MODULE = "tests.toy"
COLUMNS = (Column("toy_value", FLOAT32, "", "stat.value", "The number on the line"),)
ANSWER = (Column("toy_answer", FLOAT32, "", "stat.value", "Twice the number on the line"),)


def _items(source: Source) -> list[Item]:
    lines = source.text.splitlines()[1:]
    return [Item(file=source.file, format="toy", start=i, stop=min(i + 3, len(lines))) for i in range(0, len(lines), 3)]


def _entries(source: Source, item: Item) -> Iterator[Entry]:
    for row, line in enumerate(source.text.splitlines()[1:][item.start : item.stop], item.start):
        yield Entry(row, partial(_load, source.file.source, row, line))


def _load(source: str, row: int, line: str) -> LightCurve:
    try:
        value = float(line)
    except ValueError as error:
        raise Unreadable(f"line {row} is not a number: {line!r}") from error
    one = np.array([value])
    return LightCurve(
        source=source,
        row=row,
        object_id=f"{source}:{row}",
        ra=(value * 7) % 360,
        dec=(value * 3) % 90,
        mjd=60000.0,
        time=one,
        flux=one,
        flux_err=one,
        band=np.array(["g"]),
        quality=np.array([False]),
    )


FORMATS = (
    Format(
        name="toy",
        record=LightCurve,
        description="One number a line",
        sniff=lambda source: source.head.startswith(b"TOY"),
        items=_items,
        entries=_entries,
    ),
)


def measure_light_curve(record: LightCurve, options: Mapping[str, Any]) -> Identity:
    value = float(record.flux[0])
    if value == 13:
        raise ValueError("13 cannot be measured")
    return replace(record, measured={"toy_value": value})


class ToyPredictor:
    """Doubles the number; fails on 66 and is unable to prepare 99."""

    task = "toy"
    record = LightCurve
    batch_size = 4
    digest = "0123456789abcdef"
    columns = ANSWER

    def __init__(self) -> None:
        self.shapes: list[tuple[int, int]] = []

    def prepare(self, record: LightCurve) -> dict[str, np.ndarray]:
        if record.flux[0] == 99:
            raise ValueError("99 cannot be prepared")
        return {"x": record.flux.astype(np.float32)}

    def predict(self, batch: Sequence[Mapping[str, np.ndarray]], size: int | None = None) -> list[dict[str, Any]]:
        self.shapes.append((len(batch), size or self.batch_size))
        values = [float(p["x"][0]) for p in batch]
        if 66 in values:
            raise RuntimeError("66 is poison")
        return [{"toy_answer": 2 * value, "flags": 0} for value in values]

    def used(self) -> dict[str, int]:
        return {}


KEPT: dict[str, list[Any]] = {}


def keep(value: Any, name: str) -> None:
    """Collect what a pipeline in this process makes; a bound method would be pickled with its own copy of the list."""
    KEPT.setdefault(name, []).append(value)
