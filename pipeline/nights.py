"""One night from its inputs to its commit: recover, plan, run, close the sums, commit."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.device_use import device_use
from pipeline.models import Model
from pipeline.option_kinds import AUTO
from pipeline.options import RunConfig
from pipeline.sources import Inputs, by_night, find_files, fingerprint
from pipeline.tables import table_columns
from pipeline.version import version
from pipeline.workers import EngineError, Workers, forks, worker_count

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
    from pipeline.commit import check_catalog, lock, recover
    from pipeline.ledger import Ledger
    from pipeline.manifest import make_run_id, task_versions

    started = time.monotonic()
    digests = {model.task: model.digest for model in models}
    versions = task_versions(version(), digests, config.identity())
    with lock(config.output):
        recover(config.output)
        ledger = Ledger(config.output)
        work = ledger.plan(inputs, night, versions, config.force)
        if not work.inputs.files and not work.inputs.rejects:
            return NightResult(
                night=night,
                skipped=len(work.skipped),
                rejects=len(ledger.rejects(night)),
                seconds=time.monotonic() - started,
            )
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
        manifest = _execute(config, models, make_run_id(night, parts, versions), fields, work.inputs, watch, workers)
    tables: Counter[str] = Counter()
    for entry in manifest["files"]:
        if entry["kind"] in ("primary", "unplaced"):
            tables[entry["table"]] += entry["rows"]
    return NightResult(
        night=night,
        run_id=manifest["run_id"],
        files=len(work.inputs.files) + len(work.inputs.rejects),
        skipped=len(work.skipped),
        rows=dict(sorted(tables.items())),
        rejects=manifest["counts"]["total"]["rejects"],
        stages=manifest["stages"],
        seconds=time.monotonic() - started,
        supersedes=tuple(manifest["supersedes"]),
    )


def _execute(
    config: RunConfig,
    models: Sequence[Model],
    run_id: str,
    fields: dict[str, Any],
    inputs: Inputs,
    watch: Watch | None,
    workers: Workers | None,
) -> dict[str, Any]:
    from pipeline.accounting import check, from_counters
    from pipeline.commit import commit, staged_files, staging_folder
    from pipeline.lean import import_beam

    import_beam()
    from pipeline.engine import run_graph
    from pipeline.engines import engine_of
    from pipeline.survey import Plan, counted
    from transforms.store import Store

    staging = staging_folder(config.output, run_id)
    heartbeat = ""
    if Store(config.output).local:
        heartbeat = f"{Store(staging).root}/.progress"
        Path(heartbeat).mkdir(parents=True, exist_ok=True)
    plan = Plan(
        files=inputs.files,
        rejects=inputs.rejects,
        models=tuple(models),
        reader_options=config.reader_options(),
        measure_options=config.measure_options(),
        night=fields["night"],
        run_id=run_id,
        version=version(),
        staging=staging,
        order=fields["order"],
        heartbeat=heartbeat,
        hints=config.hints(),
    )
    began = time.monotonic()
    left = engine_of(config.runner).retries if config.retries == AUTO else int(config.retries)
    with watch(len(inputs.files), sum(f.size for f in inputs.files), heartbeat) if watch else nullcontext():
        while True:
            try:
                run_graph(config, plan, workers)
                break
            except EngineError as error:
                if left == 0:
                    raise
                _LOG.warning(
                    "the engine broke the night off and it is done again, %d more times at most: %s", left, error
                )
                left -= 1
                _clear(config.output, run_id, heartbeat)
    staged = staged_files(config.output, run_id)
    counts = counted(staging)
    accounts = from_counters(counts)
    accounts.add("ingest", entered=len(inputs.rejects), rejected=len(inputs.rejects))
    rows = sum(file.rows for file in staged if file.kind in ("primary", "unplaced"))
    refused = sum(file.rows for file in staged if file.kind == "rejects")
    low, high = fields["tasks_per_record"]
    faults = check(accounts, rows, refused, tasks=(low, high))
    if faults:
        raise SumsError(faults)
    timing: dict[str, Any] = {
        "seconds": round(time.monotonic() - began, 3),
        "processes": worker_count(config, inputs.files) if isinstance(config.workers, int) or not config.remote else 1,
    }
    if use := device_use(counts):
        timing["device"] = use
    return commit(config.output, run_id, staged, {**fields, "stages": accounts.plain(), "timing": timing}, inputs)


def _clear(output: str, run_id: str, heartbeat: str) -> None:
    """Take away what a run that was broken off has staged: the next one writes the same names."""
    from pipeline.catalog import STAGING
    from transforms.store import Store

    Store(output).remove_tree(f"{STAGING}/{run_id}")
    if heartbeat:
        Path(heartbeat).mkdir(parents=True, exist_ok=True)
