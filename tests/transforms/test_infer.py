from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.metrics.metric import MetricsFilter
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.util import assert_that, equal_to

import transforms.measure
import transforms.readers
from pipeline.sources import find_files, fingerprint
from tests import toy
from transforms.attempt import NoReader, Unreadable
from transforms.infer import Infer
from transforms.ingest import Ingest, ingest
from transforms.records import FileRef, LightCurve


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(transforms.readers, "MODULES", (toy.MODULE,))
    monkeypatch.setitem(transforms.measure.STEPS, LightCurve, (toy.MODULE, "measure_light_curve", LightCurve))
    transforms.readers.formats.cache_clear()
    yield
    transforms.readers.formats.cache_clear()


@pytest.fixture
def files(tmp_path: Path, toys: None) -> tuple[FileRef, ...]:
    (tmp_path / "a.txt").write_text("TOY\n" + "\n".join(str(n) for n in range(1, 21)) + "\n")
    (tmp_path / "b.txt").write_text("TOY\n66\nnonsense\n99\n5\n13\n")
    (tmp_path / "c.txt").write_text("\x00binary")
    (tmp_path / "d.txt").write_text("another kind")
    (tmp_path / "e.txt").write_text("")
    return fingerprint(find_files([str(tmp_path)])).files


def run(files: tuple[FileRef, ...]) -> tuple[list[Any], list[Any], dict[str, int]]:
    toy.KEPT.clear()
    pipeline = TestPipeline(runner="FnApiRunner")
    items = pipeline | beam.Create(list(files)) | Ingest(records=(LightCurve,))
    out = items.items | Infer(loaders=(toy.ToyPredictor,), constants={"night": "2026-11-24"})
    out.rows | "Rows" >> beam.Map(toy.keep, "rows")
    (out.rejects, items.rejects) | beam.Flatten() | "Rejects" >> beam.Map(toy.keep, "rejects")
    result = pipeline.run()
    result.wait_until_finish()
    found = result.metrics().query(MetricsFilter().with_namespace("nightcat"))["counters"]
    rows, rejects = toy.KEPT.get("rows", []), toy.KEPT.get("rejects", [])
    return list(rows), list(rejects), {c.key.metric.name: c.committed for c in found}


def test_everything_ends_as_a_row_or_as_a_reject(files: tuple[FileRef, ...]) -> None:
    rows, rejects, counts = run(files)
    values = sorted(row["toy_value"] for row in rows)
    assert values == [*range(1, 6), 5, *range(6, 13), *range(14, 21)]  # 13 of a.txt and of b.txt fail alone
    assert all(row["toy_answer"] == 2 * row["toy_value"] for row in rows)
    assert {(r.source, r.row, r.stage) for r in rejects} == {
        ("a.txt", 12, "measure"),
        ("b.txt", 0, "infer"),
        ("b.txt", 1, "read"),
        ("b.txt", 2, "prepare"),
        ("b.txt", 4, "measure"),
        ("c.txt", -1, "ingest"),
        ("d.txt", -1, "ingest"),
        ("e.txt", -1, "ingest"),
    }
    assert all(r.reason and r.url and r.digest for r in rejects if r.source != "e.txt")
    for stage in ("ingest", "open", "read", "measure", "prepare", "infer"):
        assert counts[f"{stage}.entered"] == counts.get(f"{stage}.done", 0) + counts.get(f"{stage}.rejected", 0), stage
    chain = ["ingest", "open", "read", "measure", "prepare", "infer"]
    for before, after in itertools.pairwise(chain):
        assert counts[f"{before}.out"] == counts[f"{after}.entered"], (before, after)
    assert counts["infer.done"] == len(rows)
    assert sum(counts.get(f"{stage}.rejected", 0) for stage in chain) == len(rejects)


def test_the_answer_does_not_depend_on_the_order_of_files(files: tuple[FileRef, ...]) -> None:
    one, two = run(files), run(files[::-1])
    key = lambda row: (row["source"], row["row"])  # noqa: E731
    assert sorted(one[0], key=key) == sorted(two[0], key=key)
    assert set(one[1]) == set(two[1])
    assert one[2] == two[2]


def test_rows_keep_the_window_and_time_of_their_item(files: tuple[FileRef, ...]) -> None:
    stamped = [beam.window.TimestampedValue(item, 10 * i) for i, item in enumerate(ingest(files[0], {}, (LightCurve,)))]

    class Stamp(beam.DoFn):
        def process(self, row: Any, t: Any = beam.DoFn.TimestampParam, w: Any = beam.DoFn.WindowParam) -> Iterator[Any]:
            yield row["row"] // 3, int(t), int(w.start)

    with TestPipeline(runner="FnApiRunner") as pipeline:
        items = pipeline | beam.Create(stamped) | beam.WindowInto(beam.window.FixedWindows(10))
        out = items | Infer(loaders=(toy.ToyPredictor,))
        got = out.rows | beam.ParDo(Stamp()) | beam.Distinct()
        assert_that(got, equal_to([(i, 10 * i, 10 * i) for i in range(7)]))


def test_a_file_of_a_kind_that_no_task_takes_gives_no_items(files: tuple[FileRef, ...]) -> None:
    assert ingest(files[0], {}, ()) == []


def test_unknown_empty_and_damaged_files_say_so(tmp_path: Path, toys: None) -> None:
    cases = {
        "empty.fits": (b"", Unreadable, "0 bytes"),
        "text.fits": (b"hello world\n", NoReader, "text that begins with 'hello world'"),
        "half.fits": (b"SIMPLE  =                    T", Unreadable, "not readable as FITS"),
        "bytes.bin": (bytes(range(64)), NoReader, "00 01 02 03"),
        "cut.gz": (b"\x1f\x8b\x08\x00\x00", Unreadable, "damaged gzip"),
        "old.Z": (b"\x1f\x9d\x90abc", Unreadable, "compress"),
    }
    for name, (data, error, words) in cases.items():
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(error, match=words):
            ingest(FileRef(url=str(path), source=name), {}, (LightCurve,))
