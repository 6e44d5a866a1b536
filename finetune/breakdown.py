"""Where a model is worse than its average tells: by signal to noise, brightness, size, sky, telescope, label source."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist
from typing import Any

import numpy as np

from finetune.evaluate import ANSWERS
from finetune.reports import residuals
from finetune.task import Example, Row, Task
from transforms.columns import Column
from transforms.measure import columns as measured_columns

BINS = 5
FEWEST_IN_BIN, FEWEST_IN_GROUP = 20, 10
LEVEL = 0.05  #: Chance that an unbiased model shows a deviation anywhere, over all groups and figures of one answer.
_DRAWS = 200
_SKY_ORDERS = (3, 2, 1, 0)


@dataclass(frozen=True, slots=True)
class Axis:
    """One property of the objects.

    Parameters
    ----------
    name, title, unit : str
        For JSON, and as a person reads it.
    values : list
        One for each object: numbers, or text for a category; None where it is not known.
    """

    name: str
    title: str
    unit: str
    values: list[Any]


@dataclass(frozen=True, slots=True)
class Part:
    """Some of the objects.

    Parameters
    ----------
    name : str
        As a person reads it.
    index : ndarray of int
        Which objects.
    bounds : dict
        ``low`` and ``high`` where the axis is a number.
    """

    name: str
    index: np.ndarray
    bounds: dict[str, float]


def find_axes(task: Task, rows: Sequence[Row], examples: Sequence[Example]) -> list[Axis]:
    """Properties along which the objects at hand differ.

    Parameters
    ----------
    task : Task
        Gives the labels and the kind of record.
    rows : sequence of dict
        With the measured columns.
    examples : sequence of Example
        The objects.

    Returns
    -------
    list of Axis
        Signal to noise, magnitude, size and number of points where they are measured; each label that is a number;
        region of the sky, telescope, filter and origin of the label where there are several.
    """
    columns = measured_columns(task.record)
    axes = []
    for name, title, choose in _MEASURED:
        found = [(c, [_number(row.get(c.name)) for row in rows]) for c in columns if choose(c)]
        best, values = max(found, key=lambda pair: _known(pair[1]), default=(None, []))
        if best is not None and _known(values) * 2 > len(rows):
            axes.append(Axis(name, title, best.unit, values))
    units = {c.name: c.unit for c in task.all_columns()}
    for label in task.label_columns:
        values = [_number(example.labels.get(label)) for example in examples]
        if any(value is not None for value in values):
            axes.append(Axis(f"true_{label}", f"true {label}", units.get(label, ""), values))
    axes.append(Axis("sky", "region of the sky (HEALPix)", "", _cells(examples)))
    axes.append(Axis("telescope", "telescope", "", [getattr(e.record, "instrument", "") or None for e in examples]))
    filters = next((c.name for c in columns if c.ucd in ("instr.filter", "instr.bandpass")), "")
    axes.append(Axis("filter", "filter", "", [row.get(filters) or None for row in rows]))
    axes.append(Axis("origin", "origin of the label", "", [example.origin or None for example in examples]))
    return [axis for axis in axes if len(_parts(axis)) > 1]


def _known(values: Sequence[Any]) -> int:
    return sum(value is not None for value in values)


def _is_magnitude(column: Column) -> bool:
    return column.ucd.startswith("phot.mag") and "zp" not in column.ucd and column.unit == "mag"


_MEASURED: tuple[tuple[str, str, Callable[[Column], bool]], ...] = (
    ("snr", "signal to noise", lambda c: c.name == "snr"),
    ("magnitude", "magnitude", _is_magnitude),
    ("size", "half-light radius", lambda c: c.name == "r50"),
    ("points", "good points", lambda c: c.name == "n_good"),
    ("redshift", "redshift", lambda c: c.ucd.startswith("src.redshift")),
)


def break_down(
    task: Task, rows: Sequence[Row], examples: Sequence[Example], axes: Sequence[Axis], *, seed: int = 0,
    answers: Sequence[str] = tuple(ANSWERS),
) -> dict[str, Any]:  # fmt: skip
    """Figures of merit and biases of each part of the objects, and where they deviate.

    Parameters
    ----------
    task : Task
        Gives the figures.
    rows, examples : sequence
        One for each object.
    axes : sequence of Axis
        From ``find_axes``.
    seed : int
        Of the parts that are drawn by chance.
    answers : sequence of str
        Which answers; each is judged by itself.

    Returns
    -------
    dict
        JSON-able. ``axes``: for each axis ``title``, ``unit`` and ``parts``; a part has ``name``, ``n``, ``low`` and
        ``high`` (numbers), and for each answer the figures with the scatter of parts of that size drawn by chance.
        ``deviations``: parts where a figure of merit is worse, or a median residual is larger, than that of all
        objects, at ``LEVEL`` over all comparisons (Bonferroni), and than in any of the parts that are drawn by chance;
        ``error`` is their scatter.
    """
    signs = {name.lstrip("-"): -1.0 if name.startswith("-") else 1.0 for name in task.merit}
    parts = all_parts(axes)
    comparisons = max(len(parts) * (len(signs) + len(_biased(task))), 1)
    limit = NormalDist().inv_cdf(1 - LEVEL / comparisons / 2)
    report: dict[str, Any] = {
        "level": LEVEL,
        "comparisons": comparisons,
        "axes": {axis.name: {"title": axis.title, "unit": axis.unit, "parts": []} for axis in axes},
        "deviations": [],
    }
    told = [{"name": part.name, "n": part.index.size, **part.bounds} for _, part in parts]
    for (axis, _), one in zip(parts, told, strict=True):
        report["axes"][axis.name]["parts"].append(one)
    drawn = {size: _random_parts(examples, size, seed) for size in {_size(part) for _, part in parts}}
    for answer in answers:
        measure = Measure(task, rows, examples, ANSWERS[answer], tuple(signs))
        average = measure(np.arange(len(rows)))
        chance = {size: [measure(index) for index in indices] for size, indices in drawn.items()}
        for (axis, part), one in zip(parts, told, strict=True):
            one[answer], worse = _compare(measure(part.index), average, chance[_size(part)], signs, limit)
            report["deviations"] += [
                {"axis": axis.name, "part": part.name, "n": part.index.size, "answer": answer, **fault}
                for fault in worse
            ]
    return report


def all_parts(axes: Sequence[Axis]) -> list[tuple[Axis, Part]]:
    """The parts of the objects that are large enough to judge.

    Parameters
    ----------
    axes : sequence of Axis
        From ``find_axes``.

    Returns
    -------
    list of (Axis, Part)
        In order.
    """
    return [(axis, part) for axis in axes for part in _parts(axis)]


#: Figures by name.
Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Measure:
    """Figures of merit and biases of one answer, for some of the objects.

    Parameters
    ----------
    task : Task
        Gives the figures.
    rows, examples : sequence
        One for each object.
    prefix : str
        Of the answer's columns.
    merits : tuple of str
        Figures that are wanted.
    """

    task: Task
    rows: Sequence[Row]
    examples: Sequence[Example]
    prefix: str
    merits: tuple[str, ...]

    def __call__(self, index: np.ndarray) -> Figures:
        """Measure some of the objects.

        Parameters
        ----------
        index : ndarray of int
            Which ones.

        Returns
        -------
        dict of str to float
            Figures, and ``bias_<label>`` for the labels that are numbers.
        """
        part, truth = [self.rows[i] for i in index], [self.examples[i].labels for i in index]
        figures = self.task.metrics(part, truth, self.prefix) if index.size else {}
        found = {name: figures[name] for name in self.merits if name in figures}
        return found | {f"bias_{label}": _bias(part, truth, self.prefix, label) for label in _biased(self.task)}


def _size(part: Part) -> int:
    """Sizes within five percent share what chance makes of them."""
    return round(math.exp(round(math.log(part.index.size) * 10) / 10))


def _random_parts(examples: Sequence[Example], size: int, seed: int) -> list[np.ndarray]:
    """What a part would be if the property had nothing to do with the answers: whole groups, drawn by chance."""
    members: dict[str, list[int]] = {}
    for number, example in enumerate(examples):
        members.setdefault(example.group, []).append(number)
    names, rng = sorted(members), np.random.default_rng((seed, size))
    out = []
    for _ in range(_DRAWS):
        picked: list[int] = []
        for choice in rng.permutation(len(names)):
            picked += members[names[choice]]
            if len(picked) >= size:
                break
        out.append(np.array(picked[:size]))
    return out


def _compare(
    mine: Figures, average: Figures, chance: Sequence[Figures], signs: Mapping[str, float], limit: float
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Figures of a part with what chance does to them, and those that are worse than chance makes them."""
    figures: dict[str, Any] = {}
    worse = []
    for name, value in mine.items():
        drawn = np.array([v for one in chance if (v := one.get(name)) is not None and math.isfinite(v)])
        error = float(drawn.std(ddof=1)) if drawn.size > 1 else None
        figures[name] = [_finite(value), error]
        whole = average.get(name, math.nan)
        if not error or not math.isfinite(value - whole):
            continue
        if name in signs:
            lost, most = -signs[name] * (value - whole), float((-signs[name] * (drawn - whole)).max())
        else:
            lost, most = abs(value - whole) * (abs(value) > abs(whole)), float(np.abs(drawn - whole).max())
        if lost > limit * error and lost > most:
            worse.append({"figure": name, "value": value, "average": whole, "error": error})
    return figures, worse


def _biased(task: Task) -> list[str]:
    """Labels that are numbers which the task answers with a column of the same name."""
    names = {c.name for c in task.all_columns() if c.type.startswith("float")}
    return [label for label in task.label_columns if label in names]


def _bias(rows: Sequence[Row], labels: Sequence[Mapping[str, Any]], prefix: str, label: str) -> float:
    known = [apart for apart in residuals(rows, labels, prefix, label) if apart is not None]
    return float(np.median(known)) if known else math.nan


def _parts(axis: Axis) -> list[Part]:
    """The parts of an axis that are large enough to judge."""
    known = [i for i, value in enumerate(axis.values) if value is not None]
    if not known:
        return []
    if isinstance(axis.values[known[0]], str):
        counts = Counter(axis.values[i] for i in known)
        names = sorted(name for name, count in counts.items() if count >= FEWEST_IN_GROUP)
        return [Part(name, np.array([i for i in known if axis.values[i] == name]), {}) for name in names]
    values = np.array([axis.values[i] for i in known], float)
    edges = np.unique(np.quantile(values, np.linspace(0, 1, min(BINS, len(known) // FEWEST_IN_BIN) + 1)))
    which = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, max(edges.size - 2, 0))
    out = []
    for number, (low, high) in enumerate(pairwise(edges.tolist())):
        index = np.array(known)[which == number]
        if index.size >= FEWEST_IN_GROUP:  # ties at an edge can leave a single object beside it
            out.append(Part(f"{low:.4g} to {high:.4g}", index, {"low": low, "high": high}))
    return out


def _cells(examples: Sequence[Example]) -> list[str | None]:
    """The finest HEALPix cells that most objects share with enough others."""
    from astropy import units as u
    from astropy_healpix import HEALPix

    placed = [e.record.ra is not None and e.record.dec is not None for e in examples]
    if not any(placed):
        return [None] * len(examples)
    ra = [e.record.ra if there else 0.0 for e, there in zip(examples, placed, strict=True)]
    dec = [e.record.dec if there else 0.0 for e, there in zip(examples, placed, strict=True)]
    for order in _SKY_ORDERS:
        cell = HEALPix(nside=1 << order, order="nested").lonlat_to_healpix(ra * u.deg, dec * u.deg)
        names = [f"{order}/{int(c)}" if there else None for c, there in zip(cell, placed, strict=True)]
        counts = Counter(name for name in names if name)
        if sum(n for n in counts.values() if n >= FEWEST_IN_BIN) * 2 > sum(placed):
            break
    return names


def _number(value: Any) -> float | None:
    good = isinstance(value, int | float | np.number) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if good else None


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None
