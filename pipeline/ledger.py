"""What was done already: the manifests of the live runs and the input files that each of them holds.

The rows of a file are in one live run of a night. A run that does files again supersedes the runs that hold rows of
them (``pipeline.plan``); files of those runs that are not done again are carried over into the new run
(``pipeline.carry``), so nothing is lost. A run that does again what gave rejects only, or that cannot read a file
whose rows are there, *replays* the older run: its rows stay, what it says of the rejects of these files is out of date.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from pipeline.catalog import RUNS, decode
from pipeline.hats import CatalogError
from pipeline.manifest import Run, live, read_run
from pipeline.plan import Work, plan
from pipeline.sources import Inputs
from transforms.columns import INT64, STRING, Column
from transforms.store import Store

INPUT_COLUMNS = (
    Column("source", STRING, "", "meta.id;meta.file", "Input file, as rows name it", nullable=False),
    Column("url", STRING, "", "meta.ref.url", "Full URL of the file", nullable=False),
    Column("digest", STRING, "", "meta.checksum", "SHA-256 of the file, empty where unreadable", nullable=False),
    Column("size", INT64, "byte", "phys.size;meta.file", "Size of the file", nullable=False),
    Column("versions", STRING, "", "meta.version", "Digest of code, model and options, task by task", nullable=False),
    Column("rows", INT64, "", "meta.number", "Rows in all tables", nullable=False),
    Column("rejects", INT64, "", "meta.number", "Rows in the rejects", nullable=False),
    Column("outcome", STRING, "", "meta.code", "done, partial, rejected, duplicate or empty", nullable=False),
)


class Ledger:
    """The committed runs of a catalog.

    Parameters
    ----------
    root : str or Store
        The catalog.
    """

    def __init__(self, root: str | Store) -> None:
        self.store = root if isinstance(root, Store) else Store(root)

    def manifests(self, night: str | None = None) -> list[Run]:
        """All runs that have a manifest, in the order of their commits.

        Parameters
        ----------
        night : str, optional
            Only those of one night: others are not even read, so that a night costs the same after years.

        Returns
        -------
        list of Run
            Superseded ones too, where their removal was cut off.
        """
        return sorted((read_run(self.store, name) for name in self._names(night)), key=_of_commit)

    def _names(self, night: str | None = None) -> list[str]:
        begin = f"{RUNS}/{night}-" if night else f"{RUNS}/"  # a run's id begins with its night
        names = self.store.find(RUNS)
        return [name for name in names if name.startswith(begin) and name.endswith(".json") and "/." not in name]

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
        return live(self.manifests(night))

    def order(self) -> int | None:
        """HEALPix order that the catalog was created with.

        Returns
        -------
        int or None
            None where nothing was committed yet.
        """
        return next((read_run(self.store, name).order for name in self._names()), None)

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
        return self._rejects(self.runs(night))

    def rejects_of(self, run_id: str) -> list[dict[str, Any]]:
        """What one run has refused.

        Parameters
        ----------
        run_id : str
            A committed run.

        Returns
        -------
        list of dict
            Keys as in ``REJECTS``; empty for a run that is not there.
        """
        name = f"{RUNS}/{run_id}.json"
        if not run_id or not self.store.exists(name):
            return []
        files = read_run(self.store, name).files
        return [row for file in files if file.kind == "rejects" for row in self._rows(file.path)]

    def _rejects(self, runs: list[Run]) -> list[dict[str, Any]]:
        again = self.retried(runs)
        return [
            {**row, "run_id": run.run_id}
            for run in runs
            for file in run.files
            if file.kind == "rejects"
            for row in self._rows(file.path)
            if (run.run_id, row["url"]) not in again
        ]

    def retried(self, runs: Iterable[Run]) -> set[tuple[str, str]]:
        """Which places of which runs were tried again by a later run.

        Parameters
        ----------
        runs : iterable of Run
            Live ones.

        Returns
        -------
        set of tuple of str
            ``(run_id, url)``.
        """
        entries = self.inputs(run for run in runs if run.replays)
        return {(old, entry["url"]) for run, entry in entries for old in run.replays}

    def plan(self, inputs: Inputs, night: str, versions: Mapping[str, str], force: bool = False) -> Work:
        """Say what is left to do of a night.

        Parameters
        ----------
        inputs : Inputs
            All that the user named for this night, with digests.
        night : str
            The night.
        versions : mapping of str to str
            Of the run, by task.
        force : bool
            Do again what is done.

        Returns
        -------
        Work
            From ``pipeline.plan.plan``.
        """
        runs = self.runs(night)
        return plan(inputs, self.inputs(runs), self._rejects(runs), versions, force)

    def _rows(self, name: str) -> list[dict[str, Any]]:
        try:
            rows: list[dict[str, Any]] = decode(self.store.read(name)).to_pylist()
        except pa.ArrowException as error:
            raise CatalogError([f"{name!r} is damaged: {error}; nightcat verify tells what else is"]) from error
        return rows


def _of_commit(run: Run) -> tuple[int, str]:
    return run.sequence, run.run_id
