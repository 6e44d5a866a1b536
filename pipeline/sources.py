"""From what the user named to a sorted list of input files with digests: nothing is left out in silence."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

import fsspec

from transforms.records import FileRef, Reject

_GLOB = re.compile(r"[*?\[]")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}\Z")
_CHUNK = 1 << 20


class InputError(ValueError):
    """An input that the user named does not exist or cannot be listed."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """The files of a night, and the inputs that could not even be opened.

    Parameters
    ----------
    files : tuple of FileRef
        Sorted by source, each with its digest.
    rejects : tuple of Reject
        Unreadable folders, files that vanished, files with the same bytes as another.
    """

    files: tuple[FileRef, ...]
    rejects: tuple[Reject, ...] = ()


def find_files(specs: Sequence[str]) -> Inputs:
    """List the files that the inputs name, without reading them.

    Parameters
    ----------
    specs : sequence of str
        Files, folders, globs (any fsspec URL) or ``@list.txt`` with one of them a line.

    Returns
    -------
    Inputs
        Files without digest; ``source`` is the path relative to the input that named it.

    Raises
    ------
    InputError
        For an input that does not exist.
    """
    found: dict[str, FileRef] = {}
    rejects: list[Reject] = []
    for spec, strict in _unfold(specs):
        try:
            for output in _walk(spec):
                if isinstance(output, Reject):
                    rejects.append(output)
                else:
                    found.setdefault(output.url, output)
        except FileNotFoundError as error:
            if strict:
                raise InputError(f"input does not exist: {spec!r}") from error
            rejects.append(_refusal(spec, spec, error))
    return _named(found.values(), rejects)


def _unfold(specs: Iterable[str]) -> Iterator[tuple[str, bool]]:
    for spec in specs:
        if spec.startswith("@"):
            try:
                with fsspec.open(spec[1:], "rt", encoding="utf-8") as stream:
                    lines = [line.strip() for line in stream]
            except FileNotFoundError as error:
                raise InputError(f"list of inputs does not exist: {spec[1:]!r}") from error
            yield from ((line, False) for line in lines if line and not line.startswith("#"))
        else:
            yield spec, True


def _walk(spec: str) -> Iterator[FileRef | Reject]:
    fs, path = fsspec.core.url_to_fs(spec)
    local = "file" in (fs.protocol if isinstance(fs.protocol, tuple) else (fs.protocol,))
    prefix = "" if local else f"{spec.split('://', 1)[0]}://"
    if _GLOB.search(path) and not fs.exists(path):
        root = path[: _GLOB.search(path).start()].rpartition("/")[0]  # type: ignore[union-attr]
        matches = sorted(fs.glob(path))
        if not matches:
            raise FileNotFoundError(spec)
        for match in matches:
            yield from _tree(fs, match, root, prefix, local)
    elif fs.exists(path):
        root = path if fs.isdir(path) else path.rpartition("/")[0]
        yield from _tree(fs, path, root, prefix, local)
    else:
        raise FileNotFoundError(spec)


def _tree(fs: fsspec.AbstractFileSystem, path: str, root: str, prefix: str, local: bool) -> Iterator[FileRef | Reject]:
    def relative(name: str) -> str:
        return name[len(root) :].lstrip("/") if name.startswith(root) else name.lstrip("/")

    if not fs.isdir(path):
        yield FileRef(url=prefix + path, source=relative(path), size=int(fs.size(path) or 0))
        return
    if not local:
        for name, info in fs.find(path, detail=True).items():
            if not _hidden(relative(name)):
                yield FileRef(url=prefix + name, source=relative(name), size=int(info.get("size") or 0))
        return
    failures: list[OSError] = []
    seen: set[str] = set()
    for folder, folders, names in os.walk(path, onerror=failures.append, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link back to a folder that has been walked
            folders[:] = []
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if name.startswith("."):
                continue
            full = f"{folder}/{name}"
            try:
                size = os.path.getsize(full)
            except OSError as error:  # a dangling link, or a file that went while we looked
                yield _refusal(relative(full), full, error)
                continue
            yield FileRef(url=full, source=relative(full), size=size)
    for failure in failures:
        yield _refusal(relative(str(failure.filename)) or ".", str(failure.filename), failure)


def _hidden(source: str) -> bool:
    return any(part.startswith(".") for part in PurePosixPath(source).parts)


def _refusal(source: str, url: str, error: OSError) -> Reject:
    reason = f"cannot read {source}: {error.strerror or error}"
    return Reject(source=source, stage="ingest", error=type(error).__name__, reason=reason, url=url)


def _named(files: Iterable[FileRef], rejects: Iterable[Reject]) -> Inputs:
    """Sort by source; where two inputs give the same relative name, the full URL is the name of both."""
    files = list(files)
    count = Counter(file.source for file in files)
    named = [replace(f, source=f.url) if count[f.source] > 1 else f for f in files]
    return Inputs(tuple(sorted(named, key=lambda f: f.source)), tuple(sorted(rejects, key=lambda r: (r.source, r.url))))


def digest_file(url: str) -> str:
    """SHA-256 of a file's bytes.

    Parameters
    ----------
    url : str
        Any fsspec URL.

    Returns
    -------
    str
        64 hexadecimal digits.

    Raises
    ------
    OSError
        Where it cannot be read.
    """
    sha = hashlib.sha256()
    with fsspec.open(url, "rb") as stream:
        while chunk := stream.read(_CHUNK):
            sha.update(chunk)
    return sha.hexdigest()


def fingerprint(inputs: Inputs, threads: int = 8, progress: Callable[[int], None] | None = None) -> Inputs:
    """Compute every file's digest; refuse files that cannot be read or repeat the bytes of another.

    Parameters
    ----------
    inputs : Inputs
        From ``find_files``.
    threads : int
        Readers in parallel.
    progress : callable or None
        Called with the number of files done so far.

    Returns
    -------
    Inputs
        Files with digests, and what was refused added to the rejects.
    """
    rejects = list(inputs.rejects)
    kept: list[FileRef] = []
    first: dict[str, str] = {}

    def one(file: FileRef) -> FileRef | Reject:
        try:
            return replace(file, digest=digest_file(file.url))
        except OSError as error:
            return _refusal(file.source, file.url, error)

    with ThreadPoolExecutor(threads) as pool:
        for number, file in enumerate(pool.map(one, inputs.files), 1):
            if progress is not None:
                progress(number)
            if isinstance(file, Reject):
                rejects.append(file)
            elif file.size and file.digest in first:
                reason = f"{file.source} has the same bytes as {first[file.digest]}, which was processed"
                rejects.append(
                    Reject(
                        source=file.source,
                        stage="ingest",
                        error="DuplicateFile",
                        reason=reason,
                        digest=file.digest,
                        url=file.url,
                    )
                )
            else:
                first[file.digest] = file.source
                kept.append(file)
    return Inputs(tuple(kept), tuple(sorted(rejects, key=lambda r: (r.source, r.url))))


def by_night(inputs: Inputs, night: str | None) -> dict[str, Inputs]:
    """Split the inputs into nights.

    Parameters
    ----------
    inputs : Inputs
        All of them.
    night : str or None
        The night of all files; where None, the last folder of each file's URL that is a date names it, and rows
        name the file by its path below that folder, however the inputs were named.

    Returns
    -------
    dict of str to Inputs
        By night, in order.

    Raises
    ------
    InputError
        Where no night was given and a file lies in no folder named by a date.
    """
    if night is not None:
        return {night: inputs}
    groups: dict[str, tuple[list[FileRef], list[Reject]]] = {}
    entries: tuple[FileRef | Reject, ...] = (*inputs.files, *inputs.rejects)
    for entry in entries:
        parts = entry.url.split("/")
        dates = [index for index, part in enumerate(parts) if _DATE.match(part)]
        if not dates:
            raise InputError(f"no --night was given and no folder of {entry.url!r} is a date like 2026-11-24")
        files, rejects = groups.setdefault(parts[dates[-1]], ([], []))
        below = replace(entry, source="/".join(parts[dates[-1] + 1 :]) or entry.source)
        if isinstance(below, FileRef):
            files.append(below)
        else:
            rejects.append(below)
    return {name: _named(*groups[name]) for name in sorted(groups)}
