"""What a stream without an end has given, a night at a time, until it is committed to the catalog.

Every bundle writes files that are named by their content, so a bundle that an engine does again writes the same ones.
They hold rows and rejects, each with the alerts that it answers for, and apart from these the alerts that came in. An
object may be answered several times as its alerts arrive; the answer with most alerts counts. A night is committed
when each alert that came in stands behind a row or a reject, and not before: whatever an engine has lost is found.
"""

from __future__ import annotations

import hashlib
import io
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.catalog import REJECTS, StagedFile, to_table
from pipeline.hats import CatalogError
from pipeline.models import Model
from pipeline.options import RunConfig
from pipeline.sources import Inputs
from pipeline.tables import table_columns
from pipeline.version import version
from transforms.columns import REJECTS as REJECT_COLUMNS
from transforms.records import FileRef, Reject
from transforms.store import Store

ARRIVED = "arrived"  #: Folder of the alerts that came in.
PLACES = "alerts"  #: Column: places of the alerts behind a row.
SOURCE = "stream"  #: ``source`` of the rows.
PLAN = "plan.json"
TOO_LATE = "TooLate"  #: Error class of alerts that came when their night was no longer answered.
_GRACE = 3600.0  #: Seconds after the last answer of a night in which it must have landed.
_SAID = ("versions", "models", "bundles", "options", "package_version", "runner", "device")
Answer = tuple[dict[str, Any] | Reject | None, tuple[str, ...]]  #: A row, a reject or neither, and its alerts.


class NotComplete(CatalogError):
    """Alerts of a night have come in and not come out; nothing was committed."""


def plan_of(config: RunConfig, models: Sequence[Model], noon: float, lateness: float) -> dict[str, Any]:
    """What the rows of a stream depend on.

    Parameters
    ----------
    config : RunConfig
        The configuration.
    models : sequence of Model
        One for each task.
    noon, lateness : float
        As in ``pipeline.unbounded.StreamPlan``.

    Returns
    -------
    dict
        Plain values, for the manifest of each night.
    """
    from pipeline.manifest import task_versions

    digests = {model.task: model.digest for model in models}
    return {
        "versions": task_versions(version(), digests, config.identity()),
        "noon": noon,
        "lateness": lateness,
        "models": digests,
        "classes": {model.task: list(model.classes) for model in models},
        "bundles": dict(config.bundles),
        "options": config.result_options(),
        "package_version": version(),
        "runner": config.runner,
        "device": sorted({model.device for model in models}),
    }


def claim(landing: str, plan: Mapping[str, Any]) -> None:
    """Make a folder that of one stream and its models.

    Parameters
    ----------
    landing : str
        Folder or URL.
    plan : mapping
        From ``plan_of``.

    Raises
    ------
    CatalogError
        Where rows of other models or options lie there.
    """
    store = Store(landing)
    if not store.exists(PLAN):
        store.write(PLAN, json.dumps(plan, indent=1, sort_keys=True).encode())
        return
    there = json.loads(store.read(PLAN))
    if there["versions"] != plan["versions"]:
        raise CatalogError(
            [f"--landing {landing!r} holds answers of other models, options or of another nightcat: take a new folder"]
        )


def write(landing: str, night: str, answers: Iterable[Answer], package: str) -> None:
    """Write what a bundle gave.

    Parameters
    ----------
    landing : str
        Folder or URL.
    night : str
        Of all of it.
    answers : iterable of (dict or Reject or None, tuple of str)
        Rows and rejects with their alerts; None for alerts that came in.
    package : str
        Version of the package, for the rejects.
    """
    store = Store(landing)
    groups: dict[str, list[Answer]] = defaultdict(list)
    for one in answers:
        found = one[0]
        name = ARRIVED if found is None else REJECTS if isinstance(found, Reject) else found["task"]
        groups[name].append(one)
    for name, own in sorted(groups.items()):
        places = pa.array([list(alerts) for _, alerts in own], pa.list_(pa.string()))
        if name == ARRIVED:
            table = pa.table({PLACES: places})
        else:
            told = {"night": night, "package_version": package}
            rows = [asdict(one) | told if isinstance(one, Reject) else dict(one or {}) for one, _ in own]
            columns = _columns(name, {})
            table = to_table([{c.name: row.get(c.name) for c in columns} for row in rows], columns, name)
            table = table.append_column(PLACES, places)
        out = io.BytesIO()
        pq.write_table(table, out, compression="zstd")
        data = out.getvalue()
        store.write(f"{night}/{name}/{hashlib.sha256(data).hexdigest()}.parquet", data)


def _columns(name: str, classes: Mapping[str, Sequence[str]]) -> Any:
    return REJECT_COLUMNS if name == REJECTS else table_columns(name, tuple(classes.get(name, ())))


def nights(landing: str) -> list[str]:
    """Nights of which something lies in a folder.

    Parameters
    ----------
    landing : str
        Folder or URL.

    Returns
    -------
    list of str
        In order.
    """
    from pipeline.sources import is_night

    return sorted(name for name in Store(landing).folders() if is_night(name))


def commit_night(
    catalog: str, landing: str, night: str, order: int | None = None, clock: Callable[[], float] = time.time
) -> dict[str, Any]:
    """Commit a night of a stream; once more where late alerts have come.

    Parameters
    ----------
    catalog : str
        Its root.
    landing : str
        Where the stream lands.
    night : str
        The night.
    order : int or None
        HEALPix order of a new catalog.
    clock : callable
        Unix time, in s.

    Returns
    -------
    dict
        Run id, alerts, rows and rejects; the run id is empty where nothing is new.

    Raises
    ------
    NotComplete
        Where alerts have not come out yet.
    CatalogError
        Where the folder holds no plan, or a column clashes with the catalog's.
    """
    from pipeline.commit import check_catalog, commit, lock, recover, staging_folder
    from pipeline.ledger import Ledger
    from pipeline.manifest import make_run_id
    from pipeline.underway import check_free

    store = Store(landing)
    if not store.exists(PLAN):
        raise CatalogError([f"{landing!r} is no landing place of a stream: it has no {PLAN}"])
    plan = json.loads(store.read(PLAN))
    names = [name for name in store.find(night) if name.endswith(".parquet") and "/." not in name]
    answers, arrived = _winners(store, night, names)
    answers += _too_late(night, answers, arrived, plan, clock())
    _complete(night, answers, arrived)
    digest = hashlib.sha256("\n".join(names).encode()).hexdigest()
    place = FileRef(url=f"{landing.rstrip('/')}/{night}", source=SOURCE, size=len(names), digest=digest)
    rejects = sum(isinstance(one, Reject) for one, _ in answers)
    told = {"night": night, "alerts": len(arrived), "rows": len(answers) - rejects, "rejects": rejects}
    with lock(catalog):
        recover(catalog)
        check_free(catalog, [night])
        work = Ledger(catalog).plan(Inputs((place,)), night, plan["versions"])
        if not work.inputs.files:
            return {"run_id": "", **told}
        tables = {task: _columns(task, plan["classes"]) for task in plan["models"]}
        order = check_catalog(catalog, order, tables)
        run_id = make_run_id(night, [(place.source, place.digest)], plan["versions"])
        fields = {
            **{key: plan[key] for key in _SAID},
            "night": night, "order": order, "supersedes": list(work.supersedes), "replays": list(work.replays),
            "listed": [], "tasks_per_record": [len(plan["models"])] * 2, "inputs": [landing], "stream": told,
        }  # fmt: skip
        staging = staging_folder(catalog, run_id)
        staged = list(_stage(staging, run_id, order, night, plan, tables, answers))
        commit(catalog, run_id, staged, fields, work.inputs)
    return {"run_id": run_id, **told}


def _winners(store: Store, night: str, names: Iterable[str]) -> tuple[list[Answer], set[str]]:
    """The answer of each object and task that stands on most alerts, and all alerts that came in."""
    best: dict[tuple[str, ...], Answer] = {}
    arrived: set[str] = set()
    for name in sorted(names):
        kind = name.split("/")[1]
        for row in pq.read_table(io.BytesIO(store.read(name))).to_pylist():
            alerts = tuple(sorted(row.pop(PLACES)))
            if kind == ARRIVED:
                arrived.update(alerts)
                continue
            answer: Any = row
            if kind == REJECTS:
                known = {
                    key: value for key, value in row.items() if key in Reject.__dataclass_fields__ and value is not None
                }
                answer = Reject(**known)
            # an alert without an object stands for itself
            key = (row["task"] or "", row["object_id"] or alerts[0])
            if key not in best or len(alerts) > len(best[key][1]):
                best[key] = (answer, alerts)
    return [best[key] for key in sorted(best)], arrived


def _too_late(
    night: str, answers: Iterable[Answer], arrived: set[str], plan: Mapping[str, Any], now: float
) -> list[Answer]:
    """Rejects for alerts of a night that the engine answers no more: it drops what comes later still."""
    evening = datetime.fromisoformat(night).replace(tzinfo=UTC).timestamp()
    if now < evening + 86_400 + 3600 * plan["noon"] + plan["lateness"] + _GRACE:
        return []
    found: list[Answer] = []
    for alert in sorted(arrived - {one for _, alerts in answers for one in alerts}):
        partition, _, offset = alert.rpartition("/")
        reason = f"the alert {alert} of night {night} came more than {plan['lateness'] / 3600:g} h after it was over"
        reject = Reject(
            source=SOURCE, hdu=partition, row=int(offset), stage="read", error=TOO_LATE, reason=reason, url=SOURCE
        )
        found.append((reject, (alert,)))
    return found


def _complete(night: str, answers: Iterable[Answer], arrived: set[str]) -> None:
    out = {alert for _, alerts in answers for alert in alerts}
    missing, unknown = sorted(arrived - out), sorted(out - arrived)
    if missing or unknown:
        one = (missing or unknown)[0]
        what = "have come in and are behind no row and no reject yet" if missing else "have come out but not in"
        raise NotComplete(
            [f"night {night}: {len(missing or unknown)} alerts {what}, such as {one}; nothing was committed"]
        )


def _stage(
    staging: str,
    run_id: str,
    order: int,
    night: str,
    plan: Mapping[str, Any],
    tables: Mapping[str, Any],
    answers: Iterable[Answer],
) -> Iterator[StagedFile]:
    """The sinks of the nightly graph, called one after the other: a night of a stream is rows already."""
    from pipeline.sinks import PlaceFn, WriteFn

    step = PlaceFn(staging, order, night, plan["package_version"], tables)
    step.start_bundle()
    parts: dict[Any, list[Any]] = defaultdict(list)
    for answer, _ in answers:
        if answer is not None:
            for key, part in step.process(answer):
                parts[key].append(part)
    for value in step.finish_bundle():
        parts[value.value[0]].append(value.value[1])
    writer = WriteFn(staging, run_id, order, tables)
    for key in sorted(parts):
        yield from writer.process((key, parts[key]))
