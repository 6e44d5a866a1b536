from __future__ import annotations

import io
import json
import time
from pathlib import Path

import pytest

from pipeline import progress
from pipeline.progress import Heartbeat, Progress, read_heartbeats


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_BEAT_S", 0.02)
    monkeypatch.setattr(progress, "_COUNTS", {})


def beat(folder: Path) -> None:
    heart = Heartbeat(str(folder))
    heart(file="a.fits", size=300)
    heart(rows=5, rejects=1)
    time.sleep(0.03)
    heart(rows=1)


def test_heartbeats_add_up_over_processes(tmp_path: Path) -> None:
    beat(tmp_path)
    (tmp_path / "999.json").write_text('{"rows": 2, "rejects": 0, "files": 1, "bytes": 100}')
    (tmp_path / "1.json").write_text("half a li")
    assert read_heartbeats(str(tmp_path)) == (8, 1, 2, 400)


def test_no_folder_and_a_folder_that_is_gone_stop_nothing(tmp_path: Path) -> None:
    Heartbeat("")(rows=1)
    Heartbeat(str(tmp_path / "gone"))(rows=1)
    assert read_heartbeats("") == (0, 0, 0, 0)


@pytest.mark.parametrize(("mode", "shown"), [("json", True), ("quiet", False), ("live", False)])
def test_modes_but_a_live_display_needs_a_terminal(mode: str, shown: bool, tmp_path: Path) -> None:
    stream = io.StringIO()
    with Progress(mode, 3, 1000, stream, str(tmp_path)):
        beat(tmp_path)
        time.sleep(0.2)
    text = stream.getvalue()
    assert bool(text) == shown
    if mode == "json":
        last = json.loads(text.splitlines()[-1])
        assert (last["objects"], last["rejects"], last["files"], last["total_files"]) == (6, 1, 1, 3)


def test_time_left_goes_by_bytes_and_is_not_guessed_too_early() -> None:
    bar = Progress("plain", 10, 1000, io.StringIO())
    bar._started = time.monotonic() - 10
    assert bar._state(1, 0, 1, 10)["seconds_left"] is None
    assert bar._state(1, 0, 1, 250)["seconds_left"] == pytest.approx(30, abs=0.5)
    assert "30 s left" in progress._sentence(bar._state(1, 0, 1, 250))
