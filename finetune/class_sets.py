"""Sets of classes that hold the true one with a stated probability, class by class: conformal prediction.

A class is in the set where its probability is at least what all but a tenth of the validation objects *of that class*
were given (Sadinle, Lei & Wasserman 2019, doi:10.1080/01621459.2017.1395341; class by class after Vovk, Gammerman &
Shafer 2005, doi:10.1007/b106715, chapter 4). So at least nine of ten objects of every class have it in their set,
whatever the model is worth, as long as they are of the same kind as the validation objects. An empty set says that the
object looks like none of the classes do; it is the empty text, and a null says that there is no set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from transforms.columns import STRING, Column

if TYPE_CHECKING:
    from finetune.task import Labels, Prepared, Row, Task
    from finetune.wrappers import Rows

KEY = "class_sets"  #: Where a bundle's calibration has them.
LEVEL = 0.9
FEWEST = 20  #: Validation objects below which there are no sets.
SEPARATOR = "|"  #: As in a label that allows several classes.
_PREFIXES = {"": "the learned answer", "best_": "the best answer"}


def set_prefixes(task: Task) -> tuple[str, ...]:
    """Answers of a task that have sets.

    Parameters
    ----------
    task : Task
        Any.

    Returns
    -------
    tuple of str
        Prefixes of the answers that give a probability for every class; empty where the task is no classifier.
    """
    there = {column.name for column in (*task.columns, *task.best_columns)}
    if not task.classes:
        return ()
    return tuple(prefix for prefix in _PREFIXES if {f"{prefix}p_{name}" for name in task.classes} <= there)


def set_columns(task: Task) -> tuple[Column, ...]:
    """Columns of the sets.

    Parameters
    ----------
    task : Task
        Any.

    Returns
    -------
    tuple of Column
        ``class_set`` and ``best_class_set`` of a classifier.
    """
    return tuple(
        Column(
            f"{prefix}class_set", STRING, "", "meta.code.class",
            f"Classes, sorted and joined by a bar, that hold the true one for at least {LEVEL:.0%} of the objects of "
            f"each class, from {_PREFIXES[prefix]}; empty text where no class fits, null where the model has no sets",
        )
        for prefix in set_prefixes(task)
    )  # fmt: skip


def fit_floors(p: np.ndarray, target: np.ndarray, classes: Sequence[str], level: float = LEVEL) -> dict[str, Any]:
    """Probability from which on each class is in the set.

    Parameters
    ----------
    p : ndarray, shape (n, n_class)
        Calibrated probabilities of validation objects; rows with NaN are left out.
    target : ndarray of int, shape (n,)
        True classes; negative where unknown.
    classes : sequence of str
        In order.
    level : float
        Share of the objects of each class whose set shall hold it.

    Returns
    -------
    dict
        ``level``, ``floors`` by class, and ``n``, the validation objects of each class; a class with too few for a
        floor of its own has that of all. Empty for fewer than ``FEWEST`` objects.
    """
    good = (target >= 0) & np.isfinite(p).all(axis=1)
    if good.sum() < FEWEST:
        return {}
    own = p[good, target[good]]
    pooled = _floor(own, level)
    counts = np.bincount(target[good], minlength=len(classes))
    floors = {
        name: _floor(own[target[good] == i], level) if _rank(int(counts[i]), level) else pooled
        for i, name in enumerate(classes)
    }
    return {"level": level, "floors": floors, "n": dict(zip(classes, counts.tolist(), strict=True))}


def _rank(count: int, level: float) -> int:
    """Which of the objects, by what they were given, sets the floor; 0 where they are too few for any."""
    return int(np.floor(round((count + 1) * (1 - level), 9)))  # 10 x (1 - 0.9) is a little below 1


def _floor(own: np.ndarray, level: float) -> float:
    """The largest floor that leaves the share out at most: what the (n + 1)(1 - level)-th smallest was given."""
    rank = _rank(own.size, level)
    return float(np.sort(own)[rank - 1]) if rank else 0.0


def class_set(row: Mapping[str, Any], prefix: str, fitted: Mapping[str, Any]) -> str | None:
    """The set of one answer.

    Parameters
    ----------
    row : mapping
        With ``<prefix>p_<class>``.
    prefix : str
        Of the answer.
    fitted : mapping
        From ``fit_floors``, or empty.

    Returns
    -------
    str or None
        Sorted classes joined by ``|``; empty text for none of them; None where there are no floors or no answer.
    """
    floors = fitted.get("floors", {})
    p = {name: row[f"{prefix}p_{name}"] for name in floors}
    if not p or any(value is None for value in p.values()):
        return None
    return SEPARATOR.join(sorted(name for name, value in p.items() if value >= floors[name]))


@dataclass(frozen=True, slots=True)
class Sets:
    """The rows inside, with sets of classes.

    Parameters
    ----------
    inner : Rows
        Gives all answers of the task.
    task : Task
        A task; one that is no classifier gets no columns.
    fitted : mapping
        For each prefix, from ``fit_floors``; empty where the model has none.
    """

    inner: Rows
    task: Task
    fitted: Mapping[str, Mapping[str, Any]]

    @property
    def columns(self) -> tuple[Column, ...]:
        """All columns of the task."""
        return self.task.all_columns()

    def predict(self, batch: Sequence[Prepared], size: int) -> list[Row]:
        """Ask the inner predictor and add the sets.

        Parameters
        ----------
        batch : sequence of Prepared
            Inputs.
        size : int
            Padded shape.

        Returns
        -------
        list of dict
            With ``class_set`` and ``best_class_set`` of a classifier.
        """
        prefixes = set_prefixes(self.task)
        rows = self.inner.predict(batch, size)
        return [
            {
                **row,
                **{f"{prefix}class_set": class_set(row, prefix, self.fitted.get(prefix, {})) for prefix in prefixes},
            }
            for row in rows
        ]


def set_report(
    task: Task, rows: Sequence[Row], labels: Sequence[Labels], groups: Sequence[str], prefix: str
) -> dict[str, Any]:
    """How often the sets of labelled objects hold the truth, and how large they are.

    Parameters
    ----------
    task : Task
        A classifier; its first label column names the class.
    rows, labels, groups : sequence
        One for each object; those whose label is not one class are left out.
    prefix : str
        Of the answer.

    Returns
    -------
    dict
        ``level``; for ``all`` and for each class ``n``, ``coverage`` with its interval, ``mean_size`` and ``empty``,
        the share of sets without a class. Empty where there is no set.
    """
    from finetune.coverage import share_interval

    label, column = task.label_columns[0] if task.label_columns else "", f"{prefix}class_set"
    known = [
        (set(filter(None, row[column].split(SEPARATOR))), truth[label], group)
        for row, truth, group in zip(rows, labels, groups, strict=True)
        if row.get(column) is not None and truth.get(label) in task.classes
    ]
    if not known:
        return {}
    found: dict[str, Any] = {}
    for name in ("", *task.classes):
        part = [one for one in known if not name or one[1] == name]
        if part:
            found[name or "all"] = {
                "n": len(part),
                "coverage": share_interval([truth in held for held, truth, _ in part], [g for *_, g in part]),
                "mean_size": float(np.mean([len(held) for held, *_ in part])),
                "empty": float(np.mean([not held for held, *_ in part])),
            }
    return {"level": LEVEL, "classes": found}
