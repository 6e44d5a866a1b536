"""A detached night for real: one process submits to a job server that goes on, another commits what it made."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.verify import verify
from tests.pipeline.test_engine_bytes import NIGHT, ROOT, parquet, plain, worker_pool
from transforms.simulate.night import Size, write_night

pytestmark = pytest.mark.slow


@contextmanager
def job_server() -> Iterator[int]:
    """Beam's own job server in a process of its own: it speaks the protocol of Flink's, and outlives who submits."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "apache_beam.runners.portability.local_job_service_main", f"--port={port}"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            with socket.socket() as one:
                if one.connect_ex(("localhost", port)) == 0:
                    break
            time.sleep(0.1)
        yield port
    finally:
        server.kill()
        server.wait()


def nightcat(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipeline", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400, check=False)


def test_a_night_is_submitted_and_committed_by_two_processes(tmp_path: Path) -> None:
    write_night(tmp_path, 5, Size(fields=1, stamps=4, spectra=3, light_curves=6))
    night, catalog = str(tmp_path / "night"), tmp_path / "catalog"
    expected = plain(tmp_path / "night", tmp_path / "plain")
    with worker_pool(True) as (pool, _), job_server() as server:
        beam = [f"--job_endpoint=localhost:{server}", "--environment_type=EXTERNAL"]
        run = ["run", "--engine", "flink", "--input", night, "--output", str(catalog), "--night", NIGHT, "--json"]
        beam.append(f"--environment_config=localhost:{pool}")
        sent = nightcat(*run, "--detach", "--", *beam)
        assert sent.returncode == 0, sent.stderr
        told = json.loads(sent.stdout)
        assert told["event"] == "detached"
        assert told["job"]
        refused = nightcat(*run)
        assert refused.returncode in (2, 4), "no job server was named, or the night is under way"
        refused = nightcat("run", "--input", night, "--output", str(catalog), "--night", NIGHT)
        assert refused.returncode == 4, refused.stderr
        assert told["run_id"] in refused.stderr
        done = nightcat("finish", str(catalog), "--run", told["run_id"], "--wait", "300", "--json")
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert json.loads(done.stdout)["state"] == "committed"
    assert parquet(catalog) == expected
    assert verify(str(catalog)) == []


def test_a_job_that_its_engine_has_lost_is_told_and_given_up(tmp_path: Path) -> None:
    write_night(tmp_path, 5, Size(fields=1, stamps=4, spectra=3, light_curves=6))
    catalog = str(tmp_path / "catalog")
    run = ["run", "--input", str(tmp_path / "night"), "--output", catalog, "--night", NIGHT]
    with worker_pool(True) as (port, _), job_server() as server:
        beam = [f"--job_endpoint=localhost:{server}", "--environment_type=EXTERNAL"]
        sent = nightcat(*run, "--engine", "flink", "--detach", "--", *beam, f"--environment_config=localhost:{port}")
        assert sent.returncode == 0, sent.stderr
        (folder,) = (tmp_path / "catalog" / ".staging").iterdir()
        (folder / ".shards").write_text("where a folder should be: every worker that writes fails")
        until = time.monotonic() + 120
        while (done := nightcat("finish", catalog, "--json")).returncode == 6 and time.monotonic() < until:
            time.sleep(1)
        assert done.returncode == 5, (done.stdout, done.stderr)
        told = json.loads(done.stdout)
        assert told["state"] == "lost"
        assert done.stderr.startswith("nightcat: the detached run "), "the screen is ours"
        assert "has ended in state FAILED" in done.stderr
    assert nightcat("finish", catalog, "--abandon", told["run_id"]).returncode == 0
    assert nightcat("finish", catalog).returncode == 0


def test_a_job_server_that_is_not_there_leaves_the_night_free(tmp_path: Path) -> None:
    write_night(tmp_path, 5, Size(fields=0, stamps=1, spectra=1, light_curves=1, broken=False))
    run = ["run", "--input", str(tmp_path / "night"), "--output", str(tmp_path / "catalog"), "--night", NIGHT]
    beam = ["--job_endpoint=localhost:1", "--environment_type=EXTERNAL", "--environment_config=localhost:2"]
    sent = nightcat(*run, "--engine", "flink", "--detach", "--", *beam, "--job_server_timeout=5")
    assert sent.returncode == 5, sent.stderr
    assert "Traceback" not in sent.stderr
    assert not list((tmp_path / "catalog").glob(".staging/*"))
