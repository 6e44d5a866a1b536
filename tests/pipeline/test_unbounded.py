"""The graph without an end: what its proto must not hold, and streams on Prism from a real broker."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import psutil
import pytest
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.transforms.window import IntervalWindow

from pipeline.cli import main
from pipeline.engines import PRISM, find_prism
from pipeline.kafka_source import KafkaSource, Place
from pipeline.ledger import Ledger
from pipeline.spool import Partition
from pipeline.unbounded import StreamPlan, night_of_window, stream_survey
from pipeline.verify import verify
from tests.conftest import ROOT
from tests.pipeline.alerts import NEXT, NIGHT, NOON, ztf
from tests.pipeline.kafka.broker import Broker, why_not

HOUR = 3_600_000


def no_model() -> Any:
    raise AssertionError("the graph is only built")


@pytest.fixture
def proto(tmp_path: Path) -> Iterator[beam_runner_api_pb2.Pipeline]:
    place = Place(servers="127.0.0.1:9", group="g", credentials="secrets.properties")
    source = KafkaSource(place=place, begins={Partition("alerts", 0): 0})
    plan = StreamPlan(loaders=(no_model,), landing=str(tmp_path), version="0", hints={"accelerator": "type:gpu"})
    pipeline = beam.Pipeline(runner="FnApiRunner")
    stream_survey(pipeline | "Alerts" >> beam.io.Read(source), plan)
    yield pipeline.to_runner_api()
    shutil.rmtree(pipeline.local_tempdir)


def test_nothing_in_the_graph_stops_a_checkpoint_of_flink(proto: beam_runner_api_pb2.Pipeline) -> None:
    """A side input or a combination over all windows, hidden ones too, and Flink never takes a checkpoint."""
    transforms = proto.components.transforms.values()
    assert {t.spec.urn for t in transforms} >= {"beam:transform:pardo:v1"}
    assert not [t.unique_name for t in transforms if t.spec.urn == "beam:transform:group_by_key:v1"]
    for transform in transforms:
        if transform.spec.urn == "beam:transform:pardo:v1":
            payload = beam_runner_api_pb2.ParDoPayload.FromString(transform.spec.payload)
            assert not payload.side_inputs, transform.unique_name


def test_state_and_timers_are_those_of_one_step_and_hints_of_another(proto: beam_runner_api_pb2.Pipeline) -> None:
    stateful, hinted = [], []
    environments = proto.components.environments
    for transform in proto.components.transforms.values():
        if transform.spec.urn == "beam:transform:pardo:v1":
            payload = beam_runner_api_pb2.ParDoPayload.FromString(transform.spec.payload)
            if payload.state_specs or payload.timer_family_specs:
                stateful.append((transform.unique_name.split("/")[0], sorted(payload.timer_family_specs)))
        if transform.environment_id and environments[transform.environment_id].resource_hints:
            hinted.append(transform.unique_name.split("/")[0])
    assert [name for name, _ in stateful] == ["Gather"]
    assert set(hinted) == {"Answer"}


def test_the_nights_go_from_noon_to_noon_and_late_alerts_are_allowed(proto: beam_runner_api_pb2.Pipeline) -> None:
    found = [w for w in proto.components.windowing_strategies.values() if w.window_fn.urn.endswith("fixed_windows:v1")]
    assert {w.allowed_lateness for w in found} == {2 * 86_400_000}


def test_no_secret_travels_with_the_graph(tmp_path: Path) -> None:
    secrets = tmp_path / "secrets.properties"
    secrets.write_text("sasl.password = hunter2\n")
    secrets.chmod(0o600)
    place = Place(servers="127.0.0.1:9", group="g", credentials=str(secrets))
    plan = StreamPlan(loaders=(no_model,), landing=str(tmp_path), version="0", credentials=str(secrets))
    pipeline = beam.Pipeline(runner="FnApiRunner")
    source = KafkaSource(place=place, begins={Partition("alerts", 0): 0})
    stream_survey(pipeline | "Alerts" >> beam.io.Read(source), plan)
    assert b"hunter2" not in pipeline.to_runner_api().SerializeToString()
    shutil.rmtree(pipeline.local_tempdir)


def test_no_timer_is_set_at_the_end_of_a_window() -> None:
    """There the state is cleared already, and elements are lost without a word."""
    for room in ("pipeline", "transforms", "finetune"):
        for path in (ROOT / room).rglob("*.py"):
            assert not re.search(r"\.set\(\s*window\.end\b", path.read_text()), path


@pytest.mark.parametrize(("noon", "start"), [(12.0, NOON / 1e3 - 86_400), (22.5, NOON / 1e3 - 86_400 + 10.5 * 3600)])
def test_a_window_is_named_by_its_evening(noon: float, start: float) -> None:
    assert night_of_window(IntervalWindow(start, start + 86_400)) == NIGHT, noon


def test_a_graph_without_an_end_refuses_what_it_cannot_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PRISM, sys.executable)  # any file: it is not started
    places = ["--brokers", "127.0.0.1:9", "--output", str(tmp_path / "c")]
    assert main(["alerts", "^t", *places, "--engine", "prism", "--night", NIGHT]) == 2
    said = capsys.readouterr().err
    assert "takes the night of each alert from its time" in said
    assert "not by a pattern" in said
    assert main(["alerts", "t", *places, "--to-end"]) == 2
    assert "--to-end is of a graph without an end" in capsys.readouterr().err
    wrong = ["--", "--shutdown_sources_after_idle_ms=1", "--job_endpoint=x:1"]
    assert main(["alerts", "t", *places, "--engine", "flink", *wrong]) == 2
    assert "without a word" in capsys.readouterr().err


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    if reason := why_not():
        pytest.skip(reason)
    if not find_prism():
        pytest.skip("there is no prism binary: make prism")
    with Broker(tmp_path_factory.mktemp("kafka")) as one:
        yield one


def command(broker: Broker, topic: str, catalog: Path, *more: str) -> list[str]:
    return [
        sys.executable, "-m", "pipeline", "alerts", topic, "--brokers", broker.servers, "--output", str(catalog),
        "--engine", "prism", *more,
    ]  # fmt: skip


def rows(catalog: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """Rows by night and object; an error where one is there twice."""
    ledger, found = Ledger(str(catalog)), {}
    for run in ledger.runs():
        for file in run.files:
            if file.kind in ("primary", "unplaced"):
                for row in ledger._rows(file.path):
                    assert (row["night"], row["object_id"]) not in found
                    found[row["night"], row["object_id"]] = row
    return found


@pytest.mark.slow
def test_alerts_of_an_object_are_answered_together_by_night(broker: Broker, tmp_path: Path) -> None:
    """Two nights, several alerts of each object, one of last night that is late, poison; and then one more."""
    broker.create("nights")
    early, late = NOON - 12 * HOUR, NOON + 12 * HOUR
    sent = [(i % 2, ztf(i % 6), early + i) for i in range(18)]
    sent += [(i % 2, ztf(i % 4), late + i) for i in range(8)]
    sent += [(0, ztf(0), early + HOUR), (1, b"poison", late)]  # the watermark has long passed its night
    broker.send("nights", sent)
    catalog = tmp_path / "catalog"
    run = command(broker, "nights", catalog, "--to-end", "--early", "0")
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert main(["land", str(catalog), "--quiet"]) == 0
    expected = {(NIGHT, f"ZTF{i}") for i in range(6)} | {(NEXT, f"ZTF{i}") for i in range(4)}
    assert set(rows(catalog)) == expected
    told = {r.night: r.manifest["stream"] for r in Ledger(str(catalog)).runs()}
    assert told[NIGHT] == {"night": NIGHT, "alerts": 19, "rows": 6, "rejects": 0}
    assert told[NEXT] == {"night": NEXT, "alerts": 9, "rows": 4, "rejects": 1}
    assert verify(str(catalog)) == []
    before = {key: row for key, row in rows(catalog).items() if key[0] == NEXT}
    broker.send("nights", [(1, ztf(9), early + 2 * HOUR)])
    assert subprocess.run(run, cwd=ROOT, capture_output=True, check=False).returncode == 0
    assert main(["land", str(catalog), "--quiet"]) == 0
    assert set(rows(catalog)) == expected | {(NIGHT, "ZTF9")}
    assert {key: row for key, row in rows(catalog).items() if key[0] == NEXT} == before
    assert verify(str(catalog)) == []


@pytest.mark.slow
def test_an_object_is_answered_early_and_a_killed_engine_is_found_out(
    broker: Broker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broker.create("early", 1)
    now = int(1e3 * time.time())
    broker.send("early", [(0, ztf(i), now) for i in range(5)])
    catalog = tmp_path / "catalog"
    landing = Path(f"{catalog}.landing")
    with subprocess.Popen(command(broker, "early", catalog, "--early", "1"), cwd=ROOT, stderr=subprocess.PIPE) as run:
        end = time.monotonic() + 90
        while not list(landing.glob("*/variable_star/*.parquet")) and time.monotonic() < end:
            time.sleep(0.2)
        assert list(landing.glob("*/variable_star/*.parquet")), "the night is not over, and nothing was answered"
        # no pause: what comes now is seen to come in, and the engine dies before it is answered
        broker.send("early", [(0, ztf(i), now + 1000) for i in range(5, 9)])
        count = len(list(landing.glob("*/arrived/*.parquet")))
        while len(list(landing.glob("*/arrived/*.parquet"))) == count and time.monotonic() < end:
            time.sleep(0.02)
        children = psutil.Process(run.pid).children(recursive=True)
        run.send_signal(signal.SIGKILL)
        for child in children:  # prism outlives a driver that is killed
            child.kill()
    code = main(["land", str(catalog), "--json"])
    told = capsys.readouterr()
    if code == 3:
        assert "behind no row and no reject yet" in told.err
        assert not (catalog / "_runs").exists()
    # another group reads it all again; what has landed already is the same answer
    again = command(broker, "early", catalog, "--early", "0", "--to-end", "--group", "again")
    done = subprocess.run(again, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert main(["land", str(catalog), "--json"]) == 0
    assert [json.loads(line)["alerts"] for line in capsys.readouterr().out.splitlines()] == [9]
    assert {key[1] for key in rows(catalog)} == {f"ZTF{i}" for i in range(9)}
    assert verify(str(catalog)) == []
