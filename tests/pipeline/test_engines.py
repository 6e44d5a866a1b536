"""Presets of the engines, what each needs, and the combinations that are refused because they lose data."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

import pipeline.engine
import pipeline.nights
from pipeline import engines
from pipeline.engine import beam_flags
from pipeline.engines import ENGINES, FLINK_JAR, PRISM, Wanted, engine_faults, engine_flags, engine_of
from pipeline.options import RUNNERS, ConfigError, RunConfig, make_config
from pipeline.survey import Plan, survey
from pipeline.workers import EngineError
from tests import toy_night
from transforms.records import FileRef

HERE = {"--output": "/data/catalog"}
CLOUD = {"--input gs://b/night": "gs://b/night", "--output": "gs://b/catalog", "--targets": ""}
DATAFLOW = ("--project=p", "--region", "r", "--temp_location=gs://b/tmp", "--sdk_container_image=i")


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine with Java, a job server and a prism, as far as anybody looks."""
    for name in ("prism", "server.jar"):
        (tmp_path / name).write_text("")
    monkeypatch.setenv(PRISM, str(tmp_path / "prism"))
    monkeypatch.setenv(FLINK_JAR, str(tmp_path / "server.jar"))
    monkeypatch.setattr(engines.shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda name: object())
    return tmp_path


def wanted(engine: str, *options: str, unbounded: bool = False, places: Any = HERE, workers: int = 0) -> Wanted:
    runner = ENGINES[engine].runner
    return Wanted(runner=runner, options=options, places=places, unbounded=unbounded, workers=workers)


@pytest.mark.parametrize("name", list(ENGINES))
def test_beam_takes_the_options_of_each_preset(name: str, tools: Path) -> None:
    many = 1 if name == "prism" else 3
    asked = wanted(name, *(DATAFLOW if name == "dataflow" else ()), places=CLOUD, workers=many)
    assert engine_faults(asked) == []
    flags = [f"--runner={asked.runner}", *engine_flags(asked), *asked.options]
    known = PipelineOptions(flags).get_all_options(drop_default=True)
    for flag in engine_flags(asked):
        key, _, value = flag.removeprefix("--").partition("=")
        assert str(value) in str(known[key]), flag
    assert ENGINES[name].runner in RUNNERS
    assert ENGINES[name].what


def test_what_the_user_hands_to_beam_wins(tools: Path) -> None:
    config = RunConfig(engine="prism", runner="PrismRunner", beam_options=("--environment_type", "EXTERNAL"))
    flags = beam_flags(config, 1, False)
    assert "--environment_type=LOOPBACK" not in flags
    assert flags[-2:] == ["--environment_type", "EXTERNAL"]
    assert f"--prism_location={tools / 'prism'}" in flags
    added = engine_flags(wanted("dataflow", *DATAFLOW, "--experiments=mine", places=CLOUD))
    assert "--experiments=use_runner_v2" in added, "experiments add up"
    config = RunConfig(runner="DataflowRunner", inputs=("@/here/list.txt", "gs://b/night"), output="gs://b/c")
    assert list(config.wanted().places) == ["--input gs://b/night", "--output", "--targets"]


def test_what_is_absent_is_told_at_the_door(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (PRISM, FLINK_JAR, "JAVA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(engines.shutil, "which", lambda name: None)
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert "make prism" in engine_faults(wanted("prism"))[0]
    assert "'/no/prism' is not there" in engine_faults(wanted("prism", "--prism_location=/no/prism"))[0]
    jar, java = engine_faults(wanted("flink"))
    assert FLINK_JAR in jar
    assert "Java" in java
    assert engine_faults(wanted("flink", "--job_endpoint=localhost:8099")) == []
    assert "'/no.jar' is not there" in engine_faults(wanted("flink", "--flink_job_server_jar=/no.jar"))[0]
    said = engine_faults(wanted("dataflow"))
    for word in (
        "--project",
        "--region",
        "--temp_location",
        "--sdk_container_image",
        "nightcat[gcp]",
        "'/data/catalog'",
    ):
        assert any(word in fault for fault in said), word
    flags = {"inputs": ["gs://b/x"], "output": "/here", "engine": "dataflow", "runner": "FlinkRunner"}
    with pytest.raises(ConfigError, match="--engine dataflow runs on DataflowRunner, not on --runner FlinkRunner"):
        make_config(flags, {}, ("toy",))


def test_an_accelerator_is_asked_for_once(tools: Path) -> None:
    service = "--dataflow_service_options=worker_accelerator=type:nvidia-l4;count:1"
    asked = wanted("dataflow", *DATAFLOW, service, places=CLOUD)
    assert engine_faults(asked) == []
    (fault,) = engine_faults(replace(asked, hints=True))
    assert "exclude one another" in fault
    assert RunConfig(accelerator="type:nvidia-l4;count:1").wanted().hints


@pytest.mark.parametrize(
    ("options", "unbounded", "why"),
    [
        (["--checkpointing_interval=1000"], False, "its last windows never close"),
        (["--checkpointing_interval=soon"], False, "is not a whole number"),
        (["--finish_bundle_before_checkpointing=false", "--checkpointing_interval=9"], True, "never opens the source"),
        (["--shutdown_sources_after_idle_ms=8000"], True, "loses what was read"),
        (["--max_bundle_size=1"], True, "the last records are lost"),
        (["--environment_type=LOOPBACK", "--flink_master=far:8081"], False, "would call back to this machine"),
    ],
)
def test_combinations_that_lose_data_are_refused_on_flink(
    options: list[str], unbounded: bool, why: str, tools: Path
) -> None:
    (fault,) = engine_faults(wanted("flink", *options, unbounded=unbounded))
    assert options[0].partition("=")[0] in fault
    assert why in fault
    assert engine_faults(wanted("flink", unbounded=unbounded)) == []


def test_a_stream_on_flink_has_checkpoints_as_they_work(tools: Path) -> None:
    flags = engine_flags(wanted("flink", unbounded=True))
    assert {"--streaming", "--finish_bundle_before_checkpointing"} <= set(flags)
    assert any(flag.startswith("--checkpointing_interval=") for flag in flags)
    assert not any("checkpoint" in flag for flag in engine_flags(wanted("flink")))
    (fault,) = engine_faults(wanted("local", unbounded=True))
    assert "use prism, flink or dataflow" in fault
    assert engine_of("PortableRunner").name == ""


def test_hints_are_of_the_inference_step_alone() -> None:
    """Shown on the graph as engines get it: only the environment of that step has them."""
    plan = Plan(
        files=(FileRef(url="/a", source="a"),), models=toy_night.MODELS, night="2026-11-24", run_id="r", version="0",
        staging="/tmp/x", order=3, hints={"min_ram": "8GB", "accelerator": "type:nvidia-l4;count:1"},
    )  # fmt: skip
    graph = beam.Pipeline(runner="FnApiRunner")
    survey(graph, plan)
    proto = graph.to_runner_api()
    hinted = {name for name, one in proto.components.environments.items() if one.resource_hints}
    assert hinted
    steps = {one.unique_name for one in proto.components.transforms.values() if one.environment_id in hinted}
    assert steps
    assert all(name.startswith("Infer/Predict") for name in steps), steps


def test_a_night_that_the_engine_broke_off_is_done_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    night = toy_night.write_night(tmp_path / "night")
    toy_night.install(monkeypatch.setattr)
    try:
        toy_night.run(night, output=tmp_path / "whole")
        real, broken = pipeline.engine.run_graph, []

        def break_off(*arguments: Any) -> Any:
            found = real(*arguments)  # all is staged, and then the engine is lost
            if len(broken) < 2:
                broken.append(found)
                raise EngineError("worker disconnected")
            return found

        monkeypatch.setattr(pipeline.engine, "run_graph", break_off)
        with pytest.raises(EngineError, match="worker disconnected"):
            toy_night.run(night, output=tmp_path / "again", retries=1)
        broken.clear()
        toy_night.run(night, output=tmp_path / "again", retries=2)
        assert len(broken) == 2
        assert toy_night.digests(tmp_path / "again") == toy_night.digests(tmp_path / "whole")
    finally:
        toy_night.forget()


def test_workers_that_prism_would_not_start_are_refused() -> None:
    assert "--workers 3: PrismRunner gives a night one worker process" in engine_faults(wanted("prism", workers=3))[0]
    assert not [fault for fault in engine_faults(wanted("prism", workers=1)) if "--workers" in fault]
