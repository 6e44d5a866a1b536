"""Worker processes of the local runner: how many pay, and where they come from.

A worker process of Beam imports for ten seconds before its first object, and so does every other one. Ours are forked
from one process that has imported everything (``pipeline.fork_server``), which starts while the driver still imports.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pipeline.options import RunConfig
from transforms.records import FileRef

WORTH_SECONDS = 15.0  #: Work that pays for other processes, which are there a few seconds later.
#: About what a file costs, and what it costs more for its size: pixels weigh little, points of light curves much.
SECONDS_A_FILE, SECONDS_A_BYTE, SECONDS_A_BYTE_OF_A_TABLE = 0.05, 1e-6, 1e-5
WORKER_BYTES = 2_500_000_000  #: Memory of a process with all models and one large image.


class EngineError(RuntimeError):
    """The runner failed; nothing was committed."""


def worker_count(config: RunConfig, files: Sequence[FileRef]) -> int:
    """How many processes of the local runner a night is given.

    Parameters
    ----------
    config : RunConfig
        The run.
    files : sequence of FileRef
        What is to be read.

    Returns
    -------
    int
        What was asked for. For ``"auto"`` one process, until the files promise more work than another process needs to
        start; then as many as there are processors and memory for. The catalog's bytes do not depend on it.
    """
    if isinstance(config.workers, int):
        return config.workers
    if sum(map(_seconds, files)) < WORTH_SECONDS:
        return 1
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(1, min(_processors(), memory // WORKER_BYTES))


def most_workers(config: RunConfig) -> int:
    """How many processes of the local runner may share this machine's devices.

    Parameters
    ----------
    config : RunConfig
        The run.

    Returns
    -------
    int
        What was asked for; for ``"auto"`` what ``worker_count`` gives at most.
    """
    return config.workers if isinstance(config.workers, int) else _processors()


def _seconds(file: FileRef) -> float:
    """A guess from the name, which decides nothing but the number of processes."""
    table = re.search(r"\.(?:csv|ecsv|txt|dat|parquet)(?:\.gz)?$", file.source, re.IGNORECASE)
    return SECONDS_A_FILE + file.size * (SECONDS_A_BYTE_OF_A_TABLE if table else SECONDS_A_BYTE)


def _processors() -> int:
    """Processors that this process may use; all of the machine's where the system does not tell."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def forks(config: RunConfig, files: Sequence[FileRef]) -> bool:
    """Say whether a night runs in several processes, and they are ours.

    Parameters
    ----------
    config : RunConfig
        The run.
    files : sequence of FileRef
        What is to be read.

    Returns
    -------
    bool
        False where another runner or the options that the user hands to Beam say how it runs, and where a process
        cannot be forked soundly: outside of Linux system libraries do not survive it.
    """
    told = any(option.startswith("--direct_") for option in config.beam_options)
    ours = sys.platform == "linux" and config.runner == "FnApiRunner" and not told
    return ours and worker_count(config, files) > 1


class Workers:
    """The process that forks workers, started when it is first wanted; a context manager that ends it.

    Attributes
    ----------
    lost : list of str
        A sentence for each worker that has ended by itself.
    handlers : set
        What the runner knows of each worker that runs.
    """

    def __init__(self) -> None:
        self.lost: list[str] = []
        self.handlers: set[Any] = set()
        self._server: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._ended: dict[str, Callable[[int], None]] = {}
        self._busy = False
        self._over: int | None = None  # how the server ended

    def start(self) -> None:
        """Start the server, if it does not run; it imports while the caller goes on."""
        with self._lock:
            if self._server is not None:
                return
            self._over = None
            self._server = subprocess.Popen(
                [sys.executable, "-P", "-m", "pipeline.fork_server"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            threading.Thread(target=self._listen, args=(self._server,), name="nightcat-workers", daemon=True).start()

    def preload(self, model: str, **options: Any) -> None:
        """Load a model once for all workers that are forked later; they share its memory.

        Parameters
        ----------
        model : str
            Folder of the bundle.
        **options
            Of ``finetune.predict.load_predictor``. Nothing is done for what does not survive a fork: another device
            than the CPU, more than one thread.
        """
        if self._server is not None and options["device"] == "cpu" and options["threads"] == 1:
            self._order({"model": model, "options": options})

    def fork(self, worker: str, environment: Mapping[str, str], ended: Callable[[int], None]) -> None:
        """Have a worker forked.

        Parameters
        ----------
        worker : str
            Its name.
        environment : mapping of str to str
            Variables for it.
        ended : callable
            ``ended(status)``: called from another thread when it has ended, with its exit code or minus its signal.
        """
        self.start()
        with self._lock:
            self._ended[worker] = ended
            over = self._over
        if over is not None:
            self._tell(worker, over)
        self._order({"worker": worker, "environment": dict(environment)})

    def kill(self, worker: str) -> None:
        """End a worker at once.

        Parameters
        ----------
        worker : str
            Its name.
        """
        self._order({"worker": worker})

    def _order(self, order: dict[str, Any]) -> None:
        with self._lock, contextlib.suppress(OSError):  # where it has ended, the listener tells so for all workers
            server: Any = self._server
            self._busy = self._busy or "environment" in order
            server.stdin.write(json.dumps(order).encode() + b"\n")
            server.stdin.flush()

    def close(self) -> None:
        """End the server and its workers."""
        with self._lock:
            server, self._server = self._server, None
        if server is None:
            return
        if not self._busy:
            server.kill()  # it may still import, and would not see the end of its input
        with contextlib.suppress(OSError):
            server.stdin.close()  # type: ignore[union-attr]
        server.wait()

    def _listen(self, server: subprocess.Popen[bytes]) -> None:
        reports: Any = server.stdout
        with reports:
            for line in reports:
                report = json.loads(line)
                self._tell(report["worker"], report["status"])
        status = server.wait() or 1
        with self._lock:
            self._over = status
        for worker in list(self._ended):
            self._tell(worker, status)

    def _tell(self, worker: str, status: int) -> None:
        with self._lock:
            ended = self._ended.pop(worker, None)
        if ended is not None:
            ended(status)

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
