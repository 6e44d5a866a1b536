"""Parts of rows, in any order, to one sorted file of the catalog: few of its row groups are ever in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.catalog import ROW_GROUP, StagedFile, open_writer, sort_keys, string_widths
from transforms.columns import Column
from transforms.store import Store

Part = Callable[[], pa.Table]  #: Reads some rows, the same ones each time.


class _Hashed:
    """A file object that keeps the digest and the number of the bytes that go through it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._sha, self.size = stream, hashlib.sha256(), 0
        self.closed = False

    def write(self, data: Any) -> int:
        self._sha.update(data)
        self.size += len(data)
        return self._stream.write(data)

    def tell(self) -> int:
        return self.size

    def flush(self) -> None:
        pass

    def close(self) -> None:  # whoever has opened the stream closes it
        self.closed = True

    @property
    def digest(self) -> str:
        return self._sha.hexdigest()


def assemble(
    store: Store,
    path: str,
    key: tuple[str, str, int],
    parts: Sequence[Part],
    columns: tuple[Column, ...],
) -> StagedFile | None:
    """Write one file of a catalog, the same bytes whatever the order of the rows and how they are parted.

    Parameters
    ----------
    store : Store
        Where it is written; the commit makes it durable.
    path : str
        Relative path.
    key : tuple of str, str and int
        Table, kind and pixel.
    parts : sequence of callable
        Each returns a table of rows with exactly these columns; called twice or more where the rows are more than a
        row group, so that they need not be held.
    columns : tuple of Column
        Of the table.

    Returns
    -------
    StagedFile or None
        What was written; None where there is no row.

    Raises
    ------
    OutputError
        No space, no permission.
    """
    name = key[0]
    order, bounds, widths, held = _survey(parts, columns, name)
    if not order.size:
        return None
    with store.create(path, durable=False) as stream:
        sink = _Hashed(stream)
        with open_writer(sink, columns, name, widths) as writer:
            for table in _groups(held or parts, order, bounds):
                writer.write_table(table.cast(writer.schema), row_group_size=ROW_GROUP)
    return StagedFile(
        path=path, table=name, kind=key[1], pixel=key[2], rows=order.size, size=sink.size, sha256=sink.digest
    )


def _survey(
    parts: Sequence[Part], columns: tuple[Column, ...], name: str
) -> tuple[np.ndarray, np.ndarray, tuple[int, ...], list[Part]]:
    """Order of all rows, first row of each part, widths of the strings; and the parts themselves, if they are few."""
    names = [key for key, _ in sort_keys(name)]
    keys, bounds, held = [], [0], []
    widths: tuple[int, ...] = ()
    for part in parts:
        table = part()
        found = string_widths(table, columns)
        widths = tuple(map(max, widths, found)) if widths else found
        bounds.append(bounds[-1] + table.num_rows)
        # copied: a column of a record batch would keep the whole of it in memory
        keys.append(table.select(names).take(pa.array(np.arange(table.num_rows))))
        held.append(table)
        if bounds[-1] > ROW_GROUP:
            held.clear()
    order = pc.sort_indices(pa.concat_tables(keys), sort_keys(name)).to_numpy() if keys else np.empty(0)
    return order.astype(np.int64), np.array(bounds), widths, [_constant(table) for table in held]


def _constant(table: pa.Table) -> Part:
    return lambda: table


def _groups(parts: Sequence[Part], order: np.ndarray, bounds: np.ndarray) -> Iterator[pa.Table]:
    """Rows in their order, a row group at a time, each gathered from the parts that hold some of it."""
    for begin in range(0, order.size, ROW_GROUP):
        rows = order[begin : begin + ROW_GROUP]
        which = np.searchsorted(bounds, rows, side="right") - 1
        pieces, places = [], []
        for number in np.unique(which).tolist():
            mine = np.flatnonzero(which == number)
            pieces.append(parts[number]().take(pa.array(rows[mine] - bounds[number])))
            places.append(mine)
        yield pa.concat_tables(pieces).take(pa.array(np.argsort(np.concatenate(places))))
