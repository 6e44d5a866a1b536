"""``python -m pipeline.fork_server``: imports what a worker process needs, once, and then forks one when told to.

It reads lines of JSON from its standard input: ``{"model": path, "options": {...}}`` loads a model for all workers,
``{"worker": id, "environment": {...}}`` forks a worker of Beam with those variables, ``{"worker": id}`` kills it. It
writes ``{"worker": id, "status": s}`` when one has ended (its exit code, or minus the signal that ended it). When its
input ends, as it does when its parent is killed, it kills its workers and ends. It has one thread and never calls gRPC,
so that its forks are sound. ``pipeline.workers`` is the other end.
"""

from __future__ import annotations

import gc
import importlib
import json
import logging
import os
import pkgutil
import select
import signal
import sys
from typing import Any, NoReturn

from pipeline.lean import import_beam

_CHUNK = 1 << 16
#: Of ours, with all that lies in them, and what these import only where it is needed.
PACKAGES = ("transforms", "transforms.numerics", "transforms.readers", "finetune.tasks")
MODULES = (
    "apache_beam.runners.worker.sdk_worker_main", "astropy.coordinates", "astropy.io.fits", "astropy.table",
    "astropy.timeseries", "astropy.wcs", "finetune.predict", "light_curve", "nifty_ls.astropy", "PIL.Image",
    "pipeline.survey", "pyarrow.csv", "scipy.ndimage", "sep",
)  # fmt: skip


def main() -> None:
    """Serve until the input ends."""
    gc.disable()  # imports make a million objects that live on; the workers turn it on again
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent says what follows
    awake, alarm = os.pipe()
    for end in (awake, alarm):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(alarm)
    signal.signal(signal.SIGCHLD, lambda *_: None)  # ignored, it would not wake anybody
    reports = os.dup(1)
    os.dup2(2, 1)  # what a library prints is no report
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.captureWarnings(True)
    import_all()
    workers: dict[int, str] = {}
    text = b""
    try:
        while True:
            ready = select.select([0, awake], [], [])[0]
            if awake in ready:
                os.read(awake, _CHUNK)
                _reap(workers, reports)
            if 0 in ready:
                data = os.read(0, _CHUNK)
                if not data:
                    return
                *lines, text = (text + data).split(b"\n")
                for line in lines:
                    _obey(json.loads(line), workers, (reports, awake, alarm))
    finally:
        for pid in workers:
            os.kill(pid, signal.SIGKILL)


def import_all() -> None:
    """Import what a worker uses but its models."""
    import_beam()
    for name in MODULES:
        importlib.import_module(name)
    for name in PACKAGES:
        for found in pkgutil.iter_modules(importlib.import_module(name).__path__, f"{name}."):
            importlib.import_module(found.name)


def _reap(workers: dict[int, str], reports: int) -> None:
    while workers:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        ended = {"worker": workers.pop(pid), "status": os.waitstatus_to_exitcode(status)}
        os.write(reports, json.dumps(ended).encode() + b"\n")


def _obey(order: dict[str, Any], workers: dict[int, str], ends: tuple[int, ...]) -> None:
    if "model" in order:
        _load(order["model"], order["options"])
        return
    if "environment" not in order:
        for pid in (pid for pid, name in workers.items() if name == order["worker"]):
            os.kill(pid, signal.SIGKILL)
        return
    gc.freeze()  # the collector of a worker would write into every page that it shares
    pid = os.fork()
    if pid == 0:
        _work(order["environment"], ends)
    workers[pid] = order["worker"]


def _load(model: str, options: dict[str, Any]) -> None:
    from finetune.predict import preload

    try:
        preload(model, **options)
    except Exception:  # the worker that loads it fails where the run can tell
        logging.exception("the model %r was not loaded ahead", model)


def _work(environment: dict[str, str], ends: tuple[int, ...]) -> NoReturn:
    """Be a worker of Beam, in the forked process, to its end."""
    gc.enable()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # ends at once, without a traceback
    for end in ends:
        os.close(end)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.update(environment)
    status = 1
    try:
        from apache_beam.runners.worker import sdk_worker_main

        sdk_worker_main.main(sys.argv)
        status = 0
    finally:
        sys.stderr.flush()
        os._exit(status)  # not the server's own way out


if __name__ == "__main__":
    main()
