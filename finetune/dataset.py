"""Labelled examples from files and a label table: the survey's own readers and classical steps, joined to labels."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any

import numpy as np
from scipy.spatial import KDTree

from finetune.jsonfile import plain
from finetune.labels import KEYS, LabelError
from finetune.near_duplicates import mark_twins
from finetune.task import Example, Task
from transforms.attempt import Tallies, attempt, describe
from transforms.measure import STEPS
from transforms.objects import measured_records
from transforms.readers import Source, formats, identify
from transforms.records import FileRef, Identity, Item, Reject

MERGED = "merged_near_duplicates"  #: Count of groups that became part of another one.
RADIUS = 1.0  #: arcsec; default radius of a match by position.
_PACKED = (".gz", ".bz2", ".xz", ".fz")
_KEPT: ContextVar[Path | None] = ContextVar("kept", default=None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Dataset:
    """Labelled examples and where they came from.

    Parameters
    ----------
    examples : tuple of Example
        In the order of the files.
    counts : mapping of str to int
        Files, records, matched, records without a label, labels without a record, rejects, and groups that were merged
        as near-duplicates.
    rejects : tuple of Reject
        What could not be read or measured.
    fingerprint : str
        SHA-256 over the sorted digests of the files that gave an example, and the labels.
    """

    examples: tuple[Example, ...]
    counts: Mapping[str, int]
    rejects: tuple[Reject, ...] = ()
    fingerprint: str = ""


def read_records(
    files: Sequence[FileRef],
    record: type,
    reader_options: Mapping[str, Any] = MappingProxyType({}),
    measure_options: Mapping[str, Any] = MappingProxyType({}),
) -> Iterator[tuple[FileRef, list[Identity | Reject]]]:
    """Read and measure files as the survey does.

    Parameters
    ----------
    files : sequence of FileRef
        What to read.
    record : type
        Record class that is wanted; files of another kind give nothing.
    reader_options, measure_options : mapping
        Options of the readers and of the classical steps.

    Yields
    ------
    (FileRef, list of Identity or Reject)
        For each file its measured records, and a reject for each part that was refused.
    """
    kept = _KEPT.get()
    for file in files:
        if kept is None or not file.digest:
            yield file, list(stream_records(file, record, reader_options, measure_options))
            continue
        known = [file.url, file.source, file.digest, record.__name__, dict(reader_options), dict(measure_options)]
        path = kept / hashlib.sha256(json.dumps(plain(known), sort_keys=True).encode()).hexdigest()
        if not path.exists():
            path.write_bytes(pickle.dumps(list(stream_records(file, record, reader_options, measure_options))))
        found: list[Identity | Reject] = pickle.loads(path.read_bytes())  # noqa: S301 - written above, by this process
        yield file, found


@contextmanager
def read_once(folder: Path) -> Iterator[None]:
    """Read and measure every file once, however often it is asked for meanwhile.

    Measuring costs far more than reading back what was measured, and a retraining asks for the same files to plan, to
    train, for the gate and for the report.

    Parameters
    ----------
    folder : Path
        Has the disk space: what was measured lies below it, in a hidden folder that is removed in the end.
    """
    with TemporaryDirectory(prefix=".measured-", dir=folder, ignore_cleanup_errors=True) as kept:
        before = _KEPT.set(Path(kept))
        try:
            yield
        finally:
            _KEPT.reset(before)


def stream_records(
    file: FileRef,
    record: type,
    reader_options: Mapping[str, Any] = MappingProxyType({}),
    measure_options: Mapping[str, Any] = MappingProxyType({}),
) -> Iterator[Identity | Reject]:
    """Read and measure one file as the survey does, a record at a time.

    Parameters
    ----------
    file : FileRef
        What to read.
    record : type
        Record class that is wanted; a file of another kind gives nothing.
    reader_options, measure_options : mapping
        Options of the readers and of the classical steps.

    Yields
    ------
    Identity or Reject
        Measured records, and a reject for each part that was refused.
    """
    tallies = Tallies()
    with Source(file, reader_options) as source:
        for items in attempt("ingest", items_of, tallies, source, record, where=describe(file)):
            if isinstance(items, Reject):
                yield items
                continue
            for item in items:
                entries = partial(formats()[item.format].entries, source, item)
                yield from measured_records(entries, item, tallies, measure_options)


def items_of(source: Source, record: type) -> list[Item]:
    """Parts of a file, where it is of the wanted kind.

    Parameters
    ----------
    source : Source
        Open.
    record : type
        Record class that is wanted.

    Returns
    -------
    list of Item
        Empty for a file of another kind.
    """
    kind = identify(source)
    return list(kind.items(source)) if STEPS[kind.record][2] is record else []


class Join:
    """Finds the label row of a record: by ``object_id``, else by ``source``, else by position.

    Parameters
    ----------
    rows : sequence of dict
        From ``read_labels``.
    radius : float
        Of a match by position, arcsec.

    Raises
    ------
    LabelError
        Where two rows name the same object but differ.
    """

    def __init__(self, rows: Sequence[Mapping[str, Any]], radius: float = RADIUS) -> None:
        self.rows = rows
        self.used: set[int] = set()
        self._by_id = self._index([(row.get("object_id"),) for row in rows], "object_id")
        self._by_source = self._index(
            [(row.get("source"), row.get("hdu"), _whole(row.get("row"))) for row in rows], "source"
        )
        names: dict[str, set[str]] = {}
        for source, _, _ in self._by_source:
            for short in {PurePosixPath(source).name, stem(source)}:
                names.setdefault(short, set()).add(source)
        self._short = {short: next(iter(full)) for short, full in names.items() if len(full) == 1}
        self._placed = [i for i, row in enumerate(rows) if row.get("ra") is not None and row.get("dec") is not None]
        self._tree = KDTree([_vector(rows[i]["ra"], rows[i]["dec"]) for i in self._placed]) if self._placed else None
        self._chord = 2 * np.sin(np.radians(radius / 3600) / 2)

    def _index(self, keys: Sequence[tuple[Any, ...]], name: str) -> dict[tuple[Any, ...], int]:
        found: dict[tuple[Any, ...], int] = {}
        for number, key in enumerate(keys):
            if key[0] is None:
                continue
            first = found.setdefault(key, number)
            if self.rows[first] != self.rows[number]:
                same_place = {k: v for k, v in self.rows[first].items() if k not in KEYS}
                if same_place != {k: v for k, v in self.rows[number].items() if k not in KEYS}:
                    raise LabelError(f"{name} {key[0]!r} has two labels, in rows {first + 1} and {number + 1}")
        return found

    def find(self, record: Identity, alone: bool) -> int | None:
        """Find the label of one record.

        Parameters
        ----------
        record : Identity
            A record.
        alone : bool
            True where its file gave no other record: only then does the file's name alone say which object is meant.

        Returns
        -------
        int or None
            Number of the label row.
        """
        number = self._by_id.get((record.object_id,)) if record.object_id else None
        if number is None:
            number = self._by_file(record, alone)
        if number is None and self._tree is not None and record.ra is not None and record.dec is not None:
            distance, nearest = self._tree.query(_vector(record.ra, record.dec))
            number = self._placed[int(nearest)] if distance <= self._chord else None
        if number is not None:
            self.used.add(number)
        return number

    def _by_file(self, record: Identity, alone: bool) -> int | None:
        candidates = (record.source, PurePosixPath(record.source).name, stem(record.source))
        for name in candidates:
            full = name if name == record.source else self._short.get(name)
            keys: list[tuple[Any, ...]] = [(full, record.hdu, record.row), (full, None, record.row)]
            if alone:
                keys += [(full, record.hdu, None), (full, None, None)]
            for key in keys:
                if key in self._by_source:
                    return self._by_source[key]
        return None


def load_dataset(
    task: Task,
    rows: Sequence[Mapping[str, Any]],
    files: Sequence[FileRef],
    *,
    radius: float = RADIUS,
    reader_options: Mapping[str, Any] = MappingProxyType({}),
    measure_options: Mapping[str, Any] = MappingProxyType({}),
) -> Dataset:
    """Read files and join them to labels.

    Parameters
    ----------
    task : Task
        Names the record class and the label columns.
    rows : sequence of dict
        From ``read_labels``. Optional columns: ``group`` (else the object is its own group) and ``origin``.
    files : sequence of FileRef
        With digests.
    radius : float
        Of a match by position, arcsec.
    reader_options, measure_options : mapping
        Options of the readers and of the classical steps.

    Returns
    -------
    Dataset
        With the counts of what did not match.
    """
    join = Join(rows, radius)
    counts: Counter[str] = Counter()
    examples: list[Example] = []
    rejects: list[Reject] = []
    digests: set[str] = set()
    for file, found in read_records(files, task.record, reader_options, measure_options):
        records = [r for r in found if isinstance(r, Identity)]
        rejects += [r for r in found if isinstance(r, Reject)]
        for record in records:
            counts["records"] += 1
            number = join.find(record, len(records) == 1)
            labels = {k: rows[number].get(k) for k in task.label_columns} if number is not None else {}
            if number is None or all(value is None for value in labels.values()):
                counts["records_without_label"] += 1
                continue
            row = rows[number]
            group = row.get("group") or row.get("object_id") or record.object_id or record.source
            origin = row.get("origin") or ""
            examples.append(Example(record=record, labels=labels, group=str(group), origin=str(origin)))
            digests.add(file.digest)
    marked, merged = mark_twins(examples)
    summary = {
        "files": len(files),
        "records": counts["records"],
        "matched": len(examples),
        "records_without_label": counts["records_without_label"],
        "labels": len(rows),
        "labels_without_record": len(rows) - len(join.used),
        "rejects": len(rejects),
        MERGED: merged,
    }
    return Dataset(
        examples=tuple(marked), counts=summary, rejects=tuple(rejects), fingerprint=fingerprint(digests, examples)
    )


def fingerprint(digests: set[str], examples: Sequence[Example]) -> str:
    """One digest for the data of a training.

    Parameters
    ----------
    digests : set of str
        SHA-256 of the files.
    examples : sequence of Example
        Whose labels count, in no particular order.

    Returns
    -------
    str
        Hexadecimal SHA-256.
    """
    lines = sorted(digests) + sorted(json.dumps(plain([key(e), e.group, dict(e.labels)])) for e in examples)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def key(example: Example) -> str:
    """Name of an example that is the same in every run.

    Parameters
    ----------
    example : Example
        Any.

    Returns
    -------
    str
        Source, HDU, row and object.
    """
    record = example.record
    return f"{record.source}[{record.hdu}][{record.row}] {record.object_id}"


def content_digest(record: Identity) -> str:
    """Digest of the data of a record, whatever it is called.

    Parameters
    ----------
    record : Identity
        Any record class.

    Returns
    -------
    str
        SHA-256 over its arrays.
    """
    sha = hashlib.sha256()
    for item in fields(record):
        value = getattr(record, item.name)
        if isinstance(value, np.ndarray):
            sha.update(f"{item.name}{value.dtype.str}{value.shape}".encode())
            sha.update(np.ascontiguousarray(value).tobytes())
    return sha.hexdigest()


def stem(source: str) -> str:
    """Name of a file without folder, packing and suffix.

    Parameters
    ----------
    source : str
        ``FileRef.source``.

    Returns
    -------
    str
        ``"x"`` for ``"a/x.fits.gz"``.
    """
    path = PurePosixPath(source)
    return PurePosixPath(path.stem).stem if path.suffix.lower() in _PACKED else path.stem


def _vector(ra: float, dec: float) -> np.ndarray:
    a, d = np.radians(float(ra)), np.radians(float(dec))
    return np.array([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)])


def _whole(value: Any) -> int | None:
    return None if value is None else int(value)
