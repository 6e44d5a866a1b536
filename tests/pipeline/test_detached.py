"""Nights that one process submits and another commits: the same bytes as a plain run, whatever dies in between."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import pipeline.engine
import pipeline.job_state
import pipeline.nights
from pipeline import underway
from pipeline.catalog import STAGING
from pipeline.cli import EXIT_OUTPUT, EXIT_SUMS, EXIT_USAGE, EXIT_WAITING, main
from pipeline.commit import lock, recover
from pipeline.compact import compact
from pipeline.detached import COMMITTED, STALE, SUMS, UNDER_WAY, abandon, detach_nights, finish
from pipeline.engine import run_graph
from pipeline.hats import CatalogError
from pipeline.ledger import Ledger
from pipeline.options import ConfigError, RunConfig, make_config
from pipeline.sources import Inputs
from pipeline.survey import Plan
from pipeline.underway import NOTE, SUBMITTED, Detached, NightBusy, noted
from pipeline.verify import verify
from pipeline.workers import EngineError
from tests import toy_night
from tests.pipeline.test_commit import CHANGES, Killed, die_at
from transforms.records import FileRef, Reject
from transforms.store import Store

pytestmark = pytest.mark.usefixtures("toys")
NIGHT, OTHER = "2026-11-24", "2026-11-25"
FAR = ("--job_endpoint=far:1", "--environment_type=EXTERNAL", "--environment_config=far:2")
HERE = ("--job_endpoint=embed", "--environment_type=LOOPBACK")


class Engine:
    """Takes jobs as an engine elsewhere does, and runs the real graph of one when it is told to."""

    def __init__(self) -> None:
        self.plans: list[Plan] = []

    def submit(self, config: RunConfig, plan: Plan) -> str:
        self.plans.append(plan)
        return f"job-{len(self.plans)}"

    def work(self, which: int = -1) -> None:
        run_graph(RunConfig(), self.plans[which])


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    engine = Engine()
    monkeypatch.setattr(pipeline.engine, "submit_graph", engine.submit)
    monkeypatch.setattr(pipeline.job_state, "SECONDS", 0.2)  # nobody answers where its job server should be
    return engine


@pytest.fixture
def night(tmp_path: Path) -> Path:
    """A night that the test may change."""
    return toy_night.write_night(tmp_path / "night")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """A night, its catalog by a plain run, and that after one file has changed; files are named by where they lie."""
    folder = tmp_path_factory.mktemp("plain")
    with pytest.MonkeyPatch.context() as patch:
        toy_night.install(patch.setattr)
        night = toy_night.write_night(folder / "night")
        toy_night.run(night, output=folder / "one", runner="PortableRunner", beam_options=HERE)
        changed = Path(shutil.copytree(night, folder / "changed"))
        toy_night.run(changed, output=folder / "past")
        shutil.copytree(folder / "past", folder / "two")
        (changed / "f0.txt").write_text("TOY\n901\n902\n")
        toy_night.run(changed, output=folder / "two", runner="PortableRunner", beam_options=HERE)
        yield SimpleNamespace(
            night=night, one=folder / "one", changed=changed, past=folder / "past", two=folder / "two"
        )
    toy_night.forget()


def config(*inputs: Path, output: Path | str, **options: Any) -> RunConfig:
    told = {"night": NIGHT, "runner": "PortableRunner", "beam_options": FAR, "detach": True, **options}
    return RunConfig(inputs=tuple(map(str, inputs)), output=str(output), tasks=("toy",), **told)


def detach(*inputs: Path, output: Path | str, **options: Any) -> Detached:
    (one,) = detach_nights(config(*inputs, output=output, **options), toy_night.MODELS)
    assert isinstance(one, Detached)
    return one


def manifests(catalog: Path) -> list[dict[str, Any]]:
    """All that manifests say but the time."""
    told = [json.loads(path.read_text()) for path in sorted((catalog / "_runs").glob("*.json"))]
    return [{name: value for name, value in one.items() if name != "timing"} for one in told]


def states(found: list[Any]) -> list[str]:
    return [one.state for one in found]


@pytest.fixture(scope="module")
def done(plain: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalog with a night, and a detached run that replaces a part of it, whose job is done."""
    catalog = Path(shutil.copytree(plain.past, tmp_path_factory.mktemp("done") / "cat"))
    engine = Engine()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline.engine, "submit_graph", engine.submit)
        detach(plain.changed, output=catalog)
    engine.work()
    return catalog


@pytest.fixture
def finishable(done: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(done, tmp_path / "cat"))


def test_a_detached_night_is_that_of_a_plain_run(plain: SimpleNamespace, tmp_path: Path, engine: Engine) -> None:
    catalog = tmp_path / "cat"
    one = detach(plain.night, output=catalog)
    assert (one.job, one.night) == ("job-1", NIGHT)
    assert Ledger(str(catalog)).runs() == []
    (waits,) = finish(str(catalog))
    assert waits.state == UNDER_WAY
    assert one.run_id in waits.told[0]
    assert "job-1 on PortableRunner" in waits.told[0]
    engine.work()
    (done,) = finish(str(catalog), night=NIGHT)
    assert (done.state, done.result.rows, done.result.rejects) == (COMMITTED, {"toy": 121}, 6)
    assert toy_night.digests(catalog) == toy_night.digests(plain.one)
    assert manifests(catalog) == manifests(plain.one)
    assert verify(str(catalog)) == []
    assert not (catalog / STAGING).exists()
    timing = Ledger(str(catalog)).runs()[0].manifest["timing"]
    assert 0 < timing["seconds"] < 60
    assert finish(str(catalog)) == []
    assert states(finish(str(catalog), run_id=one.run_id)) == [COMMITTED], "asked for again"
    (nothing,) = detach_nights(config(plain.night, output=catalog), toy_night.MODELS)
    assert (nothing.run_id, nothing.skipped) == ("", 9)


def test_a_note_holds_what_it_was_made_of(tmp_path: Path) -> None:
    inputs = Inputs(
        (FileRef(url="/in/\udcff.txt", source="\udcff.txt", size=3, digest="d"),),
        (Reject(source="ü", stage="ingest", error="E", reason="why", url="/ü"),),
    )
    one = Detached(
        run_id="r", night=NIGHT, folder=f"{STAGING}/r.1", fields={"a": [1]}, inputs=inputs, skipped=2,
        base=(("q", 3),), runner="FlinkRunner", endpoint="far:1", processes=4, strict=True, planned=5.0,
    )  # fmt: skip
    store = Store(str(tmp_path))
    underway.note(store, one)
    assert noted(store) == [one]
    sent = underway.note_submitted(store, one, "job")
    assert noted(store) == [sent]
    assert sent.submitted > 5.0
    (tmp_path / STAGING / "r.1" / NOTE).write_text("{")
    with pytest.raises(CatalogError, match="is damaged"):
        noted(store)


def test_a_night_that_is_under_way_is_left_alone_by_all_others(night: Path, tmp_path: Path, engine: Engine) -> None:
    catalog = tmp_path / "cat"
    toy_night.run(night, output=catalog)
    (night / "late.txt").write_text("TOY\n900\n")
    toy_night.run(night, output=catalog)
    (night / "later.txt").write_text("TOY\n905\n")
    one = detach(night, output=catalog)
    writing = catalog / one.folder / "toy" / ".x.parquet.4711.tmp"
    writing.parent.mkdir()
    writing.write_text("a worker writes here")
    other = toy_night.write_night(tmp_path / "other", first=500)
    toy_night.run(other, output=catalog, night=OTHER)
    killed = catalog / STAGING / "2026-11-23-0123456789ab"
    killed.mkdir()
    (killed / "x").write_text("of a run that was killed")
    recover(str(catalog))
    assert not killed.exists()
    assert writing.exists()
    for refused in (
        lambda: toy_night.run(night, output=catalog),
        lambda: detach(night, output=catalog),
        lambda: compact(str(catalog)),
    ):
        with pytest.raises(NightBusy, match=f"{one.run_id}.*nightcat finish .* --abandon {one.run_id}"):
            refused()
    engine.work()
    assert states(finish(str(catalog), night=OTHER)) == []
    assert states(finish(str(catalog))) == [COMMITTED]
    assert verify(str(catalog)) == []
    assert len(Ledger(str(catalog)).runs(NIGHT)) == 3
    assert [one.runs for one in compact(str(catalog))] == [3]


def test_a_run_that_replaces_another_carries_its_rows(finishable: Path, plain: SimpleNamespace) -> None:
    (done,) = finish(str(finishable))
    assert done.result.supersedes
    assert toy_night.digests(finishable) == toy_night.digests(plain.two)
    assert manifests(finishable) == manifests(plain.two)


def test_a_night_that_is_given_up_can_be_run_again_whatever_its_job_does(
    plain: SimpleNamespace, tmp_path: Path, engine: Engine
) -> None:
    catalog = tmp_path / "cat"
    one = detach(plain.night, output=catalog)
    assert abandon(str(catalog), one.run_id) == one
    assert not (catalog / one.folder).exists()
    with pytest.raises(CatalogError, match=f"no detached run '{one.run_id}'"):
        abandon(str(catalog), one.run_id)
    with pytest.raises(CatalogError, match="under way are: none"):
        finish(str(catalog), run_id=one.run_id)
    again = detach(plain.night, output=catalog)
    assert (again.run_id, again.folder != one.folder) == (one.run_id, True)
    engine.work(0)  # nobody has stopped the job of the first
    assert states(finish(str(catalog))) == [UNDER_WAY], "what it writes is not taken for that of the second"
    engine.work(1)
    assert states(finish(str(catalog))) == [COMMITTED]
    assert toy_night.digests(catalog) == toy_night.digests(plain.one)
    recover(str(catalog))
    assert not (catalog / STAGING).exists()


@pytest.mark.parametrize("damage", ["counts", "file", "gone"])
def test_what_does_not_close_is_refused_and_kept(damage: str, finishable: Path) -> None:
    catalog, runs = finishable, Ledger(str(finishable)).runs()
    folder = catalog / noted(Store(str(catalog)))[0].folder
    file = sorted(folder.rglob("Npix=*/*.parquet"))[0]
    path = folder / "counts.json" if damage == "counts" else file
    good = path.read_bytes()
    bad = good.replace(b'"measure.done": ', b'"measure.done": 1') if damage == "counts" else good[:-1] + b"x"
    assert bad != good
    path.unlink() if damage == "gone" else path.write_bytes(bad)
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    (refused,) = finish(str(catalog))
    assert refused.state == SUMS
    told = {"counts": "measure", "file": "is not what the graph has listed", "gone": "of the graph is gone"}
    assert told[damage] in " ".join(refused.told)
    assert [run.run_id for run in Ledger(str(catalog)).runs()] == [run.run_id for run in runs]
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before
    assert main(["finish", str(catalog), "--quiet"]) == EXIT_SUMS
    path.write_bytes(good)
    assert states(finish(str(catalog))) == [COMMITTED]
    assert verify(str(catalog)) == []


def test_a_catalog_that_has_changed_meanwhile_is_not_written_over(
    night: Path, tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On remote storage there is no lock, and another release may not know of detached runs."""
    catalog = tmp_path / "cat"
    one = detach(night, output=catalog)
    engine.work()
    (night / "late.txt").write_text("TOY\n900\n")
    with monkeypatch.context() as patch:
        patch.setattr(underway, "check_free", lambda *_: None)
        (other,) = toy_night.run(night, output=catalog)
    before = toy_night.digests(catalog)
    (stale,) = finish(str(catalog))
    assert stale.state == STALE
    assert other.run_id in stale.told[0]
    assert "no run of night" in stale.told[0]
    assert main(["finish", str(catalog), "--json"]) == EXIT_USAGE
    assert json.loads(capsys.readouterr().out)["state"] == STALE
    assert toy_night.digests(catalog) == before
    assert (catalog / one.folder / "staged.json").exists()
    abandon(str(catalog), one.run_id)
    assert verify(str(catalog)) == []


@pytest.fixture
def bucket() -> Iterator[str]:
    """A place that is no local disk: without locks and renames."""
    yield "memory://bucket/cat"
    Store("memory://bucket").remove_tree("cat")


def test_a_catalog_on_an_object_store(bucket: str, plain: SimpleNamespace, engine: Engine) -> None:
    one = detach(plain.night, output=bucket)
    store = Store(bucket)
    with pytest.raises(NightBusy):
        detach(plain.night, output=bucket)
    recover(bucket)
    assert store.exists(f"{one.folder}/{NOTE}")
    assert states(finish(bucket)) == [UNDER_WAY]
    engine.work()
    (done,) = finish(bucket)
    assert done.state == COMMITTED
    assert store.find(STAGING) == []
    found = {path: hashlib.sha256(store.read(path)).hexdigest() for path in store.find() if not path.endswith(".json")}
    assert found == toy_night.digests(plain.one)
    assert verify(bucket) == []


def test_a_launcher_without_a_lock_is_dead_after_an_hour(
    bucket: str, plain: SimpleNamespace, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = detach(plain.night, output=bucket)
    store = Store(bucket)
    store.remove(f"{one.folder}/{SUBMITTED}")
    recover(bucket)
    assert store.exists(f"{one.folder}/{NOTE}"), "it may be about to submit"
    monkeypatch.setattr(underway, "LAUNCH_SECONDS", 0.0)
    recover(bucket)
    assert not store.exists(f"{one.folder}/{NOTE}")


@pytest.mark.slow
def test_a_second_night_is_committed_though_the_first_is_refused(tmp_path: Path, engine: Engine) -> None:
    catalog = tmp_path / "cat"
    toy_night.write_night(tmp_path / "in" / NIGHT)
    toy_night.write_night(tmp_path / "in" / OTHER, first=500)
    one, two = detach_nights(config(tmp_path / "in", output=catalog, night=None), toy_night.MODELS)
    engine.work(0)
    engine.work(1)
    (catalog / one.folder / "counts.json").write_text("{}")
    assert states(finish(str(catalog))) == [SUMS, COMMITTED]
    assert [run.run_id for run in Ledger(str(catalog)).runs()] == [two.run_id]


@pytest.mark.slow
def test_an_engine_that_does_it_twice_changes_nothing(plain: SimpleNamespace, tmp_path: Path, engine: Engine) -> None:
    one = detach(plain.night, output=tmp_path / "cat")
    engine.work()
    listed = {name: (tmp_path / "cat" / one.folder / name).read_bytes() for name in ("staged.json", "counts.json")}
    engine.work()
    assert {name: (tmp_path / "cat" / one.folder / name).read_bytes() for name in listed} == listed
    assert states(finish(str(tmp_path / "cat"))) == [COMMITTED]
    assert toy_night.digests(tmp_path / "cat") == toy_night.digests(plain.one)


def test_one_note_of_the_graph_is_not_its_end(finishable: Path, tmp_path: Path) -> None:
    folder = finishable / noted(Store(str(finishable)))[0].folder
    for name in ("staged.json", "counts.json"):
        (folder / name).rename(tmp_path / name)
        assert states(finish(str(finishable))) == [UNDER_WAY]
        (tmp_path / name).rename(folder / name)


def test_waiting_for_a_job(night: Path, tmp_path: Path, engine: Engine) -> None:
    catalog = str(tmp_path / "cat")
    detach(night, output=tmp_path / "cat")
    started = time.monotonic()
    assert states(finish(catalog, wait=0.3, poll=0.05)) == [UNDER_WAY]
    assert time.monotonic() - started >= 0.3
    assert main(["finish", catalog, "--quiet"]) == EXIT_WAITING
    busy, free = threading.Event(), threading.Event()

    def hold() -> None:
        with lock(catalog):
            busy.set()
            free.wait(30)
            engine.work()

    thread = threading.Thread(target=hold)
    thread.start()
    busy.wait(30)
    assert main(["finish", catalog, "--quiet"]) == EXIT_OUTPUT, "another run is writing"
    free.set()
    assert states(finish(catalog, wait=60, poll=0.05)) == [COMMITTED]
    thread.join()


def test_a_run_that_another_process_sees_to_is_not_waited_for(night: Path, tmp_path: Path, engine: Engine) -> None:
    catalog = str(tmp_path / "cat")
    one = detach(night, output=tmp_path / "cat")
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.extend(finish(catalog, run_id=one.run_id, wait=60, poll=0.2)))
    thread.start()
    time.sleep(0.1)
    engine.work()
    mine = states(finish(catalog, wait=5, poll=0.01))
    assert mine in ([COMMITTED], []), "none where the other one was first"
    thread.join(20)
    assert states(found) == [COMMITTED]
    assert len(Ledger(catalog).runs()) == 1


def test_an_engine_that_does_not_take_the_job_leaves_nothing(
    night: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> str:
        raise EngineError("unavailable")

    monkeypatch.setattr(pipeline.engine, "submit_graph", refuse)
    with pytest.raises(EngineError):
        detach(night, output=tmp_path / "cat")
    assert not (tmp_path / "cat" / STAGING).exists()


def changes(work: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> int:
    """How often the storage is changed."""
    seen = [0]
    with monkeypatch.context() as patch:
        for name in CHANGES:
            real = getattr(Store, name)

            def step(self: Store, *args: object, real: Any = real, **named: bool) -> object:
                seen[0] += 1
                return real(self, *args, **named)

            patch.setattr(Store, name, step)
        work()
    return seen[0]


@pytest.mark.parametrize("after", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize("n", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_launcher_that_is_killed_does_not_block_the_night(
    n: int, after: bool, plain: SimpleNamespace, tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert changes(lambda: detach(plain.night, output=tmp_path / "count"), monkeypatch) == 2, (
        "the note before, the one after"
    )
    catalog = tmp_path / "cat"
    with monkeypatch.context() as patch:
        die_at(patch, n, after=after)
        with pytest.raises(Killed):
            detach(plain.night, output=catalog)
    if (n, after) == (2, True):  # the engine has it, and that is noted
        with pytest.raises(NightBusy):
            detach(plain.night, output=catalog)
    else:
        detach(plain.night, output=catalog)
    engine.work()
    assert states(finish(str(catalog))) == [COMMITTED]
    assert toy_night.digests(catalog) == toy_night.digests(plain.one)


def test_a_job_whose_submission_was_not_noted_is_committed_where_it_is_done(
    finishable: Path, plain: SimpleNamespace
) -> None:
    (finishable / noted(Store(str(finishable)))[0].folder / SUBMITTED).unlink()
    with pytest.raises(NightBusy):
        toy_night.run(plain.changed, output=finishable)
    assert states(finish(str(finishable))) == [COMMITTED]
    assert toy_night.digests(finishable) == toy_night.digests(plain.two)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("part", [0, *(pytest.param(part, marks=pytest.mark.slow) for part in (8, 16, 24, 32))])
def test_killed_at_any_change_a_second_finish_gives_the_same_bytes(
    part: int, after: bool, done: Path, plain: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, (run,) = toy_night.digests(plain.two), noted(Store(str(done)))
    count = shutil.copytree(done, tmp_path / "count")
    total = changes(lambda: finish(str(count)), monkeypatch)
    assert total > 60
    for n in (*range(1 + part, total + 1, 40), *((total - 1, total) if part == 0 else ())):
        catalog = shutil.copytree(done, tmp_path / f"{n}")
        with monkeypatch.context() as patch:
            die_at(patch, n, after=after)
            with pytest.raises(Killed):
                finish(str(catalog))
        assert Ledger(str(catalog)).runs(NIGHT), "a reader of manifests always finds the night"
        if n % 2:  # a run of another night comes first
            recover(str(catalog))
        assert states(finish(str(catalog), run_id=run.run_id)) == [COMMITTED]
        assert toy_night.digests(catalog) == whole, f"killed at change {n} of {total}"
        assert not (catalog / STAGING).exists()
        shutil.rmtree(catalog)


def test_only_what_runs_elsewhere_can_be_detached(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = {"inputs": [str(tmp_path)], "output": str(tmp_path / "cat"), "detach": True}
    for more, why in (
        ({}, "FnApiRunner ends with the command"),
        ({"runner": "PortableRunner"}, "name one that goes on"),
        ({"runner": "PortableRunner", "beam_options": HERE}, "LOOPBACK end with the command"),
        ({"engine": "flink", "beam_options": ["--job_endpoint=far:1"]}, "LOOPBACK end with the command"),
        ({"runner": "PortableRunner", "beam_options": FAR, "retries": 2}, "nobody waits for a detached run"),
    ):
        with pytest.raises(ConfigError, match=why):
            make_config({**flags, **more}, {}, ("toy",))
    assert make_config({**flags, "engine": "flink", "beam_options": FAR}, {}, ("toy",)).detach
    assert main(["run", "--input", str(tmp_path), "--output", str(tmp_path / "cat"), "--detach"]) == EXIT_USAGE
    (tmp_path / "c.toml").write_text("detach = true\n")
    assert main(["watch", str(tmp_path), "--output", str(tmp_path / "c"), "--config", str(tmp_path / "c.toml")]) == 2
    said = capsys.readouterr().err
    assert "--engine flink with a job server of its own" in said
    assert "detach: what arrives is committed in small runs" in said


def test_what_the_command_says(night: Path, tmp_path: Path, engine: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    catalog = tmp_path / "cat"
    for more in ((), ("--abandon", "x")):
        assert main(["finish", str(catalog), *more]) == EXIT_USAGE
        assert "there is no catalog" in capsys.readouterr().err
    assert not catalog.exists()
    catalog.mkdir()
    assert main(["finish", str(catalog)]) == 0
    assert "no detached run is under way" in capsys.readouterr().out
    one = detach(night, output=catalog, strict=True)
    assert main(["finish", str(catalog)]) == EXIT_WAITING
    assert f"--abandon {one.run_id}" in capsys.readouterr().out.replace("\n", "")
    assert main(["finish", str(catalog), "--run", "nonsense"]) == EXIT_USAGE
    assert f"under way are: {one.run_id}" in capsys.readouterr().err
    assert main(["finish", str(catalog), "--wait", "-1"]) == EXIT_USAGE
    assert main(["finish", str(catalog), "--abandon", one.run_id, "--wait", "1"]) == EXIT_USAGE
    engine.work()
    assert main(["finish", str(catalog), "--json"]) == 1, "rejects, and the run was strict"
    told = json.loads(capsys.readouterr().out)
    assert (told["event"], told["state"], told["result"]["rows"]) == ("finish", COMMITTED, {"toy": 121})
    two = detach(night, output=catalog, force=True)
    assert main(["finish", str(catalog), "--abandon", two.run_id]) == 0
    assert "is given up" in capsys.readouterr().out
