"""Flink: a real cluster from PyPI up to its REST answer; a night on it where there is a job server."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import psutil
import pytest

from pipeline.engines import FLINK_JAR, find_flink_jar
from pipeline.verify import verify
from tests.pipeline.test_engine_bytes import NIGHT, ROOT, _pooled, parquet, plain, worker_pool
from transforms.simulate.night import Size, write_night

SCRIPT = ROOT / "deploy" / "flink" / "cluster.sh"
#: The distribution is fetched once a machine: 230 MB.
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "nightcat" / "flink"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("java") is None, reason="Flink needs Java, and there is none on the path"),
]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("localhost", 0))
        return int(one.getsockname()[1])


def cluster(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHON": sys.executable}
    return subprocess.run(
        [SCRIPT, *arguments], env=environment, capture_output=True, text=True, timeout=400, check=False
    )


def test_a_real_cluster_starts_from_pypi_and_answers() -> None:
    port = free_port()
    try:
        started = cluster("start", str(CACHE), "2", str(port))
        assert started.returncode == 0, started.stderr
        assert json.loads(started.stdout)["slots-available"] == 2
        with urllib.request.urlopen(f"http://localhost:{port}/overview", timeout=10) as answer:
            said = json.loads(answer.read())
        assert (said["taskmanagers"], said["jobs-running"]) == (1, 0)
        assert cluster("start", str(CACHE), "2", str(port)).returncode == 1, "one runs already"
        addresses = {c.laddr.ip for p in java(CACHE) for c in p.net_connections("tcp") if c.status == "LISTEN"}
        assert addresses <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}, "nothing of it is open to others"
    finally:
        assert cluster("stop", str(CACHE)).returncode == 0
    assert java(CACHE) == []


def java(folder: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["name", "cmdline"]):
        if process.info["name"] == "java" and any(str(folder) in word for word in process.info["cmdline"] or ()):
            found.append(process)
    return found


@pytest.mark.skipif(not find_flink_jar(), reason=f"{FLINK_JAR} does not name a Flink job server's jar")
@pytest.mark.parametrize("parallel", [1, 2])
def test_a_night_on_flink_gives_the_same_bytes_and_so_does_a_second_run_after_a_kill(
    parallel: int, tmp_path: Path
) -> None:
    write_night(tmp_path, 5, Size(fields=0, stamps=6, spectra=4, light_curves=12))
    expected = plain(tmp_path / "night", tmp_path / "plain")
    port = free_port()
    try:
        assert cluster("start", str(CACHE), str(parallel), str(port)).returncode == 0
        with worker_pool(True) as (pool_port, pool):
            command = [
                sys.executable, "-m", "pipeline", "run", "--engine", "flink", "--workers", str(parallel), "--quiet",
                "--input", str(tmp_path / "night"), "--output", str(tmp_path / "catalog"), "--night", NIGHT,
                "--retries", "1", "--", f"--flink_master=localhost:{port}", "--environment_type=EXTERNAL",
                f"--environment_config=localhost:{pool_port}",
            ]  # fmt: skip
            with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as run:
                while run.poll() is None:
                    if any(p.stat().st_size for p in (tmp_path / "catalog").glob(".staging/*/.progress/*")):
                        _pooled(psutil.Process(run.pid), pool)[0].kill()
                        break
                _, said = run.communicate(timeout=600)
        assert run.returncode == 0, said
        assert parquet(tmp_path / "catalog") == expected
        assert verify(str(tmp_path / "catalog")) == []
    finally:
        cluster("stop", str(CACHE))
