"""Watch nights against a reference window: what drifted, by how much, since when. Arrays in, findings out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from finetune.drift_scores import Night, Scorer, Statistic
from finetune.drift_tests import Reference, Sums, add_up
from finetune.labels import LabelError
from finetune.task import Task

FEWEST_NIGHTS = 7  #: Nights of a reference: fewer do not tell how much nights differ.
SHARES = ("null", "flag", "class", "reject", "accuracy")  #: Kinds whose scores are 0 or 1.


@dataclass(frozen=True, kw_only=True, slots=True)
class DriftLimits:
    """When an alarm is raised.

    Parameters
    ----------
    rate : float
        Chance that undisturbed nights raise any alarm, over all tables, statistics and windows.
    nights : int
        Number of nights that ``rate`` is for.
    windows : tuple of int
        Nights that are taken together: one for what breaks, several for what creeps.
    tables : int
        Tables that are watched.
    seed : int
        Of the exact test.
    """

    rate: float = 0.01
    nights: int = 30
    windows: tuple[int, ...] = (1, 7)
    tables: int = 1
    seed: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One statistic of one night.

    Parameters
    ----------
    night : str
        The night, the last one of its window.
    window : int
        Nights that were taken together.
    statistic : Statistic
        What was watched.
    value, reference : float
        Median for ``value``, ``disagreement`` and ``error``, interquartile range for ``spread``, share or mean score
        for all others; NaN where there is none.
    difference : float
        Of the mean scores: in standard deviations of the reference, or of shares.
    z : float
        Difference over its predicted scatter; NaN where it was not judged, as within the reference.
    false_alarm : float
        Chance that undisturbed nights, as many as the limits say, hold anything as extreme; NaN as for ``z``.
    alarm : bool
        It is at most the allowed rate.
    since : str
        First night of the unbroken series of alarms of this statistic that this one belongs to; empty for none.
    objects, files : int
        What it rests on.
    """

    night: str
    window: int
    statistic: Statistic
    value: float
    reference: float
    difference: float
    z: float
    false_alarm: float
    alarm: bool
    since: str = ""
    objects: int
    files: int


@dataclass(slots=True, eq=False)
class _Seen:
    """What is kept of a night once its objects are gone."""

    name: str
    sums: Sums
    levels: np.ndarray
    objects: int = field(default=0)


def watch(reference: Sequence[Night], nights: Iterable[Night], limits: DriftLimits = DriftLimits()) -> list[Finding]:
    """Watch nights against a reference.

    Parameters
    ----------
    reference : sequence of Night
        Undisturbed ones.
    nights : iterable of Night
        The nights after them, in order; each is let go of once it has been scored.
    limits : DriftLimits
        When an alarm is raised.

    Returns
    -------
    list of Finding
        For every night, the reference too, and every statistic; sorted by night and window.

    Raises
    ------
    ValueError
        For a reference of fewer nights than ``FEWEST_NIGHTS``.
    """
    reference = [night for night in reference if len(night.groups)]
    if len(reference) < FEWEST_NIGHTS:
        raise ValueError(f"a reference needs {FEWEST_NIGHTS} nights with objects; there are {len(reference)}")
    scorer = Scorer(reference)
    before = [_see(scorer, night) for night in reference]
    law = Reference([seen.sums for seen in before], np.array([s.kind in SHARES for s in scorer.statistics], bool))
    levels = _reference_levels(scorer, law)
    found = [finding for seen in before for finding in _findings([seen], scorer, law, levels)]
    latest: list[_Seen] = []
    for night in nights:
        if not len(night.groups):
            continue
        latest = [*latest, _see(scorer, night)][-max(limits.windows) :]
        for window in limits.windows:
            if len(latest) >= window:
                found += _judge(latest[-window:], scorer, law, levels, limits)
    return _dated(found)


def _see(scorer: Scorer, night: Night) -> _Seen:
    sums = add_up(scorer.score(night), night.groups)
    levels = sums.mean()
    for index, name in enumerate(scorer.statistics):
        if name in night.numbers:
            levels[index] = _quantiles(night.numbers[name])[1]
        elif name.kind == "spread":
            low, _, high = _quantiles(night.numbers.get(Statistic("value", name.column), np.zeros(0)))
            levels[index] = high - low
    return _Seen(night.name, sums, levels, len(night.groups))


def _quantiles(values: np.ndarray) -> np.ndarray:
    good = values[np.isfinite(values)]
    return np.quantile(good, [0.25, 0.5, 0.75]) if len(good) else np.full(3, np.nan)


def _reference_levels(scorer: Scorer, law: Reference) -> np.ndarray:
    levels = law.all.mean()
    for index, name in enumerate(scorer.statistics):
        if name in scorer.sorted:
            levels[index] = np.median(scorer.sorted[name])
        elif name.kind == "spread":
            low, high = np.quantile(scorer.sorted[Statistic("value", name.column)], [0.25, 0.75])
            levels[index] = high - low
    return levels


def _judge(
    latest: Sequence[_Seen], scorer: Scorer, law: Reference, levels: np.ndarray, limits: DriftLimits
) -> list[Finding]:
    names = scorer.statistics
    tests = limits.nights * len(limits.windows) * limits.tables
    sums = [seen.sums for seen in latest]
    one = law.compare(sums)
    chance = np.where(np.isfinite(one.z), np.minimum(one.p * len(names) * tests, 1.0), np.nan)
    doubtful = np.flatnonzero(chance <= limits.rate)
    if len(doubtful):
        dealt = law.deal(sums, doubtful, limits.rate / tests, limits.seed)
        chance[doubtful] = np.maximum(chance[doubtful], np.minimum(dealt * tests, 1.0))
    plain = _findings(latest, scorer, law, levels)
    return [
        replace(f, z=float(z), false_alarm=float(c), alarm=bool(c <= limits.rate))
        for f, z, c in zip(plain, one.z, chance, strict=True)
    ]


def _findings(latest: Sequence[_Seen], scorer: Scorer, law: Reference, levels: np.ndarray) -> list[Finding]:
    count = sum(seen.sums.count.sum(0) for seen in latest)
    mean = sum(seen.sums.total.sum(0) for seen in latest) / np.where(count > 0, count, np.nan)
    files = sum((seen.sums.count > 0).sum(0) for seen in latest)
    own = np.array([seen.levels for seen in latest])
    known = np.isfinite(own)
    value = np.where(known, own, 0.0).sum(0) / np.where(known.any(0), known.sum(0), np.nan)
    return [
        Finding(
            night=latest[-1].name, window=len(latest), statistic=name, value=float(value[i]),
            reference=float(levels[i]), difference=float(mean[i] - law.mean[i]), z=float("nan"),
            false_alarm=float("nan"), alarm=False, objects=int(count[i]), files=int(files[i]),
        )
        for i, name in enumerate(scorer.statistics)
    ]  # fmt: skip


def _dated(found: Sequence[Finding]) -> list[Finding]:
    """Say since when: alarms of one statistic in nights without a gap, in any window."""
    nights = list(dict.fromkeys(f.night for f in found))
    alarmed: dict[Statistic, set[str]] = {}
    for finding in found:
        if finding.alarm:
            alarmed.setdefault(finding.statistic, set()).add(finding.night)
    first: dict[tuple[Statistic, str], str] = {}
    for name, when in alarmed.items():
        since = ""
        for night in nights:
            since = (since or night) if night in when else ""
            first[name, night] = since
    return [replace(f, since=first[f.statistic, f.night] if f.alarm else "") for f in found]


def compared_numbers(task: Task, numbers: Mapping[str, np.ndarray]) -> dict[Statistic, np.ndarray]:
    """How far the learned and the classical answer lie apart.

    Parameters
    ----------
    task : Task
        Names the columns.
    numbers : mapping of str to ndarray
        Of a table, NaN where null.

    Returns
    -------
    dict of Statistic to ndarray
        Kind ``disagreement``: the absolute difference of each number that both give.
    """
    pairs = [(c.name, f"baseline_{c.name}") for c in task.columns]
    return {
        Statistic("disagreement", f"{one} - {two}"): np.abs(numbers[one] - numbers[two])
        for one, two in pairs
        if one in numbers and two in numbers
    }


def compared_texts(task: Task, texts: Mapping[str, np.ndarray]) -> dict[Statistic, np.ndarray]:
    """Where the learned and the classical class differ.

    Parameters
    ----------
    task : Task
        Names the columns.
    texts : mapping of str to ndarray
        Of a table, ``""`` where null.

    Returns
    -------
    dict of Statistic to ndarray
        Kind ``class``: 1 where they differ, NaN where one is missing.
    """
    found = {}
    for column in task.columns:
        one, two = texts.get(column.name), texts.get(f"baseline_{column.name}")
        if one is not None and two is not None:
            known = (one != "") & (two != "")
            name = Statistic("class", f"{column.name} differs from baseline_{column.name}")
            found[name] = np.where(known, (one != two).astype(float), np.nan)
    return found


def against_labels(
    task: Task, columns: Mapping[str, Sequence[Any]], labels: Sequence[Mapping[str, Any]]
) -> tuple[dict[Statistic, np.ndarray], dict[Statistic, np.ndarray]]:
    """How right the catalog's best answers are where labels have arrived.

    Parameters
    ----------
    task : Task
        Names answers and labels.
    columns : mapping of str to sequence
        Of the table, None where null.
    labels : sequence of mapping
        One for each row, empty where it has none.

    Returns
    -------
    numbers, shares : dict of Statistic to ndarray
        Numbers of kind ``error`` (absolute), shares of kind ``accuracy`` and ``calibration``: for a class the
        probability minus 1 where it is right, minus 0 where not; for a number 1 where the error is within the stated
        one.
    """
    numbers: dict[Statistic, np.ndarray] = {}
    shares: dict[Statistic, np.ndarray] = {}
    for name in task.label_columns:
        truth = [row.get(name) for row in labels]
        best = columns.get(f"best_{name}")
        if best is None:
            continue
        pairs = [(a, b) if a is not None and b is not None else None for a, b in zip(best, truth, strict=True)]
        if task.classes:
            right = np.array([np.nan if pair is None else float(pair[0] == pair[1]) for pair in pairs], float)
            shares[Statistic("accuracy", f"best_{name}")] = right
            if "best_p_max" in columns:
                shares[Statistic("calibration", "best_p_max")] = _floats(columns["best_p_max"]) - right
            continue
        try:
            error = np.array(
                [np.nan if pair is None else abs(float(pair[0]) - float(pair[1])) for pair in pairs], float
            )
        except ValueError as fault:
            raise LabelError(f"labels of {name!r} are not numbers: {fault}") from fault
        numbers[Statistic("error", f"best_{name}")] = error
        if f"best_{name}_err" in columns:
            stated = _floats(columns[f"best_{name}_err"])
            known = np.isfinite(error) & np.isfinite(stated)
            shares[Statistic("calibration", f"best_{name}_err")] = np.where(known, (error <= stated) * 1.0, np.nan)
    return numbers, shares


def _floats(values: Sequence[Any]) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values], float)
