"""What a run has to do, given what the catalog holds: the law by which files are known again.

A file is known by its bytes, wherever it lies; a place (URL) is known by its name, whatever lies there now. What is
done again replaces what was done of the same bytes and of the same place. Three things never take a row away: a copy
of a file that is there already, a file that cannot be read just now, and a run of other tasks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from pipeline.manifest import Run, parse_versions
from pipeline.sources import DUPLICATE, Inputs, duplicate
from transforms.records import FileRef, Reject

Entry = Mapping[str, Any]
COPY = "duplicate"  #: Outcome of an entry whose bytes another place gave.
_Named = TypeVar("_Named", FileRef, Reject)


@dataclass(frozen=True, kw_only=True, slots=True)
class Again:
    """Which entries of the ledger a run takes up again.

    Parameters
    ----------
    files : mapping of str to str
        URL to digest of the files that are processed.
    digests : frozenset of str
        Their digests; empty files have none, as all of them have the same bytes.
    copies : frozenset of str
        URLs that hold a copy of another file.
    missed : frozenset of str
        URLs that cannot be read just now.
    listed : frozenset of str
        Folders that could be listed.
    tasks : frozenset of str
        Tasks of the run.
    """

    files: Mapping[str, str]
    digests: frozenset[str]
    copies: frozenset[str]
    missed: frozenset[str]
    listed: frozenset[str] = frozenset()
    tasks: frozenset[str] = frozenset()

    @classmethod
    def of(cls, inputs: Inputs, versions: Mapping[str, str], listed: Iterable[str] = ()) -> Again:
        """Make it of a run's inputs.

        Parameters
        ----------
        inputs : Inputs
            What the run processes.
        versions : mapping of str to str
            Of the run, by task.
        listed : iterable of str
            Folders that could be listed.

        Returns
        -------
        Again
            For ``plan`` and ``carry``.
        """
        return cls(
            files={file.url: file.digest for file in inputs.files},
            digests=frozenset(file.digest for file in inputs.files if file.digest and file.size),
            copies=frozenset(r.url for r in inputs.rejects if r.error == DUPLICATE),
            missed=frozenset(r.url for r in inputs.rejects if r.error != DUPLICATE),
            listed=frozenset(listed),
            tasks=frozenset(versions),
        )

    def redone(self, entry: Entry) -> bool:
        """Say whether the run does a file again: what it gave before makes way.

        Parameters
        ----------
        entry : mapping
            Of the ledger.

        Returns
        -------
        bool
            True for the same place, or the same bytes at another one; not for a copy that was set aside.
        """
        if entry["url"] in self.files or entry["url"] in self.copies:
            return True
        return entry["outcome"] != COPY and bool(entry["size"]) and entry["digest"] in self.digests

    def keeps(self, entry: Entry) -> frozenset[str]:
        """Tasks whose rows of a file stay although the run does it again: the bytes are the same, the tasks others.

        Parameters
        ----------
        entry : mapping
            Of the ledger, one that is done again.

        Returns
        -------
        frozenset of str
            Names of tasks.
        """
        same = self.files.get(entry["url"], entry["digest"]) == entry["digest"] and entry["url"] not in self.copies
        return frozenset(parse_versions(entry["versions"])) - self.tasks if same else frozenset()

    def hides(self, entry: Entry) -> bool:
        """Say whether the rejects of a file are told anew while its rows stay.

        Parameters
        ----------
        entry : mapping
            Of the ledger.

        Returns
        -------
        bool
            True for what cannot be read just now, and for a folder that can be listed again.
        """
        return entry["url"] in self.missed or entry["url"].rstrip("/") in self.listed


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
    listed : tuple of str
        Folders that were refused once and could be listed now.
    """

    inputs: Inputs
    skipped: tuple[FileRef, ...]
    supersedes: tuple[str, ...]
    replays: tuple[str, ...]
    listed: tuple[str, ...] = field(default=())


def plan(
    inputs: Inputs,
    entries: Iterable[tuple[Run, Entry]],
    rejects: Iterable[Mapping[str, Any]],
    versions: Mapping[str, str],
    force: bool = False,
) -> Work:
    """Say what is left to do of a night.

    Parameters
    ----------
    inputs : Inputs
        All that the user named for this night, with digests.
    entries : iterable of tuple of Run and mapping
        Of the night's live runs, in the order of their commits.
    rejects : iterable of mapping
        Rejects of the last attempt of everything.
    versions : mapping of str to str
        Digest of code, model and options, by task.
    force : bool
        Do again what is done.

    Returns
    -------
    Work
        Files to process, and the live runs that this replaces. A file with the name of another one, but from
        another place and with other bytes, goes under its URL.
    """
    entries = list(entries)
    latest = {entry["url"]: entry for _, entry in entries}
    inputs = _settle(inputs, latest)
    done = set() if force else _done(inputs, latest, versions)
    todo = [file for file in inputs.files if file.url not in done]
    todo = sorted({*todo, *_companied(todo, inputs.files)}, key=lambda file: (file.source, file.url))
    known = set() if force else {(row["url"], row["error"], row["reason"], row["digest"] or "") for row in rejects}
    refused = [r for r in inputs.rejects if (r.url, r.error, r.reason, r.digest) not in known]
    listed = _listed(inputs, latest)
    again = Again.of(Inputs(tuple(todo), tuple(refused)), versions, listed)
    files, refused = _distinct(todo, refused, [entry for _, entry in entries], again)
    supersedes = {run.run_id for run, entry in entries if again.redone(entry) and (entry["rows"] or again.keeps(entry))}
    replays = {run.run_id for run, entry in entries if again.redone(entry) or again.hides(entry)} - supersedes
    left = {file.url for file in files}
    return Work(
        inputs=Inputs(tuple(files), tuple(refused)),
        skipped=tuple(file for file in inputs.files if file.url not in left),
        supersedes=tuple(sorted(supersedes)),
        replays=tuple(sorted(replays)),
        listed=tuple(listed),
    )


def _settle(inputs: Inputs, latest: Mapping[str, Entry]) -> Inputs:
    """Of several files with the same bytes, the one whose rows the catalog holds stays the original."""
    holder = {e["digest"]: url for url, e in latest.items() if e["digest"] and e["size"] and e["outcome"] != COPY}
    first = {file.digest: file for file in inputs.files if file.size}
    copies = [r for r in inputs.rejects if r.error == DUPLICATE]
    for copy in copies:
        if holder.get(copy.digest) == copy.url and copy.digest in first:
            first[copy.digest] = replace(first[copy.digest], url=copy.url, source=copy.source)
    files = [first[file.digest] if file.size else file for file in inputs.files]
    kept = {file.url for file in files}
    rejects = [r for r in inputs.rejects if r.error != DUPLICATE]
    rejects += [duplicate(file, first[file.digest]) for file in inputs.files if file.url not in kept]
    rejects += [duplicate(c, first[c.digest]) if c.digest in first else c for c in copies if c.url not in kept]
    return Inputs(tuple(files), tuple(sorted(rejects, key=lambda r: (r.source, r.url))))


def _done(inputs: Inputs, latest: Mapping[str, Entry], versions: Mapping[str, str]) -> set[str]:
    """URLs of files whose rows are there, made from these bytes by these versions, and stay there."""
    changed = {f.url for f in inputs.files if f.url in latest and latest[f.url]["digest"] != f.digest}
    changed |= {r.url for r in inputs.rejects if r.error == DUPLICATE}
    good = [e for url, e in latest.items() if e["outcome"] != COPY and e["digest"] and url not in changed]
    good = [e for e in good if versions.items() <= parse_versions(e["versions"]).items()]
    digests = {e["digest"] for e in good if e["size"]}
    places = {(e["url"], e["digest"]) for e in good}
    missed = {url for url, e in latest.items() if not e["digest"]}
    return {
        f.url
        for f in inputs.files
        if f.url not in missed and ((f.url, f.digest) in places or (f.size and f.digest in digests))
    }


def _companied(todo: Iterable[FileRef], files: Iterable[FileRef]) -> set[FileRef]:
    """Files beside which another is read (weight, error, mask, list of objects) that is new or changed."""
    from transforms.readers.companions import readers_of
    from transforms.readers.format import Source

    todo = list(todo)
    by_url = {file.url: file for file in files}
    if len(todo) == len(by_url):
        return set()
    found: set[FileRef] = set()
    for file in todo:
        folder = file.url.rpartition("/")[0]
        found |= {by_url[url] for name in readers_of(Source(file)) if (url := f"{folder}/{name}") in by_url}
    return found


def _listed(inputs: Inputs, latest: Mapping[str, Entry]) -> list[str]:
    """Folders that were refused once, below which files were found now."""
    refused = {r.url for r in inputs.rejects}
    suspects = [url for url, e in latest.items() if not e["digest"] and e["rejects"] and url not in refused]
    return sorted(url for url in suspects if any(f.url.startswith(url.rstrip("/") + "/") for f in inputs.files))


def _distinct(
    files: Iterable[FileRef], rejects: Iterable[Reject], entries: Iterable[Entry], again: Again
) -> tuple[list[FileRef], list[Reject]]:
    """Name a thing by its URL where its name belongs to another one already: rows are known by their source."""
    files, rejects = list(files), list(rejects)
    items: list[FileRef | Reject] = [*files, *rejects]
    places = Counter(source for source, _ in {(item.source, item.url) for item in items})
    taken: dict[str, list[Entry]] = {}
    moved: dict[str, str] = {}
    for entry in entries:
        if again.redone(entry) and not again.keeps(entry):
            continue
        taken.setdefault(entry["source"], []).append(entry)
        if again.redone(entry):
            moved[entry["digest"]] = entry["source"]

    def name(item: _Named) -> _Named:
        if isinstance(item, FileRef) and item.digest in moved:  # rows of other tasks stay, under the name they have
            return replace(item, source=moved[item.digest])
        others = any(e["url"] != item.url for e in taken.get(item.source, ()))
        return replace(item, source=item.url) if others or places[item.source] > 1 else item

    return [name(file) for file in files], [name(reject) for reject in rejects]
