"""The catalog as a source of labels."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import pipeline.embedded
import pipeline.labels
from finetune.dataset import Join
from finetune.labels import LabelError
from finetune.task import Task
from pipeline.cli import models
from pipeline.hats import CatalogError
from pipeline.labels import catalog_labels, is_catalog
from tests import toy_night
from tests.finetune.toy_task import TASK
from transforms.columns import FLOAT32, STRING, Column
from transforms.flags import bits
from transforms.records import Identity

NUMBERS: Task = replace(TASK, label_columns=("toy_answer",), classes=())


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A night of the toy survey, whose model doubles numbers."""
    with pytest.MonkeyPatch.context() as patch:
        toy_night.install(patch.setattr)
        patch.setattr(os, "fsync", lambda handle: None)
        for module in (pipeline.labels, pipeline.embedded):
            patch.setattr(module, "table_columns", lambda name: toy_night.COLUMNS)
        folder = tmp_path_factory.mktemp("survey")
        night = toy_night.write_night(folder / "night", files=2)
        toy_night.run(night, output=folder / "catalog")
        yield folder
    toy_night.forget()


def test_answers_of_a_catalog_are_labels(survey: Path) -> None:
    rows = catalog_labels(str(survey / "catalog"), NUMBERS)
    values = {row["object_id"]: row["toy_answer"] for row in rows}
    assert values["f0.txt:3"] == 206.0
    assert len(values) == len(rows) == 41, "the two files, and the one good number of the bad one"
    one = next(row for row in rows if row["object_id"] == "f1.txt:0")
    assert (one["source"], one["row"], one["group"], one["origin"]) == ("f1.txt", 0, "f1.txt:0", "catalog catalog")
    join = Join(rows)
    elsewhere = Identity(source="other.txt", object_id="x", ra=one["ra"], dec=one["dec"])
    assert rows[join.find(elsewhere, True)]["object_id"] == "f1.txt:0", "by position, for a record of another kind"
    same = catalog_labels(str(survey / "catalog"), replace(NUMBERS, label_columns=("x",)), {"x": "toy_value"})
    assert {row["x"] * 2 for row in same} == set(values.values())


def test_what_is_not_there_is_named(survey: Path) -> None:
    with pytest.raises(LabelError, match=r"table 'toy' of catalog .* lacks best_class_name and class_name"):
        catalog_labels(str(survey / "catalog"), TASK)
    with pytest.raises(LabelError, match=r"lacks nowhere \(for toy_answer\)"):
        catalog_labels(str(survey / "catalog"), NUMBERS, {"toy_answer": "nowhere"})
    with pytest.raises(CatalogError, match="no run was committed"):
        catalog_labels(str(survey / "night"), NUMBERS)


def test_the_surest_answer_counts_and_a_doubtful_one_never(monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow as pa

    more = (Column("best_class_name", STRING, "", "", "Class"), Column("best_p_max", FLOAT32, "", "", "Probability"))
    monkeypatch.setattr(pipeline.labels, "table_columns", lambda name: (*toy_night.COLUMNS, *more))
    place = {"ra": 1.0, "dec": 2.0, "hdu": "", "row": 0, "source": "a"}

    def row(name: str, kind: str | None, p: float | None, mjd: float, flags: int = 0) -> dict:
        return {**place, "object_id": name, "best_class_name": kind, "best_p_max": p, "mjd": mjd, "flags": flags}

    table = [
        row("s", "faint", 0.6, 3.0), row("s", "bright", 0.9, 1.0), row("s", "faint", 0.99, 2.0, bits("OUT_OF_SUPPORT")),
        row("t", None, None, 1.0), row("u", "faint", 0.8, 1.0, bits("EDGE")),
        row("v", "faint", 0.8, 1.0, bits("NOVEL")),
    ]  # fmt: skip
    monkeypatch.setattr(pipeline.labels, "read_rows", lambda *_, **__: iter([pa.Table.from_pylist(table)]))
    rows = catalog_labels("x/y/", TASK)
    assert [(one["object_id"], one["class_name"]) for one in rows] == [("s", "bright"), ("u", "faint")]
    assert "source" not in rows[0], "two objects of one file and row: the file does not say which is meant"
    table[:] = table[3:4]
    with pytest.raises(LabelError, match="has no answer to learn from in 1 rows"):
        catalog_labels("x/y", TASK)


def test_only_a_folder_is_a_catalog(survey: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import finetune.commands

    assert is_catalog(str(survey / "catalog"))
    assert not is_catalog(str(survey / "nowhere.csv"))
    monkeypatch.setattr(finetune.commands, "find_task", lambda name: NUMBERS)
    found = models.labels(Namespace(labels=str(survey / "catalog"), label_columns=[]), "toy")
    assert len(found) == 41
    assert models.labels(Namespace(labels="nowhere.csv", label_columns=[]), "toy") == "nowhere.csv"
