"""Manifests: what a committed run says of itself, and the names that runs go by."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.catalog import StagedFile
from pipeline.hats import CatalogError
from transforms.columns import Column
from transforms.store import Store


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Run:
    """A committed run.

    Parameters
    ----------
    run_id, night : str
        Its identity.
    versions : mapping of str to str
        Of its own files, by task.
    sequence : int
        Commits are numbered: a run supersedes only earlier ones.
    order : int
        HEALPix order of its pixels.
    supersedes, replays : tuple of str
        Runs that it replaces; runs whose rejects it did again.
    files : tuple of StagedFile
        Its data files.
    columns : mapping of str to tuple of Column
        Of its tables.
    manifest : mapping
        All that its manifest says.
    """

    run_id: str
    night: str
    versions: Mapping[str, str]
    sequence: int
    order: int
    supersedes: tuple[str, ...]
    replays: tuple[str, ...]
    files: tuple[StagedFile, ...]
    columns: Mapping[str, tuple[Column, ...]] = field(repr=False)
    manifest: Mapping[str, Any] = field(repr=False)


def task_versions(package: str, models: Mapping[str, str], options: Mapping[str, Any]) -> dict[str, str]:
    """Digest of all but the inputs that the rows of a task depend on.

    Parameters
    ----------
    package : str
        Version of the package.
    models : mapping of str to str
        Digest of the model of each task.
    options : mapping
        Options that change results; plain values.

    Returns
    -------
    dict of str to str
        16 hexadecimal digits by task.
    """

    def digest(model: str) -> str:
        text = json.dumps([package, model, dict(options)], sort_keys=True, default=list)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    return {task: digest(model) for task, model in sorted(models.items())}


def format_versions(versions: Mapping[str, str]) -> str:
    """Write versions as one string.

    Parameters
    ----------
    versions : mapping of str to str
        By task.

    Returns
    -------
    str
        ``"task:digest task:digest"``, sorted.
    """
    return " ".join(f"{task}:{digest}" for task, digest in sorted(versions.items()))


def parse_versions(text: str) -> dict[str, str]:
    """Read what ``format_versions`` wrote.

    Parameters
    ----------
    text : str
        As in the ledger.

    Returns
    -------
    dict of str to str
        By task.
    """
    return dict(part.split(":", 1) for part in text.split())


def make_run_id(night: str, parts: Iterable[Collection[str]], versions: Mapping[str, str]) -> str:
    """Name of a run: a pure function of what goes in.

    Parameters
    ----------
    night : str
        ``YYYY-MM-DD``.
    parts : iterable of collection of str
        ``(source, digest)`` of each input, in any order; a replay adds what tells its parts apart.
    versions : mapping of str to str
        From ``task_versions``.

    Returns
    -------
    str
        ``<night>-<12 hexadecimal digits>``.
    """
    text = json.dumps([night, sorted(list(part) for part in parts), format_versions(versions)])
    return f"{night}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def read_run(store: Store, name: str) -> Run:
    """Read one manifest.

    Parameters
    ----------
    store : Store
        The catalog.
    name : str
        Relative path of the manifest.

    Returns
    -------
    Run
        What it says.

    Raises
    ------
    CatalogError
        Where it is no manifest of ours.
    """
    try:
        return as_run(json.loads(store.read(name)))
    except (ValueError, KeyError, TypeError) as error:
        raise CatalogError([f"manifest {name!r} is damaged: {error}"]) from error


def as_run(manifest: Mapping[str, Any]) -> Run:
    """Make a Run of a manifest's content.

    Parameters
    ----------
    manifest : mapping
        Parsed JSON.

    Returns
    -------
    Run
        The same, typed.
    """
    return Run(
        run_id=manifest["run_id"],
        night=manifest["night"],
        versions=dict(manifest["versions"]),
        sequence=manifest["sequence"],
        order=manifest["order"],
        supersedes=tuple(manifest["supersedes"]),
        replays=tuple(manifest["replays"]),
        files=tuple(StagedFile(**entry) for entry in manifest["files"]),
        columns={name: tuple(Column(**c) for c in columns) for name, columns in manifest["tables"].items()},
        manifest=manifest,
    )


def live(runs: Iterable[Run]) -> list[Run]:
    """Leave out runs that a later one supersedes.

    Parameters
    ----------
    runs : iterable of Run
        All.

    Returns
    -------
    list of Run
        In the same order.
    """
    runs = list(runs)
    dead = {(old, run.sequence) for run in runs for old in run.supersedes}
    return [run for run in runs if not any(old == run.run_id and at > run.sequence for old, at in dead)]
