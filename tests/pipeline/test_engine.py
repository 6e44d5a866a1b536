from __future__ import annotations

import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import apache_beam as beam
import pytest

from pipeline import engine
from pipeline.engine import run_graph
from pipeline.options import ConfigError, RunConfig
from pipeline.workers import EngineError
from transforms.store import OutputError

FULL = "cannot write '/x/y': No space left on device; what was committed before is intact"
PLAN: Any = SimpleNamespace(files=())


def broken(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """A graph whose step fails; the step is a closure, which travels to worker processes that lack this module."""
    full = FULL

    def fail(element: int) -> None:
        from transforms.store import OutputError

        if kind == "full":
            raise OutputError(full)
        if kind == "bare":
            raise OSError(28, "No space left on device", "/x/y")
        raise ImportError("cannot import name 'UNITS'")

    def survey(pipeline: beam.Pipeline, plan: Any) -> None:
        pipeline | beam.Create([1, 2]) | beam.Reshuffle() | "A [step]" >> beam.Map(fail)

    monkeypatch.setattr(engine, "survey", survey)


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_full_disk_is_an_output_error_from_any_process(workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    broken(monkeypatch, "full")
    with pytest.raises(OutputError) as caught:
        run_graph(RunConfig(workers=workers), PLAN)
    assert str(caught.value) == FULL


def test_the_text_of_a_worker_process_is_enough() -> None:
    text = f"""Traceback (most recent call last):
  File "sinks.py", line 3, in write
OSError: [Errno 28] No space left on device

The above exception was the direct cause of the following exception:

transforms.store.OutputError: {FULL} [while running 'Stage/[it]']
"""
    error = engine._translated(RuntimeError(f"process bundle failed: {text}"), ())
    assert isinstance(error, OutputError)
    assert str(error) == FULL


def test_a_full_disk_that_no_store_has_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    broken(monkeypatch, "bare")
    with pytest.raises(OutputError, match=r"No space left on device: '/x/y'\Z"):
        run_graph(RunConfig(), PLAN)


def test_a_fault_of_ours_ends_the_run_with_its_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    broken(monkeypatch, "ours")
    with pytest.raises(EngineError, match="ImportError: cannot import name 'UNITS'"):
        run_graph(RunConfig(), PLAN)


def test_options_that_a_runner_refuses_are_faults_of_the_options(monkeypatch: pytest.MonkeyPatch) -> None:
    broken(monkeypatch, "ours")
    with pytest.raises(ConfigError) as caught:
        run_graph(RunConfig(runner="DataflowRunner"), PLAN)
    assert "--runner DataflowRunner: Missing required option: project." in caught.value.faults
    with pytest.raises(ConfigError, match="--direct_num_workers=x"):
        run_graph(RunConfig(beam_options=("--direct_num_workers=x",)), PLAN)


def test_no_folder_of_beam_is_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def survey(pipeline: beam.Pipeline, plan: Any) -> None:
        raise TypeError("the graph cannot be built")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(engine, "survey", survey)
    with pytest.raises(EngineError, match="cannot be built"):
        run_graph(RunConfig(), PLAN)
    broken(monkeypatch, "ours")
    with pytest.raises(EngineError):
        run_graph(RunConfig(), PLAN)
    assert list(tmp_path.iterdir()) == []
