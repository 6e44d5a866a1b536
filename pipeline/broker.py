"""Kafka, and nothing of what is done with its messages: topics, partitions, where to begin, back-pressure."""

from __future__ import annotations

import difflib
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

from pipeline.spool import Partition
from transforms.locations import local_path, open_url
from transforms.readers.alert_messages import Message

EARLIEST, LATEST = "earliest", "latest"
STARTS = (EARLIEST, LATEST)
BATCH_BYTES = 64_000_000  #: Of one batch at most, so that memory is bounded whatever messages weigh.
_ANSWER = 15.0  #: Seconds for an answer of a broker.
#: What we decide; all else of librdkafka's configuration may stand in the file of credentials.
_OWN = {
    "group.id", "bootstrap.servers", "metadata.broker.list", "enable.auto.commit", "enable.auto.offset.store",
    "auto.offset.reset", "max.poll.interval.ms", "session.timeout.ms",
}  # fmt: skip
REGISTRY_USER = "basic.auth.user.info"  #: As Confluent's clients name it; all else in the file is the broker's.
_POLL_MINUTES = 30  #: A run may take so long before the group gives our partitions to others.


class StreamError(OSError):
    """The broker or a topic is not what was asked for; waiting does not mend it."""


class BrokerAway(StreamError):
    """The broker is not reached; it may come back."""


def read_credentials(place: str) -> dict[str, str]:
    """Read settings of librdkafka, such as user and password.

    Parameters
    ----------
    place : str
        File of lines ``key = value``; ``#`` begins a comment.

    Returns
    -------
    dict of str to str
        By key.

    Raises
    ------
    StreamError
        For a line that is none, a key that nightcat sets itself, and a file that others on this machine can read. No
        value is ever told.
    """
    path = local_path(place)
    try:
        if path is not None and Path(path).stat().st_mode & 0o077:
            raise StreamError(f"{place}: others can read the credentials; chmod 600 {place}")
        with open_url(place) as stream:
            text = stream.read().decode()
    except StreamError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        raise StreamError(f"the credentials cannot be read: {place!r}: {error}") from error
    found = {}
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        key, sign, value = (part.strip() for part in stripped.partition("="))
        if not sign or not re.fullmatch(r"[a-z][a-z0-9.]*", key):
            raise StreamError(f"{place}, line {number}: is not of the form key = value")
        if key in _OWN:
            raise StreamError(f"{place}, line {number}: {key} is set by nightcat's own options")
        found[key] = value
    return found


@dataclass(slots=True)
class Broker:
    """A consumer of topics.

    Parameters
    ----------
    servers : str
        ``HOST:PORT[,HOST:PORT...]``.
    topics : sequence of str
        Names; one that begins with ``^`` is a pattern.
    group : str
        Consumer group.
    start : str
        Where a partition begins that neither the catalog nor the group knows: ``"earliest"`` or ``"latest"``.
    settings : mapping of str to str
        Of librdkafka.
    next : callable
        ``next(partition) -> offset or None``: where the catalog wants to go on.
    tell : callable
        ``tell(sentence)``: of trouble that is waited out.

    Attributes
    ----------
    cluster : str
        The cluster's id.
    joined : bool
        Whether the group has said which partitions are ours; perhaps none.
    gone : dict of Partition to (int, int)
        Offsets, ``first <= offset < second``, that the broker no longer had when they were asked for.
    """

    servers: str
    topics: Sequence[str]
    group: str
    start: str
    settings: Mapping[str, str]
    next: Callable[[Partition], int | None]
    tell: Callable[[str], None]
    cluster: str = ""
    joined: bool = False
    gone: dict[Partition, tuple[int, int]] = field(default_factory=dict)
    _consumer: Any = None
    _pending: dict[Partition, list[Message]] = field(default_factory=dict)
    _fault: StreamError | None = None
    _said: str = ""
    _under_way: int = 0

    def connect(self) -> None:
        """Reach the cluster, check the topics and join the group.

        Raises
        ------
        StreamError
            Where a topic does not exist.
        BrokerAway
            Where the broker is not reached.
        """
        self._fault, self._said, self._under_way, self.joined = None, "", 0, False
        self._pending.clear()
        try:
            from confluent_kafka import Consumer, KafkaException
        except ImportError as error:
            raise StreamError("reading from Kafka needs: pip install 'nightcat[kafka]'") from error
        own = {
            "bootstrap.servers": self.servers,
            "group.id": self.group,
            "enable.auto.commit": False,
            "auto.offset.reset": "latest" if self.start == LATEST else "earliest",
            "max.poll.interval.ms": _POLL_MINUTES * 60_000,
            "session.timeout.ms": 10_000,  # so long a reader that was killed keeps its partitions from all others
            "error_cb": self._on_error,
            "on_commit": self._on_commit,
            # what is fetched ahead while a run goes on; the rest waits at the broker
            "queued.max.messages.kbytes": 16_384,
            "fetch.message.max.bytes": 8_000_000,
            "topic.metadata.refresh.interval.ms": 30_000,
        }
        try:
            self._consumer = Consumer({**own, **self.settings}, logger=_silent())
            found = self._consumer.list_topics(timeout=_ANSWER)
        except KafkaException as error:
            self.close()
            why = self._said or error.args[0].str()
            raise BrokerAway(f"the broker {self.servers} is not reached: {why}") from error
        self.cluster = re.sub(r"[^\w.-]", "_", str(found.cluster_id or "kafka"))
        names = [name for name in found.topics if not name.startswith("__")]
        missing = [topic for topic in self.topics if not topic.startswith("^") and topic not in names]
        if missing:
            self.close()
            near = difflib.get_close_matches(missing[0], names, 3, 0.4) or sorted(names)[:5]
            there = f"there is {', '.join(near)}" if near else "it has no topic"
            raise StreamError(f"the broker {self.servers} has no topic {missing[0]!r}; {there}")

    def join(self) -> None:
        """Join the group; partitions are told their place when they are given to us."""
        self._consumer.subscribe(list(self.topics), on_assign=self._on_assign, on_revoke=self._on_revoke,
                                 on_lost=self._on_revoke)  # fmt: skip

    def take(self, count: int, seconds: float, stop: Event) -> list[Message]:
        """Wait for messages.

        Parameters
        ----------
        count : int
            Not more than about so many.
        seconds : float
            From the first one on; as long again where there is none.
        stop : Event
            Ends the waiting.

        Returns
        -------
        list of Message
            Of each partition in the order of offsets; none of a partition that was taken from us meanwhile.

        Raises
        ------
        StreamError
            Where the place in a partition is lost.
        BrokerAway
            Where it does not say how far a partition goes.
        """
        end, size = time.monotonic() + seconds, 0
        while time.monotonic() < end and not stop.is_set():
            room = count - sum(map(len, self._pending.values()))
            if room <= 0 or size >= BATCH_BYTES:
                break
            got = self._consumer.consume(min(room, 500), 0.2)
            if self._fault is not None:
                raise self._fault
            if got and not size:
                end = time.monotonic() + seconds
            for one in got:
                size += self._put(one)
        messages = [message for own in self._pending.values() for message in own]
        self._pending.clear()
        return messages

    def _put(self, one: Any) -> int:
        from confluent_kafka import KafkaError

        if (error := one.error()) is not None:
            if error.code() in (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED):
                raise StreamError(f"the broker {self.servers} refuses: {error.str()}")
            if error.code() != KafkaError._PARTITION_EOF:
                self._on_error(error)
            return 0
        self._said = ""
        value = one.value()
        stamp = one.timestamp()[1]
        when = stamp if stamp > 0 else int(1e3 * time.time())
        message = Message(one.topic(), one.partition(), one.offset(), when, value)
        self._pending.setdefault(Partition(message.topic, message.partition), []).append(message)
        return len(value or b"")

    def commit(self, offsets: Mapping[Partition, int]) -> None:
        """Tell the group how far we are; where that fails nothing is lost, as the catalog knows it, too.

        Parameters
        ----------
        offsets : mapping of Partition to int
            The next offset of each.
        """
        from confluent_kafka import KafkaException, TopicPartition

        places = [TopicPartition(topic, number, offset) for (topic, number), offset in sorted(offsets.items())]
        try:
            self._consumer.commit(offsets=places, asynchronous=True)  # a broker that is away would be waited for
            self._under_way += 1
        except KafkaException as error:
            self._on_commit(error.args[0], ())

    def _on_commit(self, error: Any, _: object) -> None:
        self._under_way = max(0, self._under_way - 1)
        if error is not None:  # the group gave them to others, or the broker is away
            self.tell(f"the broker did not take the offsets of the last run: {error.str()}")

    def behind(self) -> int:
        """How many messages of our partitions the broker has beyond what was taken.

        Returns
        -------
        int
            As of the last answer of the broker.
        """
        total = 0
        for place in self._consumer.position(self._consumer.assignment()):
            _, high = self._consumer.get_watermark_offsets(place, cached=True)
            if place.offset >= 0 and high > 0:
                total += max(0, high - place.offset)
        return total

    def close(self) -> None:
        """Leave the group, when it has heard how far we are."""
        consumer, self._consumer = self._consumer, None
        if consumer is None:
            return
        end = time.monotonic() + _ANSWER
        with suppress(RuntimeError):
            while self._under_way and not self._said and time.monotonic() < end:
                consumer.consume(1, 0.1)  # what comes is not kept, and is read again
            consumer.close()

    def _on_error(self, error: Any) -> None:
        sentence = f"the broker {self.servers}: {error.str()}"
        if sentence != self._said:
            self._said = sentence
            if self.cluster:
                self.tell(sentence)

    def _on_revoke(self, _: Any, places: Iterable[Any]) -> None:
        for place in places:  # another one reads them again, from where the catalog stands
            self._pending.pop(Partition(place.topic, place.partition), None)

    def _on_assign(self, consumer: Any, places: Sequence[Any]) -> None:
        from confluent_kafka import KafkaException

        self.joined = True
        try:
            committed = consumer.committed(list(places), timeout=_ANSWER)
            fresh = [self._place(consumer, place, known.offset) for place, known in zip(places, committed, strict=True)]
            consumer.assign(list(places))
            if self.start == LATEST and any(fresh):  # where "latest" was must outlive us, before anything is committed
                consumer.commit(offsets=[p for p, new in zip(places, fresh, strict=True) if new], asynchronous=False)
        except KafkaException as error:
            self._fault = BrokerAway(f"the broker {self.servers} is not reached: {error.args[0].str()}")
        except StreamError as error:  # the library would swallow it; it is raised where messages are waited for
            self._fault = error

    def _place(self, consumer: Any, place: Any, committed: int) -> bool:
        """Set where a partition begins; True where neither the catalog nor the group knows it."""
        partition = Partition(place.topic, place.partition)
        ours = self.next(partition)
        wanted = max((offset for offset in (ours, committed) if offset is not None and offset >= 0), default=None)
        low, high = consumer.get_watermark_offsets(place, timeout=_ANSWER, cached=False)
        if wanted is None:
            place.offset = high if self.start == LATEST else low
            return True
        if wanted > high:
            raise StreamError(
                f"{partition.topic} partition {partition.number} ends at offset {high}, but the "
                f"{'catalog' if wanted == ours else 'group'} is at {wanted}: the topic was made anew. "
                "Give it another name, or take another catalog and group"
            )
        if wanted < low:
            self.gone[partition] = (wanted, low)
        place.offset = max(wanted, low)
        return False


def _silent() -> Any:
    """The library writes to the screen otherwise; what matters comes through its callbacks."""
    import logging

    log = logging.getLogger("nightcat.kafka")
    log.propagate = False
    log.addHandler(logging.NullHandler())
    return log
