from __future__ import annotations

import pytest

from pipeline.hats import CatalogError
from pipeline.ledger import Ledger
from pipeline.manifest import format_versions, make_run_id, parse_versions, task_versions
from pipeline.sources import Inputs
from pipeline.verify import verify
from tests.pipeline.nights import contents, file, run
from transforms.records import Reject
from transforms.store import Store

NIGHT, SECOND = "2026-11-24", "2026-11-25"
A, B, C = file("a"), file("b"), file("c")


def data(root: str) -> dict[str, bytes]:
    return {path: content for path, content in contents(root).items() if not path.startswith("_runs/")}


def sources(root: str, night: str = NIGHT) -> dict[str, str]:
    ledger = Ledger(root)
    entries = [entry for _, entry in ledger.inputs(ledger.runs(night))]
    return {e["source"]: f"{e['outcome']} {e['versions'].removeprefix('toy:')}" for e in entries}


def test_nights_one_by_one_equal_nights_in_another_order(tmp_path) -> None:
    one, other = str(tmp_path / "one"), str(tmp_path / "other")
    run(one, [A, B])
    run(one, [C], night=SECOND, ra=100.0)
    run(other, [C], night=SECOND, ra=100.0)
    run(other, [B, A])
    assert data(one) == data(other)
    assert verify(one) == verify(other) == []


def test_a_night_that_is_done_is_skipped_and_force_gives_the_same_bytes(tmp_path) -> None:
    root = str(tmp_path)
    first = run(root, [A, B])
    before = data(root)
    assert run(root, [A, B]) is None
    assert run(root, [A, B], force=True) == first
    assert data(root) == before
    assert verify(root) == []


def test_a_late_file_is_appended(tmp_path) -> None:
    root = str(tmp_path)
    run(root, [A])
    before = data(root)
    run(root, [A, B])
    after = data(root)
    assert all(after[path] == before[path] for path in before if path.endswith(".parquet"))
    assert len(Ledger(root).runs(NIGHT)) == 2
    assert sources(root) == {"a": "done v1", "b": "done v1"}


def test_new_versions_supersede(tmp_path) -> None:
    root, fresh = str(tmp_path / "root"), str(tmp_path / "fresh")
    run(root, [A])
    run(root, [B])
    run(root, [A, B], versions="v2")
    run(fresh, [A, B], versions="v2")
    assert data(root) == data(fresh)
    (only,) = Ledger(root).runs()
    assert len(only.supersedes) == 2
    assert verify(root) == []


def test_files_that_are_not_done_again_are_carried(tmp_path) -> None:
    root, whole = str(tmp_path / "root"), str(tmp_path / "whole")
    run(root, [A, B, C], bad=["c"])
    run(root, [A], versions="v2")
    assert sources(root) == {"a": "done v2", "b": "done v1", "c": "rejected v1"}
    assert [r["source"] for r in Ledger(root).rejects()] == ["c"]
    (only,) = Ledger(root).runs()
    assert only.manifest["counts"]["carried"] == {"rows": 5, "rejects": 1}
    assert verify(root) == []
    run(whole, [A, B, C], bad=["c"])
    rows = [sum(f.rows for f in r.files if f.kind == "primary") for r in (only, *Ledger(whole).runs())]
    assert rows == [10, 10]
    assert {f.source for f in Ledger(root).plan(Inputs((A, B, C)), NIGHT, {"toy": "v2"}).skipped} == {"a"}
    assert {f.source for f in Ledger(root).plan(Inputs((A, B, C)), NIGHT, {"toy": "v1"}).skipped} == {"b", "c"}


def test_a_run_that_carried_files_may_be_done_again(tmp_path) -> None:
    root = str(tmp_path)
    run(root, [A, B])
    again = run(root, [A], versions="v2")
    before = data(root)
    assert run(root, [A], versions="v2", force=True) == again
    assert data(root) == before
    assert sources(root) == {"a": "done v2", "b": "done v1"}
    first = run(root, [A, B], force=True)
    assert [r.run_id for r in Ledger(root).runs()] == [first]
    assert verify(root) == []


def test_a_rejected_file_that_is_tried_again_leaves_the_first_run_alone(tmp_path) -> None:
    root = str(tmp_path)
    first = run(root, [A, B], bad=["b"])
    second = run(root, [B], force=True)
    assert [(r.run_id, r.replays) for r in Ledger(root).runs()] == [(first, ()), (second, (first,))]
    assert Ledger(root).rejects() == []
    assert verify(root) == []
    third = run(root, [B], force=True, bad=["b"], versions="v3")
    assert [r["run_id"] for r in Ledger(root).rejects()] == [third]
    assert run(root, [A], versions="v4")
    assert [r["source"] for r in Ledger(root).rejects()] == ["b"]
    assert verify(root) == []


def test_a_file_that_was_delivered_again_replaces_the_old_one(tmp_path) -> None:
    root = str(tmp_path)
    run(root, [A, B])
    run(root, [file("a", digest="new"), B], n=3)
    ledger = Ledger(root)
    found = {e["source"]: (e["digest"], e["rows"]) for _, e in ledger.inputs(ledger.runs())}
    assert found == {"a": ("new", 3), "b": ("d-b", 5)}
    assert verify(root) == []


def test_another_file_of_the_same_name_goes_under_its_url(tmp_path) -> None:
    root = str(tmp_path)
    run(root, [A])
    run(root, [file("a", digest="other", url="/elsewhere/a")])
    assert sorted(sources(root)) == ["/elsewhere/a", "a"]
    assert verify(root) == []


def test_moved_files_are_known_by_their_bytes(tmp_path) -> None:
    root = str(tmp_path)
    run(root, [A])
    assert run(root, [file("moved", digest="d-a", url="/elsewhere/moved")]) is None


def test_rejects_before_the_run_are_kept_once(tmp_path) -> None:
    run(str(tmp_path), [A], bad=["a"])
    ledger = Ledger(str(tmp_path))
    same = Reject(source="a", stage="open", error="Unreadable", reason="torn", digest="d-a", url="/in/a")
    other = Reject(source="z", stage="ingest", error="OSError", reason="gone", url="/in/z")
    work = ledger.plan(Inputs((A,), (same, other)), NIGHT, {"toy": "v1"})
    assert (work.inputs.files, work.inputs.rejects, work.skipped) == ((), (other,), (A,))
    work = ledger.plan(Inputs((A,), (same, other)), NIGHT, {"toy": "v1"}, force=True)
    assert (work.inputs.files, work.inputs.rejects) == ((A,), (same, other))


def test_names_of_runs_are_pure_functions() -> None:
    v, w = {"toy": "v"}, {"toy": "w"}
    one = make_run_id(NIGHT, [("a", "1"), ("b", "2")], v)
    assert one == make_run_id(NIGHT, [("b", "2"), ("a", "1")], v)
    others = [
        make_run_id(SECOND, [("a", "1"), ("b", "2")], v),
        make_run_id(NIGHT, [("a", "1")], v),
        make_run_id(NIGHT, [("a", "12"), ("b", "")], v),
        make_run_id(NIGHT, [("a", "1"), ("b", "2")], w),
        make_run_id(NIGHT, [("a", "1"), ("b", "2")], {**v, "other": "v"}),
    ]
    assert len({one, *others}) == 6
    first = task_versions("1", {"t": "m", "u": "n"}, {"x": (1, 2), "y": 3})
    assert first == task_versions("1", {"u": "n", "t": "m"}, {"y": 3, "x": [1, 2]})
    assert first["t"] == task_versions("1", {"t": "m"}, {"x": (1, 2), "y": 3})["t"]
    assert task_versions("1", {"t": "m"}, {}) != task_versions("1", {"t": "n"}, {})
    assert parse_versions(format_versions(first)) == first


def test_a_damaged_manifest_is_named(tmp_path) -> None:
    name = f"_runs/{run(str(tmp_path), [A])}.json"
    Store(str(tmp_path)).write(name, b"{}")
    with pytest.raises(CatalogError, match=r"manifest '_runs/2026-11-24-.*json' is damaged: 'run_id'"):
        Ledger(str(tmp_path)).runs()
    assert [fault.what for fault in verify(str(tmp_path))] == ["manifest"]


def test_a_file_that_gives_no_rows_is_done_all_the_same(tmp_path) -> None:
    root = str(tmp_path)
    assert run(root, [file("weight.fits")], n=0)
    assert sources(root) == {"weight.fits": "empty v1"}
    assert run(root, [file("weight.fits")], n=0) is None
    assert verify(root) == []


def test_a_night_without_positions_then_one_with_them(tmp_path) -> None:
    root = str(tmp_path)
    run(root, [A], ra=None)
    assert (tmp_path / "toy" / "toy" / "dataset" / "_common_metadata").is_file()
    assert verify(root) == []
    run(root, [B], night=SECOND)
    assert (tmp_path / "toy" / "collection.properties").is_file()
    assert verify(root) == []


def test_a_pixel_that_loses_its_rows_leaves_the_partition_list(tmp_path) -> None:
    root = str(tmp_path)
    run(root, [A, B])
    before = (tmp_path / "toy/toy/partition_info.csv").read_text()
    run(root, [A, B], versions="v2", ra=200.0)
    after = (tmp_path / "toy/toy/partition_info.csv").read_text()
    assert not set(before.splitlines()[1:]) & set(after.splitlines()[1:])
    assert len(list((tmp_path / "toy/toy/dataset/Norder=3/Dir=0").iterdir())) == len(after.splitlines()) - 1
    assert verify(root) == []
