from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.split import LeakError, Split, check_leaks, inherit, make_folds, make_split, merged_groups
from finetune.task import Example
from tests.finetune.toy_task import example


def examples(groups: list[str], labels: list[str] | None = None) -> list[Example]:
    rng = np.random.default_rng(0)
    labels = labels or ["faint"] * len(groups)
    return [
        replace(example(f"s{i}", label, rng), group=group)
        for i, (group, label) in enumerate(zip(groups, labels, strict=True))
    ]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from("abcdefghij"), min_size=1, max_size=30), st.integers(0, 5))
def test_a_group_lies_in_one_part_and_nothing_is_lost(groups: list[str], seed: int) -> None:
    data = examples(groups)
    parts = make_split(data, seed=seed).apply(data)
    assert sum(map(len, parts.values())) == len(data)
    sides = [{e.group for e in part} for part in parts.values()]
    assert sum(map(len, sides)) == len(set(groups))


def test_shares_are_kept_within_each_class() -> None:
    data = examples([f"g{i}" for i in range(200)], ["bright"] * 40 + ["faint"] * 160)
    parts = make_split(data, stratify="class_name").apply(data)
    assert [len(p) for p in parts.values()] == [140, 30, 30]
    for part, share in zip(parts.values(), (0.7, 0.15, 0.15), strict=True):
        assert Counter(e.labels["class_name"] for e in part)["bright"] == pytest.approx(40 * share, abs=1)


def test_the_order_of_the_objects_does_not_matter_and_the_seed_does() -> None:
    data = examples([f"g{i}" for i in range(50)])
    assert make_split(data).parts == make_split(data[::-1]).parts
    assert make_split(data, seed=1).parts != make_split(data).parts


@settings(max_examples=30, deadline=None)
@given(st.sets(st.integers(0, 59), min_size=1), st.integers(0, 3))
def test_what_an_earlier_model_saw_is_never_tested(first: set[int], seed: int) -> None:
    data = examples([f"g{i}" for i in range(60)])
    twin = replace(data[1], group="other name", record=data[1].record)  # the same data as g1
    before = [data[i] for i in sorted(first)]
    earlier = make_split(before, seed=seed)
    everything = [*data, twin]
    plan = inherit(make_split(everything, seed=seed + 1), earlier, everything)
    parts = plan.apply(everything)
    assert sum(map(len, parts.values())) == 61
    tested = {e.group for e in parts["test"]}
    assert not tested & {group for group, part in earlier.parts.items() if part != "test"}
    assert tested >= {group for group, part in earlier.parts.items() if part == "test"}
    assert ("other name" in tested) == ("g1" in tested)
    later = inherit(make_split(data[:5]), plan, data[:5])
    assert later.parts.keys() >= earlier.parts.keys(), "what an ancestor saw stays on the record"


def test_folds_hold_each_object_once() -> None:
    data = examples([f"g{i // 2}" for i in range(40)])
    folds = make_folds(data, 5, seed=3)
    assert len(folds) == 5
    tested = [e.record.object_id for _, test in folds for e in test]
    assert sorted(tested) == sorted(e.record.object_id for e in data)
    for rest, test in folds:
        assert len(rest) + len(test) == 40
        assert not {e.group for e in rest} & {e.group for e in test}
        assert len(test) == 8


def test_the_same_object_or_data_under_two_names_is_kept_together() -> None:
    a, b, c, d = examples(["a", "b", "c", "d"])
    b = replace(b, record=replace(b.record, object_id=a.record.object_id))
    c = replace(c, record=replace(b.record, object_id="another"))
    assert merged_groups([a, b, c, d]) == ["a", "a", "a", "d"]
    with pytest.raises(
        LeakError, match=r"train and test share 1 groups, objects or .nearly. the same data; the first is object s0"
    ):
        check_leaks({"train": [a], "test": [b]})
    with pytest.raises(LeakError, match="the first is data"):
        check_leaks({"train": [b], "test": [c]})
    with pytest.raises(LeakError, match="the first is group d"):
        check_leaks({"train": [d], "test": [replace(a, group="d")]})
    check_leaks({"train": [a, b, c], "test": [d]})


def test_sky_cells_are_kept_together() -> None:
    near, close, far, nowhere = examples(["a", "b", "c", "d"])
    near = replace(near, record=replace(near.record, ra=10.0, dec=10.0))
    close = replace(close, record=replace(close.record, ra=10.01, dec=10.0))
    far = replace(far, record=replace(far.record, ra=100.0, dec=-10.0))
    assert merged_groups([near, close, far, nowhere], "sky:3") == ["a", "a", "c", "d"]
    assert merged_groups([near, close, far, nowhere], "sky:20") == ["a", "b", "c", "d"]
    for odd in ("star", "sky", "sky:x", "sky:30"):
        with pytest.raises(ValueError, match=f"split by '{odd}' is neither"):
            merged_groups([near], odd)


def test_a_saved_split_is_used_again(tmp_path: Path) -> None:
    data = examples([f"g{i}" for i in range(30)])
    split = make_split(data, seed=2, shares={"train": 0.5, "test": 0.5})
    split.save(tmp_path / "split.json")
    again = Split.load(tmp_path / "split.json")
    assert again == split
    assert list(again.shares) == ["train", "test"], "the first part takes unknown groups, so order counts"
    new = replace(example("new", "faint", np.random.default_rng(9)), group="unknown")
    parts = again.apply([*data, new])
    assert new in parts["train"]
    assert {e.group for e in parts["test"]} == {g for g, part in split.parts.items() if part == "test"}


def test_a_saved_split_that_leaks_is_refused() -> None:
    a, b = examples(["a", "b"])
    twin = replace(b, record=replace(a.record, object_id="twin"))
    split = Split(seed=0, by="group", shares={"train": 0.5, "test": 0.5}, parts={"a": "train", "b": "test"})
    with pytest.raises(LeakError):
        split.apply([a, twin])
