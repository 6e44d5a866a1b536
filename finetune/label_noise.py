"""Labels that are probably wrong, told by answers for objects that the model has not learnt from.

For classes confident learning (Northcutt, Jiang & Chuang 2021, JAIR 70, 1373, doi:10.1613/jair.1.12125): a class is
claimed where its probability is at least what objects of that label get on average, which allows for a model that is
less sure of some classes than of others. Where another class than the label's is claimed, the label is suspect. For
numbers a residual beyond what the stated error and the scatter of all residuals allow.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from finetune.reports import residuals
from finetune.split import make_folds
from finetune.task import Example, Row, Task

FOLDS = 5
BEYOND = 5.0  #: Robust sigma beyond which a number is suspect.
FEWEST = 10  #: Objects without which there is nothing to compare with.
TOLD = 50  #: Suspects that a report lists; a file lists all.


@dataclass(frozen=True, kw_only=True, slots=True)
class Suspect:
    """One label that is probably wrong.

    Parameters
    ----------
    object_id, source, hdu : str
        The object.
    row : int or None
        Its row in the file.
    ra, dec : float or None
        Degrees.
    group : str
        Of the split.
    label : str
        Name of the label.
    given : str or float
        What the label says.
    suggested : str or float
        What the model says.
    p_given, p_suggested : float or None
        Probabilities of the two, for classes.
    score : float
        How suspect: for classes the difference of the two probabilities, -1 to 1; for numbers robust sigma.
    """

    object_id: str
    source: str
    hdu: str
    row: int | None
    ra: float | None
    dec: float | None
    group: str
    label: str
    given: Any
    suggested: Any
    p_given: float | None = None
    p_suggested: float | None = None
    score: float


def confident_suspects(p: np.ndarray, given: np.ndarray) -> list[tuple[int, int, float]]:
    """Labels that confident learning contradicts.

    Parameters
    ----------
    p : ndarray, shape (n, n_class)
        Probabilities for objects that were not learnt from; rows with NaN are left out.
    given : ndarray of int, shape (n,)
        Classes that the labels name; negative for none.

    Returns
    -------
    list of (int, int, float)
        Object, class that it seems to be, and the difference of the probabilities; the most suspect first. A class
        without a label is never suggested.
    """
    known = (given >= 0) & np.isfinite(p).all(axis=1)
    usual = np.array([
        p[known & (given == c), c].mean() if (known & (given == c)).any() else np.inf for c in range(p.shape[1])
    ])  # fmt: skip
    found = []
    for i in np.flatnonzero(known):
        claimed = np.where(p[i] >= usual, p[i], -1.0)
        best, own = int(claimed.argmax()), int(given[i])
        if claimed[best] >= 0 and best != own and p[i, best] > p[i, own]:
            found.append((int(i), best, float(p[i, best] - p[i, own])))
    return sorted(found, key=lambda one: (-one[2], one[0]))


def outlying(residual: np.ndarray, error: np.ndarray | None = None, beyond: float = BEYOND) -> list[tuple[int, float]]:
    """Residuals that are too large.

    Parameters
    ----------
    residual : ndarray, shape (n,)
        Answer minus label; NaN where either is not known.
    error : ndarray, shape (n,), optional
        Stated errors of the answers, positive.
    beyond : float
        Limit, in units of 1.4826 times the median absolute deviation of ``residual / error`` from its median.

    Returns
    -------
    list of (int, float)
        Object and robust sigma, the largest first; empty for fewer than ``FEWEST`` objects.
    """
    ratio = residual if error is None else residual / np.where(error > 0, error, np.nan)
    known = np.flatnonzero(np.isfinite(ratio))
    if known.size < FEWEST:
        return []
    apart = ratio[known] - np.median(ratio[known])
    unit = 1.4826 * float(np.median(np.abs(apart)))
    if unit <= 0:
        return []
    far = [(int(i), float(abs(a) / unit)) for i, a in zip(known, apart, strict=True) if abs(a) > beyond * unit]
    return sorted(far, key=lambda one: (-one[1], one[0]))


def find_suspects(task: Task, rows: Sequence[Row], examples: Sequence[Example], prefix: str) -> list[Suspect]:
    """Suspect labels of objects that a model or a baseline has not learnt from.

    Parameters
    ----------
    task : Task
        Gives labels and classes.
    rows : sequence of dict
        Answers.
    examples : sequence of Example
        The objects.
    prefix : str
        Of the answer that is believed.

    Returns
    -------
    list of Suspect
        The most suspect of each label first; empty where the answer gives neither probabilities nor numbers.
    """
    there = set(rows[0]) if rows else set()
    if task.classes:
        label = task.label_columns[0]
        names = [f"{prefix}p_{name}" for name in task.classes]
        if not set(names) <= there:
            return []
        p = np.array([[row[name] for name in names] for row in rows], np.float64)
        truth = [example.labels.get(label) for example in examples]
        given = np.array([task.classes.index(one) if one in task.classes else -1 for one in truth])
        return [
            _suspect(
                examples[i], label, task.classes[best], score, float(p[i, given[i]]), float(p[i, best])
            )
            for i, best, score in confident_suspects(p, given)
        ]  # fmt: skip
    found = []
    for label in task.label_columns:
        column, error = f"{prefix}{label}", f"{prefix}{label}_err"
        if column not in there:
            continue
        apart = np.array(residuals(rows, [e.labels for e in examples], prefix, label), np.float64)
        stated = np.array([row.get(error) for row in rows], np.float64) if error in there else None
        usable = stated if stated is not None and np.isfinite(stated).any() else None
        found += [_suspect(examples[i], label, rows[i][column], score) for i, score in outlying(apart, usable)]
    return found


def _suspect(
    example: Example,
    label: str,
    suggested: Any,
    score: float,
    p_given: float | None = None,
    p_best: float | None = None,
) -> Suspect:
    record = example.record
    return Suspect(
        object_id=record.object_id, source=record.source, hdu=record.hdu, row=record.row, ra=record.ra, dec=record.dec,
        group=example.group, label=label, given=example.labels[label], suggested=suggested, p_given=p_given,
        p_suggested=p_best, score=score,
    )  # fmt: skip


def out_of_fold(
    task: Task, examples: Sequence[Example], prepared: Sequence[Any], *, seed: int = 0, folds: int = FOLDS
) -> tuple[list[Example], list[Row]]:
    """Answers of the classical baseline for each object, fitted on the others.

    Parameters
    ----------
    task : Task
        Gives the baseline.
    examples, prepared : sequence
        Objects and their inputs.
    seed : int
        Of folds and fits.
    folds : int
        Whole groups each.

    Returns
    -------
    examples, rows : list of Example, list of dict
        Objects in the order of the folds, and their rows; empty where they are too few.
    """
    if len(examples) < FEWEST:
        return [], []
    number = {id(example): i for i, example in enumerate(examples)}
    kept: list[Example] = []
    rows: list[Row] = []
    stratify = task.label_columns[0] if task.classes else ""
    for rest, held in make_folds(examples, folds, seed=seed, stratify=stratify):
        if not rest or not held:
            continue
        baseline = task.baseline()
        baseline.fit(rest, [prepared[number[id(one)]] for one in rest], seed=seed)
        kept += held
        rows += baseline.predict([prepared[number[id(one)]] for one in held])
    return kept, rows


def suspects_report(suspects: Sequence[Suspect], judged: int, answer: str) -> dict[str, Any]:
    """What a report tells of suspect labels.

    Parameters
    ----------
    suspects : sequence of Suspect
        From ``find_suspects``.
    judged : int
        Objects whose labels were looked at.
    answer : str
        Which answer was believed.

    Returns
    -------
    dict
        ``judged``, ``answer``, ``n`` and the first ``TOLD`` under ``first``.
    """
    first = [asdict(one) for one in suspects[:TOLD]]
    return {"judged": judged, "answer": answer, "n": len(suspects), "first": first}


def suspects_csv(suspects: Sequence[Suspect]) -> str:
    """All suspects as a table, which a person completes and hands in as a label file.

    Parameters
    ----------
    suspects : sequence of Suspect
        From ``find_suspects``.

    Returns
    -------
    str
        CSV with the fields of ``Suspect`` as columns.
    """
    stream = io.StringIO()
    names = list(Suspect.__dataclass_fields__)
    writer = csv.DictWriter(stream, names, lineterminator="\n")
    writer.writeheader()
    for one in suspects:
        row: Mapping[str, Any] = asdict(one)
        writer.writerow(
            {k: f"{v:.6g}" if isinstance(v, float) and k not in ("ra", "dec") else v for k, v in row.items()}
        )
    return stream.getvalue()
