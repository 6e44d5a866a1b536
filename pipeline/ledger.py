"""What was done already: the manifests of the live runs and the input files that each of them holds.

A file is in one live run of a night. A run that does files again supersedes the runs that hold rows of them; files
of those runs that are not done again are carried over into the new run (``pipeline.carry``), so nothing is lost. The
one exception is a replay: it adds what was rejected to the rows that the first attempt gave.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pipeline.catalog import RUNS, decode
from pipeline.manifest import Run, live, read_run
from pipeline.sources import Inputs
from pipeline.store import Store
from transforms.columns import INT64, STRING, Column
from transforms.records import FileRef, Reject

INPUT_COLUMNS = (
    Column("source", STRING, "", "meta.id;meta.file", "Input file, as rows name it", nullable=False),
    Column("url", STRING, "", "meta.ref.url", "Full URL of the file", nullable=False),
    Column("digest", STRING, "", "meta.checksum", "SHA-256 of the file, empty where unreadable", nullable=False),
    Column("size", INT64, "byte", "phys.size;meta.file", "Size of the file", nullable=False),
    Column("versions", STRING, "", "meta.version", "Digest of code, models and options", nullable=False),
    Column("rows", INT64, "", "meta.number", "Rows in all tables", nullable=False),
    Column("rejects", INT64, "", "meta.number", "Rows in the rejects", nullable=False),
    Column("outcome", STRING, "", "meta.code", "done, partial, rejected or empty", nullable=False),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What a run of a night has to do.

    Parameters
    ----------
    inputs : Inputs
        Files to process, and inputs refused before that.
    skipped : tuple of FileRef
        Files that are done.
    supersedes, replays : tuple of str
        Live runs that hold rows, or only rejects, of the files to process.
    """

    inputs: Inputs
    skipped: tuple[FileRef, ...]
    supersedes: tuple[str, ...]
    replays: tuple[str, ...]


class Ledger:
    """The committed runs of a catalog.

    Parameters
    ----------
    root : str or Store
        The catalog.
    """

    def __init__(self, root: str | Store) -> None:
        self.store = root if isinstance(root, Store) else Store(root)

    def manifests(self) -> list[Run]:
        """All runs that have a manifest, in the order of their commits.

        Returns
        -------
        list of Run
            Superseded ones too, where their removal was cut off.
        """
        names = [name for name in self.store.find(RUNS) if name.endswith(".json") and "/." not in name]
        return sorted((read_run(self.store, name) for name in names), key=lambda run: (run.sequence, run.run_id))

    def runs(self, night: str | None = None) -> list[Run]:
        """The live runs.

        Parameters
        ----------
        night : str, optional
            Only those of one night.

        Returns
        -------
        list of Run
            In the order of their commits.
        """
        return [run for run in live(self.manifests()) if night in (None, run.night)]

    def order(self) -> int | None:
        """HEALPix order that the catalog was created with.

        Returns
        -------
        int or None
            None where nothing was committed yet.
        """
        return next((run.order for run in self.manifests()), None)

    def inputs(self, runs: Iterable[Run]) -> list[tuple[Run, dict[str, Any]]]:
        """The input files of runs.

        Parameters
        ----------
        runs : iterable of Run
            Live ones.

        Returns
        -------
        list of tuple of Run and dict
            Each entry with the run that holds it; keys as in ``INPUT_COLUMNS``.
        """
        return [(run, entry) for run in runs for entry in self._rows(f"{RUNS}/{run.run_id}.inputs.parquet")]

    def rejects(self, night: str | None = None) -> list[dict[str, Any]]:
        """Rejects of the last attempt of everything.

        Parameters
        ----------
        night : str, optional
            Only those of one night.

        Returns
        -------
        list of dict
            Keys as in ``REJECTS``, and ``run_id``.
        """
        runs = self.runs(night)
        again = self.retried(runs)
        return [
            {**row, "run_id": run.run_id}
            for run in runs
            for file in run.files
            if file.kind == "rejects"
            for row in self._rows(file.path)
            if (run.run_id, row["source"]) not in again
        ]

    def retried(self, runs: Iterable[Run]) -> set[tuple[str, str]]:
        """Which sources of which runs were tried again by a later run.

        Parameters
        ----------
        runs : iterable of Run
            Live ones.

        Returns
        -------
        set of tuple of str
            ``(run_id, source)``.
        """
        entries = self.inputs(run for run in runs if run.replays)
        return {(old, entry["source"]) for run, entry in entries for old in run.replays}

    def done_files(self, night: str, versions: str) -> frozenset[str]:
        """Digests of the files of a night that need not be processed again.

        Parameters
        ----------
        night : str
            The night.
        versions : str
            From ``versions_digest``.

        Returns
        -------
        frozenset of str
            Of files whose every live entry was made by these versions.
        """
        found: dict[str, bool] = {}
        for _, entry in self.inputs(self.runs(night)):
            if entry["digest"]:
                found[entry["digest"]] = found.get(entry["digest"], True) and entry["versions"] == versions
        return frozenset(digest for digest, done in found.items() if done)

    def plan(self, inputs: Inputs, night: str, versions: str, force: bool = False) -> Work:
        """Say what is left to do of a night.

        Parameters
        ----------
        inputs : Inputs
            All that the user named for this night, with digests.
        night, versions : str
            Of the run.
        force : bool
            Do again what is done.

        Returns
        -------
        Work
            Files to process, and the live runs that this replaces. A file with the name of another one, but from
            another place and with other bytes, goes under its URL.
        """
        entries = self.inputs(self.runs(night))
        done = frozenset() if force else self.done_files(night, versions)
        known = set() if force else {(r["source"], r["url"], r["reason"]) for r in self.rejects(night)}
        todo = _distinct((file for file in inputs.files if file.digest not in done), entries)
        rejects = tuple(r for r in inputs.rejects if (r.source, r.url, r.reason) not in known)
        again = matcher((*todo, *rejects))
        held = [(run, entry) for run, entry in entries if again(entry)]
        supersedes = {run.run_id for run, entry in held if entry["rows"]}
        replays = {run.run_id for run, _ in held} - supersedes
        return Work(
            inputs=Inputs(todo, rejects),
            skipped=tuple(file for file in inputs.files if file.digest in done),
            supersedes=tuple(sorted(supersedes)),
            replays=tuple(sorted(replays)),
        )

    def _rows(self, name: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = decode(self.store.read(name)).to_pylist()
        return rows


def matcher(files: Iterable[FileRef | Reject]) -> Callable[[Mapping[str, Any]], bool]:
    """Make the test whether a ledger entry is one of these files: the same bytes, or the same name and place.

    Parameters
    ----------
    files : iterable of FileRef or Reject
        Inputs of a run.

    Returns
    -------
    callable
        ``test(entry) -> bool``.
    """
    files = list(files)
    digests = {file.digest for file in files if file.digest}
    places = {(file.source, file.url) for file in files}
    return lambda entry: entry["digest"] in digests or (entry["source"], entry["url"]) in places


def _distinct(files: Iterable[FileRef], entries: Iterable[tuple[Run, Mapping[str, Any]]]) -> tuple[FileRef, ...]:
    """Name a file by its URL where its name belongs to another file already: rows are known by their source."""
    taken: dict[str, list[Mapping[str, Any]]] = {}
    for _, entry in entries:
        taken.setdefault(entry["source"], []).append(entry)
    return tuple(
        replace(file, source=file.url)
        if any(e["url"] != file.url and e["digest"] != file.digest for e in taken.get(file.source, ()))
        else file
        for file in files
    )
