from __future__ import annotations

import random
import time

import apache_beam as beam
import pytest
from apache_beam.testing.test_pipeline import TestPipeline

from pipeline import sinks
from pipeline.commit import commit, staged_files, staging_folder
from pipeline.sources import Inputs
from pipeline.survey import note_staged
from tests.pipeline.nights import TABLES, contents, file, rows, stage, stages
from transforms.columns import FLOAT32, IDENTITY, PROVENANCE, Column, unique
from transforms.records import Reject
from transforms.store import Store

RUN = "2026-11-24-0123456789ab"
NIGHT = "2026-11-24"
REFUSED = [Reject(source=f"bad{i}", stage="open", error="Unreadable", reason=f"torn {i}") for i in range(3)]


def through_beam(root: str, made: list[dict], refused: list[Reject], tables=TABLES) -> None:
    staging = staging_folder(root, RUN)
    with TestPipeline(runner="FnApiRunner") as p:
        staged = {"rows": p | "R" >> beam.Create(made), "rejects": p | "X" >> beam.Create(refused)}
        staged = staged | sinks.StageTables(staging, RUN, 3, NIGHT, "0.1", tables)
        staged | beam.combiners.ToList() | beam.Map(note_staged, staging)


def test_beam_stages_the_same_bytes_as_plain_code_in_any_order(tmp_path, monkeypatch) -> None:
    made = [row for name in "abc" for row in rows(name, 40)] + rows("nowhere", 3, ra=None)
    expected = stage(str(tmp_path / "plain"), RUN, made, REFUSED, NIGHT)
    monkeypatch.setattr(sinks, "BUFFER_ROWS", 7)
    random.Random(1).shuffle(made)
    through_beam(str(tmp_path / "beam"), made, REFUSED[::-1])
    assert staged_files(staging_folder(str(tmp_path / "beam"), RUN)) == sorted(expected)
    assert {f.kind for f in expected} >= {"primary", "unplaced", "rejects"}
    assert sum(f.rows for f in expected if f.kind == "primary") == 120


def test_nothing_is_visible_before_the_commit(tmp_path) -> None:
    through_beam(str(tmp_path), rows("a"), REFUSED)
    assert all(path.startswith(".staging/") for path in contents(str(tmp_path)))
    fields = {"night": NIGHT, "versions": {"toy": "v1"}, "order": 3, "stages": stages(1, 5, 3)}
    staged = staged_files(staging_folder(str(tmp_path), RUN))
    manifest = commit(str(tmp_path), RUN, staged, fields, Inputs((file("a"),), tuple(REFUSED)))
    assert manifest["counts"]["fresh"] == {"rows": 5, "rejects": 3}
    assert not Store(str(tmp_path)).find(".staging")


def test_an_empty_night_stages_nothing(tmp_path) -> None:
    through_beam(str(tmp_path), [], [])
    assert staged_files(staging_folder(str(tmp_path), RUN)) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"teff": float("nan")}, "column 'teff' of 'toy' is nan, which is not finite.*row 0 of hdu '' of 'a'"),
        ({"logg": float("inf")}, "'logg'.*not finite"),
        ({"surprise": 1}, "no column 'surprise'"),
        ({"flags": None}, "column 'flags' of 'toy' is null"),
        ({"teff": "hot"}, "cannot hold 'hot'"),
        ({"dec": 91.0}, "beyond the pole"),
    ],
)
def test_what_no_catalog_may_hold_is_an_error(tmp_path, change, message) -> None:
    with pytest.raises(ValueError, match=message):
        stage(str(tmp_path), RUN, [{**row, **change} for row in rows("a", 1)])


def test_pack_and_unpack_give_the_same_rows() -> None:
    table = sinks.to_table(rows("a", 20), TABLES["toy"], "toy")
    for part in (table, table.slice(3, 5), table.slice(19, 1)):
        assert sinks.unpack(sinks.pack(part), table.schema).to_pylist() == part.to_pylist()


@pytest.mark.slow
def test_ten_thousand_wide_rows_over_fifty_pixels_take_about_a_second(tmp_path) -> None:
    wide = unique((*IDENTITY, *(Column(f"m{i}", FLOAT32, "nJy", "phot.flux", "Flux") for i in range(66)), *PROVENANCE))
    base = [{k: v for k, v in row.items() if k not in ("teff", "logg", "kind")} for row in rows("a", 10_000, ra=180.0)]
    made = [{**row, **{f"m{k}": i + k / 7 for k in range(66)}} for i, row in enumerate(base)]
    start = time.process_time()
    staged = stage(str(tmp_path), RUN, made, columns=wide)
    assert time.process_time() - start < 3  # the figure is in docs/performance.md; this only catches a disaster
    assert sum(f.rows for f in staged if f.kind == "primary") == 10_000


def test_what_is_grouped_is_references(tmp_path) -> None:
    """A local runner holds the whole shuffle in memory, so no row may go through it."""
    step = sinks.PlaceFn(str(tmp_path), 3, NIGHT, "0.1", TABLES)
    step.start_bundle()
    assert list(step.process(rows("a")[0])) == []
    (pair, *_) = [value.value for value in step.finish_bundle()]
    (table, kind, _), (shard, start, end) = pair
    assert (table, kind, start) == ("toy", "primary", 0)
    assert (tmp_path / shard).stat().st_size >= end
