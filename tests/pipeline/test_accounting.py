from __future__ import annotations

import pytest

from pipeline.accounting import Accounts, check, from_counters, from_plain
from tests.pipeline.nights import stages

GOOD = stages(files=4, made=10, refused=1)


def changed(stage: str, what: str, by: int) -> Accounts:
    plain = {name: dict(counts) for name, counts in GOOD.items()}
    plain[stage][what] += by
    return from_plain(plain)


def test_sums_that_close_are_no_fault() -> None:
    assert check(from_plain(GOOD), rows=10, rejects=1) == []
    assert check(Accounts(), 0, 0) == []


@pytest.mark.parametrize("stage", sorted(GOOD))
@pytest.mark.parametrize("what", ["entered", "done", "rejected", "out"])
@pytest.mark.parametrize("by", [1, -1])
def test_one_lost_or_invented_names_its_stage(stage: str, what: str, by: int) -> None:
    faults = check(changed(stage, what, by), rows=10, rejects=1)
    if (stage, what) == ("measure", "done"):
        assert faults
    assert any(repr(stage) in fault for fault in faults) or what == "rejected"


@pytest.mark.parametrize(("rows", "rejects"), [(9, 1), (11, 1), (10, 0), (10, 2)])
def test_files_that_hold_other_counts_are_a_fault(rows: int, rejects: int) -> None:
    assert len(check(from_plain(GOOD), rows, rejects)) == 1


def test_several_tasks_and_replayed_parts() -> None:
    plain = {name: dict(counts) for name, counts in GOOD.items()}
    for stage in ("prepare", "infer"):
        plain[stage] = {name: 2 * value for name, value in plain[stage].items()}
    assert check(from_plain(plain), 20, 1, tasks=(1, 2)) == []
    assert check(from_plain(plain), 20, 1, tasks=(2, 2)) == []
    assert "prepare" in check(from_plain(plain), 20, 1)[0]
    plain["ingest"]["out"] -= 2
    assert check(from_plain(plain), 20, 1, tasks=(2, 2), items=2) == []


def test_counters_of_the_graph_become_accounts() -> None:
    accounts = from_counters({"ingest.entered": 3, "ingest.done": 2, "ingest.rejected": 1, "other.seen": 7})
    accounts.add("ingest", entered=1, rejected=1)
    assert accounts.plain()["ingest"] == {"entered": 4, "done": 2, "rejected": 2, "out": 0}
    assert from_plain(accounts.plain()).plain() == accounts.plain()
    with pytest.raises(ValueError, match="is of no known stage"):
        from_counters({"bake.entered": 1})
