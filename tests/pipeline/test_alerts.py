"""Alerts from a real broker: every message is one row or one reject, whatever dies or goes away meanwhile."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pipeline.consuming
from pipeline.broker import StreamError, read_credentials
from pipeline.cli import build_parser, main
from pipeline.cli.alerts import _stream
from pipeline.cli.run import config_of
from pipeline.consuming import Stream
from pipeline.ledger import Ledger
from pipeline.spool import GONE, Range
from pipeline.verify import verify
from pipeline.workers import EngineError
from tests.conftest import ROOT
from tests.pipeline.alerts import NEXT, NIGHT, NOON, changed, lsst, ztf
from tests.pipeline.kafka.broker import Broker, why_not
from tests.pipeline.test_schemas import TEXT, Registry
from transforms.store import OutputError, Store

HOUR = 3_600_000
EVENING = NOON - 12 * HOUR  #: Midnight of NIGHT.


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    if reason := why_not():
        pytest.skip(reason)
    with Broker(tmp_path_factory.mktemp("kafka")) as one:
        yield one


def command(broker: Broker, topic: str, catalog: Path, *more: str) -> list[str]:
    return [
        "alerts", topic, "--brokers", broker.servers, "--output", str(catalog), "--json", "--interval", "0.5",
        "--idle-exit", "6", *more,
    ]  # fmt: skip


class Taking:
    """A stream in this process, in a thread, whose events are kept."""

    def __init__(self, broker: Broker, topic: str, catalog: Path, *more: str) -> None:
        options = build_parser().parse_args(command(broker, topic, catalog, *more))
        options.tasks, options.spool, options.beam_options = ["variable_star"], f"{catalog}.messages", None
        options.inputs = [options.spool]
        self.told: list[dict[str, Any]] = []
        self.stop, self.error = threading.Event(), None
        self.stream: Stream = _stream(options, config_of(options), self.tell)
        self._thread = threading.Thread(target=self._run)

    def tell(self, event: str, **values: Any) -> None:
        self.told.append({"event": event, **values})

    def _run(self) -> None:
        try:
            self.stream.run(self.stop)
        except Exception as error:  # told to the test, which waits for it
            self.error = error

    def __enter__(self) -> Taking:
        self._thread.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            self.stop.set()
        self._thread.join(120)
        assert not self._thread.is_alive()

    def wait_for(self, event: str, count: int = 1, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while len(self.events(event)) < count:
            assert time.monotonic() < end, (event, self.told)
            assert self._thread.is_alive(), (self.error, self.told)
            time.sleep(0.05)

    def events(self, name: str) -> list[dict[str, Any]]:
        return [one for one in list(self.told) if one["event"] == name]


def take(*arguments: Any) -> Taking:
    with Taking(*arguments) as taking:
        pass
    assert taking.error is None, taking.error
    return taking


def held(catalog: Path) -> dict[tuple[int, int], tuple[str, str]]:
    """Night and object of each message of a catalog, by partition and offset; an error where one is there twice."""
    found: list[tuple[tuple[int, int], tuple[str, str]]] = []
    store, ledger = Store(str(catalog)), Ledger(str(catalog))
    for run in ledger.runs():
        for file in run.files:
            if file.kind in ("primary", "unplaced"):
                for row in ledger._rows(file.path):
                    found.append((place(row), (row["night"], row["object_id"])))
    found += [(place(row), (row["night"], row["error"])) for row in ledger.rejects() if row["error"] != GONE]
    twice = [key for key, count in Counter(key for key, _ in found).items() if count > 1]
    assert not twice, f"there twice: {twice} in {store.url}"
    return dict(found)


def place(row: dict[str, Any]) -> tuple[int, int]:
    found = Range.of(row["source"])
    assert found is not None
    return found.partition.number, row["row"]


@pytest.mark.slow
def test_alerts_of_three_surveys_and_poison_are_each_a_row_or_a_reject(broker: Broker, tmp_path: Path) -> None:
    server = Registry()
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    broker.create("mixed")
    values = [ztf(0), ztf(1, "null"), ztf(2, "deflate"), ztf(3, "snappy", changed()), lsst(4, 1000, True), b"poison",
              None, lsst(7, 7, False), b"\x00\x00\x00\x03\xe8cut", ztf(9)[:200]]  # fmt: skip
    broker.send("mixed", [(i % 2, value, EVENING + i) for i, value in enumerate(values)])
    catalog = tmp_path / "catalog"
    taking = take(broker, "mixed", catalog, "--schemas", server.url)
    names = {0: "ZTF0", 1: "ZTF1", 2: "ZTF2", 3: "ZTF3", 4: "4"}
    expected = {(i % 2, i // 2): (NIGHT, names.get(i, "Unreadable")) for i in range(10)}
    assert held(catalog) == expected
    assert taking.events("closed") == [{"event": "closed", "night": NIGHT, "runs": 1, "rows": 5, "rejects": 5}]
    assert verify(str(catalog)) == []
    assert broker.committed("nightcat", "mixed") == {0: 5, 1: 5}
    reasons = {(row["row"], row["reason"]) for row in Ledger(str(catalog)).rejects()}
    assert all("mixed partition" in reason and f"offset {row}" in reason for row, reason in reasons)
    # the schema that was unknown is known now: only what was refused is done again
    server.schemas[7] = json.dumps({"type": "string"})
    assert main(["replay", str(catalog), "--quiet"]) == 0
    assert held(catalog) == expected, "a file of messages carries its schemas: a replay asks nobody"
    again = take(broker, "mixed", catalog, "--schemas", server.url)
    assert again.events("batch") == [], "nothing is new"
    server.shutdown()


@pytest.mark.slow
def test_killed_again_and_again_each_alert_is_there_once(broker: Broker, tmp_path: Path) -> None:
    """kill -9 of the real command at any moment, over the border of two nights."""
    broker.create("killed")
    count = 240
    broker.send("killed", [(i % 2, ztf(i), NOON - (count // 2 - i) * 1000) for i in range(count)])
    catalog = tmp_path / "catalog"
    line = [sys.executable, "-m", "pipeline", *command(broker, "killed", catalog, "--batch", "30", "--close", "09:30")]
    for pause in (0.0, 0.4, 0.9):
        with subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, text=True) as run:
            for text in run.stdout or ():
                if json.loads(text)["event"] == "batch":
                    break
            time.sleep(pause)
            run.kill()
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    nights = {(i % 2, i // 2): (NIGHT if i < count // 2 else NEXT, f"ZTF{i}") for i in range(count)}
    assert held(catalog) == nights
    assert verify(str(catalog)) == []
    assert broker.committed("nightcat", "killed") == {0: count // 2, 1: count // 2}
    spool = [p.name for p in Path(f"{catalog}.messages").rglob("*.avro")]
    assert spool == [], "what is in the catalog without a reject is let go"


@pytest.mark.slow
def test_cut_off_between_the_nights_of_a_batch_nothing_is_lost_or_doubled(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker.create("border", 1)
    broker.send("border", [(0, ztf(i), NOON + (-1) ** i * HOUR) for i in range(12)])
    catalog, real = tmp_path / "catalog", pipeline.consuming.run_night

    def run_night(config: Any, models: Any, night: str, *more: Any) -> Any:
        if night == NEXT:
            raise RuntimeError("cut off")
        return real(config, models, night, *more)

    monkeypatch.setattr(pipeline.consuming, "run_night", run_night)
    with Taking(broker, "border", catalog) as taking:
        pass
    assert str(taking.error) == "cut off"
    assert len(held(catalog)) == 6
    monkeypatch.setattr(pipeline.consuming, "run_night", real)
    broker.send("border", [(0, ztf(12 + i), NOON + (-1) ** i * HOUR) for i in range(4)])
    take(broker, "border", catalog)
    assert held(catalog) == {(0, i): (NIGHT if i % 2 else NEXT, f"ZTF{i}") for i in range(16)}
    assert verify(str(catalog)) == []


@pytest.mark.slow
def test_a_broker_that_goes_away_and_trouble_of_our_own_are_waited_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if reason := why_not():
        pytest.skip(reason)
    real, troubles = pipeline.consuming.run_night, [EngineError("a worker died"), OutputError("disk full")]

    def run_night(*arguments: Any) -> Any:
        if troubles:
            raise troubles.pop(0)
        return real(*arguments)

    monkeypatch.setattr(pipeline.consuming, "run_night", run_night)
    (tmp_path / "kafka").mkdir()
    with Broker(tmp_path / "kafka") as own:
        own.create("away")
        own.send("away", [(i % 2, ztf(i), EVENING) for i in range(10)])
        with Taking(own, "away", tmp_path / "catalog", "--idle-exit", "45") as taking:
            taking.wait_for("batch")
            own.stop()
            taking.wait_for("trouble", 3)
            time.sleep(3)
            own.start()
            own.send("away", [(i % 2, ztf(i), EVENING) for i in range(10, 16)])
            taking.wait_for("batch", 2)
            taking.stop.set()
        assert taking.error is None
        reasons = [one["reason"] for one in taking.events("trouble")]
        assert reasons[:2] == ["a worker died", "disk full"]
        assert own.servers in reasons[2]
        assert held(tmp_path / "catalog") == {(i % 2, i // 2): (NIGHT, f"ZTF{i}") for i in range(16)}
        assert sum(one["messages"] for one in taking.events("batch")) == 16


@pytest.mark.slow
def test_partitions_go_from_one_reader_to_another_without_loss(broker: Broker, tmp_path: Path) -> None:
    """Two commands of one group, each with its own catalog; the second joins and leaves while alerts arrive."""
    broker.create("shared", 4)
    total = 0

    def arrive(count: int) -> None:
        nonlocal total
        broker.send("shared", [(i % 4, ztf(i), EVENING) for i in range(total, total + count)])
        total += count

    arrive(40)
    more = ("--idle-exit", "90", "--batch", "16")
    with Taking(broker, "shared", tmp_path / "a", *more) as first:
        first.wait_for("batch")
        with Taking(broker, "shared", tmp_path / "b", *more) as second:
            end = time.monotonic() + 60
            while not second.events("batch") and time.monotonic() < end:
                arrive(8)
                time.sleep(0.5)
            second.stop.set()
        arrive(24)
        end = time.monotonic() + 60
        while sum(broker.committed("nightcat", "shared").values()) < total and time.monotonic() < end:
            time.sleep(0.5)
        first.stop.set()
    assert first.error is None
    assert second.error is None
    a, b = held(tmp_path / "a"), held(tmp_path / "b")
    assert b, "the second reader had partitions of its own"
    assert not set(a) & set(b)
    assert {**a, **b} == {(i % 4, i // 4): (NIGHT, f"ZTF{i}") for i in range(total)}


@pytest.mark.slow
def test_a_registry_that_is_down_is_waited_for(broker: Broker, tmp_path: Path) -> None:
    server = Registry()
    server.broken = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    broker.create("waits", 1)
    broker.send("waits", [(0, lsst(i, 1000, True), EVENING) for i in range(3)])
    with Taking(broker, "waits", tmp_path / "catalog", "--schemas", server.url) as taking:
        taking.wait_for("trouble")
        server.broken = False
    assert taking.error is None
    assert "503" in taking.events("trouble")[0]["reason"]
    assert held(tmp_path / "catalog") == {(0, i): (NIGHT, str(i)) for i in range(3)}
    server.shutdown()


@pytest.mark.slow
def test_messages_that_the_broker_let_go_of_are_told(broker: Broker, tmp_path: Path) -> None:
    from confluent_kafka import TopicPartition

    broker.create("short", 1)
    broker.send("short", [(0, ztf(i), EVENING) for i in range(4)])
    catalog = tmp_path / "catalog"
    take(broker, "short", catalog)
    broker.send("short", [(0, ztf(i), EVENING) for i in range(4, 12)])
    admin = broker.admin()
    for future in admin.delete_records([TopicPartition("short", 0, 9)]).values():
        future.result(30)
    take(broker, "short", catalog)
    rejects = Ledger(str(catalog)).rejects()
    assert [(row["error"], row["night"]) for row in rejects] == [(GONE, NIGHT)]
    assert "offsets 4 to 8" in rejects[0]["reason"]
    assert sorted(held(catalog)) == [(0, i) for i in (*range(4), *range(9, 12))]
    assert verify(str(catalog)) == []
    assert main(["replay", str(catalog), "--quiet"]) == 0
    assert len(Ledger(str(catalog)).rejects()) == 1


@pytest.mark.slow
def test_what_waiting_does_not_mend_ends_it_with_a_sentence(
    broker: Broker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broker.create("ztf_alerts", 1)
    catalog = tmp_path / "catalog"

    def fails(*arguments: str) -> str:
        assert main([*arguments]) == 2
        return capsys.readouterr().err

    assert "no topic 'ztf_alert'; there is ztf_alerts" in fails(*command(broker, "ztf_alert", catalog))
    broker.send("ztf_alerts", [(0, lsst(1, 1000, True), EVENING)])
    assert "number (1000): say where" in fails(*command(broker, "ztf_alerts", catalog))
    assert not list(catalog.glob("_runs/*")), "nothing was committed"
    folder = tmp_path / "schemas"
    folder.mkdir()
    (folder / "1000.avsc").write_text(TEXT)
    taking = take(broker, "ztf_alerts", catalog, "--schemas", str(folder))
    assert taking.events("batch")[0]["rows"] == {"variable_star": 1}
    spool = f"{catalog}.messages"
    said = fails(*command(broker, "ztf_alerts", tmp_path / "other", "--spool", spool))
    assert f"holds the messages of another catalog: {catalog}" in said
    with Store(str(catalog)).held(pipeline.consuming.LOCK, "x"):
        assert main(command(broker, "ztf_alerts", catalog)) == 4
    assert "another run is writing" in capsys.readouterr().err
    broker.delete("ztf_alerts")
    with contextlib.suppress(Exception):
        time.sleep(2)
    broker.create("ztf_alerts", 1)
    assert "the topic was made anew" in fails(*command(broker, "ztf_alerts", catalog))


@pytest.mark.slow
def test_latest_begins_at_the_end_and_loses_nothing_after_it(broker: Broker, tmp_path: Path) -> None:
    broker.create("late", 1)
    broker.send("late", [(0, ztf(i), EVENING) for i in range(3)])
    more = ("--start", "latest", "--group", "late")
    assert take(broker, "late", tmp_path / "catalog", *more).events("batch") == []
    broker.send("late", [(0, ztf(i), EVENING) for i in range(3, 5)])  # while nobody reads
    take(broker, "late", tmp_path / "catalog", *more)
    assert sorted(held(tmp_path / "catalog")) == [(0, 3), (0, 4)]


@pytest.mark.slow
def test_sigterm_ends_it_after_the_run(broker: Broker, tmp_path: Path) -> None:
    broker.create("ends", 1)
    broker.send("ends", [(0, ztf(i), EVENING) for i in range(3)])
    catalog = tmp_path / "catalog"
    line = [sys.executable, "-m", "pipeline", *command(broker, "ends", catalog, "--idle-exit", "100")]
    with subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, text=True) as run:
        for text in run.stdout or ():
            if json.loads(text)["event"] == "batch":
                break
        run.send_signal(signal.SIGTERM)
        assert run.wait(60) == 0
    assert len(held(catalog)) == 3
    # a night that was open when it was stopped is closed by the next one, though nothing new comes for it
    broker.send("ends", [(0, ztf(3), EVENING)])
    with Taking(broker, "ends", catalog, "--idle-exit", "100") as taking:
        taking.wait_for("batch")
        taking.stop.set()
    assert len(Ledger(str(catalog)).runs(NIGHT)) == 2
    taking = take(broker, "ends", catalog, "--close", "09:30")
    assert [one["night"] for one in taking.events("closed")] == [NIGHT]
    assert len(Ledger(str(catalog)).runs(NIGHT)) == 1
    assert len(held(catalog)) == 4


def test_wrong_options_are_all_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = ["--interval", "0", "--idle-exit", "-1", "--close", "25:00", "--noon", "x", "--batch", "0", "--engine",
             "flink", "--brokers", "nowhere", "--spool", "nosuch://x"]  # fmt: skip
    assert main(["alerts", "topic", "--output", str(tmp_path / "c"), *wrong, "--dtype", "fp8"]) == 2
    said = capsys.readouterr().err
    for word in ("--interval 0.0", "--idle-exit -1.0", "'25:00'", "'x'", "--batch 0", "'nowhere'", "'fp8'", "nosuch"):
        assert word in said, word


def test_a_broker_that_is_not_there_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                            monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setattr("pipeline.broker._ANSWER", 1.0)
    assert main(["alerts", "t", "--brokers", "127.0.0.1:9", "--output", str(tmp_path / "c"), "--quiet"]) == 2
    assert "the broker 127.0.0.1:9 is not reached" in capsys.readouterr().err


def test_credentials_are_lines_that_nobody_else_reads(tmp_path: Path) -> None:
    path = tmp_path / "kafka.properties"
    path.write_text("# the observatory's\nsasl.username = me\n\nsasl.password=a=b#c\n")
    path.chmod(0o600)
    assert read_credentials(str(path)) == {"sasl.username": "me", "sasl.password": "a=b#c"}
    path.chmod(0o644)
    with pytest.raises(StreamError, match="chmod 600"):
        read_credentials(str(path))
    path.chmod(0o600)
    path.write_text("sasl.password hunter2\n")
    with pytest.raises(StreamError, match="line 1") as caught:
        read_credentials(str(path))
    assert "hunter2" not in str(caught.value)
    path.write_text("group.id = x\n")
    with pytest.raises(StreamError, match=r"group\.id is set by nightcat"):
        read_credentials(str(path))
    with pytest.raises(StreamError, match="cannot be read"):
        read_credentials(str(tmp_path / "none"))
