"""Which functions are a stage of a night, and how they are timed: they are replaced while a night is profiled.

A night that is not profiled runs the functions themselves, so that measuring costs it nothing. A name that is no longer
there is an error, not a stage without time.
"""

from __future__ import annotations

import builtins
import functools
import importlib
import io
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import CodeType
from typing import Any

from pipeline.profiling import OTHER, Recorder

WAIT_READER, WAIT_MODEL, WAIT_FILES = "waiting for the reader", "waiting for the model", "waiting for files"
WAITS = (WAIT_READER, WAIT_MODEL, WAIT_FILES)
IMPORTS, ENGINE, READING, FORWARD = "imports", "engine", "reading", "forward"
#: Every stage, in the order of a night, with what happens in it.
STAGES: dict[str, str] = {
    IMPORTS: "Python's modules are loaded",
    "models": "models are read, checked and set up",
    "listing": "inputs are listed",
    "digests": "every file is read once for its digest",
    "ledger": "what is done already, what a killed run left",
    ENGINE: "Beam: graph, shuffles, rows on their way from step to step",
    "identify": "files are opened to tell what they are and which parts they have",
    WAIT_FILES: "the reader has nothing to read",
    READING: "bytes come from files",
    "decoding": "bytes become records",
    "measuring": "classical steps",
    "preparing": "records become the model's input",
    WAIT_MODEL: "the reader's queue is full",
    WAIT_READER: "the model has nothing to answer",
    FORWARD: "the network, with the way to its device and back",
    "answers": "outputs become rows, beside the classical answer",
    "writing shards": "rows are packed by pixel",
    "writing files": "Parquet files are written",
    "commit": "files are put in place, derived files and manifest written",
    OTHER: "everything else",
}
#: Stages of ours by the stage of ``transforms.attempt`` that they time.
ATTEMPTS = {"open": "decoding", "read": "decoding", "measure": "measuring", "prepare": "preparing"}


@dataclass(frozen=True, slots=True)
class Point:
    """A function that is a stage.

    Parameters
    ----------
    module, name : str
        Where it is looked up when it is called; ``Class.method`` for a method.
    stage : str
        One of ``STAGES``.
    many : bool
        True for a generator: the time of who takes its outputs is not its own.
    note : callable or None
        ``note(recorder, *args)``: called first, for what else there is to see.
    """

    module: str
    name: str
    stage: str
    many: bool = False
    note: Callable[..., None] | None = None


def _note_depth(recorder: Recorder, ahead: Any) -> None:
    recorder.depths.append(ahead.ready)


def _note_batch(recorder: Recorder, batch: Any, predictor: Any, tallies: Any) -> None:
    recorder.batch(predictor.task, len(batch), predictor.batch_size)


POINTS = (
    Point("finetune.bundle", "load_bundle", "models"),
    Point("transforms.infer", "InferFn.setup", "models"),
    Point("pipeline.nights", "find_files", "listing"),
    Point("pipeline.nights", "by_night", "listing"),
    Point("pipeline.nights", "fingerprint", "digests"),
    Point("pipeline.sources", "digest_and_size", "digests"),  # in threads of its own
    Point("pipeline.commit", "recover", "ledger"),
    Point("pipeline.ledger", "Ledger.plan", "ledger"),
    Point("pipeline.engine", "run_graph", ENGINE),
    Point("transforms.ingest", "ingest", "identify"),
    Point("transforms.read_ahead", "ReadAhead._loop", OTHER),
    Point("transforms.read_ahead", "ReadAhead._next", WAIT_FILES),
    Point("transforms.read_ahead", "ReadAhead._put", WAIT_MODEL),
    Point("transforms.read_ahead", "ReadAhead._take", WAIT_READER, note=_note_depth),
    Point("transforms.infer", "answer", "answers", note=_note_batch),
    Point("finetune.network", "Network.fitting", FORWARD),
    Point("pipeline.sinks", "PlaceFn._spill", "writing shards", many=True),
    Point("pipeline.sinks", "assemble", "writing files"),
    Point("pipeline.commit", "commit", "commit"),
)


def timed(recorder: Recorder, stage: str, func: Callable[..., Any], note: Callable[..., None] | None = None) -> Any:
    """Make a function that is a stage.

    Parameters
    ----------
    recorder : Recorder
        Takes its times.
    stage : str
        Its name.
    func : callable
        The function.
    note : callable or None
        As in ``Point``.

    Returns
    -------
    callable
        The same, timed.
    """

    @functools.wraps(func)
    def stage_call(*args: Any, **kwargs: Any) -> Any:
        if note is not None:
            note(recorder, *args)
        recorder.enter(stage)
        try:
            return func(*args, **kwargs)
        finally:
            recorder.leave()

    return stage_call


def timed_many(recorder: Recorder, stage: str, func: Callable[..., Iterable[Any]]) -> Any:
    """Make a function with many outputs that is a stage, but only while it works on the next one.

    Parameters
    ----------
    recorder : Recorder
        Takes its times.
    stage : str
        Its name.
    func : callable
        Returns an iterable.

    Returns
    -------
    callable
        Returns an iterator over the same.
    """

    @functools.wraps(func)
    def stage_call(*args: Any, **kwargs: Any) -> Iterator[Any]:
        calls, outputs = 1, None
        while True:
            recorder.enter(stage, calls)
            calls = 0
            try:
                if outputs is None:
                    outputs = iter(func(*args, **kwargs))
                output = next(outputs)
            except StopIteration:
                return
            finally:
                recorder.leave()
            yield output

    return stage_call


def timed_attempt(recorder: Recorder, attempt: Callable[..., Any]) -> Any:
    """Make an ``attempt`` whose steps are stages.

    Parameters
    ----------
    recorder : Recorder
        Takes their times.
    attempt : callable
        ``transforms.attempt.attempt``.

    Returns
    -------
    callable
        The same, timed.
    """

    @functools.wraps(attempt)
    def attempt_call(stage: str, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        make = timed_many if kwargs.get("many") else timed
        return attempt(stage, make(recorder, ATTEMPTS[stage], func), *args, **kwargs)

    return attempt_call


class _TimedFile(io.BufferedReader):
    """A local file whose reads are a stage."""

    recorder: Recorder

    def read(self, size: int | None = -1, /) -> bytes:
        with self.recorder.stage(READING):
            return super().read(size)

    def readinto(self, buffer: Any, /) -> int:
        with self.recorder.stage(READING):
            return super().readinto(buffer)


def timed_open(recorder: Recorder, open_url: Callable[[str], Any]) -> Any:
    """Make an ``open_url`` whose files are timed as they are read.

    Parameters
    ----------
    recorder : Recorder
        Takes their times.
    open_url : callable
        ``transforms.locations.open_url``.

    Returns
    -------
    callable
        The same, timed. A file that is mapped into memory is not read by calls: its pages come while it is decoded.
    """

    @functools.wraps(open_url)
    def open_call(url: str) -> Any:
        with recorder.stage(READING):
            stream = open_url(url)
        if type(stream) is io.BufferedReader:
            stream = _TimedFile(stream.detach())
            stream.recorder = recorder
        elif not isinstance(stream, io.BytesIO):  # of a remote file system: a Python object, which takes attributes
            stream.read = timed(recorder, READING, stream.read)
        return stream

    return open_call


@contextmanager
def timed_imports(recorder: Recorder) -> Iterator[None]:
    """Make imports a stage, wherever they happen.

    Parameters
    ----------
    recorder : Recorder
        Takes their times.

    Yields
    ------
    None
        While it lasts.
    """
    original = builtins.__import__

    @functools.wraps(original)
    def import_call(*args: Any, **kwargs: Any) -> Any:
        recorder.enter(IMPORTS, 0)
        try:
            return original(*args, **kwargs)
        finally:
            recorder.leave()

    builtins.__import__ = import_call
    try:
        yield
    finally:
        builtins.__import__ = original


@contextmanager
def timed_points(recorder: Recorder, points: Iterable[Point] = POINTS) -> Iterator[None]:
    """Time every stage, until the end of the block.

    Parameters
    ----------
    recorder : Recorder
        Takes their times.
    points : iterable of Point
        Which functions.

    Yields
    ------
    None
        While it lasts.

    Raises
    ------
    AttributeError
        Where a function is not there.
    """
    from pipeline.lean import import_beam

    import_beam()
    with ExitStack() as undo:
        for point in points:
            make = functools.partial(_made, recorder, point)
            _replace(undo, point.module, point.name, make)
        _replace(undo, "transforms.objects", "attempt", functools.partial(timed_attempt, recorder))
        _replace(undo, "transforms.readers.format", "open_url", functools.partial(timed_open, recorder))
        yield


def _made(recorder: Recorder, point: Point, func: Callable[..., Any]) -> Any:
    if point.many:
        return timed_many(recorder, point.stage, func)
    return timed(recorder, point.stage, func, point.note)


def _replace(undo: ExitStack, module: str, name: str, make: Callable[[Any], Any]) -> None:
    owner: Any = importlib.import_module(module)
    *classes, leaf = name.split(".")
    for part in classes:
        owner = getattr(owner, part)
    original = vars(owner)[leaf] if isinstance(owner, type) else getattr(owner, leaf)
    undo.callback(setattr, owner, leaf, original)
    setattr(owner, leaf, make(original))


def is_stage_call(code: CodeType) -> bool:
    """Say whether a frame is that of a timed function: what lies below it belongs to its stage.

    Parameters
    ----------
    code : CodeType
        Of the frame.

    Returns
    -------
    bool
        True for those of ``timed`` and ``timed_many``.
    """
    return code.co_name == "stage_call" and code.co_filename == __file__


def is_ours(code: CodeType) -> bool:
    """Say whether a frame is there only because the night is profiled.

    Parameters
    ----------
    code : CodeType
        Of the frame.

    Returns
    -------
    bool
        True for all functions of this module.
    """
    return code.co_filename == __file__
