"""Watching a folder: small runs, nights that are closed, nothing lost whenever it is stopped."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

import pipeline.nights
import pipeline.watching
from pipeline.cli import main
from pipeline.ledger import Ledger
from pipeline.options import RunConfig
from pipeline.verify import verify
from pipeline.watching import Watcher, WatchOptions
from pipeline.workers import EngineError
from tests import toy_night
from tests.pipeline.test_engine_bytes import ROOT, parquet
from transforms.simulate.night import Size, write_night
from transforms.store import OutputError

NIGHT = "2026-11-24"


class Watch:
    """A watch of the toy sky with a clock that is turned by hand."""

    def __init__(self, inbox: Path, catalog: Path, **options: Any) -> None:
        self.told: list[dict[str, Any]] = []
        self.now = time.time() + 60  # what a test has written is finished
        self.loads = 0
        config = RunConfig(inputs=(str(inbox),), output=str(catalog), tasks=("toy",))
        self.step = 0.0
        self.watcher = Watcher(config, WatchOptions(settle=5.0, **options), self.models, self.tell, clock=self.clock)

    def clock(self) -> float:
        self.now += self.step
        return self.now

    def models(self) -> Any:
        self.loads += 1
        return toy_night.MODELS

    def tell(self, event: str, **values: Any) -> None:
        self.told.append({"event": event, **values})

    def look(self) -> bool:
        return self.watcher.look(threading.Event())

    def events(self, name: str) -> list[dict[str, Any]]:
        return [one for one in self.told if one["event"] == name]


@pytest.mark.usefixtures("toys")
def test_a_watched_night_ends_with_the_bytes_of_one_run(tmp_path: Path) -> None:
    night = toy_night.write_night(tmp_path / "files")
    inbox = tmp_path / "inbox" / NIGHT
    inbox.mkdir(parents=True)
    watch = Watch(tmp_path / "inbox", tmp_path / "catalog")
    names = sorted(path.name for path in night.iterdir())
    for name in names:
        shutil.copy(night / name, inbox / name)
        assert watch.look()
        assert not watch.look(), "nothing is new"
    (inbox / "night.done").touch()
    assert watch.look()
    assert len(watch.events("batch")) == len(names)
    assert [one["night"] for one in watch.events("closed")] == [NIGHT]
    assert not watch.look()
    (inbox / "night.done").unlink()
    toy_night.run(inbox.parent, output=tmp_path / "whole", night=None)
    assert toy_night.digests(tmp_path / "catalog") == toy_night.digests(tmp_path / "whole")
    assert verify(str(tmp_path / "catalog")) == []
    assert watch.loads == 1, "one load of the models for all runs of a night"


@pytest.mark.usefixtures("toys")
def test_a_late_file_opens_the_night_again_and_closes_it(tmp_path: Path) -> None:
    night = toy_night.write_night(tmp_path / "inbox" / NIGHT)
    watch = Watch(tmp_path / "inbox", tmp_path / "catalog", close=9.5)
    watch.now = 1_795_600_000.0  # 2026-11-25, 09:46 UTC
    for path in night.iterdir():
        os.utime(path, (watch.now - 3600,) * 2)
    assert watch.look()
    assert len(watch.events("closed")) == 1
    (night / "late.txt").write_text("TOY\n900\n")
    os.utime(night / "late.txt", (watch.now - 60,) * 2)
    assert watch.look()
    assert [one["rows"] for one in watch.events("closed")] == [121, 122]
    assert len(Ledger(str(tmp_path / "catalog")).runs()) == 1
    watch = Watch(tmp_path / "inbox", tmp_path / "catalog", close=9.5)
    watch.now = 1_795_598_000.0  # before the hour
    watch.look()
    assert watch.events("closed") == watch.events("batch") == [], "a new watch knows what was done"


@pytest.mark.usefixtures("toys")
def test_a_file_that_is_written_tonight_does_not_keep_last_night_open(tmp_path: Path) -> None:
    last = toy_night.write_night(tmp_path / "inbox" / NIGHT)
    watch = Watch(tmp_path / "inbox", tmp_path / "catalog")
    (tmp_path / "inbox" / "2026-11-25").mkdir()
    (last / "night.done").touch()
    growing = tmp_path / "inbox" / "2026-11-25" / "growing.txt"
    growing.write_text("TOY\n1")
    os.utime(growing, (watch.now - 1,) * 2)
    assert watch.look()
    assert [one["night"] for one in watch.events("closed")] == [NIGHT]
    assert {one["night"] for one in watch.events("batch")} == {NIGHT}
    (last / "more.txt").write_text("TOY\n7\n")
    os.utime(last / "more.txt", (watch.now - 1,) * 2)
    assert watch.look()
    assert len(watch.events("closed")) == 1, "not while one of its own is being written"


@pytest.mark.usefixtures("toys")
def test_a_night_that_cannot_be_merged_is_closed_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    night = toy_night.write_night(tmp_path / "inbox" / NIGHT)
    watch = Watch(tmp_path / "inbox", tmp_path / "catalog")
    watch.look()
    for path in night.iterdir():
        path.unlink()
    monkeypatch.setattr(pipeline.nights, "version", lambda: "another")
    (night / "late.txt").write_text("TOY\n900\n")
    (night / "night.done").touch()
    assert watch.look()
    assert "by 2 versions" in watch.events("trouble")[0]["reason"]
    assert watch.events("closed")[0]["rows"] > 100
    assert verify(str(tmp_path / "catalog")) == []


@pytest.mark.usefixtures("toys")
def test_trouble_is_waited_out_and_nothing_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy_night.write_night(tmp_path / "inbox" / NIGHT)
    watch = Watch(tmp_path / "inbox", tmp_path / "catalog", poll=0.01, idle_exit=30.0)
    real, troubles = pipeline.watching.run_night, [EngineError("a worker died"), OutputError("cannot write: disk full")]

    def run_night(*arguments: Any) -> Any:
        if troubles:
            raise troubles.pop(0)
        return real(*arguments)

    monkeypatch.setattr(pipeline.watching, "run_night", run_night)
    hidden = tmp_path / "away"
    (tmp_path / "inbox").rename(hidden)
    watch.step = 5.0  # each look at the clock

    def come_back(event: str, **values: Any) -> None:
        watch.tell(event, **values)
        if event == "trouble" and hidden.exists():
            hidden.rename(tmp_path / "inbox")

    watch.watcher.tell = come_back
    watch.watcher.run(threading.Event())
    reasons = [one["reason"] for one in watch.events("trouble")]
    assert "does not exist" in reasons[0]
    assert reasons[1:] == ["a worker died", "cannot write: disk full"]
    assert [one["failures"] for one in watch.events("trouble")] == [1, 2, 3]
    assert [one["rows"] for one in watch.events("batch")] == [{"toy": 121}]


@pytest.mark.usefixtures("toys")
def test_digests_are_not_computed_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    night = toy_night.write_night(tmp_path / "inbox" / NIGHT)
    watch = Watch(tmp_path / "inbox", tmp_path / "catalog")
    watch.look()
    read: list[str] = []
    real = pipeline.sources.digest_and_size
    monkeypatch.setattr(pipeline.sources, "digest_and_size", lambda url: (read.append(url), real(url))[1])
    (night / "late.txt").write_text("TOY\n900\n")
    watch.look()
    assert [Path(url).name for url in read] == ["late.txt"]


def test_wrong_options_are_all_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = ["--poll", "0", "--settle", "-1", "--close", "25:00", "--noon", "x", "--marker", "a/b", "--engine", "flink"]
    assert main(["watch", str(tmp_path), "--output", str(tmp_path / "c"), *wrong, "--dtype", "fp8"]) == 2
    said = capsys.readouterr().err
    for word in ("--poll 0.0", "--settle -1.0", "'25:00'", "'x'", "'a/b'", "'fp8'"):
        assert word in said, word


@pytest.mark.slow
def test_a_watch_that_is_killed_goes_on_and_ends_with_the_bytes_of_one_run(tmp_path: Path) -> None:
    """The real command on real models; light curves come one by one, and it is killed in the middle."""
    write_night(tmp_path / "made", 7, Size(fields=0, stamps=0, spectra=4, light_curves=12, broken=False))
    (tmp_path / "made" / "night" / "notes.txt").write_text("clouds at three")
    (tmp_path / "made" / "night" / "cut.fits").write_bytes(b"SIMPLE  =                    T" + b" " * 99)
    files = sorted(p for p in (tmp_path / "made" / "night").rglob("*") if p.is_file())
    inbox, catalog = tmp_path / "inbox" / NIGHT, tmp_path / "catalog"
    inbox.mkdir(parents=True)
    command = [
        sys.executable, "-m", "pipeline", "watch", str(inbox.parent), "--output", str(catalog), "--json",
        "--poll", "0.2", "--settle", "0.5", "--tasks", "stellar_parameters,variable_star",
    ]  # fmt: skip

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def arrive(some: list[Path]) -> None:
        for path in some:
            part = inbox / f"{path.name}.part"
            shutil.copy(path, part)
            part.rename(inbox / path.name)
            time.sleep(0.1)

    half = len(files) // 2
    with start() as run:
        arrive(files[:half])
        for line in run.stdout:  # type: ignore[union-attr]
            if json.loads(line)["event"] == "batch":
                break
        time.sleep(1.0)
        run.kill()
    with start() as run:
        arrive(files[half:])
        (inbox / "night.done").touch()
        for line in run.stdout:  # type: ignore[union-attr]
            if json.loads(line)["event"] == "closed":
                break
        run.send_signal(signal.SIGTERM)
        assert run.wait(60) == 0, run.stderr.read()  # type: ignore[union-attr]
    (inbox / "night.done").unlink()
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "run", "--input", str(inbox.parent), "--output", str(tmp_path / "whole"),
         "--quiet", "--tasks", "stellar_parameters,variable_star"], cwd=ROOT, check=False,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert verify(str(catalog)) == []
    assert parquet(catalog) == parquet(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.usefixtures("toys")
def test_memory_stays_flat_over_many_nights(tmp_path: Path) -> None:
    """Sixty nights of three looks: the last forty add less than a tenth of what is there."""
    inbox = tmp_path / "inbox"
    watch = Watch(inbox, tmp_path / "catalog")
    process, used = psutil.Process(), []
    for number in range(60):
        night = inbox / f"2026-{1 + number // 28:02d}-{1 + number % 28:02d}"
        night.mkdir(parents=True)
        watch.now = time.time() + 60
        for part in range(2):
            (night / f"{part}.txt").write_text("TOY\n" + "\n".join(str(100 * number + i) for i in range(40)) + "\n")
            watch.look()
        (night / "night.done").touch()
        watch.look()
        used.append(process.memory_info().rss / 1e6)
    assert len(watch.events("closed")) == 60
    assert max(used[50:]) - min(used[15:25]) < 0.1 * used[20], [round(one) for one in used[::5]]
