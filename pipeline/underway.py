"""Detached runs that are under way: what their launcher noted, so that another process can commit them.

A run is detached where its launcher submits the job and goes. Its graph writes to a folder of its own below
``.staging``, beside the one that the commit takes files from::

    .staging/<run_id>.<token>/detached.json     written before the job is submitted: all that the commit needs
    .staging/<run_id>.<token>/submitted.json    written after: the engine has the job
    .staging/<run_id>.<token>/staged.json       written by the graph when all files are: what it has written
    .staging/<run_id>.<token>/counts.json       written by the graph when all is counted, before or after the former

The graph is done when both of its notes are there. Each is made of a whole collection, which an engine gives out only
when every bundle before it has ended and counts, so neither is there too early; an engine that does a bundle twice
writes the same content to the same name. The token keeps a job that was given up, and that works on, away from the next
run of the same inputs.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from pipeline.catalog import STAGING
from pipeline.hats import CatalogError
from pipeline.sources import Inputs
from transforms.records import FileRef, Reject
from transforms.store import Busy, Store

NOTE, SUBMITTED, LISTED, COUNTED = "detached.json", "submitted.json", "staged.json", "counts.json"
LAUNCH_SECONDS = 3600.0  #: After which a launcher that has noted no submission is taken for dead.


class NightBusy(Busy):
    """A detached run of this night is under way."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Detached:
    """A run whose launcher does not wait for it.

    Parameters
    ----------
    run_id, night : str
        Its identity.
    folder : str
        Where its graph writes, relative to the catalog's root.
    fields : mapping
        What the manifest will say, without the counts and the time.
    inputs : Inputs
        What is processed.
    skipped : int
        Files that were done already.
    base : tuple of tuple of str and int
        The live runs of the night that it was planned against, with the numbers of their commits.
    runner, endpoint : str
        Beam runner; its job server, which can be asked how the job stands, empty for none.
    processes : int
        For what it costs.
    strict : bool
        Whether rejects are an error.
    planned : float
        Unix time, in s.
    submitted : float or None
        Unix time; None where the launcher has not noted that the engine has the job.
    job : str
        The engine's name of it; empty where the engine told none.
    """

    run_id: str
    night: str
    folder: str
    fields: Mapping[str, Any]
    inputs: Inputs
    skipped: int
    base: tuple[tuple[str, int], ...]
    runner: str
    endpoint: str
    processes: int
    strict: bool
    planned: float
    submitted: float | None = None
    job: str = ""

    def __str__(self) -> str:
        when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(self.submitted or self.planned))
        job = f"job {self.job}" if self.job else "job"
        return f"detached run {self.run_id} ({job} on {self.runner}, since {when})"


def note(store: Store, detached: Detached) -> None:
    """Write all that the commit of a run needs: from here on nobody clears its folder away.

    Parameters
    ----------
    store : Store
        The catalog.
    detached : Detached
        Before its job is submitted.
    """
    content = asdict(detached)
    for name in ("folder", "submitted", "job"):
        del content[name]
    store.write(f"{detached.folder}/{NOTE}", json.dumps(content, indent=1, sort_keys=True).encode())


def note_submitted(store: Store, detached: Detached, job: str) -> Detached:
    """Write that the engine has the job.

    Parameters
    ----------
    store : Store
        The catalog.
    detached : Detached
        That was noted.
    job : str
        The engine's name of it.

    Returns
    -------
    Detached
        With that.
    """
    submitted = {"submitted": time.time(), "job": job}
    store.write(f"{detached.folder}/{SUBMITTED}", json.dumps(submitted).encode())
    return replace(detached, **submitted)  # type: ignore[arg-type]


def noted(store: Store) -> list[Detached]:
    """Read all notes of detached runs.

    Parameters
    ----------
    store : Store
        The catalog.

    Returns
    -------
    list of Detached
        In the order of their run ids.

    Raises
    ------
    CatalogError
        Where a note is none of ours.
    """
    return [one for name in store.folders(STAGING) if (one := _read(store, f"{STAGING}/{name}")) is not None]


def _read(store: Store, folder: str) -> Detached | None:
    try:
        told = json.loads(store.read(f"{folder}/{NOTE}"))
        if store.exists(f"{folder}/{SUBMITTED}"):
            told |= json.loads(store.read(f"{folder}/{SUBMITTED}"))
        inputs = Inputs(
            tuple(FileRef(**file) for file in told["inputs"]["files"]),
            tuple(Reject(**reject) for reject in told["inputs"]["rejects"]),
        )
        base = tuple((str(run), int(number)) for run, number in told["base"])
        return Detached(**{**told, "folder": folder, "inputs": inputs, "base": base})
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise CatalogError(
            [f"{store.path(folder)}/{NOTE} is damaged: {error}; remove that folder to give the detached run up"]
        ) from error


def clear(store: Store, detached: Detached) -> None:
    """Remove the folder of a detached run that is committed or given up.

    Parameters
    ----------
    store : Store
        The catalog.
    detached : Detached
        Which.
    """
    store.remove(f"{detached.folder}/{NOTE}")  # first: what is left without it, the next run clears away
    store.remove_tree(detached.folder)
    if not store.find(STAGING):
        store.remove_tree(STAGING)


def is_done(store: Store, folder: str) -> bool:
    """Say whether the graph of a detached run has come to its end.

    Parameters
    ----------
    store : Store
        The catalog.
    folder : str
        Of the run.

    Returns
    -------
    bool
        True where both notes of the graph are there.
    """
    return store.exists(f"{folder}/{LISTED}") and store.exists(f"{folder}/{COUNTED}")


def counted(staging: str) -> dict[str, int]:
    """Read what the stages have counted.

    Parameters
    ----------
    staging : str
        Folder that a graph which has come to its end wrote to.

    Returns
    -------
    dict of str to int
        By ``"<stage>.<entered, done, rejected or out>"``.
    """
    found: dict[str, int] = json.loads(Store(staging).read(COUNTED))
    return found


def kept_folders(store: Store) -> set[str]:
    """Folders of detached runs that nobody may clear away; call it under ``commit.lock``.

    Parameters
    ----------
    store : Store
        The catalog.

    Returns
    -------
    set of str
        Relative to its root. A launcher that was killed before it noted that the engine has the job leaves a folder
        that is none of them, so that the night can be run again: on a local disk as soon as it does not hold the lock,
        elsewhere after an hour, since there is no lock that would tell. What its job wrote to the end is kept.
    """
    return {
        one.folder
        for one in noted(store)
        if one.submitted is not None
        or is_done(store, one.folder)
        or (not store.local and time.time() - one.planned < LAUNCH_SECONDS)
    }


def check_free(root: str, nights: Collection[str]) -> None:
    """Refuse to work on nights of which a detached run is under way: both would hold the same rows.

    Parameters
    ----------
    root : str
        The catalog.
    nights : collection of str
        Those that are to be changed.

    Raises
    ------
    NightBusy
        Where there is one.
    """
    for one in noted(Store(root)):
        if one.night in nights:
            raise NightBusy(
                f"night {one.night}: the {one} is under way, and would hold the same rows; nightcat finish {root} "
                f"commits it when its job is done, nightcat finish {root} --abandon {one.run_id} gives it up"
            )
