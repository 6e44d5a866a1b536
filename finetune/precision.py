"""Half precision, guarded by answers: it is used only where it says what single precision says.

Before the first object, simulated ones are answered in both. Numbers may differ by a tenth of their own stated error,
probabilities by 0.01, anything else by one percent; names must be the same. Where one of them does not hold, the model
runs in fp32 and a line in the log says so.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np

from finetune.network import HALF
from finetune.task import Prepared, Row, Task
from transforms.columns import Column

_LOG = logging.getLogger("nightcat")
DTYPES = ("fp32", *HALF, "auto")  #: What may be asked for.
PROBES = 16  #: Simulated objects that are answered in both precisions.
SEED = 20_261_124
_ROUNDS = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class Tolerance:
    """How far an answer in half precision may lie from that in single precision.

    Parameters
    ----------
    probability : float
        Of a column ``p_*``.
    errors : float
        Of a column with one named ``<column>_err``, in units of that error.
    relative : float
        Of any other number, as a part of the larger of its size and one.
    """

    probability: float = 0.01
    errors: float = 0.1
    relative: float = 0.01

    def allows(self, name: str, whole: Row, half: Row) -> bool:
        """Compare one column of one object.

        Parameters
        ----------
        name : str
            Of the column.
        whole, half : dict
            The object's rows.

        Returns
        -------
        bool
            True where the two may pass for each other.
        """
        one, two = whole[name], half[name]
        if one is None or two is None or isinstance(one, str | bool):
            return bool(one == two)
        error = whole.get(f"{name}_err")
        if name.startswith("p_"):
            limit = self.probability
        elif error:
            limit = self.errors * error
        else:
            limit = self.relative * max(float(np.max(np.abs(one))), 1.0)
        apart = float(np.max(np.abs(np.subtract(one, two))))
        return math.isfinite(apart) and apart <= limit


def tolerance_of(task: Task) -> Tolerance:
    """What a task allows.

    Parameters
    ----------
    task : Task
        Its ``options["precision"]`` may hold fields of ``Tolerance``.

    Returns
    -------
    Tolerance
        The usual one where the task says nothing.
    """
    return Tolerance(**task.options.get("precision", {}))


def probes(task: Task, number: int = PROBES) -> list[Prepared]:
    """Simulated objects, measured and prepared as in the survey; the same ones each time.

    Parameters
    ----------
    task : Task
        The task.
    number : int
        How many.

    Returns
    -------
    list of Prepared
        As many as that.

    Raises
    ------
    ValueError
        Where the task simulates too few that can be measured.
    """
    from transforms.measure import measure

    found: list[Prepared] = []
    for seed in count(SEED):
        for example in task.simulate(number, seed):
            found += [task.prepare(record) for record in measure(example.record, {})]
        if len(found) >= number:
            return found[:number]
        if seed == SEED + _ROUNDS:
            break
    raise ValueError(f"task {task.name} simulates no {number} objects to try a model on")


def disagreements(
    columns: Sequence[Column], whole: Sequence[Row], half: Sequence[Row], tolerance: Tolerance
) -> dict[str, int]:
    """Where two answers differ by more than is allowed.

    Parameters
    ----------
    columns : sequence of Column
        That are compared.
    whole, half : sequence of dict
        Rows of the same objects.
    tolerance : Tolerance
        What is allowed.

    Returns
    -------
    dict of str to int
        Number of objects by column; empty where all agree.
    """
    counts = {
        column.name: sum(not tolerance.allows(column.name, *pair) for pair in zip(whole, half, strict=True))
        for column in columns
    }
    return {name: number for name, number in counts.items() if number}


def guarded(task: Task, wanted: str, answers: Callable[[str], Sequence[Row]]) -> str:
    """Choose the precision of a model.

    Parameters
    ----------
    task : Task
        The task.
    wanted : str
        ``"fp32"``, ``"bf16"`` or ``"fp16"``.
    answers : callable
        ``answers(dtype) -> rows`` of the probes.

    Returns
    -------
    str
        ``wanted``, or ``"fp32"`` where the answers differ.
    """
    if wanted == "fp32":
        return wanted
    odd = disagreements(task.columns, answers("fp32"), answers(wanted), tolerance_of(task))
    if not odd:
        _LOG.info("task %s runs in %s: %d simulated objects have the answers of fp32", task.name, wanted, PROBES)
        return wanted
    what = ", ".join(f"{name} of {number}" for name, number in odd.items())
    _LOG.warning(
        "task %s runs in fp32, not in %s: of %d simulated objects other answers in %s", task.name, wanted, PROBES, what
    )
    return "fp32"
