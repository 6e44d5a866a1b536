"""The side table reads back with its units, and a night's objects are found again in the files they came from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from finetune.explain import Explained, Explanations, Target
from finetune.explain_page import write_pages
from finetune.explain_report import make_report
from finetune.explanation_table import COLUMNS, table_arrays
from finetune.faithfulness import FRACTIONS, ORDERS
from finetune.object_sample import chosen_records, place
from pipeline.cli import main
from pipeline.explanations import explanation_bytes, night_objects
from pipeline.hats import CatalogError
from tests import toy_night
from tests.finetune.test_explain import TOY
from transforms.records import LightCurve

NIGHT = "2026-11-24"


def explanations() -> Explanations:
    curves = {order: np.linspace(1, 0, len(FRACTIONS)) for order in ORDERS}
    objects = []
    for name in ("b", "a"):
        prepared = {"flux": np.arange(8, dtype=np.float32), "mask": np.arange(8) < 6}
        where = TOY.explain.arrays[0].places(prepared)
        target = Target(
            name="bright", unit="", value=2.0, nothing=-1.0, attribution={"flux": np.arange(6) / 5}, incomplete=0.0,
            curves=curves, shuffled=(0.1, 0.2),
        )  # fmt: skip
        objects.append(
            Explained(
                object_id=name, place=(f"{name}.csv", "", 0), prepared=prepared, measured={}, answer={},
                places={"flux": where}, targets=(target,),
            )
        )  # fmt: skip
    report = make_report(TOY, objects, method="integrated_gradients", steps=8, seed=0)
    report["model"] = {"task": "toy", "digest": "0123456789abcdef"}
    return Explanations(
        task=TOY, digest="0123456789abcdef", method="integrated_gradients", objects=tuple(objects), report=report
    )  # fmt: skip


def test_the_side_table_tells_its_units_and_reads_back(tmp_path: Path) -> None:
    from astropy.table import Table

    path = tmp_path / "explanations.parquet"
    path.write_bytes(explanation_bytes(table_arrays(explanations()), COLUMNS))
    table = pq.read_table(path)
    assert table.num_rows == 12
    assert table["object_id"].to_pylist() == ["a"] * 6 + ["b"] * 6, "sorted by source"
    assert table["position"].null_count == 12, "a list of numbers has no positions"
    assert table["target_unit"].null_count == 12, "log-odds have no unit"
    assert table["attribution"].to_pylist()[:6] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
    assert table.schema.field("attribution").metadata[b"description"].startswith(b"Share of the datum")
    assert Table.read(path)["value"].description == "What was observed there, as the network was given it"


def test_the_page_has_a_picture_of_each_object(tmp_path: Path) -> None:
    page, report, curves, *pictures = write_pages(tmp_path / "out", explanations())
    assert [picture.name for picture in pictures] == ["000_b.png", "001_a.png"]
    assert all(picture.read_bytes().startswith(b"\x89PNG") for picture in (curves, *pictures))
    text = page.read_text()
    assert "000_b.png" in text
    assert "NOT shown to be better than random" in text, "all orders are the same here"
    assert report.is_file()


def test_objects_of_a_night_are_found_in_their_files(tmp_path: Path, toys: None) -> None:
    folder = toy_night.write_night(tmp_path / "night")
    toy_night.run(folder, output=tmp_path / "cat")
    found = night_objects(str(tmp_path / "cat"), NIGHT, "toy", 5, 0)
    assert len(found.places) == 5
    assert found.digests == ("0123456789abcdef",)
    assert found.places == night_objects(str(tmp_path / "cat"), NIGHT, "toy", 5, 0).places
    assert found.places != night_objects(str(tmp_path / "cat"), NIGHT, "toy", 5, 1).places
    records = list(chosen_records(found.files, LightCurve, found.places))
    assert {place(record) for record in records} == found.places
    with pytest.raises(CatalogError, match="no row of toy in the night '2020-01-01'"):
        night_objects(str(tmp_path / "cat"), "2020-01-01", "toy", 5, 0)
    Path(found.files[0].url).write_text("TOY\n7\n")
    with pytest.raises(CatalogError, match="is another file now"):
        night_objects(str(tmp_path / "cat"), NIGHT, "toy", 5, 0)


def test_wrong_arguments_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "out")
    assert main(["explain", "variable_star", "--output", out]) == 2
    assert "either --input FILES or --catalog CATALOG" in capsys.readouterr().err
    assert main(["explain", "variable_star", "--output", out, "--catalog", "x"]) == 2
    assert "--catalog and --night go together" in capsys.readouterr().err
    (tmp_path / "a.csv").write_text("nothing\n")
    said = ["explain", "variable_star", "--input", str(tmp_path / "a.csv"), "--output", out]
    assert main([*said, "--target", "planet"]) == 2
    assert "target 'planet' of variable_star is not one of rrab" in capsys.readouterr().err
    assert main(said) == 2
    assert "no object to explain" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
