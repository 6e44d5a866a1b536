"""Where the time of a process goes: each thread's seconds, split without rest among the stages that it is in.

A thread is in one stage at a time, the innermost that was entered. Entering and leaving charge the time since the last
change to the stage that ends there, so nested stages are not counted twice and a thread's stages sum to its time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

try:
    from resource import RUSAGE_THREAD, getrusage
except ImportError:  # systems that count for whole processes only
    RUSAGE_THREAD = None  # type: ignore[misc,assignment]

OTHER = "other"  #: Stage of a thread that is in no other.
_BLOCK = 512  #: Bytes of what ``getrusage`` calls a block.
Clock = Callable[[], tuple[float, float, int]]


def thread_clock() -> tuple[float, float, int]:
    """Read the clocks of the calling thread.

    Returns
    -------
    wall, cpu, disk : float, float, int
        Seconds of the day, seconds that the thread computed, bytes that it had to wait for from a disk (0 where the
        system does not tell).
    """
    disk = getrusage(RUSAGE_THREAD).ru_inblock * _BLOCK if RUSAGE_THREAD is not None else 0
    return time.perf_counter(), time.thread_time(), disk


@dataclass(slots=True)
class Spent:
    """What one thread spent in one stage, without the stages within.

    Parameters
    ----------
    wall, cpu : float
        Seconds.
    disk : int
        Bytes from a disk.
    calls : int
        How often it was entered, or what was counted in it.
    peak : int
        Most memory of the process that the sampler saw while the thread was in the stage, bytes.
    added : float
        How much the process's memory changed meanwhile, divided among the threads that did not wait, bytes.
    """

    wall: float = 0.0
    cpu: float = 0.0
    disk: int = 0
    calls: int = 0
    peak: int = 0
    added: float = 0.0


@dataclass(slots=True)
class ThreadTimes:
    """The stages of one thread.

    Parameters
    ----------
    name : str
        Of the thread.
    ident : int
        Of the thread, while it lives.
    stages : dict of str to Spent
        By stage.
    open : list of str
        Stages that it is in, the innermost last.
    mark : tuple
        Clocks at the last change.
    """

    name: str
    ident: int
    stages: dict[str, Spent] = field(default_factory=dict)
    open: list[str] = field(default_factory=list)
    mark: tuple[float, float, int] = (0.0, 0.0, 0)

    def __getitem__(self, stage: str) -> Spent:
        return self.stages.setdefault(stage, Spent())

    @property
    def stage(self) -> str:
        """The innermost stage, empty for none."""
        opened = self.open
        return opened[-1] if opened else ""


@dataclass(slots=True)
class Batches:
    """How full the batches of one task were.

    Parameters
    ----------
    batches, objects, size : int
        Batches run, objects in them, places of a batch.
    """

    batches: int = 0
    objects: int = 0
    size: int = 0


class Recorder:
    """Takes the times of all threads; safe to call from any of them.

    Parameters
    ----------
    clock : callable
        As ``thread_clock``.

    Attributes
    ----------
    threads : list of ThreadTimes
        Every thread that was in a stage.
    batches : dict of str to Batches
        By task.
    depths : list of int
        How many prepared records were waiting each time that the model took one.
    """

    def __init__(self, clock: Clock = thread_clock) -> None:
        self.threads: list[ThreadTimes] = []
        self.batches: dict[str, Batches] = {}
        self.depths: list[int] = []
        self._clock = clock
        self._local = threading.local()
        self._living: dict[int, ThreadTimes] = {}

    def mine(self) -> ThreadTimes:
        """Times of the calling thread.

        Returns
        -------
        ThreadTimes
            Made at the first call of a thread.
        """
        found: ThreadTimes | None = getattr(self._local, "times", None)
        if found is None:
            thread = threading.current_thread()
            found = self._local.times = ThreadTimes(thread.name, threading.get_ident())
            self.threads.append(found)
            self._living[found.ident] = found  # a later thread may be given the number of one that has ended
        return found

    def of(self, ident: int) -> ThreadTimes | None:
        """Times of a living thread.

        Parameters
        ----------
        ident : int
            Its number.

        Returns
        -------
        ThreadTimes or None
            None where it never was in a stage.
        """
        return self._living.get(ident)

    def enter(self, stage: str, calls: int = 1) -> None:
        """Begin a stage in the calling thread.

        Parameters
        ----------
        stage : str
            Its name.
        calls : int
            What to add to its count.
        """
        mine = self.mine()
        self._charge(mine)
        mine.open.append(stage)
        mine[stage].calls += calls

    def leave(self) -> None:
        """End the innermost stage of the calling thread."""
        mine = self.mine()
        self._charge(mine)
        mine.open.pop()

    def _charge(self, mine: ThreadTimes) -> None:
        now, before = self._clock(), mine.mark
        mine.mark = now
        if mine.open:
            spent = mine[mine.open[-1]]
            spent.wall += now[0] - before[0]
            spent.cpu += now[1] - before[1]
            spent.disk += now[2] - before[2]

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Be in a stage.

        Parameters
        ----------
        name : str
            Its name.

        Yields
        ------
        None
            While it lasts.
        """
        self.enter(name)
        try:
            yield
        finally:
            self.leave()

    def batch(self, task: str, objects: int, size: int) -> None:
        """Note a batch.

        Parameters
        ----------
        task : str
            Whose model runs it.
        objects, size : int
            Objects in it, and places.
        """
        noted = self.batches.setdefault(task, Batches(size=size))
        noted.batches += 1
        noted.objects += objects
