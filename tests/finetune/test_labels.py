from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.table import MaskedColumn, Table

from finetune.labels import LabelError, read_labels

ROWS = [
    {"object_id": "0012", "teff": 5000.5, "class_name": "RRAB"},
    {"object_id": "7", "teff": None, "class_name": "EA"},
    {"object_id": "HD 1", "teff": 4000.0, "class_name": None},
]


def table() -> Table:
    return Table({
        "object_id": [r["object_id"] for r in ROWS],
        "teff": MaskedColumn([r["teff"] or 0.0 for r in ROWS], mask=[r["teff"] is None for r in ROWS]),
        "class_name": MaskedColumn([r["class_name"] or "" for r in ROWS], mask=[r["class_name"] is None for r in ROWS]),
    })  # fmt: skip


def write(path: Path, kind: str) -> Path:
    if kind == "csv":
        path.write_text("object_id, teff,class_name\n0012,5000.5,RRAB\n\n# a remark\n7,,EA\nHD 1,4000,\n")
    elif kind == "tab":
        path.write_bytes(
            "\ufeffobject_id\tteff\tclass_name\r\n0012\t5000.5\tRRAB\r\n7\t\tEA\r\nHD 1\t4000\t\r\n".encode()
        )
    elif kind == "parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    else:
        table().write(path, format={"ecsv": "ascii.ecsv"}.get(kind, kind))
    return path


@pytest.mark.parametrize("kind", ["csv", "tab", "ecsv", "parquet", "fits", "votable"])
def test_every_kind_of_file_gives_the_same_rows(tmp_path: Path, kind: str) -> None:
    assert read_labels(str(write(tmp_path / "labels.dat", kind)), ["teff", "class_name"]) == ROWS


def test_names_stay_text_and_numbers_become_numbers(tmp_path: Path) -> None:
    Table({"object_id": [12, 13], "group": [1.0, np.nan], "n": [3, 4]}).write(tmp_path / "t.fits")
    rows = read_labels(str(tmp_path / "t.fits"))
    assert rows == [{"object_id": "12", "group": "1", "n": 3}, {"object_id": "13", "group": None, "n": 4}]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "are not readable as CSV: the file is empty"),
        ("object_id,teff\n", "hold no rows"),
        ("object_id,teff\n1,2,3\n", "row 2 has 3 values, the header has 2"),
        ("object_id,teff,teff\n1,2,3\n", "a column name stands twice"),
        ("name,x\n1,2\n", "lack teff; object_id, source, or ra and dec; the columns are name, x"),
        ("ra,teff\n1,2\n", "lack object_id, source, or ra and dec"),
        ("# %ECSV 1.0\nnonsense\n", "are not readable as ECSV"),
        ("PAR1 nonsense", "are not readable as Parquet"),
        ("SIMPLE  = nonsense", "are not readable as FITS"),
        ("<?xml version='1.0'?><VOTABLE>", "are not readable as VOTable"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "é labels.csv"
    path.write_text(text)
    with pytest.raises(LabelError, match=sentence) as caught:
        read_labels(str(path), ["teff"])
    assert "é labels.csv" in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match="cannot be read"):
        read_labels(str(tmp_path / "no.csv"))


def test_a_column_may_have_another_name(tmp_path: Path) -> None:
    path = tmp_path / "l.csv"
    path.write_text("file,feh,source\n0012,-0.5,elsewhere\n7,,x\n")
    rows = read_labels(str(path), ["fe_h"], {"fe_h": "feh", "source": "file"})
    assert [(row["source"], row["fe_h"]) for row in rows] == [("0012", -0.5), ("7", None)]
    with pytest.raises(LabelError, match=r"lack metal \(for fe_h\); the columns are file, feh, source"):
        read_labels(str(path), ["fe_h"], {"fe_h": "metal"})
    with pytest.raises(LabelError, match="say --label-column fe_h=NAME"):
        read_labels(str(path), ["fe_h"])
