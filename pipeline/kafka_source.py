"""Kafka as a source without an end, for engines that stream; no Java expansion service is needed.

A reader goes on from the checkpoint that the engine keeps. The group's offsets follow the engine's checkpoints and say
where a new job begins.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from apache_beam.coders import Coder, PickleCoder
from apache_beam.io.unbounded_source import CheckpointMark, UnboundedReader, UnboundedSource
from apache_beam.utils.timestamp import MAX_TIMESTAMP, MIN_TIMESTAMP, Timestamp

from pipeline.broker import LATEST, REGISTRY_USER, BrokerAway, read_credentials
from pipeline.spool import Partition
from transforms.readers.alert_messages import Message

_ANSWER = 15.0  #: Seconds.


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where messages are: all that a worker needs to reach them; small, and without secrets.

    Parameters
    ----------
    servers, group : str
        As in ``pipeline.broker.Broker``.
    credentials : str
        File or URL that every worker can read; empty for none.
    """

    servers: str
    group: str
    credentials: str = ""

    def consumer(self) -> Any:
        """Make a consumer that is told its partitions.

        Returns
        -------
        confluent_kafka.Consumer
            To be closed by the caller.
        """
        from confluent_kafka import Consumer

        secrets = read_credentials(self.credentials) if self.credentials else {}
        secrets.pop(REGISTRY_USER, None)
        own = {"bootstrap.servers": self.servers, "group.id": self.group, "enable.auto.commit": False,
               "queued.max.messages.kbytes": 16_384, "log_level": 0}  # fmt: skip
        return Consumer({**own, **secrets})


@cache
def _committer(place: Place) -> Any:
    return place.consumer()


@dataclass(frozen=True)
class Mark(CheckpointMark):
    """How far a partition was read.

    Parameters
    ----------
    place : Place
        The broker.
    partition : Partition
        Which.
    offset : int
        The next message.
    """

    place: Place
    partition: Partition
    offset: int

    def finalize_checkpoint(self) -> None:
        """Tell the group; by absolute position, so that doing it twice does no harm."""
        from confluent_kafka import TopicPartition

        places = [TopicPartition(*self.partition, self.offset)]
        _committer(self.place).commit(offsets=places, asynchronous=False)


@dataclass(frozen=True, kw_only=True)
class KafkaSource(UnboundedSource):
    """Messages of some partitions.

    Parameters
    ----------
    place : Place
        The broker.
    begins : mapping of Partition to int
        First offset of each.
    ends : mapping of Partition to int
        Offset before which a partition ends for this job; one without never ends.
    slack : float
        Seconds by which the time stamps of a partition may be out of order.
    """

    place: Place
    begins: Mapping[Partition, int]
    ends: Mapping[Partition, int] = field(default_factory=dict)
    slack: float = 60.0

    def split(self, desired_num_splits: int, options: Any = None) -> Iterable[KafkaSource]:
        """One source for each partition.

        Parameters
        ----------
        desired_num_splits : int
            Not looked at: the broker's partitions are what can be read side by side.
        options : object
            Not needed.

        Returns
        -------
        iterable of KafkaSource
            In the order of the partitions.
        """
        return [replace(self, begins={p: offset}) for p, offset in sorted(self.begins.items())]

    def create_reader(self, options: Any, checkpoint_mark: CheckpointMark | None) -> KafkaReader:
        """Begin, or go on.

        Parameters
        ----------
        options : object
            Not needed.
        checkpoint_mark : Mark or None
            Of the reader before.

        Returns
        -------
        KafkaReader
            Of one partition.
        """
        ((partition, begin),) = self.begins.items()
        offset = checkpoint_mark.offset if isinstance(checkpoint_mark, Mark) else begin
        return KafkaReader(self.place, partition, offset, self.ends.get(partition), self.slack)

    def get_checkpoint_mark_coder(self) -> Coder:
        """How marks travel.

        Returns
        -------
        Coder
            Pickled; a mark is never kept beyond the job.
        """
        return PickleCoder()


class KafkaReader(UnboundedReader):
    """Reads one partition.

    Parameters
    ----------
    place, partition, offset, end, slack
        As in ``KafkaSource``.
    """

    def __init__(self, place: Place, partition: Partition, offset: int, end: int | None, slack: float) -> None:
        self._place, self._partition, self._next, self._end, self._slack = place, partition, offset, end, slack
        self._waiting: deque[Message] = deque()
        self._current: Message | None = None
        self._latest, self._caught_up = 0.0, False
        self._consumer: Any = None

    def start(self) -> bool:
        """Begin at the first message.

        Returns
        -------
        bool
            Whether there is one.
        """
        from confluent_kafka import TopicPartition

        self._consumer = self._place.consumer()
        self._consumer.assign([TopicPartition(*self._partition, self._next)])
        return self.advance()

    def advance(self) -> bool:
        """Go to the next message.

        Returns
        -------
        bool
            False where there is none just now.
        """
        if self._at_end:
            return False
        if not self._waiting:
            self._fetch()
        if not self._waiting:
            return False
        self._current = self._waiting.popleft()
        self._next = self._current.offset + 1
        self._latest = max(self._latest, self._current.time / 1e3)
        return True

    @property
    def _at_end(self) -> bool:
        return self._end is not None and self._next >= self._end

    def _fetch(self) -> None:
        got = self._consumer.consume(200, 0.2)
        for one in got:
            if one.error() is not None:
                raise BrokerAway(f"the broker {self._place.servers}: {one.error().str()}")
            stamp = one.timestamp()[1]
            self._waiting.append(Message(one.topic(), one.partition(), one.offset(), stamp, one.value()))
        self._caught_up = not got
        if self._end is not None:
            self._waiting = deque(message for message in self._waiting if message.offset < self._end)
            if got and not self._waiting:  # gaps before the end: nothing more will come
                self._next = self._end

    def get_current(self) -> Message:
        """The message.

        Returns
        -------
        Message
            As it came.
        """
        if self._current is None:
            raise ValueError("no message was read yet")
        return self._current

    def get_current_timestamp(self) -> Timestamp:
        """Its time.

        Returns
        -------
        Timestamp
            As the broker has it.
        """
        return Timestamp(micros=1000 * self.get_current().time)

    def get_watermark(self) -> Timestamp:
        """No later message is older than this.

        Returns
        -------
        Timestamp
            Of the latest message, less the slack; of now, less the slack, where there is none to read.
        """
        if self._at_end:
            return MAX_TIMESTAMP
        latest = max(self._latest, time.time()) if self._caught_up else self._latest
        return Timestamp(latest - self._slack) if latest else MIN_TIMESTAMP

    def get_checkpoint_mark(self) -> Mark:
        """How far we are.

        Returns
        -------
        Mark
            Of the next message.
        """
        return Mark(self._place, self._partition, self._next)

    def close(self) -> None:
        """Let go of the broker."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.close()


def find_source(place: Place, topics: Sequence[str], start: str, *, to_end: bool) -> KafkaSource:
    """Ask the broker for partitions and where they begin.

    Parameters
    ----------
    place : Place
        The broker.
    topics : sequence of str
        Names of topics that exist.
    start : str
        ``"earliest"`` or ``"latest"``, for partitions that the group does not know.
    to_end : bool
        Whether the source ends where the partitions end now.

    Returns
    -------
    KafkaSource
        All partitions.

    Raises
    ------
    BrokerAway
        Where it is not reached.
    """
    from confluent_kafka import KafkaException, TopicPartition

    consumer = place.consumer()
    begins, ends = {}, {}
    try:
        for topic in topics:
            found = consumer.list_topics(topic, timeout=_ANSWER).topics[topic].partitions
            known = consumer.committed([TopicPartition(topic, number) for number in sorted(found)], timeout=_ANSWER)
            for one in known:
                low, high = consumer.get_watermark_offsets(one, timeout=_ANSWER)
                partition = Partition(topic, one.partition)
                fresh = high if start == LATEST else low
                begins[partition] = max(low, one.offset) if one.offset >= 0 else fresh
                ends[partition] = high
    except KafkaException as error:
        raise BrokerAway(f"the broker {place.servers} is not reached: {error.args[0].str()}") from error
    finally:
        consumer.close()
    return KafkaSource(place=place, begins=begins, ends=ends if to_end else {})
