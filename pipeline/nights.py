"""One night from its inputs to its commit: recover, plan, run, close the sums, commit.

``pipeline.detached`` does the same in two processes: one plans and submits, another closes the sums and commits.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.device_use import device_use
from pipeline.models import Model
from pipeline.option_kinds import AUTO
from pipeline.options import RunConfig
from pipeline.sources import Inputs, by_night, find_files, fingerprint
from pipeline.tables import table_columns
from pipeline.version import version
from pipeline.workers import EngineError, Workers, forks, worker_count

if TYPE_CHECKING:
    from pipeline.catalog import StagedFile
    from pipeline.survey import Plan

_LOG = logging.getLogger("nightcat")
Watch = Callable[[int, int, str], AbstractContextManager[Any]]


class SumsError(RuntimeError):
    """What came in is not what came out; nothing was committed.

    Parameters
    ----------
    faults : sequence of str
        Sentences that name the stage.
    """

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = tuple(faults)


@dataclass(frozen=True, kw_only=True, slots=True)
class NightResult:
    """What became of one night.

    Parameters
    ----------
    night, run_id : str
        Which night; the run that was committed, empty where nothing was left to do.
    files, skipped : int
        Files processed; files that were done already.
    rows : dict of str to int
        Rows by table.
    rejects : int
        Inputs and parts of inputs that are refused as it stands now.
    stages : dict
        Counts of every stage.
    seconds : float
        Wall time.
    supersedes : tuple of str
        Runs that this one replaced.
    """

    night: str
    run_id: str = ""
    files: int = 0
    skipped: int = 0
    rows: dict[str, int] = field(default_factory=dict)
    rejects: int = 0
    stages: dict[str, dict[str, int]] = field(default_factory=dict)
    seconds: float = 0.0
    supersedes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """What a run of a night will do: with what its graph writes, all that its commit needs.

    Parameters
    ----------
    run_id : str
        A pure function of what goes in.
    fields : mapping
        What the manifest will say, without the counts and the time.
    inputs : Inputs
        What is processed.
    skipped : int
        Files that were done already.
    """

    run_id: str
    fields: Mapping[str, Any]
    inputs: Inputs
    skipped: int


def run_nights(
    config: RunConfig,
    models: Sequence[Model] | Callable[[], Sequence[Model]],
    watch: Watch | None = None,
    workers: Workers | None = None,
) -> list[NightResult]:
    """Process all nights that the inputs hold, one after the other.

    Parameters
    ----------
    config : RunConfig
        The run.
    models : sequence of Model or callable
        One for each task; a callable is called when the inputs are found, and worker processes start meanwhile.
    watch : callable or None
        ``watch(files, bytes, heartbeat_folder) -> context manager``: shows progress while a night runs.
    workers : Workers or None
        Where worker processes come from; None makes a source for these nights.

    Returns
    -------
    list of NightResult
        In the order of the nights.

    Raises
    ------
    InputError, CatalogError, OutputError, EngineError, SumsError
        What stops a run; nights that were committed stay.
    """
    with nullcontext(workers) if workers else Workers() as source:
        nights = by_night(find_files(config.inputs), config.night)
        if any(forks(config, part.files) for part in nights.values()):
            source.start()
        found = models() if callable(models) else models
        for model in found:
            source.preload(model.path, **config.predictor_options(model.device))
        return [run_night(config, found, night, fingerprint(part), watch, source) for night, part in nights.items()]


def run_night(
    config: RunConfig,
    models: Sequence[Model],
    night: str,
    inputs: Inputs,
    watch: Watch | None = None,
    workers: Workers | None = None,
) -> NightResult:
    """Process one night and commit it.

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
    watch : callable or None
        As in ``run_nights``.
    workers : Workers or None
        As in ``run_nights``.

    Returns
    -------
    NightResult
        What became of it.

    Raises
    ------
    CatalogError, OutputError, EngineError, SumsError
        Nothing of this night was committed.
    """
    from pipeline.commit import lock

    started = time.monotonic()
    with lock(config.output):
        planned = plan_night(config, models, night, inputs)
        if isinstance(planned, NightResult):
            return replace(planned, seconds=time.monotonic() - started)
        manifest = _execute(config, models, planned, watch, workers)
    return result_of(manifest, planned.inputs, planned.skipped, time.monotonic() - started)


def plan_night(config: RunConfig, models: Sequence[Model], night: str, inputs: Inputs) -> Planned | NightResult:
    """Clear up after runs that were killed, and say what is left to do of a night; call it under ``commit.lock``.

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
    Planned or NightResult
        The result where nothing is left to do.

    Raises
    ------
    CatalogError
        Where the run does not fit the catalog.
    NightBusy
        Where a detached run of the night is under way: both would hold the same rows.
    """
    from pipeline.commit import check_catalog, recover
    from pipeline.ledger import Ledger
    from pipeline.manifest import make_run_id, task_versions
    from pipeline.underway import check_free

    digests = {model.task: model.digest for model in models}
    versions = task_versions(version(), digests, config.identity())
    recover(config.output)
    check_free(config.output, [night])
    ledger = Ledger(config.output)
    work = ledger.plan(inputs, night, versions, config.force)
    if not work.inputs.files and not work.inputs.rejects:
        return NightResult(night=night, skipped=len(work.skipped), rejects=len(ledger.rejects(night)))
    order = check_catalog(config.output, config.order, {m.task: table_columns(m.task, m.classes) for m in models})
    per_record = Counter(model.record for model in models).values()
    parts = [(f.source, f.digest) for f in work.inputs.files] + [(r.source, r.reason) for r in work.inputs.rejects]
    fields = {
        "night": night,
        "versions": versions,
        "order": order,
        "supersedes": list(work.supersedes),
        "replays": list(work.replays),
        "listed": list(work.listed),
        "models": digests,
        "bundles": dict(config.bundles),
        "options": config.result_options(),
        "package_version": version(),
        "runner": config.runner,
        "tasks_per_record": [min(per_record), max(per_record)],
        "device": sorted({model.device for model in models}),
        "inputs": sorted(config.inputs),
    }
    return Planned(
        run_id=make_run_id(night, parts, versions), fields=fields, inputs=work.inputs, skipped=len(work.skipped)
    )


def result_of(manifest: Mapping[str, Any], inputs: Inputs, skipped: int, seconds: float) -> NightResult:
    """What became of a night that was committed.

    Parameters
    ----------
    manifest : mapping
        Of its run.
    inputs : Inputs
        What was processed.
    skipped : int
        Files that were done already.
    seconds : float
        Wall time.

    Returns
    -------
    NightResult
        For the user.
    """
    tables: Counter[str] = Counter()
    for entry in manifest["files"]:
        if entry["kind"] in ("primary", "unplaced"):
            tables[entry["table"]] += entry["rows"]
    return NightResult(
        night=manifest["night"],
        run_id=manifest["run_id"],
        files=len(inputs.files) + len(inputs.rejects),
        skipped=skipped,
        rows=dict(sorted(tables.items())),
        rejects=manifest["counts"]["total"]["rejects"],
        stages=manifest["stages"],
        seconds=seconds,
        supersedes=tuple(manifest["supersedes"]),
    )


def graph_plan(config: RunConfig, models: Sequence[Model], planned: Planned, staging: str, heartbeat: str = "") -> Plan:
    """What the graph of a night is made from.

    Parameters
    ----------
    config : RunConfig
        The run.
    models : sequence of Model
        One for each task.
    planned : Planned
        From ``plan_night``.
    staging : str
        Folder that the graph writes to.
    heartbeat : str
        Local folder of the heartbeats, empty for none.

    Returns
    -------
    Plan
        For ``pipeline.survey.survey``.
    """
    from pipeline.survey import Plan

    return Plan(
        files=planned.inputs.files,
        rejects=planned.inputs.rejects,
        models=tuple(models),
        reader_options=config.reader_options(),
        measure_options=config.measure_options(),
        night=planned.fields["night"],
        run_id=planned.run_id,
        version=version(),
        staging=staging,
        order=planned.fields["order"],
        heartbeat=heartbeat,
        hints=config.hints(),
    )


def close_sums(
    counts: Mapping[str, int], staged: Sequence[StagedFile], fields: Mapping[str, Any], inputs: Inputs
) -> dict[str, dict[str, int]]:
    """Check that what came in is what came out.

    Parameters
    ----------
    counts : mapping of str to int
        What the stages of the graph have counted.
    staged : sequence of StagedFile
        What it has written.
    fields : mapping
        Of the manifest.
    inputs : Inputs
        What was processed.

    Returns
    -------
    dict
        Counts of every stage, for the manifest.

    Raises
    ------
    SumsError
        Where a sum does not close.
    """
    from pipeline.accounting import check, from_counters

    accounts = from_counters(counts)
    accounts.add("ingest", entered=len(inputs.rejects), rejected=len(inputs.rejects))
    rows = sum(file.rows for file in staged if file.kind in ("primary", "unplaced"))
    refused = sum(file.rows for file in staged if file.kind == "rejects")
    low, high = fields["tasks_per_record"]
    faults = check(accounts, rows, refused, tasks=(low, high))
    if faults:
        raise SumsError(faults)
    return accounts.plain()


def processes_of(config: RunConfig, inputs: Inputs) -> int:
    """How many processes a run is counted with, for what it costs.

    Parameters
    ----------
    config : RunConfig
        The run.
    inputs : Inputs
        What is processed.

    Returns
    -------
    int
        1 where another engine decides.
    """
    return worker_count(config, inputs.files) if isinstance(config.workers, int) or not config.remote else 1


def timing_of(seconds: float, processes: int, counts: Mapping[str, int]) -> dict[str, Any]:
    """What the manifest says of the time of a run.

    Parameters
    ----------
    seconds : float
        Wall time.
    processes : int
        From ``processes_of``.
    counts : mapping of str to int
        What the stages of the graph have counted.

    Returns
    -------
    dict
        ``seconds``, ``processes``, and ``device`` where a model counts what it does.
    """
    timing: dict[str, Any] = {"seconds": round(seconds, 3), "processes": processes}
    return {**timing, "device": use} if (use := device_use(counts)) else timing


def _execute(
    config: RunConfig, models: Sequence[Model], planned: Planned, watch: Watch | None, workers: Workers | None
) -> dict[str, Any]:
    from pipeline.commit import commit, staged_files, staging_folder
    from pipeline.lean import import_beam

    import_beam()
    from pipeline.underway import counted
    from transforms.store import Store

    run_id, inputs = planned.run_id, planned.inputs
    staging = staging_folder(config.output, run_id)
    heartbeat = ""
    if Store(config.output).local:
        heartbeat = f"{Store(staging).root}/.progress"
        Path(heartbeat).mkdir(parents=True, exist_ok=True)
    plan = graph_plan(config, models, planned, staging, heartbeat)
    began = time.monotonic()
    with watch(len(inputs.files), sum(f.size for f in inputs.files), heartbeat) if watch else nullcontext():
        _engine(config, plan, workers)
    staged = staged_files(staging)
    counts = counted(staging)
    stages = close_sums(counts, staged, planned.fields, inputs)
    timing = timing_of(time.monotonic() - began, processes_of(config, inputs), counts)
    return commit(config.output, run_id, staged, {**planned.fields, "stages": stages, "timing": timing}, inputs)


def _engine(config: RunConfig, plan: Plan, workers: Workers | None) -> None:
    """Run the graph, and again where the engine breaks it off."""
    from pipeline.engine import run_graph
    from pipeline.engines import engine_of

    left = engine_of(config.runner).retries if config.retries == AUTO else int(config.retries)
    while True:
        try:
            run_graph(config, plan, workers)
            return
        except EngineError as error:
            if left == 0:
                raise
            _LOG.warning("the engine broke the night off and it is done again, %d more times at most: %s", left, error)
            left -= 1
            _clear(config.output, plan.run_id, plan.heartbeat)


def _clear(output: str, run_id: str, heartbeat: str) -> None:
    """Take away what a run that was broken off has staged: the next one writes the same names."""
    from pipeline.catalog import STAGING
    from transforms.store import Store

    Store(output).remove_tree(f"{STAGING}/{run_id}")
    if heartbeat:
        Path(heartbeat).mkdir(parents=True, exist_ok=True)
