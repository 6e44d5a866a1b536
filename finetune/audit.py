"""Whom a fine-tuning left behind: each part of the objects before and after it, in one short list."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np

from finetune.breakdown import LEVEL, Axis, Figures, Measure, Part, all_parts, break_down
from finetune.evaluate import ANSWERS, interval, resample
from finetune.task import Example, Row, Task

_DRAWS = 100


def audit(
    task: Task,
    rows: Sequence[Row],
    before: Sequence[Row] | None,
    examples: Sequence[Example],
    axes: Sequence[Axis],
    *,
    answer: str = "learned",
    seed: int = 0,
) -> dict[str, Any]:
    """Compare the parts of the objects with all of them, and with what a model made of them before its training.

    Parameters
    ----------
    task : Task
        Gives the figures of merit.
    rows : sequence of dict
        Of the fine-tuned model.
    before : sequence of dict or None
        Of the model that the training started from, or of another model, for the same objects; None where there is
        none to compare with.
    examples : sequence of Example
        The objects.
    axes : sequence of Axis
        From ``find_axes``.
    answer : str
        ``"learned"``, ``"baseline"`` or ``"best"``.
    seed : int
        Of all that is drawn by chance.

    Returns
    -------
    dict
        JSON-able. ``behind``: the parts that fall behind, each with ``axis``, ``title``, ``part``, ``n``, ``figure``,
        ``value``, and ``why``: ``"average"`` (worse than all objects, with ``reference`` and ``error``) or
        ``"before"`` (worse than before the training, with ``reference`` and ``error``). Each of the two lists is kept
        free of chance findings at ``level`` over all its comparisons (Bonferroni). ``axes``: for each axis its parts
        with the figures after, before, and the difference with its 95 % interval.
    """
    found = break_down(task, rows, examples, axes, seed=seed, answers=(answer,))
    titles = {axis.name: axis.title for axis in axes}
    behind = [
        {
            **{key: fault[key] for key in ("axis", "part", "n", "figure", "value", "error")},
            "title": titles[fault["axis"]], "why": "average", "reference": fault["average"],
        }
        for fault in found["deviations"]
    ]  # fmt: skip
    report: dict[str, Any] = {
        "answer": answer, "level": LEVEL, "comparisons": found["comparisons"], "axes": {},
        "compared": before is not None,
    }  # fmt: skip
    signs = {name.lstrip("-"): -1.0 if name.startswith("-") else 1.0 for name in task.merit}
    parts = all_parts(axes)
    limit = NormalDist().inv_cdf(1 - LEVEL / max(len(parts) * len(signs), 1) / 2)
    pair = _Pair(task, rows, before, examples, ANSWERS[answer], tuple(task.merit)) if before is not None else None
    told = {axis.name: iter(found["axes"][axis.name]["parts"]) for axis in axes}
    for axis, part in parts:
        one = next(told[axis.name])
        line: dict[str, Any] = {"part": part.name, "n": part.index.size, "figures": {}}
        changes = pair.compare(part, seed) if pair is not None else {}
        for name in signs:
            after = one[answer].get(name, [None])[0]
            line["figures"][name] = {"after": after}
            if after is None or name not in changes:
                continue
            change = changes[name]
            line["figures"][name] |= {key: change[key] for key in ("before", "difference")}
            chance = change["chance"]
            if chance.size > 1 and change["lost"] > max(limit * chance.std(), np.abs(chance).max()):
                behind.append(
                    {
                        "axis": axis.name, "title": axis.title, "part": part.name, "n": part.index.size, "figure": name,
                        "value": after, "why": "before", "reference": change["before"], "error": float(chance.std()),
                    }
                )  # fmt: skip
        report["axes"].setdefault(axis.name, {"title": axis.title, "unit": axis.unit, "parts": []})["parts"].append(
            line
        )
    return {**report, "behind": behind}


class _Pair:
    """The figures of one part with two models, and what chance makes of their difference."""

    def __init__(
        self, task: Task, rows: Sequence[Row], before: Sequence[Row], examples: Sequence[Example], prefix: str,
        merits: tuple[str, ...],
    ) -> None:  # fmt: skip
        self.signs = {name.lstrip("-"): -1.0 if name.startswith("-") else 1.0 for name in merits}
        self.both = Measure(task, [*rows, *before], [*examples, *examples], prefix, tuple(self.signs))
        self.groups = [example.group for example in examples]

    def compare(self, part: Part, seed: int) -> dict[str, dict[str, Any]]:
        """By figure, after less before with its interval; where it is worse, what swapping the models makes of it."""
        after, before = self.both(part.index), self.both(part.index + len(self.groups))
        groups = [self.groups[i] for i in part.index]
        again = [part.index[draw] for draw in resample(groups, seed, _DRAWS)]
        drawn = [(self.both(index), self.both(index + len(self.groups))) for index in again]
        lost = {n: -s * (after.get(n, math.nan) - before.get(n, math.nan)) for n, s in self.signs.items()}
        swapped = self._swapped(part.index, groups, seed) if any(value > 0 for value in lost.values()) else []
        return {
            name: {
                "before": _finite(before.get(name)),
                "difference": interval(_minus(after, before, name), [_minus(a, b, name) for a, b in drawn]),
                "lost": value,
                "chance": np.array([d for a, b in swapped if math.isfinite(d := _minus(a, b, name))]),
            }
            for name, value in lost.items()
        }

    def _swapped(self, index: np.ndarray, groups: Sequence[str], seed: int) -> list[tuple[Figures, Figures]]:
        """Figures of both models where they change places by chance, group by group: what no change looks like."""
        names, where = np.unique(groups, return_inverse=True)
        rng, total = np.random.default_rng((seed, index.size)), len(self.groups)
        swaps = [np.where((rng.random(len(names)) < 0.5)[where], total, 0) for _ in range(_DRAWS)]
        return [(self.both(index + swap), self.both(index + total - swap)) for swap in swaps]


def _minus(one: Figures, two: Figures, name: str) -> float:
    return one.get(name, math.nan) - two.get(name, math.nan)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def warnings(report: Mapping[str, Any]) -> list[str]:
    """What a model card has to say of the parts that fall behind.

    Parameters
    ----------
    report : mapping
        From ``audit``.

    Returns
    -------
    list of str
        A sentence for each part and figure.
    """
    said = []
    for one in report.get("behind", ()):
        what = "for all objects" if one["why"] == "average" else "before the training"
        said.append(
            f"{one['title']} {one['part']} ({one['n']} objects): {one['figure']} is {one['value']:.4g}, "
            f"against {one['reference']:.4g} {what} (chance: {one['error']:.2g})"
        )
    return said
