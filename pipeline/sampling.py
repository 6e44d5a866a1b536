"""What every thread is doing, looked at many times a second: stacks with their time, and the memory of the process.

A thread that is inside a library that holds Python's lock cannot be looked at; the look that follows counts for all the
time since the one before.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from types import CodeType, FrameType
from typing import IO

from pipeline.profile_points import WAITS, is_ours, is_stage_call
from pipeline.profiling import Recorder, Spent

_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 0
Stack = tuple[str, ...]  #: Thread, stage, then functions from the outermost on; the stage is empty outside of any.
DEPTH = 200  #: Frames of a stack at most.
_STAGE = "stage"  #: In the place of a frame through which a stage was entered.
_NUMBER = re.compile(r"-[0-9]+(?=$| |_)(_[0-9]+)?|_[0-9]+$")


class Sampler:
    """A thread that looks at all others; a context manager.

    Parameters
    ----------
    recorder : Recorder
        Knows the stage of each thread, and is told the memory that was seen in it.
    rate : float
        Looks a second.

    Attributes
    ----------
    stacks : Counter
        Seconds of each stack.
    looks : int
        How many there were.
    cost : float
        Seconds that this thread computed.
    peak : int
        Most memory of the process that was seen, bytes.
    """

    def __init__(self, recorder: Recorder, rate: float = 50.0) -> None:
        self.stacks: Counter[Stack] = Counter()
        self.looks = 0
        self.cost = 0.0
        self.peak = 0
        self._recorder = recorder
        self._interval = 1 / rate
        self._pages = _open_pages()
        self._memory = self._resident()
        self._kinds: dict[str, str] = {}
        self._labels: dict[int, str] = {}
        self._codes: list[CodeType] = []  # held, so that no other is given the number of one that was seen
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="nightcat-sampler", daemon=True)

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()
        self.close()

    def close(self) -> None:
        """Let go of what was opened to look at the memory."""
        if self._pages is not None:
            self._pages.close()

    def _resident(self) -> int:
        """Memory of the process, bytes; 0 where the system does not tell."""
        if self._pages is None:
            return 0
        return int(os.pread(self._pages.fileno(), 100, 0).split()[1]) * _PAGE

    def _loop(self) -> None:
        before = time.perf_counter()
        while not self._stop.wait(self._interval):
            now = time.perf_counter()
            self.look(now - before, sys._current_frames())
            before = now
        self.cost = time.thread_time()

    def look(self, seconds: float, frames: Mapping[int, FrameType]) -> None:
        """Note what all threads do.

        Parameters
        ----------
        seconds : float
            Since the last look.
        frames : mapping of int to frame
            The innermost frame of each thread, by its number.
        """
        self.looks += 1
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        seen: list[tuple[str, Spent]] = []
        for ident, frame in frames.items():
            if ident == self._thread.ident:
                continue
            times = self._recorder.of(ident)
            stage = times.stage if times is not None else ""
            name = self._kind(names.get(ident, "a thread of a library"))
            self.stacks[(name, stage, *self._calls(frame))] += seconds  # type: ignore[assignment]
            if times is not None and stage:
                seen.append((stage, times[stage]))
        self._note_memory(seen)

    def _note_memory(self, seen: list[tuple[str, Spent]]) -> None:
        """The most goes to all stages; what has changed is divided among the threads that do not wait."""
        memory = self._resident()
        working = [spent for stage, spent in seen if stage not in WAITS] or [spent for _, spent in seen]
        for _, spent in seen:
            spent.peak = max(spent.peak, memory)
        for spent in working:
            spent.added += (memory - self._memory) / len(working)
        self.peak, self._memory = max(self.peak, memory), memory

    def _kind(self, name: str) -> str:
        """The name of a thread without its number: those of one kind are one."""
        return self._kinds.get(name) or self._kinds.setdefault(name, _NUMBER.sub("", name))

    def _calls(self, frame: FrameType | None) -> list[str]:
        """The functions of a stack, the outermost first, below the one through which its stage was entered."""
        found: list[str] = []
        known = self._labels
        while frame is not None and len(found) < DEPTH:
            code = frame.f_code
            label = known.get(id(code))  # a code object is hashed by all of its content
            if label is None:
                label = self._label(code)
            if label == _STAGE:
                break
            if label:
                found.append(label)
            frame = frame.f_back
        return found[::-1]

    def _label(self, code: CodeType) -> str:
        """How a frame is written; empty for one that says nothing."""
        if is_stage_call(code):
            label = _STAGE
        elif is_ours(code) or "importlib" in code.co_filename:
            label = ""
        else:
            label = f"{module_of(code.co_filename)}:{code.co_qualname}".replace(";", ",")
        self._labels[id(code)] = label
        self._codes.append(code)
        return label


def _open_pages() -> IO[bytes] | None:
    try:
        return open("/proc/self/statm", "rb", buffering=0)
    except OSError:
        return None


def module_of(path: str) -> str:
    """The dotted name of a module, from the file of its code.

    Parameters
    ----------
    path : str
        As the interpreter has it.

    Returns
    -------
    str
        Such as ``"torch.nn.functional"``; the path's last part for a file that is not below ``sys.path``.
    """
    roots = sorted((root for root in sys.path if root and path.startswith(f"{root}/")), key=len)
    inside = path[len(roots[-1]) + 1 :] if roots else path.rpartition("/")[2]
    return inside.removesuffix(".py").removesuffix("/__init__").replace("/", ".").replace(" ", "_")
