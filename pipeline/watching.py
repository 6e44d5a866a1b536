"""Watch folders: what has arrived and is finished goes into the catalog in small runs, until the night is closed.

Nothing is kept beside the catalog: its ledger says what was done, so a watch that was killed goes on where it was. A
night that is closed becomes one run (``pipeline.compact``), with the bytes of a night that came at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import Event

from pipeline.arrivals import Arrivals, Arrived, known_digests, nights_of, signature
from pipeline.closing import close_night, is_past
from pipeline.models import Model
from pipeline.nights import NightResult, run_night
from pipeline.options import RunConfig
from pipeline.sources import InputError, Inputs, find_files, fingerprint
from pipeline.workers import EngineError, Workers, forks
from transforms.records import Reject
from transforms.store import OutputError

PATIENCE = (1, 2, 4, 8, 16, 32)  #: Times the interval that is waited after failures in a row.


@dataclass(frozen=True, kw_only=True, slots=True)
class WatchOptions:
    """How a watch goes.

    Parameters
    ----------
    poll : float
        Seconds between two listings.
    settle : float
        Seconds for which a file must not have changed.
    marked : bool
        Only files with a ``.done`` beside them count.
    marker : str
        Name of the file in a night's folder that closes the night.
    close : float or None
        Hour, UTC, of the day after its evening at which a night is closed; None: by its marker alone.
    noon : float
        Hour, UTC, at which the next night begins, for files that lie in no folder named by a date.
    idle_exit : float or None
        Seconds without anything new after which the watch ends, once all is closed that can be; None: never.
    """

    poll: float = 10.0
    settle: float = 5.0
    marked: bool = False
    marker: str = "night.done"
    close: float | None = None
    noon: float = 12.0
    idle_exit: float | None = None


@dataclass(slots=True)
class Watcher:
    """The state of a watch: what it has seen; all of it can be lost.

    Parameters
    ----------
    config : RunConfig
        Of the runs.
    options : WatchOptions
        Of the watch.
    models : callable
        ``models() -> sequence of Model``: asked again at the first file of each night, so that a night is of one model.
    tell : callable
        ``tell(event, **values)``: ``batch``, ``closed`` or ``trouble``.
    clock : callable
        Unix time, in s.
    """

    config: RunConfig
    options: WatchOptions
    models: Callable[[], Sequence[Model]]
    tell: Callable[..., None]
    clock: Callable[[], float] = time.time
    _arrivals: Arrivals = field(init=False)
    _signatures: dict[str, int] = field(default_factory=dict)
    _closed: dict[str, int] = field(default_factory=dict)
    _digests: dict[str, dict[str, tuple[int, float, str]]] = field(default_factory=dict)
    _night: str = ""
    _models: Sequence[Model] = ()

    def __post_init__(self) -> None:
        self._arrivals = Arrivals(self.options.settle, self.options.marked, self.clock)

    def run(self, stop: Event) -> None:
        """Watch until told to stop, or idle for long enough.

        Parameters
        ----------
        stop : Event
            Ends the watch after the run that is under way.

        Raises
        ------
        CatalogError, SumsError, ModelError
            What waiting does not mend.
        """
        failures, last = 0, self.clock()
        while not stop.is_set():
            try:
                busy = self.look(stop)
                failures = 0
            except (InputError, EngineError, OutputError) as error:  # a disk that is full or away, a worker that died
                busy, failures = True, failures + 1
                self.tell("trouble", reason=str(error), failures=failures)
            last = self.clock() if busy else last
            if self.options.idle_exit is not None and self.clock() - last >= self.options.idle_exit:
                return
            stop.wait(self.options.poll * (PATIENCE[min(failures, len(PATIENCE)) - 1] if failures else 1))

    def look(self, stop: Event) -> bool:
        """List once, and run what is new.

        Parameters
        ----------
        stop : Event
            Looked at between nights.

        Returns
        -------
        bool
            Whether there was anything to do, or something is still being written.
        """
        listing = find_files(self.config.inputs)
        markers = {f.url for f in listing.files if f.url.rpartition("/")[2] == self.options.marker}
        files = Inputs(tuple(f for f in listing.files if f.url not in markers), listing.rejects)
        arrived, waiting = self._arrivals.finished(files)
        now = self.clock()
        nights = nights_of(arrived, files.rejects, self.config.night, now, self.options.noon)
        open_ = nights_of(waiting, (), self.config.night, now, self.options.noon)
        busy = bool(open_)
        for night, (mine, rejects) in nights.items():
            state = signature(mine, rejects)
            if self._signatures.get(night) != state:
                self._take(night, mine, rejects)
                self._signatures[night], busy = state, True
            if night not in open_ and self._closed.get(night) != state and self._is_over(night, markers, now):
                self._close(night)
                self._closed[night], busy = state, True
            if stop.is_set():
                break
        return busy

    def _take(self, night: str, arrived: Sequence[Arrived], rejects: Sequence[Reject]) -> None:
        known = self._digests.setdefault(night, {})
        inputs = fingerprint(Inputs(tuple(known_digests(arrived, known)), tuple(rejects)))
        at = {one.file.url: (one.file.size, one.modified) for one in arrived}
        told = [(file.url, file.digest) for file in inputs.files]
        told += [(copy.url, copy.digest) for copy in inputs.rejects if copy.digest]
        known |= {url: (*at[url], digest) for url, digest in told if url in at}
        result = self._run(night, inputs)
        if result.run_id:
            self.tell(
                "batch", night=night, run_id=result.run_id, files=result.files, rows=result.rows,
                rejects=result.rejects, seconds=round(result.seconds, 3),
            )  # fmt: skip

    def _run(self, night: str, inputs: Inputs) -> NightResult:
        if night != self._night:
            self._models, self._night = self.models(), night
        if not forks(self.config, inputs.files):
            return run_night(self.config, self._models, night, inputs)
        with Workers() as source:  # a burst: other processes pay, and are not kept
            source.start()
            for model in self._models:
                source.preload(model.path, **self.config.predictor_options(model.device))
            return run_night(self.config, self._models, night, inputs, None, source)

    def _is_over(self, night: str, markers: set[str], now: float) -> bool:
        marked = any(self.config.night is not None or marker.split("/")[-2] == night for marker in markers)
        return marked or is_past(night, self.options.close, now)

    def _close(self, night: str) -> None:
        close_night(self.config.output, night, self.tell)
        self._digests.pop(night, None)  # a closed night costs no memory; a late file costs its digests again
