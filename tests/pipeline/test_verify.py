from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.catalog import decode, encode
from pipeline.commit import commit, staging_folder
from pipeline.ledger import Ledger
from pipeline.sources import Inputs
from pipeline.verify import verify
from tests.pipeline.nights import COLUMNS, contents, file, rows, run, stage, staged_file, stages
from transforms.store import Store

NIGHT, RUN = "2026-11-24", "2026-11-24-0123456789ab"
#: Corner of pixels of order 3 at the equator: objects around it lie in several margins.
BORDER = 45.0


def border_rows(source: str) -> list[dict]:
    made = rows(source, 24)
    for i, row in enumerate(made):
        angle = 2 * np.pi * i / len(made)
        row["ra"], row["dec"] = BORDER + 2e-3 * np.cos(angle), 2e-3 * np.sin(angle)
    return made


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("good")
    run(str(root), [file("a"), file("bad")], bad=["bad"])
    run(str(root), [file("u")], night="2026-11-25", ra=None)
    made = border_rows("m")
    staged = stage(str(root), RUN, made)
    fields = {"night": NIGHT, "versions": {"toy": "v1"}, "order": 3, "stages": stages(1, len(made), 0)}
    commit(str(root), RUN, staged, fields, Inputs((file("m"),)))
    return root


def test_a_good_catalog_has_no_fault(good) -> None:
    assert verify(str(good)) == []
    files = [f for r in Ledger(str(good)).runs() for f in r.files]
    assert {f.kind for f in files} == {"primary", "margin", "unplaced", "rejects"}


def test_no_catalog_is_no_good_catalog(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match="is no catalog"):
        verify(str(tmp_path))


def first(store: Store, kind: str) -> str:
    return next(f.path for r in Ledger(store).runs() for f in r.files if f.kind == kind)


def rewrite(store: Store, kind: str, change: Callable[[pa.Table], pa.Table | bytes], **footer: str) -> None:
    """Replace a file by a changed one that its manifest agrees with."""
    path = first(store, kind)
    changed = change(decode(store.read(path)))
    if isinstance(changed, bytes):
        data, count = changed, decode(changed).num_rows if len(changed) > 9 else 0
    else:
        sink = pa.BufferOutputStream()
        pq.write_table(changed, sink)
        data, count = sink.getvalue().to_pybytes(), changed.num_rows
    store.write(path, data)
    run = next(r for r in Ledger(store).runs() if path in {f.path for f in r.files})
    old = next(f for f in run.files if f.path == path)
    new = staged_file(data, path, old.table, old.kind, old.pixel, count).plain()
    name = f"_runs/{run.run_id}.json"
    manifest = json.loads(store.read(name))
    manifest["files"] = [new if f["path"] == path else f for f in manifest["files"]]
    store.write(name, json.dumps(manifest).encode())


def edit(name: str, value: object) -> Callable[[pa.Table], bytes]:
    """Change one value of the first row, and keep all else as it should be."""

    def change(table: pa.Table) -> bytes:
        plain = table.to_pylist()
        plain[0][name] = value
        index = table.schema.get_field_index(name)
        column = pa.array([row[name] for row in plain], table.schema.field(name).type)
        return encode(table.set_column(index, table.schema.field(name), column), COLUMNS, "toy")

    return change


def without_rows(table: pa.Table) -> bytes:
    return encode(table.slice(1), COLUMNS, "toy")


def reverse(table: pa.Table) -> pa.Table:
    return table.take(pa.array(range(table.num_rows)[::-1]))


def no_units(table: pa.Table) -> pa.Table:
    return table.cast(pa.schema([pa.field(f.name, f.type, f.nullable) for f in table.schema])).replace_schema_metadata()


def no_documents(table: pa.Table) -> pa.Table:
    return table.replace_schema_metadata()


def drop_file(store: Store, kind: str) -> None:
    store.remove(first(store, kind))


def flip_a_bit(store: Store, kind: str) -> None:
    data = bytearray(store.read(first(store, kind)))
    data[len(data) // 3] ^= 1
    store.write(first(store, kind), bytes(data))


def edit_manifest(store: Store, change: Callable[[dict], object]) -> None:
    name = f"_runs/{Ledger(store).runs()[0].run_id}.json"
    manifest = json.loads(store.read(name))
    change(manifest)
    store.write(name, json.dumps(manifest).encode())


@pytest.mark.parametrize("kind", ["primary", "margin", "unplaced", "rejects"])
@pytest.mark.parametrize(("harm", "what"), [(drop_file, "missing"), (flip_a_bit, "digest")])
def test_lost_and_damaged_files_are_found(good, tmp_path, kind, harm, what) -> None:
    store = copy(good, tmp_path)
    harm(store, kind)
    assert (what, first(store, kind)) in {fault[:2] for fault in verify(store.url)}


@pytest.mark.parametrize(
    ("kind", "change", "what"),
    [
        ("primary", edit("teff", float("nan")), "value"),
        ("primary", edit("night", "2026-01-01"), "value"),
        ("primary", edit("ra", 45.5), "place"),
        ("primary", edit("_healpix_29", 0), "place"),
        ("primary", edit("source", "stranger"), "ledger"),
        ("unplaced", edit("ra", 45.5), "place"),
        ("primary", edit("teff", 1.0), ""),
        ("margin", edit("teff", 1.0), "margin"),
        ("margin", edit("ra", 10.0), "place"),
        ("margin", without_rows, "margin"),
        ("primary", without_rows, "count"),
        ("margin", reverse, "sorting"),
        ("primary", no_units, "schema"),
        ("rejects", no_units, "schema"),
        ("primary", no_documents, "footer"),
        ("primary", lambda table: b"PAR1", "schema"),
    ],
)
def test_rows_that_cannot_be_are_found(good, tmp_path, kind, change, what) -> None:
    store = copy(good, tmp_path)
    rewrite(store, kind, change)
    found = {fault.what for fault in verify(store.url)}
    assert what in found if what else not found - {"margin"}


@pytest.mark.parametrize(
    ("path", "data", "what"),
    [
        ("toy/toy/partition_info.csv", b"Norder,Npix\n3,0\n", "derived"),
        ("toy/toy/hats.properties", b"hats_nrows=1\n", "derived"),
        ("toy/collection.properties", b"", "derived"),
        ("toy/toy/dataset/Norder=3/Dir=0/Npix=5/x.parquet", b"PAR1", "orphan"),
        ("toy/toy/dataset/Norder=3/Dir=0/Npix=5/x.tmp", b"", "orphan"),
        ("rejects/x.parquet", b"", "orphan"),
        (f"_runs/{RUN}.inputs.parquet", b"", "ledger"),
        (f".staging/{RUN}/intent.json", b"{}", "unfinished"),
    ],
)
def test_other_files_that_lie_are_found(good, tmp_path, path, data, what) -> None:
    store = copy(good, tmp_path)
    store.write(path, data)
    assert what in {fault.what for fault in verify(store.url)}


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda m: m["stages"]["infer"].update(entered=7), "count"),
        (lambda m: m["counts"]["fresh"].update(rows=4), "count"),
        (lambda m: m["files"].pop(), "orphan"),
        (lambda m: m.update(order=4), "order"),
        (lambda m: m["tables"]["toy"][2].update(unit="rad"), "schema"),
    ],
)
def test_manifests_that_lie_are_found(good, tmp_path, change, what) -> None:
    store = copy(good, tmp_path)
    edit_manifest(store, change)
    assert what in {fault.what for fault in verify(store.url)}


def test_an_object_that_stands_twice_is_found(good, tmp_path) -> None:
    store, again = copy(good, tmp_path), "2026-11-24-ffffffffffff"
    staged = stage(store.url, again, rows("a"))
    fields = {"night": NIGHT, "versions": {"toy": "v1"}, "order": 3, "stages": stages(1, 5, 0)}
    commit(store.url, again, staged, fields, Inputs((file("a"),)))
    found = [fault for fault in verify(store.url) if fault.what == "duplicate"]
    assert len(found) == 5
    assert found[0].sentence == "row 0 of hdu '' of 'a' stands 2 times in night 2026-11-24"


def copy(good: Path, to: Path) -> Store:
    store = Store(str(to / "catalog"))
    for path, data in contents(str(good)).items():
        store.write(path, data)
    assert not Path(staging_folder(store.url, RUN)).exists()
    return store
