"""Live progress: Beam's counters come at the end only, so every worker process leaves a heartbeat that can be read."""

from __future__ import annotations

import json
import os
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_BEAT_S = 0.5
_LOCK = threading.Lock()
_COUNTS: dict[str, list[Any]] = {}


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Counts rows and rejects of one worker process into a small file; picklable, safe to call from any thread.

    Parameters
    ----------
    folder : str
        Local folder for the heartbeats; empty for none.
    """

    folder: str = ""

    def __call__(self, rows: int = 0, rejects: int = 0, file: str = "", size: int = 0) -> None:
        """Add to the counts, and write them with the first row, and then at most twice a second.

        Parameters
        ----------
        rows, rejects : int
            How many were made since the last call.
        file : str
            A file that a worker has begun to read.
        size : int
            Its bytes.
        """
        if not self.folder:
            return
        now = time.monotonic()
        with _LOCK:
            counts = _COUNTS.setdefault(self.folder, [0, 0, 0.0, {}])
            first = rows > 0 and counts[0] == 0
            counts[0] += rows
            counts[1] += rejects
            if file:
                counts[3][file] = size
            if now - counts[2] < _BEAT_S and not first:
                return
            counts[2] = now
            files = counts[3]
            text = json.dumps(
                {"rows": counts[0], "rejects": counts[1], "files": len(files), "bytes": sum(files.values())}
            )
        path = Path(self.folder) / f"{os.getpid()}.json"
        try:
            path.with_suffix(".tmp").write_text(text)
            path.with_suffix(".tmp").replace(path)
        except OSError:  # progress is a courtesy: a folder that is gone must not stop the night
            return


def read_heartbeats(folder: str) -> tuple[int, int, int, int]:
    """Sum the heartbeats of all workers.

    Parameters
    ----------
    folder : str
        As given to ``Heartbeat``.

    Returns
    -------
    rows, rejects, files, size : int
        Counts so far, at most half a second old.
    """
    rows = rejects = files = size = 0
    for path in Path(folder).glob("*.json") if folder else ():
        try:
            counts = json.loads(path.read_text())
        except (OSError, ValueError):
            continue
        rows += int(counts["rows"])
        rejects += int(counts["rejects"])
        files += int(counts["files"])
        size += int(counts["bytes"])
    return rows, rejects, files, size


@dataclass(slots=True)
class Progress:
    """What a person sees while a night runs; ``update`` is called by a polling thread.

    Parameters
    ----------
    mode : str
        ``"live"`` (rich, on a terminal), ``"plain"`` (a line now and then), ``"json"`` (a JSON line each time) or
        ``"quiet"``.
    total_files, total_bytes : int
        Files of the night, and their size: bytes tell better than files how much is left.
    stream : file object
        Where it goes, standard error as a rule.
    """

    mode: str
    total_files: int
    total_bytes: int
    stream: Any
    folder: str = ""
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _started: float = 0.0

    def __enter__(self) -> Progress:
        self._started = time.monotonic()
        if self.mode != "quiet":
            self._thread = threading.Thread(target=self._poll, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _poll(self) -> None:
        display = self._live() if self.mode == "live" else self._lines()
        next(display)
        while not self._stop.wait(_BEAT_S):
            display.send(read_heartbeats(self.folder))
        display.close()

    def _state(self, rows: int, rejects: int, files: int, size: int) -> dict[str, Any]:
        seconds = time.monotonic() - self._started
        known = size > 0.02 * self.total_bytes and seconds > 5  # before that it would be a guess
        left = seconds * (self.total_bytes - size) / size if known else None
        return {
            "files": files,
            "total_files": self.total_files,
            "objects": rows,
            "rejects": rejects,
            "objects_per_s": round(rows / seconds, 1) if seconds > 0 else 0.0,
            "seconds": round(seconds, 1),
            "seconds_left": None if left is None else round(max(left, 0.0), 1),
        }

    def _lines(self) -> Any:
        every = 0.0 if self.mode == "json" else 10.0
        last, shown = 0.0, (-1, -1, -1, -1)
        while True:
            counts = yield
            now = time.monotonic()
            if counts == shown or now - last < every:
                continue
            last, shown = now, counts
            state = self._state(*counts)
            if self.mode == "json":
                self.stream.write(json.dumps({"event": "progress", **state}) + "\n")
            else:
                self.stream.write(_sentence(state) + "\n")
            self.stream.flush()

    def _live(self) -> Any:
        from rich.console import Console
        from rich.live import Live
        from rich.text import Text

        with Live(Text("starting workers ..."), console=Console(file=self.stream), transient=True) as live:
            while True:
                live.update(Text(_sentence(self._state(*(yield)))))


def _sentence(state: dict[str, Any]) -> str:
    left = "" if state["seconds_left"] is None else f", {state['seconds_left']:.0f} s left"
    return (
        f"{state['files']} of {state['total_files']} files, {state['objects']} objects, {state['rejects']} rejects, "
        f"{state['objects_per_s']} objects/s, {state['seconds']:.0f} s{left}"
    )
