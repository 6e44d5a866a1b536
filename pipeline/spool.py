"""Messages of a stream on disk, and which of them the catalog holds: the names of the files say it.

A batch becomes one file for each night and partition, ``CLUSTER/TOPIC/PARTITION/FIRST-LAST.avro``, whose rows go into
the catalog under that name. So the catalog's ledger knows the offsets that are done, they are committed with the rows
in one step, and nothing else has to be remembered. Where a batch of a partition spans several nights, only the last
night's file closes its range; the others are marked ``.part``, and what they hold is passed over if the batch has to
be read again.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from pipeline.sources import Inputs
from transforms.readers.alert_messages import Message, write_messages
from transforms.records import FileRef, Reject
from transforms.store import Store

GONE = "MessagesGone"  #: Error class of messages that the broker no longer had when they were asked for.
_NAME = re.compile(r"([^/]+)/([^/]+)/(\d+)/(\d{12,})-(\d{12,})(\.part)?\.avro")
OWNER = "catalog.txt"


class Partition(NamedTuple):
    """One partition of a topic.

    Parameters
    ----------
    topic, number
        Its name and number.
    """

    topic: str
    number: int


class Range(NamedTuple):
    """Offsets of one file, of a partition of a cluster.

    Parameters
    ----------
    cluster : str
        The cluster's own id: offsets of another one mean nothing here.
    partition : Partition
        Of the messages.
    first, last : int
        Offsets, both included; there may be gaps between them.
    closing : bool
        Whether all offsets up to ``last`` are done with this file.
    """

    cluster: str
    partition: Partition
    first: int
    last: int
    closing: bool = True

    @property
    def name(self) -> str:
        """Of its file, as rows have it."""
        topic, number = self.partition
        part = "" if self.closing else ".part"
        return f"{self.cluster}/{topic}/{number}/{self.first:012d}-{self.last:012d}{part}.avro"

    @classmethod
    def of(cls, name: str) -> Range | None:
        """Read a name.

        Parameters
        ----------
        name : str
            The ``source`` of an input.

        Returns
        -------
        Range or None
            None for an input that is no file of messages.
        """
        found = _NAME.fullmatch(name)
        if not found:
            return None
        cluster, topic, number, first, last, part = found.groups()
        return cls(cluster, Partition(topic, int(number)), int(first), int(last), not part)


@dataclass(slots=True)
class Coverage:
    """Which messages of a cluster a catalog holds.

    Parameters
    ----------
    cluster : str
        Its id.
    """

    cluster: str
    _next: dict[Partition, int] = field(default_factory=dict)
    _parts: dict[Partition, list[tuple[str, int, int]]] = field(default_factory=dict)

    def add(self, night: str, name: str) -> None:
        """Take note of an input of the catalog.

        Parameters
        ----------
        night, name : str
            Its night and ``source``; others than files of messages are left alone.
        """
        found = Range.of(name)
        if found is None or found.cluster != self.cluster:
            return
        if not found.closing:
            self._parts.setdefault(found.partition, []).append((night, found.first, found.last))
            return
        after = max(found.last + 1, self._next.get(found.partition, 0))
        self._next[found.partition] = after
        self._parts[found.partition] = [part for part in self._parts.get(found.partition, ()) if part[2] >= after]

    def next(self, partition: Partition) -> int | None:
        """The offset to go on with.

        Parameters
        ----------
        partition : Partition
            Which.

        Returns
        -------
        int or None
            None where nothing of it was committed.
        """
        return self._next.get(partition)

    def holds(self, night: str, message: Message) -> bool:
        """Say whether a message is in the catalog.

        Parameters
        ----------
        night : str
            Of the message.
        message : Message
            The message.

        Returns
        -------
        bool
            True as well for one before ``next``.
        """
        partition = Partition(message.topic, message.partition)
        return message.offset < self._next.get(partition, 0) or any(
            which == night and first <= message.offset <= last for which, first, last in self._parts.get(partition, ())
        )


class Batch(NamedTuple):
    """What goes into one run.

    Parameters
    ----------
    night : str
        The night.
    inputs : Inputs
        Files of messages with digests, and messages that are gone as rejects.
    messages : tuple of Message
        All of them.
    """

    night: str
    inputs: Inputs
    messages: tuple[Message, ...]


class Spool:
    """A folder of messages for one catalog.

    Parameters
    ----------
    root : str
        Folder or URL.
    """

    def __init__(self, root: str) -> None:
        self.store = Store(root)

    def claim(self, catalog: str) -> str | None:
        """Make the folder that of a catalog.

        Parameters
        ----------
        catalog : str
            Its root.

        Returns
        -------
        str or None
            The root of the other catalog that it belongs to already.
        """
        if self.store.exists(OWNER):
            owner = self.store.read(OWNER).decode().strip()
            return None if owner == catalog else owner
        self.store.write(OWNER, f"{catalog}\n".encode())
        return None

    def put(
        self,
        cluster: str,
        messages: Iterable[tuple[str, Message]],
        schemas: Mapping[int, str],
        gone: Iterable[tuple[str, Reject]] = (),
    ) -> list[Batch]:
        """Write a batch, a file for each night and partition.

        Parameters
        ----------
        cluster : str
            Its id.
        messages : iterable of (str, Message)
            Each with its night; of a partition in the order of offsets.
        schemas : mapping of int to str
            That they name by number.
        gone : iterable of (str, Reject)
            Rejects with their nights.

        Returns
        -------
        list of Batch
            In the order in which they have to be committed.
        """
        spans: dict[Partition, list[int]] = {}
        files: dict[str, dict[Partition, list[Message]]] = {}
        for night, message in messages:
            partition = Partition(message.topic, message.partition)
            spans.setdefault(partition, []).append(message.offset)
            files.setdefault(night, {}).setdefault(partition, []).append(message)
        last = {partition: night for night in sorted(files) for partition in files[night]}
        rejects: dict[str, list[Reject]] = {}
        for night, reject in gone:
            rejects.setdefault(night, []).append(reject)
        batches = []
        for night in sorted({*files, *rejects}):
            refs = []
            for partition, own in sorted(files.get(night, {}).items()):
                span = spans[partition]
                name = Range(cluster, partition, min(span), max(span), last[partition] == night).name
                refs.append(self._write(night, name, own, schemas))
            inputs = Inputs(tuple(refs), tuple(rejects.get(night, ())))
            of_night = tuple(message for own in files.get(night, {}).values() for message in own)
            batches.append(Batch(night, inputs, of_night))
        return batches

    def _write(self, night: str, name: str, messages: Sequence[Message], schemas: Mapping[int, str]) -> FileRef:
        numbers = {message.schema_id for message in messages}
        data = write_messages(messages, {n: text for n, text in schemas.items() if n in numbers})
        path = f"{night}/{name}"
        self.store.write(path, data)
        digest = hashlib.sha256(data).hexdigest()
        return FileRef(url=self._url(path), source=name, size=len(data), digest=digest)

    def _url(self, path: str) -> str:
        return self.store.path(path) if self.store.local else f"{self.store.url.rstrip('/')}/{path}"

    def drop(self, batch: Batch, names: Iterable[str]) -> None:
        """Remove files of a batch.

        Parameters
        ----------
        batch : Batch
            That is in the catalog.
        names : iterable of str
            Their ``source``.
        """
        for name in names:
            self.store.remove(f"{batch.night}/{name}")

    def clear(self, cluster: str, kept: Collection[tuple[str, str]]) -> list[str]:
        """Remove files of messages that the broker has, as their runs never came to a commit, or that nobody needs.

        Parameters
        ----------
        cluster : str
            Only those of this one.
        kept : collection of (str, str)
            Night and ``source`` of files that stay.

        Returns
        -------
        list of str
            Relative paths.
        """
        removed = []
        for path in self.store.find():
            night, _, name = path.partition("/")
            found = Range.of(name)
            if found is not None and found.cluster == cluster and (night, name) not in kept:
                self.store.remove(path)
                removed.append(path)
        return removed
