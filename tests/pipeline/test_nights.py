from __future__ import annotations

import dataclasses
import os
import random
import signal
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.ledger import Ledger
from pipeline.nights import SumsError, run_night
from pipeline.options import RunConfig
from pipeline.replay import rejected_inputs
from pipeline.verify import verify
from tests import toy, toy_night
from transforms.attempt import Tallies

pytestmark = pytest.mark.usefixtures("toys")


@pytest.fixture
def night(tmp_path: Path) -> Path:
    return toy_night.write_night(tmp_path / "night")


def sound(catalog: Path) -> list[object]:
    """Faults of the toy catalog; its table is not a task, so its columns are taken from the manifest."""
    return verify(str(catalog))


def test_a_night_becomes_a_catalog_whose_sums_close(night: Path, tmp_path: Path) -> None:
    (result,) = toy_night.run(night, output=tmp_path / "cat")
    assert result.rows == {"toy": 121}
    assert result.rejects == 6
    assert result.stages["ingest"] == {"entered": 9, "done": 7, "rejected": 2, "out": 44}
    rejects = Ledger(str(tmp_path / "cat")).rejects()
    assert {(r["source"], r["row"], r["stage"]) for r in rejects} == {
        ("bad.txt", 0, "infer"),
        ("bad.txt", 1, "read"),
        ("bad.txt", 2, "prepare"),
        ("bad.txt", 4, "measure"),
        ("empty.txt", -1, "ingest"),
        ("unknown kind ü.txt", -1, "ingest"),
    }
    assert sound(tmp_path / "cat") == []


def test_the_same_bytes_whatever_the_order_of_inputs(night: Path, tmp_path: Path) -> None:
    toy_night.run(night, output=tmp_path / "a")
    files = sorted(night.iterdir(), reverse=True)
    toy_night.run(*files, output=tmp_path / "b")
    assert toy_night.digests(tmp_path / "a") == toy_night.digests(tmp_path / "b")


def test_a_night_that_is_done_is_skipped_and_force_gives_the_same_bytes(night: Path, tmp_path: Path) -> None:
    toy_night.run(night, output=tmp_path / "cat")
    before = toy_night.digests(tmp_path / "cat")
    (again,) = toy_night.run(night, output=tmp_path / "cat")
    assert (again.run_id, again.files, again.skipped) == ("", 0, 9)
    (forced,) = toy_night.run(night, output=tmp_path / "cat", force=True)
    assert forced.files == 9
    assert toy_night.digests(tmp_path / "cat") == before


def test_nights_one_by_one_equal_nights_together(tmp_path: Path) -> None:
    one = toy_night.write_night(tmp_path / "in" / "2026-11-24")
    two = toy_night.write_night(tmp_path / "in" / "2026-11-25", first=500)
    toy_night.run(one, output=tmp_path / "apart", night=None)
    toy_night.run(two, output=tmp_path / "apart", night=None)
    results = toy_night.run(one, two, output=tmp_path / "together", night=None)
    assert [r.night for r in results] == ["2026-11-24", "2026-11-25"]
    toy_night.run(tmp_path / "in", output=tmp_path / "parent", night=None)
    apart = toy_night.digests(tmp_path / "apart")
    assert apart == toy_night.digests(tmp_path / "together")
    assert apart == toy_night.digests(tmp_path / "parent")
    assert sound(tmp_path / "together") == []


def test_a_late_file_is_appended_and_a_changed_one_replaces_its_rows(night: Path, tmp_path: Path) -> None:
    toy_night.run(night, output=tmp_path / "cat")
    (night / "late.txt").write_text("TOY\n900\n")
    (late,) = toy_night.run(night, output=tmp_path / "cat")
    assert (late.files, late.rows) == (1, {"toy": 1})
    (night / "f0.txt").write_text("TOY\n901\n902\n")
    toy_night.run(night, output=tmp_path / "cat")
    values = sorted(
        r["toy_value"]
        for p in (tmp_path / "cat" / "toy" / "toy" / "dataset").rglob("*.parquet")
        for r in pq.ParquetFile(p).read().to_pylist()
    )
    assert len(values) == len(set(values)) == 121 + 1 - 20 + 2
    assert sound(tmp_path / "cat") == []


def test_replay_runs_only_what_was_refused(night: Path, tmp_path: Path) -> None:
    toy_night.run(night, output=tmp_path / "cat")
    (night / "bad.txt").write_text("TOY\n67\n98\n97\n5\n12\n")
    nights = rejected_inputs(str(tmp_path / "cat"), None)
    assert [f.source for f in nights["2026-11-24"].files] == ["bad.txt", "empty.txt", "unknown kind ü.txt"]
    config = RunConfig(inputs=("replay",), output=str(tmp_path / "cat"), tasks=("toy",), force=True)
    result = run_night(config, toy_night.MODELS, "2026-11-24", nights["2026-11-24"])
    assert result.files == 3
    left = Ledger(str(tmp_path / "cat")).rejects()
    assert {r["source"] for r in left} == {"empty.txt", "unknown kind ü.txt"}
    assert sound(tmp_path / "cat") == []


def test_sums_that_do_not_close_commit_nothing_and_name_the_stage(
    night: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drain = Tallies.drain

    def leak(self: Tallies) -> dict[str, object]:
        stages = drain(self)
        if "measure" in stages:
            stages["measure"].done -= 1
        return stages

    monkeypatch.setattr(Tallies, "drain", leak)
    with pytest.raises(SumsError, match="measure"):
        toy_night.run(night, output=tmp_path / "cat")
    assert Ledger(str(tmp_path / "cat")).runs() == []


def test_the_direct_runner_by_name_gives_the_same_bytes(night: Path, tmp_path: Path) -> None:
    toy_night.run(night, output=tmp_path / "one")
    toy_night.run(night, output=tmp_path / "two", runner="DirectRunner")
    assert toy_night.digests(tmp_path / "one") == toy_night.digests(tmp_path / "two")


@pytest.mark.slow
def test_killed_anywhere_and_run_again_gives_the_same_bytes(night: Path, tmp_path: Path) -> None:
    """Twenty kills at random times of twenty catalogs, each then run to its end."""
    toy_night.run(night, output=tmp_path / "whole")
    whole = toy_night.digests(tmp_path / "whole")
    started = time.monotonic()
    toy_night.run(night, output=tmp_path / "timed")
    seconds = time.monotonic() - started
    rng = random.Random(20261124)
    killed = 0
    for trial in range(20):
        catalog = tmp_path / f"cat{trial}"
        pid = os.fork()
        if pid == 0:
            try:
                toy_night.run(night, output=catalog)
            finally:
                os._exit(0)
        time.sleep(rng.uniform(0.05, 1.1) * seconds)
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        killed += os.WIFSIGNALED(status)
        toy_night.run(night, output=catalog)
        assert toy_night.digests(catalog) == whole, f"trial {trial}"
        assert sound(catalog) == []
    assert killed >= 5


def test_a_table_whose_rows_are_all_unplaced_is_sound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import lsdb

    load = toy._load
    monkeypatch.setattr(toy, "_load", lambda *a: dataclasses.replace(load(*a), ra=None, dec=None))
    night = toy_night.write_night(tmp_path / "night", files=1)
    toy_night.run(night, output=tmp_path / "cat")
    assert sound(tmp_path / "cat") == []
    (file,) = (tmp_path / "cat" / "toy" / "unplaced").glob("*.parquet")
    assert pq.ParquetFile(file).metadata.num_rows == 21
    assert len(lsdb.open_catalog(tmp_path / "cat" / "toy")) == 0
