"""Two-phase commit: a run is either not there at all or all there, whatever kills it and when.

Workers write below ``.staging/<run_id>``. The driver then writes an *intent* there, which holds the manifest and what
has to go; from that moment the commit can only go forward. Files are renamed, derived files are written anew, the
manifest follows, and only then go the files of superseded runs. ``recover`` finishes every intent that it finds and
removes the staging of runs that have none, but for detached ones that are under way (``pipeline.underway``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.carry import carry, examine
from pipeline.catalog import INPUTS, PRIMARY, REJECTS, RUNS, STAGING, UNPLACED, StagedFile, encode, to_table
from pipeline.hats import CatalogError, derived, known_columns, merge_columns, refresh
from pipeline.ledger import INPUT_COLUMNS, Ledger
from pipeline.manifest import Run, as_run, format_versions, parse_versions
from pipeline.plan import COPY, Again
from pipeline.sources import DUPLICATE, Inputs
from pipeline.underway import LISTED, kept_folders
from transforms.columns import Column
from transforms.records import FileRef, Reject
from transforms.store import TEMPORARY, Busy, OutputError, Store

DEFAULT_ORDER = 3
LOCK = ".lock"
INTENT = "intent.json"
_OURS = re.compile(
    r"((\w+)/\2(_margin_\d+arcs)?/dataset/Norder=\d+/Dir=\d+/Npix=\d+|\w+/unplaced|rejects|_runs)/"
    r"(?P<run>\d{4}-\d{2}-\d{2}-[0-9a-f]{12})(\.inputs)?\.parquet\Z"
)


class CatalogBusy(Busy):
    """Another run is writing to this catalog."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """What ``recover`` did.

    Parameters
    ----------
    finished : tuple of str
        Runs whose commit was cut off and has been finished.
    removed : tuple of str
        Files of runs that never came to their commit.
    """

    finished: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


@contextmanager
def lock(root: str) -> Iterator[None]:
    """Hold a catalog on a local disk for one writer; the operating system lets go of it when the process ends.

    Parameters
    ----------
    root : str
        The catalog; other file systems than the local one cannot be locked.

    Yields
    ------
    None
        While it is held.

    Raises
    ------
    CatalogBusy
        Where another process holds it.
    OutputError
        Where the folder cannot be made or written.
    """
    with Store(root).held(LOCK, repr(root), CatalogBusy):
        yield


def staging_folder(root: str, run_id: str) -> str:
    """Where the files of a run are staged.

    Parameters
    ----------
    root : str
        The catalog.
    run_id : str
        The run.

    Returns
    -------
    str
        Folder or URL.
    """
    return f"{root.rstrip('/')}/{STAGING}/{run_id}"


def staged_files(staging: str) -> list[StagedFile]:
    """Files that the workers of a run have staged.

    Parameters
    ----------
    staging : str
        Folder that its graph wrote to.

    Returns
    -------
    list of StagedFile
        Sorted.

    Raises
    ------
    FileNotFoundError
        Where the pipeline did not come to its end.
    """
    entries = json.loads(Store(staging).read(LISTED))
    return sorted(StagedFile(**entry) for entry in entries)


def check_catalog(root: str, order: int | None, tables: Mapping[str, tuple[Column, ...]]) -> int:
    """Check, before any work, that a run fits the catalog that is there.

    Parameters
    ----------
    root : str
        The catalog.
    order : int or None
        Wanted HEALPix order of its pixels.
    tables : mapping of str to tuple of Column
        Columns that the run will write, by table.

    Returns
    -------
    int
        The order to use: that of the catalog, else the wanted one, else 3.

    Raises
    ------
    CatalogError
        With every fault.
    """
    store = Store(root)
    faults: list[str] = []
    there = Ledger(store).order()
    if there is not None and order is not None and order != there:
        faults.append(
            f"--order {order} was given, but {root!r} was created with order {there}, which cannot change: "
            "leave the option out, or write to a new catalog"
        )
    for table, columns in tables.items():
        try:
            merge_columns(table, known_columns(store, table), columns)
        except CatalogError as error:
            faults += error.faults
    if faults:
        raise CatalogError(faults)
    return there if there is not None else DEFAULT_ORDER if order is None else order


def commit(
    root: str, run_id: str, staged: Sequence[StagedFile], fields: Mapping[str, Any], inputs: Inputs
) -> dict[str, Any]:
    """Make a run part of the catalog.

    Parameters
    ----------
    root : str
        The catalog.
    run_id : str
        From ``make_run_id``.
    staged : sequence of StagedFile
        From ``staged_files``.
    fields : mapping
        What the manifest says: ``night``, ``versions`` and ``order`` are needed; ``supersedes`` and ``replays`` are
        lists of run ids, ``listed`` folders that were refused before; all else (``stages``, ``models``, ``options``
        ...) goes in as it is.
    inputs : Inputs
        What the run has processed.

    Returns
    -------
    dict
        The manifest.

    Raises
    ------
    CatalogError
        Where a column clashes with the catalog's.
    OutputError
        No space, no permission; a commit that had begun is finished by ``recover``.
    """
    store, staging = Store(root), Store(staging_folder(root, run_id))
    ledger = Ledger(store)
    gone = {*fields.get("supersedes", ()), run_id}
    old = [run for run in ledger.runs(fields["night"]) if run.run_id in gone]
    fresh = _counts(staged)
    again = Again.of(inputs, fields["versions"], fields.get("listed", ()))
    merged, carried = carry(store, staging, run_id, fields["order"], staged, old, again)
    counts, columns = examine(staging, merged)
    entries = _entries(inputs, again, carried, counts, fields["versions"])
    listing = encode(to_table(entries, INPUT_COLUMNS, INPUTS), INPUT_COLUMNS, INPUTS)
    staging.write(f"{RUNS}/{run_id}.inputs.parquet", listing, durable=False)
    total = _counts(merged)
    manifest = {
        **fields,
        "run_id": run_id,
        "sequence": max((run.sequence for run in ledger.manifests()), default=0) + 1,
        "supersedes": sorted(run.run_id for run in old if run.run_id != run_id),
        "replays": sorted({*fields.get("replays", ()), *(r for run in old for r in run.replays)} - gone),
        "counts": {"fresh": fresh, "carried": {name: total[name] - fresh[name] for name in total}, "total": total},
        "tables": {name: [asdict(column) for column in columns[name]] for name in sorted(columns)},
        "files": [file.plain() for file in sorted(merged)],
    }
    derived(store, fields["order"], merged, columns)  # a clash of columns shows before anything moves
    paths = {file.path for file in merged} | {f"{RUNS}/{run_id}.inputs.parquet"}
    remove = {file.path for run in old for file in run.files} | {f"{RUNS}/{r.run_id}.inputs.parquet" for r in old}
    forget = sorted(f"{RUNS}/{run.run_id}.json" for run in old if run.run_id != run_id)
    intent = {"manifest": manifest, "remove": [*sorted(remove - paths), *forget]}
    staging.sync(paths)
    staging.write(INTENT, _json(intent))
    _apply(store, run_id, intent)
    return manifest


def _counts(files: Iterable[StagedFile]) -> dict[str, int]:
    counts = {"rows": 0, "rejects": 0}
    for file in files:
        if file.kind in (PRIMARY, UNPLACED):
            counts["rows"] += file.rows
        elif file.kind == REJECTS:
            counts["rejects"] += file.rows
    return counts


def _entries(
    inputs: Inputs,
    again: Again,
    carried: Iterable[Mapping[str, Any]],
    counts: Mapping[str, tuple[int, int]],
    versions: Mapping[str, str],
) -> list[dict[str, Any]]:
    """The ledger of a run: what was carried, then what it did itself, then how many rows each of them has."""
    entries = {entry["source"]: dict(entry) for entry in carried}
    for folder in again.listed:
        entries[folder] = {"source": folder, "url": folder, "digest": "", "size": 0, "versions": "", "outcome": ""}
    items: list[FileRef | Reject] = [*inputs.rejects, *inputs.files]
    for item in items:  # a file wins over a reject of the same name
        before = parse_versions(entries.get(item.source, {}).get("versions", ""))
        kept = {} if isinstance(item, Reject) else {t: v for t, v in before.items() if t not in versions}
        entries[item.source] = {
            "source": item.source,
            "url": item.url,
            "digest": item.digest,
            "size": getattr(item, "size", 0),
            "versions": format_versions({**kept, **versions}),
            "outcome": COPY if getattr(item, "error", "") == DUPLICATE else "",
        }
    for source, entry in entries.items():
        rows, rejects = counts.get(source, (0, 0))
        outcome = "partial" if rows and rejects else "done" if rows else "rejected" if rejects else "empty"
        entry.update(rows=rows, rejects=rejects, outcome=COPY if entry["outcome"] == COPY else outcome)
    return list(entries.values())


def _json(content: Any) -> bytes:
    return (json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _apply(store: Store, run_id: str, intent: Mapping[str, Any]) -> None:
    """Carry out an intent; may be cut off anywhere and begun again."""
    run: Run = as_run(intent["manifest"])
    staging = f"{STAGING}/{run_id}"
    paths = [*(file.path for file in run.files), f"{RUNS}/{run_id}.inputs.parquet"]
    for path in paths:
        if store.exists(f"{staging}/{path}"):
            store.move(f"{staging}/{path}", path)
        elif not store.exists(path):
            raise OutputError(f"the commit of run {run_id} cannot be finished: {path!r} is neither staged nor in place")
    store.sync(paths)
    gone = {run_id, *run.supersedes}
    kept = [file for other in Ledger(store).runs() if other.run_id not in gone for file in other.files]
    refresh(store, run.order, [*kept, *run.files], run.columns)
    store.write(f"{RUNS}/{run_id}.json", _json(intent["manifest"]))
    for path in intent["remove"]:
        store.remove(path)
    store.remove(f"{staging}/{INTENT}")
    store.remove_tree(staging)
    if not store.find(STAGING):
        store.remove_tree(STAGING)


def recover(root: str) -> Recovered:
    """Clear up after runs that were killed: call it at the start of each run, under ``lock``.

    Parameters
    ----------
    root : str
        The catalog.

    Returns
    -------
    Recovered
        Commits that were finished, and files that were removed.
    """
    store = Store(root)
    if not store.exists(STAGING):
        return Recovered()
    finished = []
    for path in store.find(STAGING):
        if path.endswith(f"/{INTENT}"):
            intent = json.loads(store.read(path))
            _apply(store, intent["manifest"]["run_id"], intent)
            finished.append(intent["manifest"]["run_id"])
    kept = kept_folders(store)
    left = [f"{STAGING}/{name}" for name in store.folders(STAGING) if f"{STAGING}/{name}" not in kept]
    if kept and not left:  # nobody was killed: the catalog need not be listed
        return Recovered(tuple(finished))
    for folder in left if kept else (STAGING,):
        store.remove_tree(folder)
    removed = orphans(store)
    for path in removed:
        store.remove(path)
    return Recovered(tuple(finished), tuple(removed))


def orphans(store: Store) -> list[str]:
    """Data files of ours that no manifest names, and files that were being written when the writer was killed.

    What lies in the folder of a detached run that is under way is none of them: its job may be writing there.

    Parameters
    ----------
    store : Store
        The catalog.

    Returns
    -------
    list of str
        Relative paths.
    """
    runs = Ledger(store).manifests()
    named = {file.path for run in runs for file in run.files}
    named |= {f"{RUNS}/{run.run_id}.inputs.parquet" for run in runs}
    kept = tuple(f"{folder}/" for folder in kept_folders(store))
    return [
        path
        for path in store.find()
        if path not in named and not path.startswith(kept) and (_OURS.match(path) or TEMPORARY.search(path))
    ]
