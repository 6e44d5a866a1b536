"""Some of the objects of many files, without reading all of them."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np

from finetune.dataset import items_of
from transforms.attempt import Tallies, attempt, describe
from transforms.objects import measured_records
from transforms.readers import Source, formats
from transforms.readers.format import Entry
from transforms.records import FileRef, Identity, Item, Reject

#: Source, HDU and row: what tells an object of a catalog from another.
Key = tuple[str, str, int]


def place(record: Identity) -> Key:
    """What tells an object from others.

    Parameters
    ----------
    record : Identity
        Any record.

    Returns
    -------
    tuple of str, str and int
        Source, HDU and row.
    """
    return record.source, record.hdu, int(record.row)


def sample_records(
    files: Sequence[FileRef],
    record: type,
    n: int,
    seed: int,
    *,
    most: int = 0,
    reader_options: Mapping[str, Any] = MappingProxyType({}),
    measure_options: Mapping[str, Any] = MappingProxyType({}),
) -> Iterator[Identity | Reject]:
    """Draw objects by chance: files in a random order, and within a file its objects in a random order.

    Parameters
    ----------
    files : sequence of FileRef
        What to read; as many as it takes are read.
    record : type
        Record class that is wanted.
    n : int
        How many objects are wanted: first the same number of each file; where that is not enough, more of the larger
        ones. The caller stops when it has enough.
    seed : int
        Of the order.
    most : int
        Objects of one file at most, where some turn out to be of no use to the caller; ``n`` where that is more.
    reader_options, measure_options : mapping
        Options of the readers and of the classical steps.

    Yields
    ------
    Identity or Reject
        Measured records, each once, and what was refused.
    """
    for _, one in sample_with_files(
        files, record, n, seed, most=most, reader_options=reader_options, measure_options=measure_options
    ):
        yield one


def sample_with_files(
    files: Sequence[FileRef],
    record: type,
    n: int,
    seed: int,
    *,
    most: int = 0,
    reader_options: Mapping[str, Any] = MappingProxyType({}),
    measure_options: Mapping[str, Any] = MappingProxyType({}),
) -> Iterator[tuple[FileRef, Identity | Reject]]:
    """Draw objects by chance, and tell of each which file it is from.

    Parameters
    ----------
    files, record, n, seed, most, reader_options, measure_options
        As for ``sample_records``.

    Yields
    ------
    FileRef, Identity or Reject
        As ``sample_records``.
    """
    order = np.random.default_rng(seed).permutation(len(files)).tolist()
    seen: set[tuple[Any, ...]] = set()
    for quota in sorted({math.ceil(n / max(len(files), 1)), n, max(n, most)}):
        more = False
        for index in order:
            found = _of_file(files[index], record, (seed, index), reader_options, measure_options)
            taken = 0
            for one in found:
                key = (index, one.hdu, one.row, one.stage if isinstance(one, Reject) else "")
                if key not in seen:
                    seen.add(key)
                    yield files[index], one
                taken += not isinstance(one, Reject)
                if taken >= quota:
                    more = True
                    found.close()
        if not more:
            return


def chosen_records(
    files: Sequence[FileRef],
    record: type,
    wanted: set[Key],
    *,
    reader_options: Mapping[str, Any] = MappingProxyType({}),
    measure_options: Mapping[str, Any] = MappingProxyType({}),
) -> Iterator[Identity | Reject]:
    """Find objects by their place.

    Parameters
    ----------
    files : sequence of FileRef
        Where they are.
    record : type
        Record class that is wanted.
    wanted : set of tuple
        Places, from a catalog's rows.
    reader_options, measure_options : mapping
        Options of the readers and of the classical steps, as the catalog was made with.

    Yields
    ------
    Identity or Reject
        Those that are there, and what was refused.
    """
    for file in files:
        rows = {row for source, _, row in wanted if source == file.source}
        for one in _of_file(file, record, None, reader_options, measure_options, rows):
            if isinstance(one, Reject) or place(one) in wanted:
                yield one


def _of_file(
    file: FileRef,
    record: type,
    seed: tuple[int, int] | None,
    reader_options: Mapping[str, Any],
    measure_options: Mapping[str, Any],
    rows: set[int] | None = None,
) -> Generator[Identity | Reject, None, None]:
    """Measured objects of one file; a generator, so that a caller that has enough can stop it."""
    tallies = Tallies()
    with Source(file, reader_options) as source:
        for items in attempt("ingest", items_of, tallies, source, record, where=describe(file)):
            if isinstance(items, Reject):
                yield items
                continue
            order = range(len(items)) if seed is None else np.random.default_rng(seed).permutation(len(items))
            for number in order:
                item = items[number]
                for entries in attempt(
                    "open", _entries, tallies, source, item, seed, record, rows, where=describe(item)
                ):
                    if isinstance(entries, Reject):
                        yield entries
                        continue
                    for entry in entries:
                        yield from measured_records(partial(iter, [entry]), item, tallies, measure_options)


def _entries(
    source: Source, item: Item, seed: tuple[int, int] | None, record: type, rows: set[int] | None
) -> list[Entry]:
    kind = formats()[item.format]
    entries = list(kind.entries(source, item))
    if rows is not None and kind.record is record:  # an image's sources have numbers of their own
        return [entry for entry in entries if entry.row in rows]
    if seed is None:
        return entries
    return [entries[i] for i in np.random.default_rng(seed).permutation(len(entries))]
