"""Nights that are submitted by one process and committed by another, later.

The launcher plans a night, notes what the commit needs (``pipeline.underway``), submits the job and goes. ``finish``
looks whether the graph has come to its end, copies what it wrote to where a commit takes its files from, checks sums
and digests, and commits as ``pipeline.nights`` does. The copy is what makes it safe to be killed anywhere: until the
commit has its intent, what the graph wrote is as it was; from then on the commit goes forward.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pipeline.catalog import STAGING, StagedFile
from pipeline.commit import CatalogBusy, check_catalog, commit, lock, recover, staged_files, staging_folder
from pipeline.hats import CatalogError
from pipeline.job_state import LOST as GONE
from pipeline.job_state import job_state
from pipeline.ledger import Ledger
from pipeline.models import Model
from pipeline.nights import (
    NightResult,
    Planned,
    SumsError,
    close_sums,
    graph_plan,
    plan_night,
    processes_of,
    result_of,
    timing_of,
)
from pipeline.options import RunConfig
from pipeline.sources import Inputs, by_night, find_files, fingerprint
from pipeline.underway import COUNTED, LISTED, Detached, clear, counted, is_done, note, note_submitted, noted
from transforms.store import Store

POLL = 10.0  #: Seconds between two looks at whether a job is done.
COPIES = 8  #: Files that are copied at once.
_CHUNK = 1 << 22
COMMITTED, UNDER_WAY, SUMS, STALE = "committed", "under way", "sums do not close", "does not fit"
LOST = "lost"


@dataclass(frozen=True, kw_only=True, slots=True)
class Finished:
    """What ``finish`` made of one detached run.

    Parameters
    ----------
    night, run_id : str
        Which.
    state : str
        ``"committed"``, ``"under way"``, ``"lost"`` (its engine has given the job up), ``"sums do not close"`` or
        ``"does not fit"`` (the catalog as it is now); nothing was committed or taken away but in the first case.
    told : tuple of str
        Sentences: why not.
    result : NightResult or None
        What was committed.
    strict : bool
        Whether rejects are an error.
    """

    night: str
    run_id: str
    state: str
    told: tuple[str, ...] = ()
    result: NightResult | None = None
    strict: bool = False


def detach_nights(
    config: RunConfig, models: Sequence[Model] | Callable[[], Sequence[Model]]
) -> Iterator[Detached | NightResult]:
    """Submit a job for each night that the inputs hold.

    Parameters
    ----------
    config : RunConfig
        The run.
    models : sequence of Model or callable
        One for each task; a callable is called when the inputs are found.

    Yields
    ------
    Detached or NightResult
        For each night, in their order, once its job is submitted; the result where nothing was left to do.

    Raises
    ------
    InputError, CatalogError, NightBusy, OutputError, EngineError
        What stops it; jobs that were submitted go on.
    """
    nights = by_night(find_files(config.inputs), config.night)
    found = models() if callable(models) else models
    for night, part in nights.items():
        yield detach_night(config, found, night, fingerprint(part))


def detach_night(config: RunConfig, models: Sequence[Model], night: str, inputs: Inputs) -> Detached | NightResult:
    """Plan a night, note what its commit needs, submit its job.

    Parameters
    ----------
    config : RunConfig
        The run.
    models : sequence of Model
        One for each task.
    night : str
        ``YYYY-MM-DD``.
    inputs : Inputs
        Its files, with digests.

    Returns
    -------
    Detached or NightResult
        The result where nothing was left to do.

    Raises
    ------
    CatalogError, NightBusy, OutputError, EngineError
        No job was submitted.
    """
    from pipeline.lean import import_beam

    import_beam()
    from pipeline import engine

    with lock(config.output):
        planned = plan_night(config, models, night, inputs)
        if isinstance(planned, NightResult):
            return planned
        store = Store(config.output)
        detached = _detached(config, planned, Ledger(store))
        note(store, detached)
        try:
            job = engine.submit_graph(config, graph_plan(config, models, planned, _place(config.output, detached)))
        except Exception:
            clear(store, detached)
            raise
        return note_submitted(store, detached, job)


def _detached(config: RunConfig, planned: Planned, ledger: Ledger) -> Detached:
    night = planned.fields["night"]
    return Detached(
        run_id=planned.run_id,
        night=night,
        folder=f"{STAGING}/{planned.run_id}.{secrets.token_hex(4)}",
        fields=planned.fields,
        inputs=planned.inputs,
        skipped=planned.skipped,
        base=_live(ledger, night),
        runner=config.runner,
        endpoint=config.wanted().given.get("job_endpoint", ""),
        processes=processes_of(config, planned.inputs),
        strict=config.strict,
        planned=time.time(),
    )


def _live(ledger: Ledger, night: str) -> tuple[tuple[str, int], ...]:
    return tuple((run.run_id, run.sequence) for run in ledger.runs(night))


def _place(root: str, detached: Detached) -> str:
    return f"{root.rstrip('/')}/{detached.folder}"


def finish(
    catalog: str, night: str | None = None, run_id: str | None = None, wait: float = 0.0, poll: float = POLL
) -> list[Finished]:
    """Commit the detached runs whose jobs are done.

    Parameters
    ----------
    catalog : str
        Its root.
    night, run_id : str or None
        Only those of this night; only this one.
    wait : float
        Seconds to wait for jobs that are not done.
    poll : float
        Seconds between two looks.

    Returns
    -------
    list of Finished
        One for each, in the order of their run ids; empty where there is none.

    Raises
    ------
    CatalogError
        Where there is no catalog, or no run has this id.
    CatalogBusy, OutputError
        Where the catalog cannot be written; what was committed before is intact.
    """
    _exists(catalog)
    found: dict[str, Finished] = {}
    end = time.monotonic() + wait
    while True:
        settled = {name: one for name, one in found.items() if one.state != UNDER_WAY}
        try:
            found = settled | {one.run_id: one for one in _look(catalog, night, run_id, settled)}
            open_ = found.keys() - settled.keys() - {one.run_id for one in found.values() if one.state != UNDER_WAY}
            if not open_ or time.monotonic() >= end:
                break
        except CatalogBusy:  # another run is writing, and will have done so
            if time.monotonic() >= end:
                raise
            open_ = set()
        _rest(catalog, open_, min(end, time.monotonic() + (60 * poll if open_ else poll)), poll)
    if run_id and run_id not in found:
        found[run_id] = _elsewhere(catalog, run_id)
    return [found[name] for name in sorted(found)]


def _exists(catalog: str) -> None:
    """A lock would make the folder, and a wrong name would look like a catalog with nothing to do."""
    if not Store(catalog).exists(""):
        raise CatalogError([f"{catalog!r}: there is no catalog"])


def _rest(catalog: str, runs: Collection[str], end: float, poll: float) -> None:
    """Wait, without the lock, until the job of one of these runs is done, or another process has seen to it."""
    store = Store(catalog)
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(poll, left))
        there = {one.run_id: one.folder for one in noted(store)}
        if any(name not in there or is_done(store, there[name]) for name in runs):
            return


def _elsewhere(catalog: str, run_id: str) -> Finished:
    """A run that is committed already, perhaps by another process."""
    runs = Ledger(catalog).runs()
    for run in runs:
        if run.run_id == run_id:
            nothing = Inputs((), ())
            result = result_of(run.manifest, nothing, 0, 0.0)
            return Finished(night=run.night, run_id=run_id, state=COMMITTED, result=result)
    there = ", ".join(one.run_id for one in noted(Store(catalog))) or "none"
    raise CatalogError([f"{catalog}: no run {run_id!r} is under way or committed; under way are: {there}"])


def _look(catalog: str, night: str | None, run_id: str | None, settled: Collection[str]) -> list[Finished]:
    with lock(catalog):
        recover(catalog)
        there = [one for one in noted(Store(catalog)) if one.run_id not in settled]
        return [_finish(catalog, one) for one in there if night in (None, one.night) and run_id in (None, one.run_id)]


def _finish(catalog: str, detached: Detached) -> Finished:
    """One run: say how it stands, or commit it."""
    store = Store(catalog)
    ledger = Ledger(store)
    about = {"night": detached.night, "run_id": detached.run_id, "strict": detached.strict}
    try:
        manifest = _manifest(ledger, detached)
        if manifest is None:
            if not is_done(store, detached.folder):
                return Finished(**about, **_waiting(detached))  # type: ignore[arg-type]
            manifest = _commit(catalog, ledger, detached)
    except SumsError as error:
        return Finished(**about, state=SUMS, told=error.faults)  # type: ignore[arg-type]
    except CatalogError as error:
        return Finished(**about, state=STALE, told=error.faults)  # type: ignore[arg-type]
    clear(store, detached)
    seconds = manifest["timing"]["seconds"]
    result = result_of(manifest, detached.inputs, detached.skipped, seconds)
    return Finished(**about, state=COMMITTED, result=result)  # type: ignore[arg-type]


def _waiting(detached: Detached) -> dict[str, Any]:
    """How a run stands whose graph has not come to its end, by what its job server says; Dataflow is not asked."""
    state = job_state(detached.endpoint, detached.job) if detached.endpoint and detached.job else ""
    if state in GONE:
        told = f"the {detached} has ended in state {state}: give it up with --abandon {detached.run_id}, and run again"
        return {"state": LOST, "told": (told,)}
    told = f"the {detached} is not done; has its engine given it up: --abandon {detached.run_id}"
    return {"state": UNDER_WAY, "told": (told,)}


def _manifest(ledger: Ledger, detached: Detached) -> dict[str, Any] | None:
    """The manifest of a run that was committed by a process which was killed before it cleared up; else None."""
    for run in ledger.runs(detached.night):
        if run.run_id == detached.run_id and (run.run_id, run.sequence) not in detached.base:
            return dict(run.manifest)
    return None


def _commit(catalog: str, ledger: Ledger, detached: Detached) -> dict[str, Any]:
    if (now := _live(ledger, detached.night)) != detached.base:
        raise CatalogError(
            [
                f"run {detached.run_id} was planned against {_names(detached.base)} of night {detached.night}, and the "
                f"catalog now holds {_names(now)}: it may hold rows that another run holds too; give it up with "
                "--abandon, and run the night again"
            ]
        )
    check_catalog(catalog, detached.fields["order"], {})
    source = Store(_place(catalog, detached))
    staged = staged_files(_place(catalog, detached))
    counts = counted(_place(catalog, detached))
    stages = close_sums(counts, staged, detached.fields, detached.inputs)
    _copy(source, Store(staging_folder(catalog, detached.run_id)), staged)
    timing = timing_of(_seconds(source, detached), detached.processes, counts)
    fields = {**detached.fields, "stages": stages, "timing": timing}
    return commit(catalog, detached.run_id, staged, fields, detached.inputs)


def _names(runs: Sequence[tuple[str, int]]) -> str:
    return ("the runs " if len(runs) > 1 else "run ") + " and ".join(name for name, _ in runs) if runs else "no run"


def _seconds(source: Store, detached: Detached) -> float:
    """From when the job was submitted until its last note."""
    end = time.time()
    with suppress(NotImplementedError):  # not every file system tells
        end = max(source.modified(name) for name in (LISTED, COUNTED))
    return max(0.0, end - (detached.submitted or detached.planned))


def _copy(source: Store, target: Store, staged: Sequence[StagedFile]) -> None:
    """Copy files to where a commit takes them from; time has passed, and each must be what the graph has listed."""

    def one(file: StagedFile) -> str:
        sha = hashlib.sha256()
        try:
            with source.open(file.path) as data, target.create(file.path, durable=False) as copy:
                while chunk := data.read(_CHUNK):
                    sha.update(chunk)
                    copy.write(chunk)
        except FileNotFoundError:
            return f"{file.path} of the graph is gone"
        return "" if sha.hexdigest() == file.sha256 else f"{file.path} is not what the graph has listed"

    with ThreadPoolExecutor(COPIES) as pool:
        faults = [fault for fault in pool.map(one, staged) if fault]
    if faults:
        raise SumsError(faults)


def abandon(catalog: str, run_id: str) -> Detached:
    """Give a detached run up: what its graph wrote is removed, and its night can be run again.

    Parameters
    ----------
    catalog : str
        Its root.
    run_id : str
        The run; its job, if it still works, writes to a folder that the next run clears away.

    Returns
    -------
    Detached
        What it was.

    Raises
    ------
    CatalogError
        Where there is no catalog, or no detached run has this id.
    """
    _exists(catalog)
    with lock(catalog):
        store = Store(catalog)
        for one in noted(store):
            if one.run_id == run_id:
                clear(store, one)
                return one
        there = ", ".join(one.run_id for one in noted(store)) or "none"
        raise CatalogError([f"{catalog}: no detached run {run_id!r} is under way; there are: {there}"])
