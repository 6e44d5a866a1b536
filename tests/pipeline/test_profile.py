"""The command profile: a real night, what it prints and writes, and what it refuses."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli import main
from pipeline.engines import PRISM
from pipeline.profile_points import FORWARD, STAGES
from tests.toy_night import digests

ROOT = Path(__file__).resolve().parents[2]


def nightcat(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A fresh process, as a user starts it; its temporary folders lie in ``folder``."""
    return subprocess.run(
        [sys.executable, "-m", "pipeline", *words],
        cwd=ROOT, env={**os.environ, "TMPDIR": str(folder)}, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("profile")
    assert main(["simulate", str(folder), "--scale", "0.05", "--quiet"]) == 0
    return ["--input", str(folder / "night"), "--night", "2026-11-24", "--tasks", "variable_star"]


def test_a_night_is_measured_and_its_catalog_is_that_of_run(night: list[str], tmp_path: Path) -> None:
    flame = tmp_path / "night.svg"
    words = ["profile", *night, "--output", str(tmp_path / "a"), "--json", "--flame", str(flame), "--rate", "200"]
    done = nightcat(*words, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert main(["run", *night, "--output", str(tmp_path / "b"), "--workers", "1", "--quiet"]) == 0
    assert digests(tmp_path / "a") == digests(tmp_path / "b")

    events = {event["event"]: event for event in map(json.loads, done.stdout.splitlines())}
    found: dict[str, Any] = events["profile"]
    lines = {(line["thread"], line["stage"]): line for line in found["lines"]}
    main_thread = [line for line in found["lines"] if line["thread"] == "main"]
    assert sum(line["seconds"] for line in main_thread) == pytest.approx(found["seconds"])
    assert sum(line["share"] for line in main_thread) == pytest.approx(1)
    assert {stage for _, stage in lines} <= set(STAGES)
    for thread, stages in (
        ("main", ("imports", "models", "listing", "digests", "ledger", "engine", "identify", "waiting for the reader")),
        ("main", (FORWARD, "answers", "writing shards", "writing files", "commit", "other")),
        ("reader", ("reading", "decoding", "measuring", "preparing", "waiting for files", "waiting for the model")),
    ):
        assert [stage for stage in stages if not lines[thread, stage]["seconds"] > 0] == []
    rows = events["night"]["rows"]["variable_star"]
    assert found["batches"]["variable_star"]["objects"] == rows
    assert lines["reader", "preparing"]["calls"] == rows
    assert lines["main", "imports"]["seconds"] > lines["main", "listing"]["seconds"]
    assert 0 <= found["unseen"] < found["cpu"] <= 4 * found["seconds"]
    if found["peak"]:
        assert lines["main", "imports"]["added"] > 1e8, "torch and Beam are large"

    counts: dict[str, int] = {}
    for line in flame.with_suffix(".folded").read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        counts[stack] = int(count)
    seen = sum(count for stack, count in counts.items() if stack.startswith("MainThread;")) / 1e6
    assert 0.5 * found["seconds"] < seen < found["seconds"] + 1
    assert any("pipeline.cli.profile:profile" in stack and ";imports;" in stack for stack in counts)
    assert any(stack.startswith("nightcat-reader;measuring;transforms.") for stack in counts)
    shapes = [g.get("data-n") for g in ET.fromstring(flame.read_text()).iter("{http://www.w3.org/2000/svg}g")]
    assert {"MainThread", "nightcat-reader", "imports"} <= set(shapes)


def test_without_an_output_the_catalog_is_thrown_away(night: list[str], tmp_path: Path) -> None:
    done = nightcat("profile", *night, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []
    assert "that catalog was thrown away" in done.stdout
    for words in (
        r"main +imports +\d",
        r"reader +all +\d",
        "the model waited",
        "variable_star: 1 batches",
        "MB at most",
    ):
        assert re.search(words, done.stdout), words
    assert "hardly grow with the night" in done.stdout, "of so few objects"


def test_a_night_that_is_done_is_told(night: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", *night, "--output", str(tmp_path / "cat"), "--workers", "1", "--quiet"]) == 0
    capsys.readouterr()
    assert main(["profile", *night, "--output", str(tmp_path / "cat")]) == 0
    text = capsys.readouterr().out
    assert "nothing to do" in text
    assert "forward" not in text
    assert "--force" in text


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--workers", "2"], "cannot see the other processes of --workers 2"),
        (["--engine", "prism"], "cannot see the workers of --runner PrismRunner"),
        (["--runner", "DirectRunner"], "cannot see the workers of --runner DirectRunner"),
        (["--", "--direct_num_workers=2"], "which --direct_num_workers=2 would change"),
        (["--rate", "0"], "--rate 0.0 is not a number above 0"),
        (["--rate", "nan"], "--rate nan is not a number above 0"),
        (["--flame", "x.html"], "--flame 'x.html' does not end in .svg"),
        (["--flame", "no/such/x.svg"], "no folder 'no/such'"),
        (["--dtype", "fp8"], "--dtype 'fp8' is not one of"),
        (["--config", "no.toml"], "--config 'no.toml' cannot be read"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    words: list[str],
    sentence: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(PRISM, sys.executable)  # any file: it is not started
    assert main(["profile", "--input", str(tmp_path), "--night", "2026-11-24", *words]) == 2
    printed = capsys.readouterr()
    assert sentence in printed.err
    assert printed.out == ""


def test_one_process_is_what_auto_and_one_mean(tmp_path: Path) -> None:
    from pipeline.cli.profile import _one_process
    from pipeline.options import RunConfig

    assert _one_process(RunConfig(workers="auto")).workers == _one_process(RunConfig(workers=1)).workers == 1


def test_an_input_that_is_not_there_is_told_as_run_tells_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--input", str(tmp_path / "nowhere"), "--night", "2026-11-24", "--output", str(tmp_path / "cat")]
    codes = [main([command, *words]) for command in ("run", "profile")]
    first, second = capsys.readouterr().err.splitlines()
    assert codes == [2, 2]
    assert first == second


def test_a_flame_graph_that_cannot_be_written_leaves_the_catalog(
    night: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.svg").mkdir()
    code = main(["profile", *night, "--output", str(tmp_path / "cat"), "--flame", str(tmp_path / "x.svg"), "--quiet"])
    assert code == 4
    assert "cannot be written" in capsys.readouterr().err
    assert list((tmp_path / "cat" / "_runs").glob("*.json"))
