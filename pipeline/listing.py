"""The files that one input names: a file, a folder, a glob or a URL of any file system."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import PurePosixPath

import fsspec

from pipeline.catalog import RUNS
from pipeline.locations import CACHES, member_url
from transforms.locations import file_system, local_path
from transforms.records import FileRef, Reject

_GLOB = re.compile(r"[*?\[]")
Say = Callable[[str], object]


class InputError(ValueError):
    """An input that the user named does not exist or cannot be listed."""


def walk(spec: str, skipped: Say) -> Iterator[FileRef | Reject]:
    """List the files of one input, without reading them.

    Parameters
    ----------
    spec : str
        File, folder or glob, on this machine or of any fsspec URL.
    skipped : callable
        ``skipped(folder)``: called for a folder below the input that is a catalog of ours, which is no input.

    Yields
    ------
    FileRef or Reject
        Files without digest, and what cannot be named or reached.

    Raises
    ------
    OSError
        Where the input itself is not there, may not be read or is no pattern.
    InputError
        Where the input itself is a catalog.
    LocationError
        For a protocol that is not known or not installed.
    """
    link, _, rest = spec.partition("::")
    if local_path(spec) is None and link in CACHES:
        for output in walk(rest, skipped):
            yield replace(output, url=f"{link}::{output.url}")
        return
    fs, path = file_system(spec)
    if isinstance(fs, fsspec.implementations.local.LocalFileSystem):
        yield from _local(fs, path, spec, skipped)
    else:
        yield from _remote(fs, path, spec, skipped)


def refusal(source: str, url: str, error: BaseException) -> Reject:
    """The reject of an input that cannot be read.

    Parameters
    ----------
    source, url : str
        Of the input.
    error : BaseException
        Why.

    Returns
    -------
    Reject
        Of the stage ``ingest``; bytes of a name that are not UTF-8 are spelled out.
    """
    source, url = _printable(source), _printable(url)
    reason = f"cannot read {source}: {getattr(error, 'strerror', None) or error or type(error).__name__}"
    return Reject(source=source, stage="ingest", error=type(error).__name__, reason=reason, url=url)


def _local(fs: fsspec.AbstractFileSystem, path: str, spec: str, skipped: Say) -> Iterator[FileRef | Reject]:
    if _GLOB.search(path) and not os.path.lexists(path):
        root = _literal(path)
        try:
            matches = sorted(fs.glob(path))
        except ValueError as error:  # no pattern, such as a double star within a name
            raise OSError(errno.EINVAL, str(error), spec) from error
        if not matches:
            os.listdir(root or "/")  # raises where the folder is missing or closed
            raise FileNotFoundError(errno.ENOENT, "no file matches", spec)
        for match in matches:
            folder = _catalog_above(match, root)
            if folder:
                skipped(folder)
            else:
                yield from _tree(match, root, skipped)
        return
    os.stat(path)  # raises where it is missing, or lies in a closed folder
    if os.path.isdir(path):
        os.scandir(path).close()
        if os.path.isdir(f"{path}/{RUNS}"):
            raise InputError(f"input {spec!r} is a catalog of nightcat, not a night of files")
        yield from _tree(path, path, skipped)
    else:
        yield from _tree(path, path.rpartition("/")[0], skipped)


def _tree(path: str, root: str, skipped: Say) -> Iterator[FileRef | Reject]:
    if not os.path.isdir(path):
        yield _measured(path, root)
        return
    failures: list[OSError] = []
    seen: set[str] = set()
    for folder, folders, names in os.walk(path, onerror=failures.append, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link back to a folder that has been walked
            folders[:] = []
            continue
        seen.add(real)
        if RUNS in folders:
            skipped(folder)
            folders[:] = []
            continue
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith("."):
                yield _measured(f"{folder}/{name}", root)
    for failure in failures:
        name = str(failure.filename)
        yield refusal(_below(name, root) or ".", name, failure)


def _measured(path: str, root: str) -> FileRef | Reject:
    try:
        return _found(path, _below(path, root), os.path.getsize(path))
    except OSError as error:  # a dangling link, or a file that went while we looked
        return refusal(_below(path, root), path, error)


def _remote(fs: fsspec.AbstractFileSystem, path: str, spec: str, skipped: Say) -> Iterator[FileRef | Reject]:
    if fs.exists(path):
        root = path if fs.isdir(path) else path.rpartition("/")[0]
        matches = [path]
    elif _GLOB.search(path):
        root, matches = _literal(path), sorted(fs.glob(path))
    else:
        matches = []
    if not matches:
        raise FileNotFoundError(errno.ENOENT, "no file matches", spec)
    sizes: dict[str, int] = {}
    for match in matches:
        if fs.isdir(match):
            sizes.update((name, info.get("size") or 0) for name, info in fs.find(match, detail=True).items())
        else:
            sizes[match] = fs.size(match) or 0
    catalogs = {name.partition(f"/{RUNS}/")[0] for name in sizes if f"/{RUNS}/" in name}
    for folder in sorted(catalogs):
        skipped(member_url(spec, fs, path, folder))
    for name, size in sizes.items():
        source = _below(name, root)
        if not (_hidden(source) or _sort_link(source) or any(name.startswith(f"{folder}/") for folder in catalogs)):
            yield _found(member_url(spec, fs, path, name), source, size)


def _found(url: str, source: str, size: int) -> FileRef | Reject:
    """One file; a name that is not UTF-8 cannot stand in a row, so the file cannot either."""
    try:
        url.encode()
    except UnicodeEncodeError:
        reason = f"the name of {_printable(source)} is not UTF-8, which no row can hold: rename the file"
        return Reject(
            source=_printable(source), stage="ingest", error="FileNameError", reason=reason, url=_printable(url)
        )
    return FileRef(url=url, source=source, size=size)


def _printable(name: str) -> str:
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _literal(pattern: str) -> str:
    """The folder before the first wildcard."""
    match = _GLOB.search(pattern)
    return pattern[: match.start() if match else None].rpartition("/")[0]


def _below(name: str, root: str) -> str:
    return name[len(root) :].lstrip("/") if name.startswith(root) else name.lstrip("/")


def _catalog_above(path: str, root: str) -> str:
    """The folder from ``root`` down to ``path`` that is a catalog, empty where none is."""
    folders: Iterable[PurePosixPath] = (PurePosixPath(path), *PurePosixPath(path).parents)
    inside = (str(folder) for folder in folders if len(str(folder)) >= len(root))
    return next((folder for folder in inside if os.path.isdir(f"{folder}/{RUNS}")), "")


def _hidden(source: str) -> bool:
    return any(part.startswith(".") for part in PurePosixPath(source).parts)


def _sort_link(source: str) -> bool:
    """Say whether a name is a link of an Apache listing that sorts it, ``?C=N;O=D``."""
    return source.rpartition("/")[2].startswith("?")
