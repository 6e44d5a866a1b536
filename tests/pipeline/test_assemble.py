from __future__ import annotations

import io
from functools import partial
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from pipeline import assemble, catalog
from pipeline.catalog import REJECTS, encode, to_table
from tests.pipeline.nights import COLUMNS, rows
from transforms.columns import REJECTS as REJECT_COLUMNS
from transforms.store import OutputError, Store

KEY = ("toy", "primary", 7)


def shuffled(table: pa.Table, sizes: list[int], seed: int = 1) -> list[pa.Table]:
    """A table's rows in no order, in parts of these sizes."""
    table = table.take(pa.array(np.random.default_rng(seed).permutation(table.num_rows)))
    bounds = np.cumsum([0, *sizes])
    assert bounds[-1] == table.num_rows
    return [table.slice(a, b - a) for a, b in pairwise(bounds.tolist())]


def made(n: int = 90) -> pa.Table:
    table = to_table(
        [*rows("a", n - 40), *rows("b", 39), {**rows("a" * 70, 1)[0], "ra": None, "dec": None}], COLUMNS, "toy"
    )
    index = np.random.default_rng(0).integers(0, 1 << 60, n // 2).repeat(2)  # two at each place
    return table.set_column(table.schema.names.index("_healpix_29"), "_healpix_29", pa.array(index))


@pytest.mark.parametrize("group", [1, 7, 30, 89, 90, 1000])
@pytest.mark.parametrize("sizes", [[90], [1, 0, 44, 45], [30, 30, 30]])
@pytest.mark.parametrize("root", ["{}", "memory://assembled"])
def test_the_bytes_are_those_of_the_whole_table_at_once(tmp_path, monkeypatch, group, sizes, root) -> None:
    monkeypatch.setattr(assemble, "ROW_GROUP", group)
    monkeypatch.setattr(catalog, "ROW_GROUP", group)
    table, store = made(), Store(root.format(tmp_path))
    parts = [partial(lambda part: part, part) for part in shuffled(table, sizes)]
    staged = assemble.assemble(store, "x/y.parquet", KEY, parts, COLUMNS)
    data = store.read("x/y.parquet")
    assert data == encode(table, COLUMNS, "toy")
    assert staged is not None
    assert (staged.rows, staged.size) == (90, len(data))
    found = pq.ParquetFile(io.BytesIO(data)).metadata
    assert [found.row_group(i).num_rows for i in range(found.num_row_groups)][:-1] == [group] * ((90 - 1) // group)
    MemoryFileSystem.store.clear()


def test_rejects_are_sorted_by_their_own_columns(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(assemble, "ROW_GROUP", 3)
    monkeypatch.setattr(catalog, "ROW_GROUP", 3)
    plain = [
        {"source": f"f{i % 3}", "stage": "open", "error": "Unreadable", "reason": f"torn {i}", "night": "n", "hdu": "",
         "row": 0, "digest": "", "url": "", "object_id": "", "task": "", "package_version": "0"}
        for i in range(8)
    ]  # fmt: skip
    table, store = to_table(plain, REJECT_COLUMNS, REJECTS), Store(str(tmp_path))
    parts = [partial(lambda part: part, part) for part in shuffled(table, [5, 3])]
    assemble.assemble(store, "r.parquet", (REJECTS, REJECTS, -1), parts, REJECT_COLUMNS)
    assert store.read("r.parquet") == encode(table, REJECT_COLUMNS, REJECTS)


def test_no_rows_make_no_file(tmp_path) -> None:
    empty = made().slice(0, 0)
    for parts in ([], [lambda: empty]):
        assert assemble.assemble(Store(str(tmp_path)), "x.parquet", KEY, parts, COLUMNS) is None
    assert not list(tmp_path.iterdir())


def test_a_part_that_cannot_be_read_leaves_no_file(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(assemble, "ROW_GROUP", 10)
    table, calls = made(), []

    def torn() -> pa.Table:
        calls.append(1)
        if len(calls) > 1:
            raise OutputError("cannot read 'shard'")
        return table

    with pytest.raises(OutputError, match=r"^cannot read 'shard'$"):
        assemble.assemble(Store(str(tmp_path)), "x.parquet", KEY, [torn], COLUMNS)
    assert not list(tmp_path.iterdir())


def test_no_more_than_a_few_row_groups_are_held(tmp_path) -> None:
    """Memory of Arrow, at its highest, does not follow the number of rows."""
    table = to_table(rows("a", 2_000), COLUMNS, "toy")
    peaks = []
    for n in (20, 200):
        before, most = pa.total_allocated_bytes(), 0

        def part() -> pa.Table:
            nonlocal most
            most = max(most, pa.total_allocated_bytes() - before)  # noqa: B023 - called within the round
            return pa.concat_tables([table]).take(pa.array(np.arange(table.num_rows)))

        staged = assemble.assemble(Store(str(tmp_path)), f"{n}.parquet", KEY, [part] * n, COLUMNS)
        assert staged is not None
        assert staged.rows == 2_000 * n
        peaks.append(most / (table.nbytes * n))
    assert peaks[1] < 0.6, peaks  # of the whole table; what is held of each row is what it is sorted by
