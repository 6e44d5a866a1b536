"""What libraries log and warn goes to a file, not to the screen of who runs a night."""

from __future__ import annotations

import logging
import os
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TextIO

_WITH_HANDLERS = ("astropy", "transformers", "py.warnings")  # loggers that print for themselves


@contextmanager
def quiet_libraries(log: Path | None) -> Iterator[None]:
    """Keep what libraries log and warn off the screen, and in a file.

    Parameters
    ----------
    log : Path or None
        The file; None drops it.

    Yields
    ------
    None
        While it lasts.

    Raises
    ------
    OutputError
        Where the log cannot be written.
    """
    import astropy  # noqa: F401 - it must make its own logger, or its import fails later

    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    handler: logging.Handler = logging.NullHandler()
    if log is not None:
        with _writing(log):
            log.parent.mkdir(parents=True, exist_ok=True)
            handler = logging.FileHandler(log, mode="a", encoding="utf-8")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root.handlers[:] = [handler]
    own = [logging.getLogger(name) for name in _WITH_HANDLERS]
    kept = [(logger, logger.handlers[:], logger.propagate) for logger in own]
    for logger in own:
        logger.handlers[:], logger.propagate = [], True
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            yield
    finally:
        logging.captureWarnings(False)
        root.handlers[:] = before
        for logger, handlers, propagate in kept:
            logger.handlers[:], logger.propagate = handlers, propagate
        root.setLevel(level)
        handler.close()


@contextmanager
def quiet_children(log: Path | None) -> Iterator[TextIO]:
    """Send what worker processes write to their standard error, which is ours, to a file while they run.

    Parameters
    ----------
    log : Path or None
        The file; None drops it.

    Yields
    ------
    file object
        The real standard error, for who has something to show.

    Raises
    ------
    OutputError
        Where the log cannot be opened.

    Notes
    -----
    They write into a pipe, and a thread of ours fills the file: a worker of Beam that cannot print its traceback,
    since the disk is full, would never answer, and the run would never end.
    """
    sys.stderr.flush()
    with _writing(log):
        target = os.open(log if log is not None else os.devnull, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    kept = os.dup(2)
    ours, theirs = os.pipe()
    drain = threading.Thread(target=_drain, args=(ours, target), name="nightcat-log", daemon=True)
    drain.start()
    screen = os.fdopen(os.dup(kept), "w", encoding="utf-8")
    os.dup2(theirs, 2)
    os.close(theirs)
    try:
        yield screen
    except BaseException:  # threads of a library that failed with it may end later, when the screen is bare again
        threading.excepthook = partial(_note_thread, log)
        raise
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        screen.close()
        os.close(kept)
        drain.join(1.0)  # it ends with the last process that holds the pipe, which may outlive the run


def _note_thread(log: Path | None, failed: threading.ExceptHookArgs) -> None:
    """Write what ended a thread to the log."""
    if log is None or failed.exc_value is None:
        return
    with suppress(OSError), log.open("a", encoding="utf-8") as file:
        traceback.print_exception(failed.exc_value, file=file)


def _drain(source: int, target: int) -> None:
    """Copy until the other end is closed, whether the target takes it or not."""
    with os.fdopen(source, "rb", buffering=0) as stream, os.fdopen(target, "wb", buffering=0) as file:
        while data := stream.read(1 << 16):
            with suppress(OSError):
                file.write(data)


@contextmanager
def voice(screen: TextIO | None) -> Iterator[None]:
    """Show what the logger ``nightcat`` says: what a user should read though it is no error.

    Parameters
    ----------
    screen : file object or None
        Where; None shows nothing, and the log has it all the same.

    Yields
    ------
    None
        While it lasts.
    """
    logger = logging.getLogger("nightcat")
    handler = logging.StreamHandler(screen) if screen is not None else logging.NullHandler()
    handler.setFormatter(logging.Formatter("nightcat: %(message)s"))
    before = logger.level
    logger.setLevel(logging.WARNING)  # its own: some library may have set the root's higher
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


@contextmanager
def _writing(log: Path | None) -> Iterator[None]:
    from transforms.store import OutputError

    try:
        yield
    except OSError as error:
        raise OutputError(f"cannot write the log {str(log)!r}: {error.strerror or error}") from error
