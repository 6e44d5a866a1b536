"""Predictors around predictors: each does one thing to the rows of the one inside.

All have ``columns`` and ``predict(batch, size) -> list of Row``; a row carries ``"flags"`` beside its columns.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from finetune.embedding_space import COLUMNS, EmbeddingSpace, space_rows
from finetune.task import Baseline, Prepared, Row, Task
from transforms.columns import BOOL, FLOAT32, FLOAT32_LIST, FLOAT64, INT32, INT64, STRING, Column
from transforms.flags import bits

_LOG = logging.getLogger("nightcat")
DIGITS = 6  #: Significant digits of a float32 column: the last bits of a sum depend on the shape of its batch.
LIST_DIGITS = 4  #: The same for each number of a list.


def round_list(values: Any) -> np.ndarray:
    """Round a list of numbers to the digits that mean something.

    Parameters
    ----------
    values : sequence of float
        Finite.

    Returns
    -------
    ndarray of float32
        With ``LIST_DIGITS`` significant digits.
    """
    wide = np.asarray(values, np.float64)
    power = 10.0 ** (LIST_DIGITS - 1 - np.floor(np.log10(np.abs(np.where(wide == 0, 1, wide)))))
    return (np.round(wide * power) / power).astype(np.float32)


_CAST: dict[str, Callable[[Any], Any]] = {
    FLOAT32: float, FLOAT64: float, INT32: int, INT64: int, BOOL: bool, STRING: str, FLOAT32_LIST: round_list,
}  # fmt: skip


_NOWHERE: Row = dict.fromkeys((column.name for column in COLUMNS), None)


def _flags(*rows: Row) -> int:
    flags = 0
    for row in rows:
        flags |= int(row.get("flags") or 0)
    return flags


class Rows(Protocol):
    """What every layer offers."""

    @property
    def columns(self) -> tuple[Column, ...]:
        """What a row holds."""

    def predict(self, batch: Sequence[Prepared], size: int) -> list[Row]:
        """Answer for a batch.

        Parameters
        ----------
        batch : sequence of Prepared
            Up to ``size`` inputs.
        size : int
            Shape that the batch is padded to.

        Returns
        -------
        list of dict
            One for each input.
        """


@dataclass(frozen=True, slots=True)
class Learned:
    """Raw outputs of the network, decoded under a calibration.

    Parameters
    ----------
    task : Task
        Gives ``decode`` and ``columns``.
    outputs : callable
        ``outputs(batch, size) -> (dict of str to ndarray, list of int)``: the network's rows, and which inputs they
        are of; an input is left out that does not fit into the device's memory even alone.
    calibration : mapping
        Of the bundle.
    space : EmbeddingSpace or None
        Of the bundle: where the training objects lie in the embedding.
    embeddings : bool
        Give the embedding of each object, too.
    """

    task: Task
    outputs: Callable[[Sequence[Prepared], int], tuple[Mapping[str, Any], list[int]]]
    calibration: Mapping[str, Any]
    space: EmbeddingSpace | None = None
    embeddings: bool = False

    @property
    def columns(self) -> tuple[Column, ...]:
        """The task's learned columns, and where the object lies among the training objects."""
        return (*self.task.columns, *COLUMNS)

    def predict(self, batch: Sequence[Prepared], size: int) -> list[Row]:
        """Run the network and decode.

        Parameters
        ----------
        batch : sequence of Prepared
            Inputs.
        size : int
            Padded shape.

        Returns
        -------
        list of dict
            Learned columns and flags; no place for an object of which the model says nothing. One that did not fit is
            null, under MODEL_FAILED.
        """
        outputs, fitted = self.outputs(batch, size)
        rows = self._decode(outputs, [batch[i] for i in fitted]) if fitted else []
        if len(fitted) == len(batch):
            return rows
        _LOG.warning(
            "%d objects of task %s do not fit into the device's memory, not even alone: what the model says of them is "
            "null", len(batch) - len(fitted), self.task.name,
        )  # fmt: skip
        there = dict(zip(fitted, rows, strict=True))
        null = {**dict.fromkeys(column.name for column in self.columns), "flags": bits("MODEL_FAILED")}
        return [there.get(i) or dict(null) for i in range(len(batch))]

    def _decode(self, outputs: Mapping[str, Any], batch: Sequence[Prepared]) -> list[Row]:
        rows = self.task.decode(outputs, batch, self.calibration)
        if self.space is None and not self.embeddings:
            return [{**row, **_NOWHERE} for row in rows]
        places = space_rows(self.space, outputs["embedding"], self.embeddings)
        first = self.task.columns[0].name
        return [
            {**row, **_NOWHERE} if row[first] is None else {**row, **place, "flags": _flags(row, place)}
            for row, place in zip(rows, places, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class Classical:
    """The baseline's rows.

    Parameters
    ----------
    baseline : Baseline
        Fitted.
    columns : tuple of Column
        What it gives.
    size : int
        Largest shape that it sees, so that a device's larger batches do not change its last bits; 0 for any.
    """

    baseline: Baseline
    columns: tuple[Column, ...]
    size: int = 0

    def predict(self, batch: Sequence[Prepared], size: int) -> list[Row]:
        """Ask the baseline.

        Parameters
        ----------
        batch : sequence of Prepared
            Inputs.
        size : int
            Padded shape: the rows of the padding are computed and dropped, as a matrix product's last bits may
            depend on its shape.

        Returns
        -------
        list of dict
            Classical columns.
        """
        size = min(size, self.size or size)
        rows: list[Row] = []
        for start in range(0, len(batch), size):
            part = batch[start : start + size]
            rows += self.baseline.predict([*part, *[part[0]] * (size - len(part))])[: len(part)]
        return rows


@dataclass(frozen=True, slots=True)
class Adapted:
    """Inputs with what their survey has in common taken out, before anything looks at them.

    Parameters
    ----------
    inner : Rows
        The predictor inside.
    adjust : callable
        ``Task.adjust``.
    survey : mapping
        From ``Task.adapt``.
    """

    inner: Rows
    adjust: Callable[[Prepared, Mapping[str, Any]], Prepared]
    survey: Mapping[str, Any]

    @property
    def columns(self) -> tuple[Column, ...]:
        """Those of the inner one."""
        return self.inner.columns

    def predict(self, batch: Sequence[Prepared], size: int) -> list[Row]:
        """Adjust the inputs and ask the inner predictor.

        Parameters
        ----------
        batch : sequence of Prepared
            Inputs.
        size : int
            Padded shape.

        Returns
        -------
        list of dict
            Rows of the inner predictor.
        """
        return self.inner.predict([self.adjust(item, self.survey) for item in batch], size)


@dataclass(frozen=True, slots=True)
class Finite:
    """Nothing that is not finite gets out: it becomes None and a flag.

    Parameters
    ----------
    inner : Rows
        The predictor inside.
    flag : str
        Flag to set.
    """

    inner: Rows
    flag: str

    @property
    def columns(self) -> tuple[Column, ...]:
        """Those of the inner one."""
        return self.inner.columns

    def predict(self, batch: Sequence[Prepared], size: int) -> list[Row]:
        """Clean the inner rows.

        Parameters
        ----------
        batch : sequence of Prepared
            Inputs.
        size : int
            Padded shape.

        Returns
        -------
        list of dict
            Without NaN or infinity.
        """
        return [self._clean(row) for row in self.inner.predict(batch, size)]

    def _clean(self, row: Row) -> Row:
        flags = int(row.get("flags") or 0)
        clean = dict(row)
        for name, value in row.items():
            if isinstance(value, str | bool) or value is None or name == "flags":
                continue
            if not (np.isfinite(value).all() if isinstance(value, np.ndarray) else math.isfinite(value)):
                clean[name], flags = None, flags | bits(self.flag)
        return {**clean, "flags": flags}


@dataclass(frozen=True, slots=True)
class Typed:
    """Exactly the declared columns, in plain Python types, float32 ones rounded to the digits that mean something.

    Parameters
    ----------
    inner : Rows
        The predictor inside.
    """

    inner: Rows

    @property
    def columns(self) -> tuple[Column, ...]:
        """Those of the inner one."""
        return self.inner.columns

    def predict(self, batch: Sequence[Prepared], size: int) -> list[Row]:
        """Cast the inner rows.

        Parameters
        ----------
        batch : sequence of Prepared
            Inputs.
        size : int
            Padded shape.

        Returns
        -------
        list of dict
            Typed.
        """
        rows = self.inner.predict(batch, size)
        if len(rows) != len(batch):
            raise ValueError(f"{len(batch)} inputs gave {len(rows)} rows")
        return [typed(row, self.columns) for row in rows]


def typed(row: Row, columns: Sequence[Column]) -> Row:
    """Cast one row to its columns.

    Parameters
    ----------
    row : dict
        As a task made it.
    columns : sequence of Column
        What it must hold.

    Returns
    -------
    dict
        The columns in order, and ``"flags"``.

    Raises
    ------
    ValueError
        Where a column is missing or one is not declared.
    """
    names = {column.name for column in columns}
    odd = sorted((set(row) - {"flags"}) ^ names)
    if odd:
        raise ValueError(f"row and declared columns differ in {', '.join(odd)}")
    out: Row = {}
    for column in columns:
        value = row[column.name]
        if value is not None:
            value = _CAST[column.type](value)
            if column.type == FLOAT32:
                value = float(f"{value:.{DIGITS}g}")
        out[column.name] = value
    return {**out, "flags": int(row.get("flags") or 0)}


@dataclass(frozen=True, slots=True)
class Combined:
    """The learned, the classical and the best answer in one row.

    Parameters
    ----------
    task : Task
        Gives ``choose`` and the columns.
    learned, classical : Rows
        The two answers.
    rule : mapping
        Of the bundle.
    """

    task: Task
    learned: Rows
    classical: Rows
    rule: Mapping[str, Any]

    @property
    def columns(self) -> tuple[Column, ...]:
        """All columns of the three answers, in catalog order."""
        return (*self.task.best_columns, *self.task.columns, *self.task.baseline_columns, *COLUMNS)

    def predict(self, batch: Sequence[Prepared], size: int) -> list[Row]:
        """Ask both and choose.

        Parameters
        ----------
        batch : sequence of Prepared
            Inputs.
        size : int
            Padded shape.

        Returns
        -------
        list of dict
            All columns; flags or-ed.
        """
        rows = []
        pairs = zip(self.learned.predict(batch, size), self.classical.predict(batch, size), strict=True)
        for learned, classical in pairs:
            best = self.task.choose(learned, classical, self.rule)
            rows.append({**best, **learned, **classical, "flags": _flags(learned, classical, best)})
        return rows
