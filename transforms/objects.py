"""Items to prepared objects, and a batch of them to rows: what the inference step does, as plain functions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from transforms.attempt import Tallies, attempt, attempt_batch, describe
from transforms.flags import bits
from transforms.measure import measure
from transforms.predictor import Predictor
from transforms.readers import formats
from transforms.readers.format import Entry, Source
from transforms.records import Identity, Item, Reject


@dataclass(frozen=True, slots=True, eq=False)
class Ready:
    """A prepared record and the part of its row that is known before the model runs.

    Parameters
    ----------
    index : int
        Which predictor it is for.
    row : dict
        Identity, classical measurements and provenance.
    prepared : mapping of str to ndarray
        Input of the predictor.
    where : dict
        Location fields of a ``Reject``.
    context : tuple
        Timestamp, windows and pane of the item it came from.
    """

    index: int
    row: dict[str, Any]
    prepared: Mapping[str, Any]
    where: dict[str, Any]
    context: tuple[Any, ...] = ()


def base_row(record: Identity) -> dict[str, Any]:
    """The part of a row that comes from the record: identity, classical measurements, provenance.

    Parameters
    ----------
    record : Identity
        A measured record.

    Returns
    -------
    dict
        By column name; a number that is not finite has become None, with the flag MEASURE_FAILED.
    """
    row: dict[str, Any] = {name: getattr(record, name) for name in ("object_id", "ra", "dec", "mjd", "time_scale")}
    flags = record.flags
    for name, value in record.measured.items():
        if isinstance(value, float) and not math.isfinite(value):
            flags, value = flags | bits("MEASURE_FAILED"), None
        row[name] = value.item() if hasattr(value, "item") else value
    for name, flag in (("ra", "NO_POSITION"), ("dec", "NO_POSITION"), ("mjd", "NO_TIME")):
        value = row[name]
        if value is None or not math.isfinite(value):
            row[name], flags = None, flags | bits(flag)
    if row["ra"] is None or row["dec"] is None:
        row["ra"] = row["dec"] = None
    row.update(source=record.source, hdu=record.hdu, row=int(record.row), flags=int(flags))
    return row


def open_item(item: Item, options: Mapping[str, Any]) -> Iterator[Any]:
    """Open the file of an item and yield its objects, not decoded yet; the file closes after the last one.

    Parameters
    ----------
    item : Item
        Reference made by ``ingest``.
    options : mapping
        Options of the readers.

    Yields
    ------
    Entry
        One for each object.
    """
    with Source(item.file, options) as source:
        yield from formats()[item.format].entries(source, item)


def expand(
    item: Item,
    predictors: Sequence[Predictor],
    tallies: Tallies,
    reader_options: Mapping[str, Any],
    measure_options: Mapping[str, Any],
    entries: Iterable[Entry] | None = None,
) -> Iterator[Ready | Reject]:
    """Decode, measure and prepare all objects of one item.

    Parameters
    ----------
    item : Item
        What to read.
    predictors : sequence of Predictor
        All tasks of the run; each record goes to those that take its class.
    tallies : Tallies
        Counts, updated in place.
    reader_options, measure_options : mapping
        Options of the readers and of the classical steps.
    entries : iterable of Entry or None
        The objects, where they are at hand and no file has to be opened.

    Yields
    ------
    Ready or Reject
        Each object ends as one of them for each task, or as a reject of the step that refused it.
    """
    place = describe(item)
    opened = partial(open_item, item, reader_options) if entries is None else partial(iter, entries)
    for found in measured_records(opened, item, tallies, measure_options):
        if isinstance(found, Reject):
            yield found
        else:
            yield from _prepare(found, predictors, tallies, place)


def measured_records(
    open_entries: Callable[[], Iterable[Any]], item: Item, tallies: Tallies, options: Mapping[str, Any]
) -> Iterator[Any]:
    """Decode and measure all objects of one item.

    Parameters
    ----------
    open_entries : callable
        ``open_entries() -> iterable of Entry``: the objects of the item, not decoded yet.
    item : Item
        What they come from.
    tallies : Tallies
        Counts, updated in place.
    options : mapping
        Of the classical steps.

    Yields
    ------
    Identity or Reject
        Measured records, and what a step refused.
    """
    place = describe(item)
    for entry in attempt("open", open_entries, tallies, many=True, where=place):
        if isinstance(entry, Reject):
            yield entry
            continue
        here = {**place, "row": entry.row, "object_id": entry.object_id}
        for record in attempt("read", entry.load, tallies, where=here):
            if isinstance(record, Reject):
                yield record
                continue
            yield from attempt("measure", measure, tallies, record, options, many=True, where=here)


def _prepare(
    record: Identity, predictors: Sequence[Predictor], tallies: Tallies, place: dict[str, Any]
) -> Iterator[Ready | Reject]:
    where = {**place, **describe(record)}
    row = base_row(record)
    for index, predictor in enumerate(predictors):
        if type(record) is not predictor.record:
            continue
        here = {**where, "task": predictor.task}
        for prepared in attempt("prepare", predictor.prepare, tallies, record, where=here):
            yield prepared if isinstance(prepared, Reject) else Ready(index, row, prepared, here)


def answer(batch: Sequence[Ready], predictor: Predictor, tallies: Tallies) -> list[dict[str, Any] | Reject]:
    """Run the model on one batch and complete the rows.

    Parameters
    ----------
    batch : sequence of Ready
        Up to ``predictor.batch_size``, all for this predictor.
    predictor : Predictor
        The model.
    tallies : Tallies
        Counts, updated in place.

    Returns
    -------
    list of dict or Reject
        One for each, in order.
    """
    outputs = attempt_batch(
        "infer",
        predictor.predict,
        tallies,
        [ready.prepared for ready in batch],
        predictor.batch_size,
        lambda index: batch[index].where,
    )
    rows: list[dict[str, Any] | Reject] = []
    for ready, output in zip(batch, outputs, strict=True):
        if isinstance(output, Reject):
            rows.append(output)
            continue
        flags = ready.row["flags"] | int(output.get("flags") or 0)
        rows.append(
            {**ready.row, **output, "flags": flags, "task": predictor.task, "model_digest": predictor.digest[:16]}
        )
    return rows
