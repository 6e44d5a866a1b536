"""Labels from a catalog: what an earlier run answered, for a training on other files or of another kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import fsspec

from finetune.labels import LabelError
from finetune.task import Task
from pipeline.embedded import read_rows
from pipeline.hats import CatalogError
from pipeline.tables import table_columns
from transforms.flags import bits

#: Answers that say of themselves that they are no good teach nobody.
DOUBTFUL = ("MODEL_FAILED", "OUT_OF_SUPPORT", "NOVEL", "AMBIGUOUS", "DISAGREE")
_IDENTITY = ("object_id", "ra", "dec", "mjd", "flags", "source", "hdu", "row")
_FILE = ("source", "hdu", "row")


def is_catalog(url: str) -> bool:
    """Whether labels are a folder, which can only be a catalog.

    Parameters
    ----------
    url : str
        Path or URL.

    Returns
    -------
    bool
        True for a folder.
    """
    fs, path = fsspec.core.url_to_fs(url)
    return bool(fs.isdir(path))


def catalog_labels(catalog: str, task: Task, names: Mapping[str, str] = MappingProxyType({})) -> list[dict[str, Any]]:
    """Rows of a catalog as labels of a task.

    Parameters
    ----------
    catalog : str
        Its root.
    task : Task
        Whose table is read, and whose labels are wanted.
    names : mapping of str to str
        Label to column of the table; the column ``best_<label>`` where not said, or the label's own.

    Returns
    -------
    list of dict
        One for each object: ``object_id``, ``ra``, ``dec``, ``group``, ``origin``, the labels, and the file where no
        other object has the same. Of several rows of an object the surest answer counts: the one of the largest
        ``best_p_max`` (classes), else the latest. Rows with a flag of ``DOUBTFUL`` or without an answer are left out.

    Raises
    ------
    LabelError
        Where a column is not in the table, or nothing is left.
    CatalogError
        Where there is no catalog.
    """
    there = {column.name for column in table_columns(task.name)}
    columns = {}
    for label in task.label_columns:
        wanted = [names[label]] if label in names else [f"best_{label}", label]
        found = next((name for name in wanted if name in there), "")
        if not found:
            raise LabelError(f"table {task.name!r} of catalog {catalog!r} lacks {' and '.join(wanted)} (for {label})")
        columns[label] = found
    sure = next((name for name in ("best_p_max", "p_max") if name in there), "mjd")
    read = list(dict.fromkeys([*_IDENTITY, *columns.values(), sure]))
    doubtful, seen = bits(*DOUBTFUL), 0
    best: dict[str, dict[str, Any]] = {}
    try:
        for table in read_rows(catalog, task.name, read, embedded=False):
            for row in table.to_pylist():
                seen += 1
                if row["flags"] & doubtful or all(row[name] is None for name in columns.values()):
                    continue
                one = best.get(row["object_id"])
                if one is None or _order(row, sure) > _order(one, sure):
                    best[row["object_id"]] = row
    except OSError as error:
        raise CatalogError([f"{catalog!r} cannot be read: {error}"]) from error
    if not best:
        raise LabelError(f"table {task.name!r} of catalog {catalog!r} has no answer to learn from in {seen} rows")
    rows = [best[name] for name in sorted(best)]
    files = Counter(tuple(row[name] for name in _FILE) for row in rows)
    return [_label(row, columns, catalog, files[tuple(row[name] for name in _FILE)] == 1) for row in rows]


def _order(row: Mapping[str, Any], sure: str) -> tuple[float, float]:
    return tuple(float("-inf") if row[name] is None else float(row[name]) for name in (sure, "mjd"))  # type: ignore[return-value]


def _label(row: Mapping[str, Any], columns: Mapping[str, str], catalog: str, alone: bool) -> dict[str, Any]:
    file = {name: row[name] for name in _FILE} if alone else {}
    labels = {label: row[name] for label, name in columns.items()}
    own = {name: row[name] for name in ("object_id", "ra", "dec")}
    return {
        **own,
        **file,
        **labels,
        "group": row["object_id"],
        "origin": f"catalog {catalog.rstrip('/').split('/')[-1]}",
    }
