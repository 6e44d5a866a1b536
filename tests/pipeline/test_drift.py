"""Drift of whole catalogs: real commits, real files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.table import Table

from pipeline.cli import main
from pipeline.drift import DriftError, run_drift
from pipeline.drift_table import COLUMNS, INDEX, check_drift, read_drift, read_index, to_rows, write_drift
from pipeline.footers import columns_of
from pipeline.hats import CatalogError
from pipeline.verify import verify
from tests.pipeline import nights
from tests.pipeline.nights import file, run
from transforms.columns import FLOAT32_LIST, Column
from transforms.store import Store

FIRST = 10  #: Nights 2026-11-01 to -10 are the reference; six more follow.

PLAIN_ROWS = nights.rows


def night_name(number: int) -> str:
    return f"2026-11-{number + 1:02d}"


def make(root: Path, count: int, broken: int = 99, **options: Any) -> str:
    """A catalog of nights with eight files of five rows; from night ``broken`` on, ``teff`` is 1500 K higher."""
    for number in range(count):
        night = night_name(number)
        files = [file(f"n{number:02d}_{i}.fits") for i in range(8)]
        rng = np.random.default_rng(number)
        shift = 1500.0 if number >= broken else 0.0
        bad = [f.source for f in files if number >= broken and f.source.endswith(("_0.fits", "_1.fits", "_2.fits"))]

        def moved(source: str, n: int, shift: float = shift, rng: np.random.Generator = rng, **more: Any) -> list[dict]:
            return [{**row, "teff": float(rng.uniform(4000, 7000) + shift)} for row in PLAIN_ROWS(source, n, **more)]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(nights, "rows", moved)
            run(str(root), files, night=night, bad=bad, **options)
    return str(root)


@pytest.fixture(scope="module")
def disturbed(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make(tmp_path_factory.mktemp("drift") / "catalog", FIRST + 3, broken=FIRST)


def digests(root: str) -> dict[str, str]:
    found = sorted(Path(root, "drift").glob("[!.]*"))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def test_what_broke_is_found_named_and_dated(disturbed: str) -> None:
    found = run_drift(disturbed, reference=str(FIRST))
    first = found["drifted"][0]
    assert (first["table_name"], first["kind"], first["column_name"]) == ("toy", "value", "teff")
    assert first["since"] == night_name(FIRST)
    assert first["value"] - first["reference"] == pytest.approx(1500, abs=900)
    assert first["unit_name"] == "K"
    assert first["significance"] > 5
    assert first["false_alarm_probability"] <= 0.01
    drifted = {(row["table_name"], row["column_name"]) for row in found["drifted"]}
    assert ("toy", "logg") not in drifted
    assert found["drifted"] == sorted(found["drifted"], key=lambda row: -abs(row["significance"]))


def test_refused_files_are_watched_too(disturbed: str) -> None:
    run_drift(disturbed, reference=str(FIRST))
    rows = read_drift(Store(disturbed))
    new = [r for r in rows if r["table_name"] == "rejects" and r["column_name"] == "other" and not r["in_reference"]]
    assert [row["value"] for row in new] == [3 / 8] * 3, "a reason that the reference never saw"
    assert new[0]["reference"] == 0
    assert all(0 < row["false_alarm_probability"] <= 1 for row in new)


def test_the_same_bytes_again_and_other_readers_know_them(disturbed: str) -> None:
    run_drift(disturbed, reference=str(FIRST))
    before = digests(disturbed)
    assert len(before) == FIRST + 3 + 1
    run_drift(disturbed, reference=str(FIRST))
    assert digests(disturbed) == before
    assert verify(disturbed) == []
    path = Path(disturbed, "drift", f"{night_name(FIRST)}.parquet")
    assert columns_of(pq.read_schema(path)) == COLUMNS
    table = Table.read(path)
    assert str(table["window"].unit) == "d"
    assert table["significance"].info.description.startswith("Difference over its predicted scatter")
    dataset = pa.concat_tables([pq.ParquetFile(p).read() for p in sorted(Path(disturbed, "drift").glob("*.parquet"))])
    assert len(dataset) == len(read_drift(Store(disturbed)))
    assert set(dataset["night"].to_pylist()) == {night_name(i) for i in range(FIRST + 3)}
    assert all(row["false_alarm_probability"] is None for row in dataset.to_pylist() if row["in_reference"])


def test_quiet_nights_raise_no_alarm(tmp_path: Path) -> None:
    root = make(tmp_path / "catalog", FIRST + 4)
    found = run_drift(root, reference=str(FIRST))
    assert found["drifted"] == []
    assert found["tables"] == ["rejects", "toy"]


def test_one_table_leaves_the_others_as_they_are(disturbed: str) -> None:
    run_drift(disturbed, reference=str(FIRST))
    before = digests(disturbed)
    run_drift(disturbed, task="toy", reference=str(FIRST))
    assert digests(disturbed) == before


def test_a_run_after_drift_leaves_a_sound_catalog(tmp_path: Path) -> None:
    root = make(tmp_path / "catalog", FIRST)
    run_drift(root, reference=str(FIRST))
    run(root, [file("late.fits")], night=night_name(FIRST))
    assert verify(root) == []
    run_drift(root, reference=str(FIRST))
    assert verify(root) == []
    assert f"{night_name(FIRST)}.parquet" in digests(root)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda folder: (folder / f"{night_name(0)}.parquet").write_bytes(b"PAR1"), "digest"),
        (lambda folder: (folder / f"{night_name(0)}.parquet").unlink(), "missing"),
        (lambda folder: (folder / "2020-01-01.parquet").write_bytes(b"PAR1"), "orphan"),
        (lambda folder: (folder / "drift.json").write_text("{"), "drift"),
    ],
)
def test_damage_is_found_and_mended_by_the_next_drift(tmp_path: Path, change: Any, what: str) -> None:
    root = make(tmp_path / "catalog", FIRST)
    run_drift(root, reference=str(FIRST))
    before = digests(root)
    change(Path(root, "drift"))
    assert what in {fault.what for fault in verify(root)}
    if what != "orphan":
        run_drift(root, reference=str(FIRST))
        assert digests(root) == before


def test_readers_say_what_is_damaged(tmp_path: Path) -> None:
    root = make(tmp_path / "catalog", FIRST)
    run_drift(root, reference=str(FIRST))
    Path(root, "drift", f"{night_name(2)}.parquet").write_bytes(b"PAR1")
    with pytest.raises(CatalogError, match=f"{night_name(2)}.parquet' is damaged"):
        read_drift(Store(root))
    assert len(read_drift(Store(root), [night_name(1)])) > 0
    Path(root, INDEX).write_text("[]")
    with pytest.raises(CatalogError, match=r"drift\.json' is damaged"):
        read_index(Store(root))


def test_a_catalog_without_drift_reads_as_empty(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    assert read_index(store) is None
    assert read_drift(store) == []
    assert list(check_drift(store)) == []
    assert write_drift(store, to_rows("toy", [], {}, [], "0"), {"rate": 0.1})["files"] == []


def test_labels_tell_accuracy_and_calibration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from finetune import tasks
    from tests.finetune.toy_task import TASK

    monkeypatch.setattr(tasks, "names", lambda: ("toy",))
    monkeypatch.setattr(tasks, "get", {"toy": TASK}.__getitem__)
    extra = nights.COLUMNS[: len(nights.COLUMNS) - 6] + TASK.best_columns + nights.COLUMNS[len(nights.COLUMNS) - 6 :]
    root, lines = tmp_path / "catalog", ["object_id,class_name"]
    for number in range(FIRST + 2):
        files = [file(f"n{number:02d}_{i}.fits") for i in range(8)]
        run(str(root), files, night=night_name(number), columns=extra, best_class_name="bright", best_method="learned")
        rng = np.random.default_rng(number)
        share = 0.9 if number < FIRST else 0.1
        lines += [f"{f.source}-{i},{'bright' if rng.random() < share else 'faint'}" for f in files for i in range(5)]
    labels = tmp_path / "labels.csv"
    labels.write_text("\n".join(lines) + "\n")
    assert main(["drift", str(root), "--reference", "10", "--quiet"]) == 0
    before = len(read_drift(Store(str(root))))
    assert main(["drift", str(root), "--task", "toy", "--reference", "10", "--labels", str(labels), "--quiet"]) == 0
    rows = read_drift(Store(str(root)))
    assert len(rows) > before
    accuracy = [row for row in rows if row["kind"] == "accuracy" and row["window"] == 1]
    assert np.mean([row["value"] for row in accuracy if row["in_reference"]]) == pytest.approx(0.9, abs=0.06)
    assert [row["night"] for row in accuracy if row["alarm"]][:1] == [night_name(FIRST)]
    assert {row["kind"] for row in rows if row["alarm"]} == {"accuracy"}


def test_embeddings_are_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the vectors move, every file has a row without one, and one night was run without embeddings."""

    def embedded(source: str, n: int, *, night: str, **more: Any) -> list[dict]:
        rng = np.random.default_rng([*source.encode()])
        moved = 3.0 if night >= night_name(FIRST) else 0.0
        vectors = rng.normal(moved, 1, (n, 3)).astype(np.float32)
        without = night == night_name(3)
        rows = PLAIN_ROWS(source, n, night=night, **more)
        return [
            {**row, "embedding": None if without or not i else vector}
            for i, (row, vector) in enumerate(zip(rows, vectors, strict=True))
        ]

    monkeypatch.setattr(nights, "rows", embedded)
    columns = (*nights.COLUMNS, Column("embedding", FLOAT32_LIST, "", "", "Embedding"))
    root = str(tmp_path / "catalog")
    for number in range(FIRST + 2):
        run(root, [file(f"n{number:02d}_{i}.fits") for i in range(8)], night=night_name(number), columns=columns)
    report = run_drift(root, reference=str(FIRST))
    assert {(row["kind"], row["column_name"]) for row in report["drifted"]} >= {("embedding", "axis 1")}
    assert {row["kind"] for row in report["drifted"]} <= {"embedding", "joint"}


def test_what_is_wrong_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DriftError, match="no run was committed"):
        run_drift(str(tmp_path))
    root = make(tmp_path / "catalog", 8)
    with pytest.raises(DriftError, match="no table 'stars'; there are toy, rejects"):
        run_drift(root, task="stars")
    with pytest.raises(DriftError, match="--alarm 2 is not a probability"):
        run_drift(root, rate=2)
    for text in ("yesterday", "2026-11-05:2026-11-01", "2026-11-05:"):
        with pytest.raises(DriftError, match="neither FIRST:LAST, two dates, nor a number"):
            run_drift(root, reference=text)
    with pytest.raises(DriftError, match="holds 2 nights of the catalog"):
        run_drift(root, reference="2026-11-01:2026-11-02")
    with pytest.raises(DriftError, match="fewer than 7 nights"):
        run_drift(root, reference="3")
    assert main(["drift", root, "--labels", "x.csv"]) == 2
    assert "--labels belong to one task" in capsys.readouterr().err
    assert main(["drift", str(tmp_path / "nowhere")]) == 2


def test_the_first_nights_are_no_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = make(tmp_path / "catalog", 3)
    assert main(["drift", root]) == 0
    assert "too few nights" in capsys.readouterr().out
    assert verify(root) == []


def test_the_command_shows_what_drifted(disturbed: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["drift", disturbed, "--reference", f"{night_name(0)}:{night_name(FIRST - 1)}"]) == 0
    shown = capsys.readouterr().out
    assert "3 nights against 10" in shown
    assert "teff" in shown
    assert main(["drift", disturbed, "--reference", str(FIRST), "--json", "--quiet"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["drifted"][0]["column_name"] == "teff"
    assert main(["describe", "drift"]) == 0
    assert "false_alarm_probability" in capsys.readouterr().out
