"""Unlabelled records for a pretraining: prepared once, kept on disk in shards, streamed from there in shuffled order.

A record costs far more to read and measure than to train on, and is trained on many times; so the files are gone
through once, in shuffled order, and what ``prepare`` gave is stored, a few hundred records a shard. A run that was
killed goes on with the file that it was at.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save
from torch.utils.data import IterableDataset

from finetune.dataset import stream_records
from finetune.jsonfile import json_bytes
from finetune.masked import Objective
from finetune.task import Prepared, Task
from transforms.attempt import Tallies, attempt, describe
from transforms.flags import bits
from transforms.records import FileRef, Identity, Reject
from transforms.store import Store

PART = "part_{:06d}.json"
SHARD = 256  #: Records of a shard.
BUFFER = 2048  #: Records that are shuffled at a time, and so held in memory.
SIDES = ("train", "held")


@dataclass(slots=True)
class Unlabelled:
    """Prepared records on disk.

    Parameters
    ----------
    folder : Path
        Where the shards lie.
    shards : dict of str to list of (str, int)
        Name and number of records of each shard, for ``"train"`` and ``"held"``.
    files : dict of str to dict
        For each file that was gone through, by its URL: ``source``, ``digest``, ``train``, ``held``, ``refused``.
    refused : list of dict
        ``source``, ``row``, ``stage``, ``error`` and ``reason`` of all that was refused.
    """

    folder: Path
    shards: dict[str, list[tuple[str, int]]] = field(default_factory=lambda: {side: [] for side in SIDES})
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    refused: list[dict[str, Any]] = field(default_factory=list)

    def count(self, side: str) -> int:
        """Records of one side.

        Parameters
        ----------
        side : str
            ``"train"`` or ``"held"``.

        Returns
        -------
        int
            How many.
        """
        return sum(number for _, number in self.shards[side])

    def batches(self, side: str, size: int, most: int) -> Iterator[list[Prepared]]:
        """The records of one side, always in the same order.

        Parameters
        ----------
        side : str
            ``"train"`` or ``"held"``.
        size : int
            Records of a batch.
        most : int
            Records at most.

        Yields
        ------
        list of Prepared
            A batch.
        """
        waiting: list[Prepared] = []
        left = most
        for name, number in self.shards[side]:
            rows = _load(self.folder / name, number)[: max(left, 0)]
            left -= len(rows)
            waiting += rows
            while len(waiting) >= size:
                yield waiting[:size]
                waiting = waiting[size:]
        if waiting:
            yield waiting

    def fingerprint(self) -> str:
        """One digest for all files that gave a record.

        Returns
        -------
        str
            SHA-256 over their sorted digests.
        """
        lines = sorted(file["digest"] for file in self.files.values() if file["train"] + file["held"])
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def prepare_files(
    files: Sequence[FileRef],
    task: Task,
    objective: Objective,
    folder: Path,
    *,
    share: float,
    seed: int,
    reader_options: Mapping[str, Any] = MappingProxyType({}),
    measure_options: Mapping[str, Any] = MappingProxyType({}),
    say: Callable[[str], None] = lambda text: None,
) -> Unlabelled:
    """Go through files once, and keep what the model takes; those that were gone through before are not read again.

    Parameters
    ----------
    files : sequence of FileRef
        With digests.
    task : Task
        Gives ``record`` and ``prepare``.
    objective : Objective
        Says which records are of use.
    folder : Path
        Of the shards; made where it is not there.
    share : float
        Share that is held out, by digest: of the objects (all records of one ``object_id``), or of the files, as the
        objective says.
    seed : int
        Of the order of the files.
    reader_options, measure_options : mapping
        Options of the readers and of the classical steps.
    say : callable
        Told how it goes on.

    Returns
    -------
    Unlabelled
        All of them.
    """
    found, part = _read_parts(folder), _new_part()
    order = np.random.default_rng(seed).permutation(len(files))
    writers = {side: _Writer(folder, side, len(found.shards[side])) for side in SIDES}
    for turn, index in enumerate(order.tolist(), 1):
        file = files[index]
        if found.files.get(file.url, {}).get("digest") == file.digest:
            continue
        entry: dict[str, Any] = {"source": file.source, "digest": file.digest, "train": 0, "held": 0, "refused": 0}
        for one in _prepared(file, task, objective, reader_options, measure_options):
            if isinstance(one, Reject):
                entry["refused"] += 1
                part["refused"].append({k: getattr(one, k) for k in ("source", "row", "stage", "error", "reason")})
                continue
            record, prepared = one
            side = "held" if is_held(objective, file, record, share) else "train"
            entry[side] += 1
            writers[side].add(prepared)
        part["files"][file.url] = entry
        if any(writer.full for writer in writers.values()):
            _flush(found, writers, part)
            part = _new_part()
            say(f"prepared {turn} of {len(files)} files, {found.count('train') + found.count('held')} records")
    if part["files"]:
        _flush(found, writers, part)
    return found


def _prepared(
    file: FileRef, task: Task, objective: Objective, reader: Mapping[str, Any], measure: Mapping[str, Any]
) -> Iterator[tuple[Identity, Prepared] | Reject]:
    tallies = Tallies()
    for record in stream_records(file, task.record, reader, measure):
        if isinstance(record, Reject):
            yield record
            continue
        if record.flags & bits("GENERATED"):
            reason = "a part of it was generated, and not observed"
            yield Reject(stage="prepare", error="Generated", reason=reason, **describe(record))
            continue
        for prepared in attempt("prepare", task.prepare, tallies, record, where=describe(record)):
            if isinstance(prepared, Reject):
                yield prepared
            elif objective.usable(prepared):
                yield record, prepared
            else:
                yield Reject(stage="prepare", error="TooLittle", reason=objective.little, **describe(record))


def is_held(objective: Objective, file: FileRef, record: Identity, share: float) -> bool:
    """Tell on which side a record lies, in this pretraining and in any other with the same share.

    Parameters
    ----------
    objective : Objective
        Of the modality.
    file : FileRef
        That holds the record.
    record : Identity
        Any.
    share : float
        That is held out.

    Returns
    -------
    bool
        True where it is never trained on.
    """
    return _fraction(_held_by(objective, file, record)) < share


def _held_by(objective: Objective, file: FileRef, record: Identity) -> str:
    """The digest that says on which side a record lies: copies, and other records of one object, lie on the same."""
    if objective.whole_files:
        return file.digest
    return _sha(record.object_id or f"{file.digest}:{record.hdu}:{record.row}")


class _Writer:
    """Collects records of one side, and writes full shards; the index is what makes them count."""

    def __init__(self, folder: Path, side: str, number: int) -> None:
        self.store, self.side, self.number = Store(str(folder)), side, number
        self.rows: list[Prepared] = []
        self.written: list[tuple[str, int]] = []

    @property
    def full(self) -> bool:
        return bool(self.written) or len(self.rows) >= SHARD

    def add(self, prepared: Prepared) -> None:
        self.rows.append(prepared)
        if len(self.rows) >= SHARD:
            self.write()

    def write(self) -> None:
        if not self.rows:
            return
        name = f"{self.side}_{self.number:06d}.safetensors"
        arrays = {k: np.ascontiguousarray(np.stack([row[k] for row in self.rows])) for k in sorted(self.rows[0])}
        self.store.write(name, save(arrays), durable=False)
        self.written.append((name, len(self.rows)))
        self.number, self.rows = self.number + 1, []


def _flush(found: Unlabelled, writers: Mapping[str, _Writer], part: dict[str, Any]) -> None:
    """Write all that waits, and then what it is, so that the files and shards that a part names are always whole."""
    for side, writer in writers.items():
        writer.write()
        writer.store.sync(name for name, _ in writer.written)
        part["shards"][side] = writer.written
        writer.written = []
    _take(found, part)
    number = len(list(found.folder.glob("part_*.json")))
    Store(str(found.folder)).write(PART.format(number), json_bytes(part))


def _new_part() -> dict[str, Any]:
    return {"shards": {side: [] for side in SIDES}, "files": {}, "refused": []}


def _take(found: Unlabelled, part: Mapping[str, Any]) -> None:
    for side in SIDES:
        found.shards[side] += [(str(name), int(number)) for name, number in part["shards"][side]]
    found.files.update(part["files"])
    found.refused += part["refused"]


def _read_parts(folder: Path) -> Unlabelled:
    found = Unlabelled(folder)
    for path in sorted(folder.glob("part_*.json")):
        _take(found, json.loads(path.read_text(encoding="utf-8")))
    return found


class Stream(IterableDataset):
    """The training records, epoch after epoch, each in an order of its own.

    Shards are drawn in shuffled order, and the records of as many as fill the buffer are shuffled together. Where the
    stream begins can be set, so that a training that goes on sees what it would have seen.

    Parameters
    ----------
    data : Unlabelled
        With at least one training record.
    seed : int
        Of the order.
    buffer : int
        Records in memory at a time, at least those of one shard.
    """

    def __init__(self, data: Unlabelled, seed: int, buffer: int = BUFFER) -> None:
        self.data, self.seed, self.buffer = data, seed, buffer
        self.start = 0

    def __iter__(self) -> Iterator[Prepared]:
        total = self.data.count("train")
        epoch, skip = divmod(self.start, total)
        while True:
            for block, shards in enumerate(self._blocks(epoch)):
                number = sum(count for _, count in shards)
                if skip >= number:
                    skip -= number
                    continue
                rows = [row for name, count in shards for row in _load(self.data.folder / name, count)]
                order = np.random.default_rng([self.seed, epoch, block]).permutation(number)
                for index in order[skip:].tolist():
                    yield rows[index]
                skip = 0
            epoch += 1

    def _blocks(self, epoch: int) -> list[list[tuple[str, int]]]:
        shards = self.data.shards["train"]
        order = np.random.default_rng([self.seed, epoch]).permutation(len(shards))
        shuffled = [shards[i] for i in order.tolist()]
        blocks: list[list[tuple[str, int]]] = []
        for shard, upto in zip(shuffled, accumulate(count for _, count in shuffled), strict=True):
            number = math.ceil(upto / self.buffer)
            if not blocks or number > len(blocks):
                blocks.append([])
            blocks[-1].append(shard)
        return blocks


def _load(path: Path, number: int) -> list[Prepared]:
    arrays = load_file(path)
    return [{name: array[index] for name, array in arrays.items()} for index in range(number)]


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _fraction(digest: str) -> float:
    """A number from 0 to 1 that a digest stands for."""
    return int(digest[:8], 16) / 16**8
