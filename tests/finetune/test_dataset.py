from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from finetune.dataset import Dataset, Join, content_digest, key, load_dataset, stem
from finetune.inputs import InputError, list_files
from finetune.labels import LabelError
from tests.finetune.toy_task import TASK, example
from transforms.records import FileRef


@pytest.fixture
def night(tmp_path: Path, toys: None) -> Path:
    """Two files of several objects, two of one, one that is broken and one of another kind; value v lies at ra 7v."""
    folder = tmp_path / "night"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.txt").write_text("TOY\n1\n2\n3\n")
    (folder / "b.txt").write_text("TOY\n4\nnonsense\n13\n")
    (folder / "deep" / "one.csv").write_text("TOY\n5\n")
    (folder / "two.csv").write_text("TOY\n6\n")
    (folder / "bad.txt").write_text("")
    (folder / ".hidden").write_text("TOY\n9\n")
    return folder


def load(night: Path, rows: Sequence[dict[str, Any]], **options: Any) -> Dataset:
    return load_dataset(TASK, rows, list_files([str(night)]), **options)


def values(dataset: Dataset) -> dict[float, str]:
    return {float(e.record.flux[0]): e.labels["class_name"] for e in dataset.examples}


def test_join_by_object_id_counts_everything(night: Path) -> None:
    rows = [
        {"object_id": "a.txt:0", "class_name": "faint", "group": "g", "origin": "sky"},
        {"object_id": "a.txt:1", "class_name": None},
        {"object_id": "elsewhere", "class_name": "faint"},
    ]
    dataset = load(night, rows)
    assert values(dataset) == {1.0: "faint"}
    assert (dataset.examples[0].group, dataset.examples[0].origin) == ("g", "sky")
    assert dataset.examples[0].record.measured == {"toy_value": 1.0}, "the classical steps have run"
    assert dataset.counts == {
        "files": 5, "records": 6, "matched": 1, "records_without_label": 5, "labels": 3, "labels_without_record": 1,
        "rejects": 3, "merged_near_duplicates": 0,
    }  # fmt: skip
    assert sorted((r.stage, r.source) for r in dataset.rejects) == [
        ("ingest", "bad.txt"), ("measure", "b.txt"), ("read", "b.txt"),
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["deep/one.csv", "one.csv", "one"])
def test_join_by_source(night: Path, name: str) -> None:
    dataset = load(night, [{"source": name, "class_name": "bright"}])
    assert values(dataset) == {5.0: "bright"}
    assert dataset.examples[0].group == "deep/one.csv:0"


def test_a_file_name_alone_does_not_label_many_objects(night: Path) -> None:
    assert values(load(night, [{"source": "a.txt", "class_name": "bright"}])) == {}
    assert values(load(night, [{"source": "a.txt", "row": 1.0, "class_name": "bright"}])) == {2.0: "bright"}
    assert values(load(night, [{"source": "a.txt", "row": 1.0, "hdu": "1", "class_name": "bright"}])) == {}


def test_a_short_name_of_two_files_labels_neither(night: Path) -> None:
    rows = [{"source": "deep/one.csv", "class_name": "faint"}, {"source": "other/one.csv", "class_name": "bright"}]
    assert values(load(night, rows)) == {5.0: "faint"}
    assert Join(rows).find(replace(TASK.simulate(1, 0)[0].record, source="x/one.csv", object_id=""), True) is None


def test_join_by_position_within_the_radius(night: Path) -> None:
    second = 1 / 3600
    rows = [
        {"ra": 7.0, "dec": 3.0 + 0.9 * second, "class_name": "faint"},
        {"ra": 14.0 + 1.1 * second / np.cos(np.radians(6)), "dec": 6.0, "class_name": "bright"},
        {"ra": None, "dec": 9.0, "class_name": "bright"},
    ]
    assert values(load(night, rows)) == {1.0: "faint"}
    assert values(load(night, rows, radius=1.2)) == {1.0: "faint", 2.0: "bright"}


def test_position_joins_over_the_zero_of_right_ascension() -> None:
    join = Join([{"ra": 359.9999, "dec": 0.0, "class_name": "x"}], radius=1.0)
    record = replace(TASK.simulate(1, 0)[0].record, ra=0.0001, dec=0.0)
    assert join.find(record, True) == 0
    assert join.find(replace(record, ra=0.001), True) is None
    assert join.find(replace(record, ra=None), True) is None


def test_one_object_with_two_labels_is_an_error() -> None:
    rows = [{"object_id": "x", "class_name": "faint"}, {"object_id": "x", "class_name": "faint"}]
    assert Join(rows).find(replace(TASK.simulate(1, 0)[0].record, object_id="x"), True) == 0
    rows[1]["class_name"] = "bright"
    with pytest.raises(LabelError, match="object_id 'x' has two labels, in rows 1 and 2"):
        Join(rows)


def test_the_fingerprint_is_of_files_and_labels_and_not_of_order(night: Path) -> None:
    rows = [{"object_id": f"a.txt:{i}", "class_name": "faint"} for i in range(3)]
    one = load(night, rows).fingerprint
    assert load(night, rows[::-1]).fingerprint == one
    assert load(night, [*rows[:2], {**rows[2], "class_name": "bright"}]).fingerprint != one
    (night / "two.csv").write_text("TOY\n6.5\n")
    assert load(night, rows).fingerprint == one, "a file without a labelled object does not count"
    (night / "a.txt").write_text("TOY\n1\n2\n3\n\n")
    assert load(night, rows).fingerprint != one


def test_content_digest_is_of_the_data_only() -> None:
    rng = np.random.default_rng(0)
    record = example("a", "faint", rng).record
    assert content_digest(record) == content_digest(replace(record, source="b", object_id="b"))
    assert content_digest(record) != content_digest(replace(record, flux=record.flux + 1e-9))
    assert key(example("a", "faint", rng)) == "a.csv[][0] a"


def test_stem() -> None:
    assert [stem(n) for n in ("a/x.fits.gz", "x.fits", "x", "x.y.fits.fz")] == ["x", "x", "x", "x.y"]


def test_inputs(night: Path) -> None:
    files = list_files([str(night), str(night / "a.txt")])
    assert [f.source for f in files] == ["a.txt", "b.txt", "bad.txt", "deep/one.csv", "two.csv"]
    assert all(len(f.digest) == 64 for f in files)
    assert [f.source for f in list_files([str(night / "*.csv")])] == ["two.csv"]
    given = FileRef(url="memory://x", source="x", digest="0")
    assert list_files([given]) == [given]
    with pytest.raises(InputError, match=r"input does not exist: .*nothing"):
        list_files([str(night / "nothing")])
