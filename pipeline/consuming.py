"""An alert stream into the catalog: small runs, each committed with the offsets that it holds.

A message is delivered at least once and its row is there exactly once: the catalog's own ledger says which offsets are
done (``pipeline.spool``), the group's offsets follow it. Nothing is taken from the broker while a run goes on but a
small store ahead, so a stream that is faster than we are waits at the broker.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event

import numpy as np

from pipeline.arrivals import night_of
from pipeline.broker import Broker, BrokerAway, StreamError
from pipeline.closing import close_night, is_past
from pipeline.ledger import Ledger
from pipeline.models import Model
from pipeline.nights import NightResult, run_night
from pipeline.options import RunConfig
from pipeline.schemas import RegistryError, Schemas
from pipeline.spool import GONE, Batch, Coverage, Partition, Range, Spool
from pipeline.watching import PATIENCE
from pipeline.workers import EngineError, Workers, forks
from transforms.readers.alert_messages import Message
from transforms.records import Reject
from transforms.store import OutputError, Store

KEEP = ("all", "rejects", "none")
LOCK = ".alerts.lock"
LOOSE = 32  #: Runs of a night that are merged into one while it goes on: each run reads what those before it did.


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamOptions:
    """How a stream is taken.

    Parameters
    ----------
    batch : int
        Messages of one run at most.
    interval : float
        Seconds from the first message of a run to its start.
    close : float or None
        Hour, UTC, of the day after its evening at which a night is closed; None: when the stream ends.
    noon : float
        Hour, UTC, at which the next night begins.
    idle_exit : float or None
        Seconds without a message after which it ends; None: never.
    keep : str
        Which files of messages stay: ``"all"``, those with ``"rejects"``, or ``"none"``.
    retry : float
        Seconds before what has failed is tried again; longer and longer then.
    """

    batch: int = 2000
    interval: float = 10.0
    close: float | None = None
    noon: float = 12.0
    idle_exit: float | None = None
    keep: str = "rejects"
    retry: float = 2.0


@dataclass(slots=True)
class Stream:
    """A stream on its way into a catalog.

    Parameters
    ----------
    config : RunConfig
        Of the runs.
    options : StreamOptions
        Of the stream.
    broker : Broker
        Not connected yet; its ``next`` is ``Stream.next``.
    schemas : Schemas
        For messages that name theirs by number.
    spool : Spool
        Where messages lie.
    models : callable
        ``models() -> sequence of Model``: asked again at the first message of each night.
    tell : callable
        ``tell(event, **values)``: ``connected``, ``batch``, ``closed`` or ``trouble``.
    """

    config: RunConfig
    options: StreamOptions
    broker: Broker
    schemas: Schemas
    spool: Spool
    models: Callable[[], Sequence[Model]]
    tell: Callable[..., None]
    _coverage: Coverage = field(init=False)
    _night: str = ""
    _models: Sequence[Model] = ()
    _open: dict[str, int] = field(default_factory=dict)
    _workers: Workers = field(default_factory=Workers)

    def next(self, partition: Partition) -> int | None:
        """Where the catalog wants to go on.

        Parameters
        ----------
        partition : Partition
            Which.

        Returns
        -------
        int or None
            None where it holds nothing of it.
        """
        return self._coverage.next(partition)

    def run(self, stop: Event) -> None:
        """Take messages until told to stop, or idle for long enough.

        Parameters
        ----------
        stop : Event
            Ends it after the run that is under way.

        Raises
        ------
        StreamError, CatalogError, SumsError, ModelError
            What waiting does not mend.
        """
        with Store(self.config.output).held(LOCK, f"{self.config.output!r} from a stream"), self._workers:
            self.broker.connect()
            try:
                self._recover()
                self.broker.join()
                self.tell("connected", cluster=self.broker.cluster, topics=list(self.broker.topics))
                self._take(stop)
            finally:
                self.broker.close()

    def _recover(self) -> None:
        """Learn from the catalog what is done, and remove files of messages that a reader which was killed has left."""
        self._coverage = Coverage(self.broker.cluster)
        ledger = Ledger(self.config.output)
        kept, ours, runs = set(), set(), ledger.runs()
        for run, entry in ledger.inputs(runs):
            self._coverage.add(run.night, entry["source"])
            if Range.of(entry["source"]) is None:
                continue
            ours.add(run.night)
            if self.options.keep == "all" or (self.options.keep == "rejects" and entry["rejects"]):
                kept.add((run.night, entry["source"]))
        self.spool.clear(self.broker.cluster, kept)
        several = Counter(run.night for run in runs)
        self._open = {night: several[night] for night in ours if several[night] > 1}  # not closed when it was stopped

    def _take(self, stop: Event) -> None:
        last = time.monotonic()
        while not stop.is_set():
            with self._patient(stop):
                messages = self.broker.take(self.options.batch, self.options.interval, stop)
                if messages or self.broker.gone:
                    self._commit(messages, stop)
                    last = time.monotonic()
                elif not self.broker.joined:  # the group still waits for a reader that was killed
                    last = time.monotonic()
                else:
                    self._close(lambda night: is_past(night, self.options.close, time.time()))
            if self.options.idle_exit is not None and time.monotonic() - last >= self.options.idle_exit:
                break
        if self.options.close is None and not stop.is_set():
            self._close(lambda _: True)

    @contextmanager
    def _patient(self, stop: Event) -> Iterator[None]:
        """Where the broker is away, come back to it."""
        try:
            yield
        except BrokerAway as error:
            self.tell("trouble", reason=str(error), failures=1)
            self.broker.close()
            self._again(self.broker.connect, stop)
            if not stop.is_set():
                self.broker.join()

    def _again(self, work: Callable[[], object], stop: Event) -> bool:
        """Do what may fail until it does not, or we are told to stop; True where it was done."""
        failures = 0
        while not stop.is_set():
            try:
                work()
                return True
            except (EngineError, OutputError, RegistryError, BrokerAway) as error:
                failures += 1
                self.tell("trouble", reason=str(error), failures=failures)
                stop.wait(self.options.retry * PATIENCE[min(failures, len(PATIENCE)) - 1])
        return False

    def _commit(self, messages: Sequence[Message], stop: Event) -> None:
        fresh = [(night, m) for m in messages if not self._coverage.holds(night := self._night_of(m.time), m)]
        found: dict[int, str] = {}
        batches: list[Batch] = []

        def know() -> None:
            found.update(self._schemas(messages))

        def put() -> None:
            batches[:] = self.spool.put(self.broker.cluster, fresh, found, self._gone(messages))

        if not self._again(know, stop) or not self._again(put, stop):
            return
        for batch in batches:
            results: list[NightResult] = []
            if not self._again(lambda batch=batch, results=results: results.append(self._run(batch)), stop):  # type: ignore[misc]
                return
            self._done(batch, results[0])
        self.broker.gone.clear()
        offsets: dict[Partition, int] = {}
        for message in messages:
            offsets[Partition(message.topic, message.partition)] = message.offset + 1
        self.broker.commit(offsets)

    def _night_of(self, time_: float) -> str:
        return self.config.night or night_of(time_ / 1e3, self.options.noon)

    def _schemas(self, messages: Sequence[Message]) -> dict[int, str]:
        numbers = {number for m in messages if (number := m.schema_id) is not None}
        if messages and not self.schemas.place and all(m.schema_id is not None for m in messages):
            raise StreamError(
                f"the messages of {messages[0].topic} name their schema by number ({min(numbers)}): "
                "say where the schemas are with --schemas"
            )
        return self.schemas.find(numbers)

    def _gone(self, messages: Sequence[Message]) -> list[tuple[str, Reject]]:
        rejects = []
        for partition, (first, after) in sorted(self.broker.gone.items()):
            own = (m.time for m in messages if (m.topic, m.partition) == partition)
            name = Range(self.broker.cluster, partition, first, after - 1).name.removesuffix(".avro")
            reason = (
                f"{partition.topic} partition {partition.number}: the broker no longer has the messages of the offsets "
                f"{first} to {after - 1}, which were not read before it let go of them"
            )
            reject = Reject(source=name, url=f"kafka:{name}", stage="ingest", error=GONE, reason=reason)
            rejects.append((self._night_of(next(own, 1e3 * time.time())), reject))
        return rejects

    def _run(self, batch: Batch) -> NightResult:
        if batch.night != self._night:
            self._models, self._night = self.models(), batch.night
        if not forks(self.config, batch.inputs.files):
            return run_night(self.config, self._models, batch.night, batch.inputs)
        self._workers.start()
        for model in self._models:
            self._workers.preload(model.path, **self.config.predictor_options(model.device))
        return run_night(self.config, self._models, batch.night, batch.inputs, None, self._workers)

    def _done(self, batch: Batch, result: NightResult) -> None:
        now = 1e3 * time.time()
        for file in batch.inputs.files:
            self._coverage.add(batch.night, file.source)
        ages = np.array([now - message.time for message in batch.messages]) / 1e3
        p50, p99 = np.percentile(ages, (50, 99)).round(3).tolist() if len(ages) else (0.0, 0.0)
        self.tell(
            "batch", night=batch.night, run_id=result.run_id, messages=len(batch.messages), rows=result.rows,
            rejects=result.rejects, seconds=round(result.seconds, 3), age_p50=p50, age_p99=p99,
            behind=self.broker.behind(),
        )  # fmt: skip
        self._let_go(batch, result)
        self._open[batch.night] = self._open.get(batch.night, 0) + 1
        if self._open[batch.night] % LOOSE == 0:
            self._merge(batch.night)

    def _let_go(self, batch: Batch, result: NightResult) -> None:
        names = {file.source for file in batch.inputs.files}
        if self.options.keep == "all":
            return
        if self.options.keep == "rejects":
            names -= {row["source"] for row in Ledger(self.config.output).rejects_of(result.run_id)}
        self.spool.drop(batch, names)

    def _merge(self, night: str) -> None:
        from pipeline.compact import compact
        from pipeline.hats import CatalogError

        try:
            compact(self.config.output, night, loose=True)
        except CatalogError as error:  # several models: the runs stay as they are
            self.tell("trouble", reason=str(error), failures=0)

    def _close(self, over: Callable[[str], bool]) -> None:
        for night in sorted(self._open):
            if over(night):
                close_night(self.config.output, night, self.tell)
                del self._open[night]
