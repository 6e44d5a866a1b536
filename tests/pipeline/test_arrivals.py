"""Which files are finished, and to which night they belong."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.arrivals import Arrivals, known_digests, night_of, nights_of, signature
from pipeline.sources import find_files
from transforms.records import Reject

START = 1_764_000_000.0  #: 2025-11-24, 16:00 UTC.


@dataclass
class Clock:
    now: float = START

    def __call__(self) -> float:
        return self.now


def put(path: Path, text: str, modified: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (modified, modified))


def names(arrivals: Arrivals, folder: Path) -> tuple[set[str], int]:
    found, waiting = arrivals.finished(find_files([str(folder)]))
    return {one.file.source for one in found}, len(waiting)


def test_a_file_is_finished_when_it_has_not_changed_for_a_while(tmp_path: Path) -> None:
    clock = Clock()
    arrivals = Arrivals(5.0, clock=clock)
    put(tmp_path / "old.fits", "x", START - 60)
    put(tmp_path / "new.fits", "x", START - 1)
    assert names(arrivals, tmp_path) == ({"old.fits"}, 1)
    clock.now += 3
    put(tmp_path / "new.fits", "xy", START + 2)  # still growing
    assert names(arrivals, tmp_path) == ({"old.fits"}, 1)
    clock.now += 4
    assert names(arrivals, tmp_path) == ({"old.fits", "new.fits"}, 0)
    put(tmp_path / "tomorrow.fits", "x", START + 86_400)  # of a camera whose clock is ahead
    assert names(arrivals, tmp_path) == ({"old.fits", "new.fits"}, 1)
    clock.now += 5
    assert names(arrivals, tmp_path) == ({"old.fits", "new.fits", "tomorrow.fits"}, 0)


@pytest.mark.parametrize("name", ["a.fits.part", ".a.fits.x7Gh", "a.tmp", "a.fits~", "a.fits.filepart", "a.PARTIAL"])
def test_a_file_that_will_be_renamed_is_not_there_yet(name: str, tmp_path: Path) -> None:
    put(tmp_path / name, "x", START - 600)
    put(tmp_path / "a.fits", "x", START - 600)
    assert names(Arrivals(5.0, clock=Clock()), tmp_path) == ({"a.fits"}, 0)


def test_a_mark_finishes_a_file_at_once_or_alone(tmp_path: Path) -> None:
    put(tmp_path / "a.fits", "x", START)
    put(tmp_path / "a.fits.done", "", START)
    put(tmp_path / "b.fits", "x", START - 600)
    assert names(Arrivals(1e9, clock=Clock()), tmp_path) == ({"a.fits"}, 1)
    assert names(Arrivals(0.0, marked=True, clock=Clock()), tmp_path) == ({"a.fits"}, 1)


def test_nights(tmp_path: Path) -> None:
    assert night_of(START) == "2025-11-24"
    assert night_of(START - 4 * 3600 - 1) == "2025-11-23"
    assert night_of(START, noon=17.0) == "2025-11-23"
    put(tmp_path / "loose.fits", "x", START - 86_400)
    put(tmp_path / "2026-01-02" / "deep" / "a.fits", "y", START - 60)
    listing = find_files([str(tmp_path)])
    arrived, _ = Arrivals(0.0, clock=Clock()).finished(listing)
    closed = Reject(source="x", stage="ingest", error="PermissionError", reason="no", url="/in/2026-01-03/x")
    found = nights_of(arrived, [closed], None, START)
    assert {night: [one.file.source for one in files] for night, (files, _) in found.items()} == {
        "2025-11-23": ["loose.fits"], "2026-01-02": ["deep/a.fits"], "2026-01-03": [],
    }  # fmt: skip
    assert list(nights_of(arrived, [closed], "2020-02-02", START)) == ["2020-02-02"]


def test_a_digest_is_kept_for_what_has_not_changed(tmp_path: Path) -> None:
    put(tmp_path / "a.fits", "x", START - 60)
    put(tmp_path / "b.fits", "yy", START - 60)
    arrivals = Arrivals(0.0, clock=Clock())
    arrived, _ = arrivals.finished(find_files([str(tmp_path)]))
    before = signature(arrived, [])
    known = {one.file.url: (one.file.size, one.modified, "d" * 64) for one in arrived}
    put(tmp_path / "b.fits", "zz", START - 50)
    again, _ = arrivals.finished(find_files([str(tmp_path)]))
    assert [file.digest for file in known_digests(again, known)] == ["d" * 64, ""]
    assert signature(again, []) != before
    assert signature(arrived, []) == before
