"""From what the user named to a sorted list of input files with digests: nothing is left out in silence."""

from __future__ import annotations

import hashlib
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import date

from pipeline.listing import InputError, refusal, walk
from transforms.locations import LocationError, local_path, open_url
from transforms.records import FileRef, Reject

__all__ = ["InputError", "Inputs", "by_night", "digest_and_size", "duplicate", "find_files", "fingerprint", "is_night"]
LOG = logging.getLogger("nightcat")  #: What a user should read though it is no error.
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_CHUNK = 1 << 20
DUPLICATE = "DuplicateFile"  #: Error class of a file that repeats the bytes of another.


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
    catalogs: set[str] = set()
    for spec, strict in _unfold(specs):
        try:
            for output in walk(spec, catalogs.add):
                if isinstance(output, Reject):
                    rejects.append(output)
                else:
                    found.setdefault(output.url, output)
        except (InputError, LocationError):
            raise
        except Exception as error:
            if not _is_of_files(error, spec):
                raise
            if strict:
                raise InputError(_unlisted("input", spec, error)) from error
            rejects.append(refusal(spec, spec, error))
    for folder in sorted(catalogs):
        LOG.warning("%s is a catalog of nightcat, not input: skipped", folder)
    return _named(found.values(), rejects)


def _unfold(specs: Iterable[str]) -> Iterator[tuple[str, bool]]:
    for spec in specs:
        if spec.startswith("@"):
            try:
                with open_url(spec[1:]) as stream:
                    text = stream.read().decode("utf-8-sig").replace("\r", "\n")
            except UnicodeDecodeError as error:
                raise InputError(f"list of inputs is not UTF-8 text: {spec[1:]!r}: {error}") from error
            except Exception as error:
                if not _is_of_files(error, spec[1:]):
                    raise
                raise InputError(_unlisted("list of inputs", spec[1:], error)) from error
            lines = (line.strip() for line in text.split("\n"))
            yield from ((line, False) for line in lines if line and not line.startswith("#"))
        else:
            yield spec, True


def _is_of_files(error: Exception, url: str) -> bool:
    """Say whether an error comes from where the files lie; the clients of remote storage raise what they like."""
    return isinstance(error, OSError) or local_path(url) is None


def _unlisted(what: str, spec: str, error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return f"{what} does not exist: {spec!r}"
    return f"{what} cannot be read: {spec!r}: {getattr(error, 'strerror', None) or error or type(error).__name__}"


def _named(files: Iterable[FileRef], rejects: Iterable[Reject]) -> Inputs:
    """Sort by source; where two inputs give the same relative name, the full URL is the name of both."""
    files = list(files)
    count = Counter(file.source for file in files)
    named = [replace(f, source=f.url) if count[f.source] > 1 else f for f in files]
    return Inputs(tuple(sorted(named, key=lambda f: f.source)), tuple(sorted(rejects, key=lambda r: (r.source, r.url))))


def digest_and_size(url: str) -> tuple[str, int]:
    """SHA-256 of a file's bytes, and how many they are.

    Parameters
    ----------
    url : str
        Any fsspec URL.

    Returns
    -------
    digest, size : str, int
        64 hexadecimal digits; bytes.

    Raises
    ------
    OSError
        Where it cannot be read.
    """
    sha, size = hashlib.sha256(), 0
    with open_url(url) as stream:
        while chunk := stream.read(_CHUNK):
            sha.update(chunk)
            size += len(chunk)
    return sha.hexdigest(), size


def duplicate(copy: FileRef | Reject, original: FileRef) -> Reject:
    """Refuse a file that repeats the bytes of another.

    Parameters
    ----------
    copy : FileRef or Reject
        The file, or what it was refused as before.
    original : FileRef
        The one that gives the rows.

    Returns
    -------
    Reject
        Of the ingest.
    """
    reason = f"{copy.source} has the same bytes as {original.source}, which was processed"
    return Reject(source=copy.source, stage="ingest", error=DUPLICATE, reason=reason, digest=copy.digest, url=copy.url)


def fingerprint(inputs: Inputs, threads: int = 8, progress: Callable[[int], None] | None = None) -> Inputs:
    """Compute every file's digest; refuse files that cannot be read or repeat the bytes of another.

    Parameters
    ----------
    inputs : Inputs
        From ``find_files``; a file that has a digest already is not read.
    threads : int
        Readers in parallel.
    progress : callable or None
        Called with the number of files done so far.

    Returns
    -------
    Inputs
        Files with digests and true sizes, and what was refused added to the rejects.
    """
    rejects = list(inputs.rejects)
    kept: list[FileRef] = []
    first: dict[str, FileRef] = {}

    def one(file: FileRef) -> FileRef | Reject:
        if file.digest:
            return file
        try:
            digest, size = digest_and_size(file.url)
        except Exception as error:
            if not _is_of_files(error, file.url):
                raise
            return refusal(file.source, file.url, error)
        return replace(file, digest=digest, size=size)  # listings of some servers know no sizes

    with ThreadPoolExecutor(threads) as pool:
        for number, file in enumerate(pool.map(one, inputs.files), 1):
            if progress is not None:
                progress(number)
            if isinstance(file, Reject):
                rejects.append(file)
            elif file.size and file.digest in first:
                rejects.append(duplicate(file, first[file.digest]))
            else:
                first[file.digest] = file
                kept.append(file)
    return Inputs(tuple(kept), tuple(sorted(rejects, key=lambda r: (r.source, r.url))))


def is_night(name: object) -> bool:
    """Say whether a text is the name of a night.

    Parameters
    ----------
    name : object
        Such as the name of a folder.

    Returns
    -------
    bool
        True for a real date as ``YYYY-MM-DD`` and nothing else, not even ``2026-W01-1``.
    """
    if not isinstance(name, str) or not _DATE.fullmatch(name):
        return False
    try:
        date.fromisoformat(name)
    except ValueError:
        return False
    return True


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
        dates = [index for index, part in enumerate(parts) if is_night(part)]
        if not dates:
            raise InputError(f"no --night was given and no folder of {entry.url!r} is a date like 2026-11-24")
        files, rejects = groups.setdefault(parts[dates[-1]], ([], []))
        below = replace(entry, source="/".join(parts[dates[-1] + 1 :]) or entry.source)
        if isinstance(below, FileRef):
            files.append(below)
        else:
            rejects.append(below)
    return {name: _named(*groups[name]) for name in sorted(groups)}
