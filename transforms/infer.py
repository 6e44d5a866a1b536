"""One inference step for all tasks: items in, rows out.

An item is decoded, measured and prepared by a reader thread that runs ahead of the model, so the model never waits
for a file; records wait in a bounded queue until a batch is full. No record leaves the step: what comes out is small
rows and rejects.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import apache_beam as beam
from apache_beam.utils import shared
from apache_beam.utils.windowed_value import WindowedValue
from threadpoolctl import threadpool_limits

from transforms.attempt import Tallies
from transforms.ingest import COUNTS, REJECTS, count, publish
from transforms.objects import Ready, answer, expand
from transforms.predictor import Loader
from transforms.read_ahead import ReadAhead
from transforms.records import Item, Reject

DEVICE = "device"  #: Before the names of the counters that tell how well the device was used.
AHEAD_ITEMS = 4  #: Items waiting for the reader thread.
AHEAD_RECORDS = 64  #: Prepared records waiting for the model: bounds the memory whatever an item holds.


class _Models(list):
    """A list that can be weakly referenced, as ``Shared`` needs."""


class InferFn(beam.DoFn):
    """``Item`` to rows; see the module. Refused objects go to the tag ``rejects``, what was counted to ``counts``.

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
        self._context: tuple[Any, ...] = ()
        self._reading, self._answering = Tallies(), Tallies()
        self._device: Counter[str] = Counter()
        self._began = time.perf_counter()
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
        yield from self._take(item, (timestamp, (window,)))

    def _take(self, item: Any, context: tuple[Any, ...]) -> Iterator[Any]:
        if self._ahead is None:
            self._ahead = ReadAhead(self._read, AHEAD_ITEMS, AHEAD_RECORDS)
        self._context = context
        for result in self._ahead.offer((item, context)):
            yield from self._receive(result)

    def finish_bundle(self) -> Iterator[Any]:
        """Drain the reader and the last, short batches.

        Yields
        ------
        WindowedValue or TaggedOutput
            Rows and rejects, each with the window of its own item; counts in that of the last one.
        """
        if self._ahead is not None:
            for result in self._ahead.finish():
                yield from self._receive(result)
            self._ahead = None
        for index, batch in enumerate(self._batches):
            if batch:
                yield from self._answer(index)
        for pair in (*publish(self._reading), *publish(self._answering), *count(self._used())):
            yield beam.pvalue.TaggedOutput(COUNTS, WindowedValue(pair, *self._context[:2]))

    def _used(self) -> dict[str, int]:
        """How well the device was used: what its models counted, the time that it was there, and how much waited."""
        for model in self._models:
            self._device.update(model.used())
        if not self._device["batches"] + self._device["halved"]:  # models that do not count
            return {}
        self._device["wall_us"] = round(1e6 * (time.perf_counter() - self._began))
        return {f"{DEVICE}.{name}": number for name, number in sorted(self._device.items())}

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
        self._device["calls"] += 1
        self._device["queued"] += self._ahead.waiting() if self._ahead is not None else 0
        for ready, row in zip(batch, answer(batch, self._models[index], self._answering), strict=True):
            yield self._out(row, ready.context)

    def _out(self, row: dict[str, Any] | Reject, context: tuple[Any, ...]) -> Any:
        rejected = isinstance(row, Reject)
        if self.progress is not None:
            self.progress(rows=int(not rejected), rejects=int(rejected))
        return self._placed(row if isinstance(row, Reject) else {**row, **self.constants}, rejected, context)

    @staticmethod
    def _placed(output: Any, rejected: bool, context: tuple[Any, ...]) -> Any:
        timestamp, windows = context[:2]
        value = WindowedValue(output, timestamp, windows)
        return beam.pvalue.TaggedOutput(REJECTS, value) if rejected else value


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
    hints : mapping of str to str
        Beam's resource hints of the step that runs the models, and of nothing else.
    """

    loaders: Sequence[Loader]
    reader_options: Mapping[str, Any] = field(default_factory=dict)
    measure_options: Mapping[str, Any] = field(default_factory=dict)
    constants: Mapping[str, Any] = field(default_factory=dict)
    progress: Callable[..., None] | None = None
    hints: Mapping[str, str] = field(default_factory=dict)

    def expand(self, items: beam.PCollection) -> Any:
        """Attach the step.

        Parameters
        ----------
        items : PCollection of Item
            References.

        Returns
        -------
        DoOutputsTuple
            ``rows`` (main), ``rejects`` and ``counts``.
        """
        step = InferFn(self.loaders, self.reader_options, self.measure_options, self.constants, self.progress)
        spread = items | "SpreadItems" >> beam.Reshuffle()
        predict: Any = beam.ParDo(step)
        if self.hints:  # another environment, to which some engines give processes of its own
            predict = predict.with_resource_hints(**self.hints)
        return spread | "Predict" >> predict.with_outputs(REJECTS, COUNTS, main="rows")
