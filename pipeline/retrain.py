"""From a catalog and a label file to what a retraining is made from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow as pa

from finetune import tasks
from finetune.dataset import RADIUS, Join
from finetune.labels import LabelError, read_labels
from finetune.snapshot import Material
from pipeline.catalog import PRIMARY, UNPLACED, decode
from pipeline.drift import summary
from pipeline.drift_table import read_drift
from pipeline.hats import CatalogError
from pipeline.ledger import Ledger
from transforms.records import FileRef, Identity
from transforms.store import Store

_COLUMNS = ["object_id", "ra", "dec", "source", "hdu", "row"]
SHOWN = 3


def gather(
    root: str,
    task: str,
    labels: str,
    *,
    radius: float = RADIUS,
    columns: Mapping[str, str] = MappingProxyType({}),
    options: Mapping[str, Any] = MappingProxyType({}),
    taught: Mapping[str, Sequence[str]] = MappingProxyType({}),
    add: Sequence[str] = (),
) -> Material:
    """Join labels to the rows of a catalog.

    Parameters
    ----------
    root : str
        The catalog.
    task : str
        Name of the task.
    labels : str
        Label file on a local disk.
    radius : float
        Of a match by position, arcsec.
    columns : mapping of str to str
        Our name of a label column to the one in the file, where they differ.
    options : mapping
        Of the training, handed on.
    taught : mapping of str to sequence of str
        Classes that the model in production was taught, and the ``object_id`` of their examples: each has that label,
        unless the file gives it another.
    add : sequence of str
        Further classes that may be added, handed on.

    Returns
    -------
    Material
        For ``finetune.retrain.run_retrain``.

    Raises
    ------
    LabelError
        Where the labels cannot be read, or none of them matches; it shows three of each side.
    CatalogError
        Where there is no catalog, or a file of it is damaged.
    """
    wanted = tasks.get(task)
    if not Path(labels).is_file():
        raise LabelError(f"labels {labels!r} cannot be read: no such file on this machine")
    join = Join(read_labels(labels, wanted.label_columns, columns), radius)
    store = Store(root)
    ledger = Ledger(store)
    runs = ledger.runs()
    if not runs:
        raise CatalogError([f"{root!r} is no catalog: no run was committed to it"])
    entries = {(run.run_id, entry["source"]): entry for run, entry in ledger.inputs(runs)}
    names = _names(entries)
    found: list[dict[str, Any]] = []
    files: dict[str, FileRef] = {}
    rows: list[dict[str, Any]] = []
    for run in runs:
        for file in run.files:
            if file.table == task and file.kind in (PRIMARY, UNPLACED):
                rows += [{**row, "run": run.run_id} for row in _read(store, file.path)]
    counts = Counter((row["run"], row["source"]) for row in rows)
    lessons = {one: {wanted.label_columns[0]: name} for name, examples in taught.items() for one in examples}
    by_example = 0
    for row in rows:
        key = (row["run"], row["source"])
        number = join.find(Identity(**{name: row[name] for name in _COLUMNS}), counts[key] == 1)
        lesson = lessons.get(row["object_id"], {}) if number is None else {}
        by_example += bool(lesson)
        label = join.rows[number] if number is not None else lesson
        values = {name: label.get(name) for name in wanted.label_columns}
        if all(value is None for value in values.values()):
            continue
        entry, source = entries[key], names[key]
        group = label.get("group") or label.get("object_id") or row["object_id"] or source
        origin = label.get("origin") or ""
        found.append(
            {"source": source, "hdu": row["hdu"], "row": row["row"], "group": str(group), "origin": origin, **values}
        )
        files[source] = FileRef(url=entry["url"], source=source, size=entry["size"], digest=entry["digest"])
    if not join.used:
        raise LabelError(_nothing(labels, join.rows, task, rows))
    found.sort(key=lambda row: (row["source"], row["hdu"], row["row"]))
    return Material(
        given=labels, rows=tuple(found), files=tuple(files[name] for name in sorted(files)),
        counts={"rows": len(rows), "matched": len(found), "labels": len(join.rows),
                "labels_without_row": len(join.rows) - len(join.used), "taught": by_example},
        alarms=alarms(store, task), options=dict(options), add=tuple(add),
    )  # fmt: skip


def alarms(store: Store, task: str) -> tuple[str, ...]:
    """What has drifted of a task and does so still.

    Parameters
    ----------
    store : Store
        The catalog; its drift table may not be there.
    task : str
        Name of the task.

    Returns
    -------
    tuple of str
        ``"kind column since night"``, in order of significance: alarms of the last night of the table.
    """
    rows = [row for row in read_drift(store) if row["table_name"] == task]
    last = max((row["night"] for row in rows), default="")
    return tuple(
        f"{row['kind']} {row['column_name']} since {row['since']}" for row in summary(rows) if row["until"] == last
    )


def _names(entries: Mapping[tuple[str, str], Mapping[str, Any]]) -> dict[tuple[str, str], str]:
    """Names of files that are unique: nights may use the same names again."""
    meant: dict[str, set[str]] = {}
    for (_, source), entry in entries.items():
        meant.setdefault(source, set()).add(entry["digest"])
    return {
        key: key[1] if len(meant[key[1]]) == 1 else f"{entry['digest'][:12]}/{key[1]}" for key, entry in entries.items()
    }


def _read(store: Store, path: str) -> list[dict[str, Any]]:
    try:
        rows: list[dict[str, Any]] = decode(store.read(path), _COLUMNS).to_pylist()
    except (FileNotFoundError, pa.ArrowException) as error:
        raise CatalogError([f"{path!r} cannot be read: {error}; nightcat verify tells what else is"]) from error
    return rows


def _nothing(labels: str, rows: Sequence[Mapping[str, Any]], task: str, there: Sequence[Mapping[str, Any]]) -> str:
    """Say that nothing matched, with three of each side."""

    def name(row: Mapping[str, Any]) -> str:
        keys = ("object_id", "source", "hdu", "row", "ra", "dec")
        return " ".join(f"{key}={row[key]!r}" for key in keys if row.get(key) not in (None, ""))

    mine = "; ".join(name(row) for row in rows[:SHOWN])
    theirs = "; ".join(name(row) for row in there[:SHOWN]) or "none"
    return (
        f"none of the {len(rows)} labels of {labels!r} matches one of the {len(there)} rows of table {task!r}. "
        f"Labels: {mine}. Rows: {theirs}"
    )
