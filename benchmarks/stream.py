"""``python -m benchmarks.stream``: alerts a second from a real broker on loopback, through ``nightcat alerts``.

A process sends alerts at a fixed rate; the command takes them, with its two models (the network and the boosted trees),
into a catalog. What is told: whether it keeps up, how old an alert is when its row is committed, and memory.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil

from benchmarks.__main__ import ROOT, keep

DATA = ROOT.parent / "shared" / "data" / "alerts"
TOPIC, PARTITIONS = "alerts", 4
HEAD = [
    "| alerts/s sent | minutes | alerts | rows | rejects | age at commit, 50 %, s | 99 %, s | oldest, s | "
    "memory, first third, MB | last third, MB | CPU, cores |",
    "|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
]


class Taken(NamedTuple):
    """What the command has told of its runs.

    Parameters
    ----------
    batches : list of dict
        Its lines.
    memory : list of float
        MB of its process tree, twice a second.
    cpu : float
        CPU seconds of it.
    """

    batches: list[dict[str, Any]]
    memory: list[float]
    cpu: float


def packets(folder: Path) -> list[bytes]:
    """Real packets of the surveys where they are there, else those of the tests.

    Parameters
    ----------
    folder : Path
        Where real data lies.

    Returns
    -------
    list of bytes
        Messages.
    """
    found = [path.read_bytes() for path in sorted(folder.rglob("*.avro"))]
    if found:
        return found
    from tests.pipeline.alerts import ztf

    return [ztf(number) for number in range(200)]


def send(servers: str, values: Sequence[bytes], rate: float, seconds: float) -> int:
    """Send alerts at a rate.

    Parameters
    ----------
    servers : str
        The broker.
    values : sequence of bytes
        Sent one after the other, again and again.
    rate, seconds : float
        Alerts a second, and for how long.

    Returns
    -------
    int
        How many.
    """
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": servers, "linger.ms": 20})
    started, sent = time.monotonic(), 0
    while (passed := time.monotonic() - started) < seconds:
        while sent < int(rate * passed):
            producer.produce(TOPIC, value=values[sent % len(values)], partition=sent % PARTITIONS)
            sent += 1
        producer.poll(0)
        time.sleep(0.02)
    producer.flush(60)
    return sent


def take(servers: str, catalog: Path, expected: threading.Event, more: Sequence[str]) -> Taken:
    """Run the command until it has been idle.

    Parameters
    ----------
    servers : str
        The broker.
    catalog : Path
        To be written.
    expected : Event
        Set at its first run.
    more : sequence of str
        Options.

    Returns
    -------
    Taken
        What it told.
    """
    command = [
        str(Path(sys.executable).parent / "nightcat"), "alerts", TOPIC, "--brokers", servers, "--output", str(catalog),
        "--json", "--idle-exit", "30", "--keep", "none", *more,
    ]  # fmt: skip
    memory: list[float] = []
    batches = []
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        tree = psutil.Process(process.pid)
        cpu = [0.0]
        threading.Thread(target=_sample, args=(tree, memory, cpu), daemon=True).start()
        for line in process.stdout or ():
            told = json.loads(line)
            print(json.dumps({k: v for k, v in told.items() if k != "rows"}), flush=True)
            if told["event"] == "batch":
                batches.append(told)
            if told["event"] in ("batch", "connected"):
                expected.set()
    if process.returncode:
        raise RuntimeError(f"{command} exited with {process.returncode}")
    return Taken(batches, memory, cpu[0])


def _sample(tree: psutil.Process, memory: list[float], cpu: list[float]) -> None:
    while tree.is_running():
        try:
            processes = [tree, *tree.children(recursive=True)]
            memory.append(sum(one.memory_info().rss for one in processes) / 1e6)
            cpu[0] = max(cpu[0], sum(sum(one.cpu_times()[:4]) for one in (tree, *tree.children())))
        except psutil.Error:
            pass
        time.sleep(0.5)


def measure(folder: Path, rate: float, minutes: float, more: Sequence[str]) -> str:
    """One rate.

    Parameters
    ----------
    folder : Path
        For broker and catalog.
    rate, minutes : float
        Alerts a second, and for how long.
    more : sequence of str
        Options of the command.

    Returns
    -------
    str
        A line of the table.
    """
    from tests.pipeline.kafka.broker import Broker

    ready, taken = threading.Event(), []
    with Broker(folder) as broker:
        broker.create(TOPIC, PARTITIONS)
        reader = threading.Thread(target=lambda: taken.append(take(broker.servers, folder / "catalog", ready, more)))
        reader.start()
        ready.wait(120)
        started = time.monotonic()
        sent = send(broker.servers, packets(DATA), rate, 60 * minutes)
        reader.join()
    (told,) = taken
    ages = np.concatenate([np.full(b["messages"], b["age_p50"]) for b in told.batches])
    worst = np.array([b["age_p99"] for b in told.batches])
    rows, rejects = (
        sum(found) for found in zip(*((sum(b["rows"].values()), b["rejects"]) for b in told.batches), strict=False)
    )
    third = len(told.memory) // 3
    busy = told.cpu / (time.monotonic() - started)
    if sum(b["messages"] for b in told.batches) != sent:
        raise RuntimeError(f"{sent} alerts were sent and {sum(b['messages'] for b in told.batches)} taken")
    return (
        f"| {rate:g} | {minutes:g} | {sent} | {rows} | {rejects} | {np.median(ages):.0f} | "
        f"{np.percentile(worst, 99):.0f} | {worst.max():.0f} | {max(told.memory[third // 4 : third]):.0f} | "
        f"{max(told.memory[2 * third :]):.0f} | {busy:.2f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stream", description=__doc__)
    parser.add_argument("--rate", type=float, default=250.0, help="alerts a second")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("more", nargs="*", help="options of nightcat alerts, after --")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        line = measure(Path(name), options.rate, options.minutes, options.more)
    print(line)
    if options.minutes >= 1:
        keep("stream", [*HEAD, line])


if __name__ == "__main__":
    main()
