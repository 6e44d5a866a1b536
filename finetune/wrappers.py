"""Predictors around predictors: each does one thing to the rows of the one inside.

All have ``columns`` and ``predict(batch, size) -> list of Row``; a row carries ``"flags"`` beside its columns.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from finetune.task import Baseline, Prepared, Row, Task
from transforms.columns import BOOL, FLOAT32, FLOAT64, INT32, INT64, STRING, Column
from transforms.flags import bits

DIGITS = 6  #: Significant digits of a float32 column: the last bits of a sum depend on the shape of its batch.
_CAST: dict[str, Callable[[Any], Any]] = {
    FLOAT32: float, FLOAT64: float, INT32: int, INT64: int, BOOL: bool, STRING: str,
}  # fmt: skip


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
        ``outputs(batch, size) -> dict of str to ndarray``: the network.
    calibration : mapping
        Of the bundle.
    """

    task: Task
    outputs: Callable[[Sequence[Prepared], int], Mapping[str, Any]]
    calibration: Mapping[str, Any]

    @property
    def columns(self) -> tuple[Column, ...]:
        """The task's learned columns."""
        return self.task.columns

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
            Learned columns and flags.
        """
        return self.task.decode(self.outputs(batch, size), batch, self.calibration)


@dataclass(frozen=True, slots=True)
class Classical:
    """The baseline's rows.

    Parameters
    ----------
    baseline : Baseline
        Fitted.
    columns : tuple of Column
        What it gives.
    """

    baseline: Baseline
    columns: tuple[Column, ...]

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
        return self.baseline.predict([*batch, *[batch[0]] * (size - len(batch))])[: len(batch)]


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
            if not math.isfinite(value):
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
        """All columns of the task, in catalog order."""
        return self.task.all_columns()

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
            flags = 0
            for part in (learned, classical, best):
                flags |= int(part.get("flags") or 0)
            rows.append({**best, **learned, **classical, "flags": flags})
        return rows
