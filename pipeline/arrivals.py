"""Files that arrive while somebody watches: which are finished, and to which night they belong."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pipeline.sources import Inputs, is_night
from transforms.locations import local_path
from transforms.records import FileRef, Reject

#: Names under which a file is written before it gets its own.
UNFINISHED = re.compile(
    r"(?:^|/)\.[^/]*$|\.(?:part|partial|tmp|temp|filepart|crdownload|writing|lock|swp)$|~$", re.IGNORECASE
)
DONE = ".done"  #: ``x.fits.done`` beside ``x.fits`` says that this one is finished.
NOON = 12.0  #: Hours: a night is named by the date of its evening.


@dataclass(frozen=True, slots=True)
class Arrived:
    """A file that is finished.

    Parameters
    ----------
    file : FileRef
        Without digest.
    modified : float
        Unix time of its last change, in s; of the listing where the server does not tell.
    """

    file: FileRef
    modified: float


@dataclass(slots=True)
class Arrivals:
    """Tells finished files from those that are still written.

    A file is finished when ``<name>.done`` lies beside it, or when neither its size nor its time has changed for
    ``settle`` seconds. One that a writer renames into place after it was written is so at once.

    Parameters
    ----------
    settle : float
        Seconds.
    marked : bool
        Only a ``.done`` counts.
    clock : callable
        Unix time, in s.
    """

    settle: float
    marked: bool = False
    clock: Callable[[], float] = time.time
    _seen: dict[str, tuple[int, float, float]] = field(default_factory=dict)

    def finished(self, inputs: Inputs) -> tuple[list[Arrived], list[Arrived]]:
        """Look at a listing.

        Parameters
        ----------
        inputs : Inputs
            From ``find_files``.

        Returns
        -------
        finished, waiting : list of Arrived
            In the order of the listing; the latter are not finished yet.
        """
        now, there = self.clock(), {file.url for file in inputs.files}
        found: list[Arrived] = []
        seen: dict[str, tuple[int, float, float]] = {}
        waiting: list[Arrived] = []
        for file in inputs.files:
            if UNFINISHED.search(file.url) or file.url.endswith(DONE):
                continue
            size, modified = _state(file, now)
            if f"{file.url}{DONE}" in there or (not self.marked and self._settled(file.url, size, modified, now, seen)):
                found.append(Arrived(replace(file, size=size), modified))
            else:
                waiting.append(Arrived(replace(file, size=size), modified))
        self._seen = seen
        return found, waiting

    def _settled(
        self, url: str, size: int, modified: float, now: float, seen: dict[str, tuple[int, float, float]]
    ) -> bool:
        if local_path(url) is not None and now - modified >= self.settle:
            return True
        before = self._seen.get(url)
        since = before[2] if before is not None and before[:2] == (size, modified) else now
        if now - since >= self.settle:
            return True
        seen[url] = (size, modified, since)
        return False


def _state(file: FileRef, now: float) -> tuple[int, float]:
    path = local_path(file.url)
    if path is None:  # an object of a store is there whole or not at all, and its size tells of another one
        return file.size, 0.0
    try:
        status = Path(path).stat()
    except OSError:  # it is gone again, or cannot be read: the digest will tell
        return file.size, now
    return status.st_size, status.st_mtime


def night_of(time_: float, noon: float = NOON) -> str:
    """The night that a moment belongs to.

    Parameters
    ----------
    time_ : float
        Unix time, in s.
    noon : float
        Hour of the day, UTC, at which one night ends and the next begins.

    Returns
    -------
    str
        Date of its evening, ``YYYY-MM-DD``.
    """
    return (datetime.fromtimestamp(time_, UTC) - timedelta(hours=noon)).date().isoformat()


def nights_of(
    arrived: Iterable[Arrived], rejects: Iterable[Reject], night: str | None, now: float, noon: float = NOON
) -> dict[str, tuple[list[Arrived], list[Reject]]]:
    """Deal what has arrived to nights.

    Parameters
    ----------
    arrived : iterable of Arrived
        Finished files.
    rejects : iterable of Reject
        What could not be listed.
    night : str or None
        Of all files; None: the last folder that is a date, else the time at which the file was written.
    now : float
        Unix time, in s, for what has none.
    noon : float
        As in ``night_of``.

    Returns
    -------
    dict of str to (list of Arrived, list of Reject)
        By night, in order.
    """
    found: dict[str, tuple[list[Arrived], list[Reject]]] = {}
    for one in arrived:
        name, source = _dealt(one.file, night, one.modified or now, noon)
        found.setdefault(name, ([], []))[0].append(replace(one, file=replace(one.file, source=source)))
    for reject in rejects:
        name, source = _dealt(reject, night, now, noon)
        found.setdefault(name, ([], []))[1].append(replace(reject, source=source))
    return dict(sorted(found.items()))


def _dealt(entry: FileRef | Reject, night: str | None, time_: float, noon: float) -> tuple[str, str]:
    """Night and source of a file."""
    parts = entry.url.split("/")
    dates = [index for index, part in enumerate(parts[:-1]) if is_night(part)]
    if night is not None or not dates:
        return night or night_of(time_, noon), entry.source
    return parts[dates[-1]], "/".join(parts[dates[-1] + 1 :]) or entry.source


def signature(arrived: Iterable[Arrived], rejects: Iterable[Reject]) -> int:
    """A number that changes whenever a night does.

    Parameters
    ----------
    arrived : iterable of Arrived
        Its files.
    rejects : iterable of Reject
        What could not be listed.

    Returns
    -------
    int
        Good for one process.
    """
    files = sorted((one.file.url, one.file.size, one.modified) for one in arrived)
    return hash((tuple(files), tuple(sorted((reject.url, reject.reason) for reject in rejects))))


def known_digests(arrived: Iterable[Arrived], known: Mapping[str, tuple[int, float, str]]) -> list[FileRef]:
    """Files with the digests that were computed of the same size and time before, and without for all others.

    Parameters
    ----------
    arrived : iterable of Arrived
        Files.
    known : mapping of str to (int, float, str)
        Size, time and digest by URL.

    Returns
    -------
    list of FileRef
        In the same order.
    """
    files = []
    for one in arrived:
        size, modified, digest = known.get(one.file.url, (-1, -1.0, ""))
        same = (size, modified) == (one.file.size, one.modified)
        files.append(replace(one.file, digest=digest) if same else one.file)
    return files
