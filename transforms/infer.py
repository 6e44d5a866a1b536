"""One inference step for all tasks: items in, rows out.

An item is decoded, measured and prepared by a reader thread that runs ahead of the model, so the model never waits
for a file; records wait in a bounded queue until a batch is full. No record leaves the step: what comes out is small
rows and rejects.
"""

from __future__ import annotations

import math
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import apache_beam as beam
from apache_beam.utils import shared
from apache_beam.utils.windowed_value import WindowedValue
from threadpoolctl import threadpool_limits

from transforms.attempt import Tallies, attempt, attempt_batch, describe
from transforms.flags import bits
from transforms.ingest import REJECTS, open_item, publish
from transforms.measure import measure
from transforms.predictor import Loader, Predictor
from transforms.records import Identity, Item, Reject

AHEAD_ITEMS = 4  #: Items waiting for the reader thread.
AHEAD_RECORDS = 64  #: Prepared records waiting for the model: bounds the memory whatever an item holds.


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


def expand(
    item: Item,
    predictors: Sequence[Predictor],
    tallies: Tallies,
    reader_options: Mapping[str, Any],
    measure_options: Mapping[str, Any],
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

    Yields
    ------
    Ready or Reject
        Each object ends as one of them for each task, or as a reject of the step that refused it.
    """
    place = describe(item)
    for entry in attempt("open", open_item, tallies, item, reader_options, many=True, where=place):
        if isinstance(entry, Reject):
            yield entry
            continue
        here = {**place, "row": entry.row, "object_id": entry.object_id}
        for record in attempt("read", entry.load, tallies, where=here):
            if isinstance(record, Reject):
                yield record
                continue
            for measured in attempt("measure", measure, tallies, record, measure_options, many=True, where=here):
                if isinstance(measured, Reject):
                    yield measured
                    continue
                yield from _prepare(measured, predictors, tallies, place)


def _prepare(
    record: Identity, predictors: Sequence[Predictor], tallies: Tallies, place: dict[str, Any]
) -> Iterator[Ready | Reject]:
    where = {**place, **describe(record)}
    row = base_row(record)
    for index, predictor in enumerate(predictors):
        if type(record) is not predictor.record:
            continue
        for prepared in attempt("prepare", predictor.prepare, tallies, record, where=where):
            yield prepared if isinstance(prepared, Reject) else Ready(index, row, prepared, where)


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


class ReadAhead:
    """A reader thread between two bounded queues.

    Parameters
    ----------
    work : callable
        ``work(item) -> iterator``: run in the thread, one item after the other.
    items, results : int
        Lengths of the queues.
    """

    _END = object()

    def __init__(self, work: Callable[[Any], Iterator[Any]], items: int, results: int) -> None:
        self._work = work
        self._todo: queue.Queue[Any] = queue.Queue(items)
        self._done: queue.Queue[Any] = queue.Queue(results)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="nightcat-reader", daemon=True)
        self._thread.start()

    def _loop(self) -> None:
        while True:
            item = self._todo.get()
            if item is self._END:
                self._put((self._END, None))
                return
            try:
                for result in self._work(item):
                    if not self._put((result, None)):
                        return
            except BaseException as error:  # noqa: BLE001 - a fault of ours: it is raised again in the main thread
                self._put((None, error))
                return

    def _put(self, pair: tuple[Any, BaseException | None]) -> bool:
        while not self._stopped.is_set():
            try:
                self._done.put(pair, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def offer(self, item: Any) -> Iterator[Any]:
        """Hand in one item; yield whatever has to be taken out before there is room for it.

        Parameters
        ----------
        item : object
            Input of ``work``.

        Yields
        ------
        object
            Results, in order.
        """
        while True:
            try:
                self._todo.put_nowait(item)
                return
            except queue.Full:
                yield self._take()

    def finish(self) -> Iterator[Any]:
        """End the thread; yield all that is left.

        Yields
        ------
        object
            Results, in order.
        """
        yield from self.offer(self._END)
        while (result := self._take()) is not self._END:
            yield result
        self._thread.join()

    def stop(self) -> None:
        """Give up: the thread ends at its next result."""
        self._stopped.set()

    def _take(self) -> Any:
        result, error = self._done.get()
        if error is not None:
            raise error
        return result


class _Models(list):
    """A list that can be weakly referenced, as ``Shared`` needs."""


class InferFn(beam.DoFn):
    """``Item`` to rows; see the module. Refused objects go to the tag ``rejects``.

    Parameters
    ----------
    loaders : sequence of callable
        Each makes one Predictor; called once a process.
    reader_options, measure_options : mapping
        Options of the readers and of the classical steps.
    constants : mapping
        Columns with one value for the whole run (night, package version).
    progress : callable or None
        ``progress(rows=, rejects=, file=, size=)``: called as they are made; picklable.
    """

    def __init__(
        self,
        loaders: Sequence[Loader],
        reader_options: Mapping[str, Any],
        measure_options: Mapping[str, Any],
        constants: Mapping[str, Any],
        progress: Callable[..., None] | None = None,
    ) -> None:
        self.loaders = tuple(loaders)
        self.reader_options = dict(reader_options)
        self.measure_options = dict(measure_options)
        self.constants = dict(constants)
        self.progress = progress
        self._shared = shared.Shared()

    def setup(self) -> None:
        """Load the models, once a process."""
        # the reader thread and the model share the cores: BLAS threads of small solves would spin and slow both
        threadpool_limits(limits=1, user_api="blas")
        self._models = self._shared.acquire(lambda: _Models(load() for load in self.loaders))

    def start_bundle(self) -> None:
        """Begin with empty batches; the reader thread starts with the first item."""
        self._ahead: ReadAhead | None = None
        self._reading, self._answering = Tallies(), Tallies()
        self._batches: list[list[Ready]] = [[] for _ in self.loaders]

    def process(
        self, item: Item, timestamp: Any = beam.DoFn.TimestampParam, window: Any = beam.DoFn.WindowParam
    ) -> Iterator[Any]:
        """Hand one item to the reader thread; yield the rows that became ready meanwhile.

        Parameters
        ----------
        item : Item
            What to read.
        timestamp, window : object
            Of the element; its rows carry them.

        Yields
        ------
        WindowedValue or TaggedOutput
            Rows and rejects.
        """
        if self._ahead is None:
            self._ahead = ReadAhead(self._read, AHEAD_ITEMS, AHEAD_RECORDS)
        for result in self._ahead.offer((item, (timestamp, (window,)))):
            yield from self._receive(result)

    def finish_bundle(self) -> Iterator[Any]:
        """Drain the reader and the last, short batches.

        Yields
        ------
        WindowedValue or TaggedOutput
            Rows and rejects, each with the window of its own item.
        """
        if self._ahead is not None:
            for result in self._ahead.finish():
                yield from self._receive(result)
            self._ahead = None
        for index, batch in enumerate(self._batches):
            if batch:
                yield from self._answer(index)
        publish(self._reading)
        publish(self._answering)

    def _read(self, pair: tuple[Item, tuple[Any, ...]]) -> Iterator[Any]:
        item, context = pair
        if self.progress is not None:
            self.progress(file=item.file.source, size=item.file.size)
        for result in expand(item, self._models, self._reading, self.reader_options, self.measure_options):
            yield result, context

    def _receive(self, pair: tuple[Ready | Reject, tuple[Any, ...]]) -> Iterator[Any]:
        result, context = pair
        if isinstance(result, Reject):
            yield self._out(result, context)
            return
        batch = self._batches[result.index]
        batch.append(Ready(result.index, result.row, result.prepared, result.where, context))
        if len(batch) == self._models[result.index].batch_size:
            yield from self._answer(result.index)

    def _answer(self, index: int) -> Iterator[Any]:
        batch, self._batches[index] = self._batches[index], []
        for ready, row in zip(batch, answer(batch, self._models[index], self._answering), strict=True):
            yield self._out(row, ready.context)

    def _out(self, row: dict[str, Any] | Reject, context: tuple[Any, ...]) -> Any:
        timestamp, windows = context
        rejected = isinstance(row, Reject)
        if self.progress is not None:
            self.progress(rows=int(not rejected), rejects=int(rejected))
        if isinstance(row, Reject):
            return beam.pvalue.TaggedOutput(REJECTS, WindowedValue(row, timestamp, windows))
        return WindowedValue({**row, **self.constants}, timestamp, windows)


@dataclass
class Infer(beam.PTransform):
    """Items to rows and rejects; the only step that decodes pixels, after the last shuffle before it.

    Parameters
    ----------
    loaders : sequence of callable
        Each makes one Predictor.
    reader_options, measure_options, constants : mapping
        As in ``InferFn``.
    progress : callable or None
        As in ``InferFn``.
    """

    loaders: Sequence[Loader]
    reader_options: Mapping[str, Any] = field(default_factory=dict)
    measure_options: Mapping[str, Any] = field(default_factory=dict)
    constants: Mapping[str, Any] = field(default_factory=dict)
    progress: Callable[..., None] | None = None

    def expand(self, items: beam.PCollection) -> Any:
        """Attach the step.

        Parameters
        ----------
        items : PCollection of Item
            References.

        Returns
        -------
        DoOutputsTuple
            ``rows`` (main) and ``rejects``.
        """
        step = InferFn(self.loaders, self.reader_options, self.measure_options, self.constants, self.progress)
        spread = items | "SpreadItems" >> beam.Reshuffle()
        return spread | "Predict" >> beam.ParDo(step).with_outputs(REJECTS, main="rows")
