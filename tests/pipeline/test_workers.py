"""Forked worker processes: they answer, and whatever ends one ends the run with a sentence, never with a wait."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import apache_beam as beam
import psutil
import pytest

import pipeline.workers
from pipeline import engine
from pipeline.engine import run_graph
from pipeline.options import RunConfig
from pipeline.workers import WORTH_SECONDS, EngineError, Workers, forks, worker_count
from tests.toy_night import digests
from transforms.records import FileRef
from transforms.simulate.night import Size, write_night

PLAN: Any = SimpleNamespace(files=())
TWO = RunConfig(workers=2)
DYING = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # Beam's, of its channels


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    with Workers() as source:
        yield source
    assert not [p for p in psutil.Process().children(recursive=True) if "pipeline.fork_server" in p.cmdline()]


def graph(monkeypatch: pytest.MonkeyPatch, step: Any) -> None:
    """A graph of one step, a closure: it travels to processes that lack this module.

    Element 0 is the first of the first of two bundles, and 1 the first of the second: with ``Create``'s own shuffle
    too, the order would be chance.
    """

    def survey(pipeline: beam.Pipeline, plan: Any) -> None:
        pipeline | beam.Create(range(8), reshuffle=False) | beam.Reshuffle() | "Step" >> beam.Map(step)

    monkeypatch.setattr(engine, "survey", survey)


def files(count: int, size: int, end: str = ".fits") -> list[FileRef]:
    return [FileRef(url=f"/n/{i}{end}", source=f"{i}{end}", size=size, digest="0" * 64) for i in range(count)]


def test_processes_are_as_many_as_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline.workers, "_processors", lambda: 6)
    memory = {"SC_PHYS_PAGES": 40, "SC_PAGE_SIZE": 10**9}
    monkeypatch.setattr(pipeline.workers.os, "sysconf", memory.__getitem__)
    auto = RunConfig()
    assert auto.workers == "auto"
    assert worker_count(auto, []) == 1
    assert worker_count(auto, files(200, 5_000)) == 1, "a small night is done before another process has started"
    assert worker_count(auto, files(100_000, 5_000)) == 6
    assert worker_count(auto, files(1, int(2e6 * WORTH_SECONDS))) == 6, "one large file is read in parts"
    assert worker_count(auto, files(1, int(5e5 * WORTH_SECONDS))) == 1
    assert worker_count(auto, files(1, int(5e5 * WORTH_SECONDS), ".CSV.gz")) == 6, "many light curves"
    memory["SC_PHYS_PAGES"] = 6
    assert worker_count(auto, files(100_000, 5_000)) == 2, "memory for two"
    memory["SC_PHYS_PAGES"] = 1
    assert worker_count(auto, files(100_000, 5_000)) == 1
    assert worker_count(RunConfig(workers=3), []) == 3


def test_where_they_are_ours() -> None:
    assert forks(TWO, []) == (os.uname().sysname == "Linux")
    assert not forks(RunConfig(workers=1), [])
    assert not forks(RunConfig(workers=2, runner="DirectRunner"), [])
    assert not forks(RunConfig(workers=2, beam_options=("--direct_running_mode=multi_threading",)), [])


def test_a_source_that_was_not_needed_ends_at_once() -> None:
    started = time.monotonic()
    with Workers() as source:
        source.start()
        server: Any = source._server
    assert server.returncode == -signal.SIGKILL
    assert time.monotonic() - started < 5, "its imports take longer"
    with Workers():
        pass


@pytest.mark.slow
def test_they_share_the_work_and_the_source_serves_again(
    workers: Workers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = str(tmp_path)

    def note(element: int) -> None:
        import os
        import sys
        from pathlib import Path

        loaded = "torch" in sys.modules and "transforms.infer" in sys.modules
        (Path(folder) / f"{element}").write_text(f"{os.getpid()} {os.getppid()} {loaded}")

    graph(monkeypatch, note)
    for _ in range(2):
        assert run_graph(TWO, PLAN, workers) == {}
        said = [path.read_text().split() for path in tmp_path.iterdir()]
        assert len(said) == 8
        assert len({pid for pid, _, _ in said}) == 2
        assert {parent for _, parent, _ in said} == {str(workers._server.pid)}  # type: ignore[union-attr]
        assert {loaded for _, _, loaded in said} == {"True"}, "imported before the fork"


@pytest.mark.slow
@DYING
@pytest.mark.parametrize(
    ("how", "said"), [("SIGKILL", "signal SIGKILL"), ("SIGSEGV", "signal SIGSEGV"), ("exit", "exit code 3")]
)
def test_a_worker_that_dies_ends_the_run(
    how: str, said: str, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(element: int) -> None:
        import os
        import signal
        import time

        if element == 0 and how == "exit":
            os._exit(3)
        if element == 0:
            os.kill(os.getpid(), getattr(signal, how))
        time.sleep(0.5)

    graph(monkeypatch, die)
    with pytest.raises(EngineError, match=f"a worker process has ended by itself: {said}"):
        run_graph(TWO, PLAN, workers)


@pytest.mark.slow
@DYING
def test_the_death_of_the_source_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def die(element: int) -> None:
        import os
        import signal
        import time

        if element == 0:
            os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(0.5)

    graph(monkeypatch, die)
    with Workers() as source, pytest.raises(EngineError, match="ended by itself: signal SIGKILL"):
        run_graph(TWO, PLAN, source)


@pytest.mark.slow
@DYING
@pytest.mark.parametrize("bundle", [0, 1])
@pytest.mark.parametrize("dies", [False, True])
def test_a_worker_that_works_on_does_not_hold_the_end_up(
    workers: Workers, monkeypatch: pytest.MonkeyPatch, bundle: int, dies: bool
) -> None:
    def fail(element: int) -> None:
        import os
        import time

        if element == bundle and dies:
            os._exit(3)
        if element == bundle:
            raise ValueError("the first of four")
        time.sleep(600)

    graph(monkeypatch, fail)
    started = time.monotonic()
    with pytest.raises(EngineError, match="exit code 3" if dies else "the first of four"):
        run_graph(TWO, PLAN, workers)
    assert time.monotonic() - started < 60


@pytest.mark.slow
def test_a_source_that_died_before_it_was_asked_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    graph(monkeypatch, abs)
    with Workers() as source:
        source.start()
        server: Any = source._server
        server.kill()
        server.wait()
        with pytest.raises(EngineError, match=r"ended by itself: signal SIGKILL, often for want of memory"):
            run_graph(TWO, PLAN, source)


@pytest.mark.slow
def test_no_process_outlives_a_run_that_is_stopped(tmp_path: Path) -> None:
    """However it is stopped; the same command then gives the bytes of an undisturbed run."""
    write_night(tmp_path, 3, Size(fields=0, stamps=0, spectra=0, light_curves=60, broken=False))

    def command(output: str, *options: str) -> list[str]:
        places = ["--input", str(tmp_path / "night"), "--output", str(tmp_path / output), "--night", "2026-11-24"]
        return [sys.executable, "-m", "pipeline", "run", "--tasks", "variable_star", *places, *options]

    two = command("two", "--workers", "2", "--json")
    for how, code in ((signal.SIGKILL, -9), (signal.SIGINT, 130), ("all", 130)):
        with subprocess.Popen(two, start_new_session=True, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            for line in process.stderr:
                if json.loads(line)["objects"]:
                    break
            children = psutil.Process(process.pid).children(recursive=True)
            assert len(children) == 3, "the source and two workers"
            if how == "all":  # as Ctrl-C does
                os.killpg(process.pid, signal.SIGINT)
            else:
                process.send_signal(how)
            process.stderr.read()
            assert process.wait(60) == code
        assert psutil.wait_procs(children, timeout=30)[1] == []
        assert nights(tmp_path / "two") == 0
    for again in (two, command("one", "--workers", "1")):
        assert subprocess.run(again, capture_output=True, check=False).returncode == 0
    assert nights(tmp_path / "two") == 1
    assert digests(tmp_path / "two") == digests(tmp_path / "one")


def nights(catalog: Path) -> int:
    return len(list((catalog / "_runs").glob("*.json")))
