"""The main job as a user runs it: commands in processes of their own, a small simulated night, the shipped models."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

NIGHTCAT = [sys.executable, "-m", "pipeline"]


def nightcat(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*NIGHTCAT, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    done = nightcat("demo", "--directory", str(folder), "--scale", "0.1", "--json")
    (folder / "lines.jsonl").write_text(done.stdout)
    (folder / "errors.txt").write_text(done.stderr)
    return folder


def parquet(catalog: Path) -> dict[str, str]:
    return {
        p.relative_to(catalog).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(catalog.rglob("*.parquet"))
    }


def test_the_demo_ends_with_catalog_and_report(demo: Path) -> None:
    lines = [json.loads(line) for line in (demo / "lines.jsonl").read_text().splitlines()]
    night = next(line for line in lines if line.get("event") == "night")
    assert set(night["rows"]) == {"galaxy_morphology", "stellar_parameters", "variable_star"}
    assert night["stages"]["ingest"]["entered"] == night["files"]
    matched = {line["task"]: line for line in lines if "matched" in line}
    assert matched["stellar_parameters"]["matched"] == matched["stellar_parameters"]["objects"]
    assert matched["variable_star"]["matched"] == matched["variable_star"]["objects"]
    assert matched["galaxy_morphology"]["matched"] >= 0.7 * matched["galaxy_morphology"]["objects"]
    assert Path(lines[-1]["catalog"], "_runs").is_dir()
    assert "<table>" in Path(lines[-1]["report"]).read_text()


def test_the_screen_is_ours(demo: Path) -> None:
    noise = [line for line in (demo / "errors.txt").read_text().splitlines() if not line.startswith("{")]
    assert noise == []


def test_each_broken_file_is_a_reject_or_a_row_with_flags(demo: Path) -> None:
    rejects = [json.loads(x) for x in nightcat("rejects", str(demo / "catalog"), "--all", "--json").stdout.splitlines()]
    refused = {Path(r["source"]).name for r in rejects}
    broken = {p.name for p in (demo / "night").glob("broken*/*")}
    assert broken - refused <= {"negative_errors.csv"}
    assert refused <= broken
    assert all(r["reason"] and r["stage"] and r["error"] for r in rejects)
    assert not {r["error"] for r in rejects} - {"Unreadable", "Unusable", "NoReader"}


def test_the_same_night_again_has_nothing_to_do(demo: Path) -> None:
    done = nightcat("run", "--input", str(demo / "night"), "--output", str(demo / "catalog"), "--night", "2026-11-24")
    assert "nothing to do" in done.stdout


def test_rejects_are_an_error_where_strict(demo: Path, tmp_path: Path) -> None:
    broken = next((demo / "night").glob("broken*"))
    night = ["run", "--input", str(broken), "--output", str(tmp_path / "cat"), "--night", "2026-11-24", "--quiet"]
    nightcat(*night, "--strict", code=1)
    nightcat("verify", str(tmp_path / "cat"))


def test_an_output_that_cannot_be_written_is_told_and_nothing_is_lost(demo: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    night = ["run", "--input", str(demo / "night"), "--night", "2026-11-24", "--output", str(tmp_path / "file" / "cat")]
    done = nightcat(*night, code=4)
    assert "cat" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_two_worker_processes_give_the_bytes_of_one(demo: Path, tmp_path: Path) -> None:
    night = ["run", "--input", str(demo / "night"), "--night", "2026-11-24", "--quiet"]
    done = nightcat(*night, "--output", str(tmp_path / "two"), "--workers", "2")
    assert done.stderr == ""
    assert parquet(tmp_path / "two") == parquet(demo / "catalog")
