"""A real Kafka broker on loopback, of one node, from the jars that ``make kafka`` fetches."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

JARS = Path(os.environ.get("NIGHTCAT_KAFKA_JARS", Path(sys.executable).parent.parent / "kafka"))
PROPERTIES = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={logs}
num.partitions=2
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
log.cleaner.dedupe.buffer.size=20000000
"""


def why_not() -> str:
    """Why no broker can be started here; empty where it can."""
    if shutil.which("java") is None:
        return "there is no Java here"
    return "" if list(JARS.glob("kafka_*.jar")) else f"no Kafka in {JARS}: make kafka"


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Broker:
    """A broker that can be stopped and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, _free_port()
        self.servers = f"127.0.0.1:{self.port}"
        text = PROPERTIES.format(port=self.port, controller=_free_port(), logs=folder / "logs")
        self.properties = folder / "server.properties"
        self.properties.write_text(text)
        number = self._java("kafka.tools.StorageTool", "random-uuid").split()[-1]
        self._java("kafka.tools.StorageTool", "format", "-t", number, "-c", str(self.properties))
        self._process: subprocess.Popen[bytes] | None = None

    def _java(self, *arguments: str) -> str:
        command = ["java", "-cp", f"{JARS}/*", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def __enter__(self) -> Broker:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        command = ["java", "-Xmx384m", "-cp", f"{JARS}/*", "kafka.Kafka", str(self.properties)]
        with (self.folder / "broker.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                self.admin().list_topics(timeout=2)
                return
            except Exception:  # it is not there yet
                time.sleep(0.2)
        raise RuntimeError(f"the broker did not come up: {self.folder / 'broker.log'}")

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGKILL)
            process.wait()

    def admin(self) -> Any:
        from confluent_kafka.admin import AdminClient

        return AdminClient({"bootstrap.servers": self.servers, "log_level": 0})

    def create(self, topic: str, partitions: int = 2, **config: str) -> None:
        from confluent_kafka.admin import NewTopic

        admin = self.admin()  # its answers die with it
        admin.create_topics([NewTopic(topic, partitions, 1, config=config)])[topic].result(30)

    def delete(self, topic: str) -> None:
        admin = self.admin()
        admin.delete_topics([topic])[topic].result(30)

    def send(self, topic: str, messages: Iterable[tuple[int, bytes | None, int]]) -> None:
        """Send messages: partition, value, and time in ms since 1970."""
        from confluent_kafka import Producer

        producer = Producer(
            {"bootstrap.servers": self.servers, "enable.idempotence": True, "linger.ms": 5, "log_level": 0}
        )
        for partition, value, time_ in messages:
            producer.produce(topic, value=value, partition=partition, timestamp=time_)
            producer.poll(0)
        assert producer.flush(30) == 0

    def committed(self, group: str, topic: str) -> dict[int, int]:
        """Offsets of a group, by partition."""
        from confluent_kafka import Consumer, TopicPartition

        consumer = Consumer({"bootstrap.servers": self.servers, "group.id": group})
        count = len(consumer.list_topics(topic, timeout=10).topics[topic].partitions)
        found = consumer.committed([TopicPartition(topic, p) for p in range(count)], timeout=10)
        consumer.close()
        return {place.partition: place.offset for place in found}
