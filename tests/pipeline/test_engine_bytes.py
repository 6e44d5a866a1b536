"""The same night on every engine that runs here: byte-identical files, and a clean end where a worker is killed."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from pipeline.engines import find_prism
from pipeline.verify import verify
from transforms.simulate.night import Size, write_night

pytestmark = pytest.mark.slow
NIGHT = "2026-11-24"
ROOT = Path(__file__).resolve().parents[2]
#: A few files of each kind that is read, small ones.
REAL_FILES = ("images_fits/**/*.fits*", "spectra/**/*.fits*", "lightcurves/**/*.fits")
SMALL, EACH = 3_000_000, 6


@dataclass(frozen=True)
class Way:
    """How a night is run, and which of its processes does the work.

    Parameters
    ----------
    options : callable
        ``options(port) -> arguments`` of ``nightcat run``; those of Beam follow a bare ``--``.
    pool : bool
        Whether the workers come from a pool of their own.
    victim : callable
        ``victim(driver, pool) -> processes`` of which one is killed while it works.
    """

    options: Callable[[int], list[str]]
    pool: bool
    victim: Callable[[psutil.Process, psutil.Process | None], list[psutil.Process]]


def _forked(driver: psutil.Process, pool: psutil.Process | None) -> list[psutil.Process]:
    return [child for server in driver.children() for child in server.children()]


def _pooled(driver: psutil.Process, pool: psutil.Process | None) -> list[psutil.Process]:
    return pool.children() if pool else []


def _prism(driver: psutil.Process, pool: psutil.Process | None) -> list[psutil.Process]:
    return [child for child in driver.children() if "prism" in Path(child.exe()).name]


EXTERNAL = "--environment_type=EXTERNAL"
WAYS = {
    "local, two processes": Way(lambda port: ["--engine", "local", "--workers", "2"], False, _forked),
    "embedded job server, pool": Way(
        lambda port: ["--runner", "PortableRunner", "--", "--job_endpoint=embed", EXTERNAL,
                      f"--environment_config=localhost:{port}"], True, _pooled,
    ),
    "prism, loopback": Way(lambda port: ["--engine", "prism"], False, _prism),
    "prism, pool": Way(
        lambda port: ["--engine", "prism", "--", EXTERNAL, f"--environment_config=localhost:{port}"], True, _pooled
    ),
}  # fmt: skip


@pytest.fixture(params=sorted(WAYS))
def way(request: pytest.FixtureRequest) -> Way:
    if "prism" in request.param and not find_prism():
        pytest.skip("no prism binary: `make prism` builds it where there is Go")
    return WAYS[request.param]


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    folder = tmp_path_factory.mktemp("night")
    write_night(folder, 5, Size(fields=1, stamps=12, spectra=8, light_curves=24))
    return folder / "night", plain(folder / "night", folder / "plain")


@pytest.fixture(scope="module")
def real(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    folder = tmp_path_factory.mktemp("real")
    (folder / "night").mkdir()
    for pattern in REAL_FILES:
        fit = sorted(p for p in data.glob(pattern) if p.stat().st_size < SMALL)
        for path in fit[:: max(1, len(fit) // EACH)][:EACH]:
            (folder / "night" / "_".join(path.relative_to(data).parts)).symlink_to(path)
    return folder / "night", plain(folder / "night", folder / "plain")


def plain(night: Path, catalog: Path) -> dict[str, str]:
    """What one process makes of a night: what all others must make of it."""
    with started(night, catalog, ["--workers", "1"]) as run:
        assert run.wait(300) == 0, run.stderr.read()  # type: ignore[union-attr]
    found = parquet(catalog)
    assert len(found) > 5
    return found


@contextmanager
def started(night: Path, catalog: Path, options: list[str]) -> Iterator[subprocess.Popen[str]]:
    own, _, beam = (
        (options[: options.index("--")], "--", options[options.index("--") :]) if "--" in options else (options, "", [])
    )
    places = ["--input", str(night), "--output", str(catalog), "--night", NIGHT, "--quiet"]
    run = subprocess.Popen(
        [sys.executable, "-m", "pipeline", "run", *places, *own, *beam], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    try:
        yield run
    finally:
        for process in (*psutil.Process(run.pid).children(recursive=True), run) if run.poll() is None else ():
            process.kill()
        run.wait()


@contextmanager
def worker_pool(wanted: bool) -> Iterator[tuple[int, psutil.Process | None]]:
    """A pool of workers, which starts the bare ``python`` of the path."""
    if not wanted:
        yield 0, None
        return
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "apache_beam.runners.worker.worker_pool_main", f"--service_port={port}"]
    pool = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            with socket.socket() as one:
                if one.connect_ex(("localhost", port)) == 0:
                    break
            time.sleep(0.1)
        yield port, psutil.Process(pool.pid)
    finally:
        for child in psutil.Process(pool.pid).children(recursive=True):
            child.kill()
        pool.kill()
        pool.wait()


def parquet(catalog: Path) -> dict[str, str]:
    return {
        p.relative_to(catalog).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(catalog.rglob("*.parquet"))
    }


@pytest.mark.parametrize("sky", ["simulated", "real"])
def test_every_engine_gives_the_same_bytes(way: Way, sky: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    night, expected = request.getfixturevalue(sky)
    with worker_pool(way.pool) as (port, _), started(night, tmp_path / "catalog", way.options(port)) as run:
        _, said = run.communicate(timeout=400)
    assert run.returncode == 0, said
    assert said == "", "the screen is ours"
    assert parquet(tmp_path / "catalog") == expected
    assert verify(str(tmp_path / "catalog")) == []


def test_a_worker_that_is_killed_ends_the_night_and_a_second_run_gives_the_same_bytes(
    way: Way, simulated: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    night, expected = simulated
    catalog = tmp_path / "catalog"
    with worker_pool(way.pool) as (port, pool), started(night, catalog, way.options(port)) as run:
        driver = psutil.Process(run.pid)
        while run.poll() is None and not any(p.stat().st_size for p in catalog.glob(".staging/*/.progress/*")):
            time.sleep(0.02)
        victims = way.victim(driver, pool)
        assert victims, "no process that does the work"
        victims[0].send_signal(signal.SIGKILL)
        _, said = run.communicate(timeout=120)
    assert run.returncode == 5, said
    assert "the engine failed, nothing was committed" in said
    assert "Traceback" not in said
    assert parquet(catalog) == {} or not list((catalog / "_runs").glob("*.json"))
    with worker_pool(way.pool) as (port, _), started(night, catalog, way.options(port)) as run:
        _, said = run.communicate(timeout=400)
    assert run.returncode == 0, said
    assert parquet(catalog) == expected
    assert verify(str(catalog)) == []
