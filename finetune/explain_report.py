"""What the explanations of some objects say together: their checks, and which parts decided."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from finetune.explanation_plots import shown_value
from finetune.faithfulness import judge_curves, mean_interval
from finetune.task import Task

if TYPE_CHECKING:
    from finetune.explain import Explained, Target

ELSEWHERE = "elsewhere"
SHUFFLED_LIMIT = 0.5  #: Rank correlation with the map of a model that knows nothing, above which a map says little.
INCOMPLETE_LIMIT = 0.05  #: Of the differences; beyond, more steps are needed.
_TOP, _PARTS = 5, 10
_KINDS, _FEWEST = 3, 3  #: Thirds, and fewest objects of each.


def make_report(task: Task, objects: Sequence[Explained], *, method: str, steps: int, seed: int) -> dict[str, Any]:
    """Judge explanations.

    Parameters
    ----------
    task : Task
        The task.
    objects : sequence of Explained
        At least one.
    method : str
        How they were made.
    steps, seed : int
        Of the method, and of all that is random.

    Returns
    -------
    dict
        JSON-able: ``targets`` by name (all classes together as ``winning class`` where each object has its own), each
        with ``completeness``, ``faithfulness`` (``judge_curves``), ``shuffled_weights``, ``parts``, ``kinds`` (the
        parts of each class, or of thirds of the objects by the first quantity) and ``verdicts``, sentences;
        ``objects``, each with its answers and the parts that decided.
    """
    how = task.explain
    several = len({t.name for one in objects for t in one.targets}) > len(objects[0].targets)
    pooled: dict[str, list[tuple[Explained, Target]]] = {}
    for one in objects:
        for target in one.targets:
            pooled.setdefault("winning class" if several else target.name, []).append((one, target))
    return {
        "method": method,
        "steps": steps,
        "seed": seed,
        "nothing": how.nothing if how else "",
        "targets": {name: {**_of_target(found, seed), "kinds": _kinds(found)} for name, found in pooled.items()},
        "objects": [_of_object(one) for one in objects],
    }


def _of_target(found: Sequence[tuple[Explained, Target]], seed: int) -> dict[str, Any]:
    targets = [target for _, target in found]
    report: dict[str, Any] = {
        "n": len(found),
        "unit": targets[0].unit,
        "completeness": _completeness(targets),
        "faithfulness": judge_curves([target.curves for target in targets], seed),
        "shuffled_weights": {
            "signed": mean_interval([target.shuffled[0] for target in targets], seed),
            "absolute": mean_interval([target.shuffled[1] for target in targets], seed),
        },
        "parts": sum_parts(found),
    }
    return {**report, "verdicts": _verdicts(report)}


def _completeness(targets: Sequence[Target]) -> dict[str, Any] | None:
    errors = [abs(t.incomplete) for t in targets if t.incomplete is not None]
    if not errors:
        return None
    apart = sum(abs(t.value - t.nothing) for t in targets)
    return {
        "mean_error": float(np.mean(errors)),
        "largest_error": max(errors),
        "share": sum(errors) / max(apart, 1e-12),
    }


def _verdicts(report: dict[str, Any]) -> list[str]:
    """What a reader has to know before the maps are believed."""
    said = []
    gains, n = report["faithfulness"], report["n"]
    numbers = f"{_text(gains['deletion_gain'])} by deletion, {_text(gains['insertion_gain'])} by insertion"
    if gains["better_than_random"]:
        said.append(f"what it names matters: better than random by an area of {numbers}")
    else:
        said.append(f"NOT shown to be better than random deletion on {n} objects ({numbers}): do not trust it")
    strongest = gains["strongest_gain"][0]
    if strongest is not None and gains["deletion_gain"][0] is not None and strongest >= gains["deletion_gain"][0]:
        said.append(f"NOT better than the strongest features alone, whatever the model ({strongest:.3g})")
    signed = report["shuffled_weights"]["signed"]
    alike = signed[0] is not None and signed[0] > SHUFFLED_LIMIT
    word = "depends little on" if alike else "depends on"
    said.append(f"it {word} what was learnt: rank correlation {_text(signed)} with that of shuffled weights")
    complete = report["completeness"]
    if complete is not None and complete["share"] > INCOMPLETE_LIMIT:
        said.append(f"it adds up only within {complete['share']:.0%}: take more --steps")
    return said


def _text(figure: Sequence[float | None]) -> str:
    value, low, high = figure
    if value is None:
        return "unknown"
    return f"{value:.3g}" + ("" if low is None or high is None else f" [{low:.3g}, {high:.3g}]")


def parts_of(one: Explained, target: Target) -> dict[str, tuple[float, float, int]]:
    """Attributions of one object by part.

    Parameters
    ----------
    one : Explained
        The object.
    target : Target
        The answer.

    Returns
    -------
    dict of str to (float, float, int)
        Sum, sum of absolute values and number of inputs of each part; ``ELSEWHERE`` for those of none.
    """
    found: dict[str, tuple[float, float, int]] = {}
    for name, where in one.places.items():
        parts = np.array([part or ELSEWHERE for part in where.part], dtype=object)
        for part in dict.fromkeys(parts.tolist()):
            values = target.attribution[name][parts == part]
            total, size, count = found.get(part, (0.0, 0.0, 0))  # several arrays may have inputs of no part
            found[part] = (total + float(values.sum()), size + float(np.abs(values).sum()), count + int(values.size))
    return found


def sum_parts(found: Sequence[tuple[Explained, Target]]) -> list[dict[str, Any]]:
    """Which parts decided, over objects.

    Parameters
    ----------
    found : sequence of (Explained, Target)
        One for each object.

    Returns
    -------
    list of dict
        ``part``, ``n`` (objects that have it), ``share`` (of the absolute attributions, mean over all objects),
        ``share_of_inputs``, ``mean`` (of the summed attribution of the objects that have it); largest share first.
    """
    each = [parts_of(one, target) for one, target in found]
    totals = [sum(a for _, a, _ in parts.values()) or 1.0 for parts in each]
    counts = [sum(k for _, _, k in parts.values()) or 1 for parts in each]
    names = dict.fromkeys(name for parts in each for name in parts)
    rows = []
    for name in names:
        there = [
            (parts[name], total, count)
            for parts, total, count in zip(each, totals, counts, strict=True)
            if name in parts
        ]
        rows.append(
            {
                "part": name,
                "n": len(there),
                "share": sum(part[1] / total for part, total, _ in there) / len(each),
                "share_of_inputs": sum(part[2] / count for part, _, count in there) / len(each),
                "mean": float(np.mean([part[0] for part, _, _ in there])),
            }
        )
    return sorted(rows, key=lambda row: -row["share"])


def _kinds(found: Sequence[tuple[Explained, Target]]) -> list[dict[str, Any]]:
    """What decided for objects of one kind: of one class, or of one third by the first quantity, such as hot stars."""
    classes = [target.name for _, target in found]
    kinds: list[tuple[str, list[tuple[Explained, Target]]]] = []
    if len(set(classes)) > 1:
        kinds = [(name, [pair for pair in found if pair[1].name == name]) for name in sorted(set(classes))]
    elif len(found) >= _KINDS * _FEWEST:
        order = sorted(found, key=lambda pair: pair[0].targets[0].value)
        for third in np.array_split(np.arange(len(order)), _KINDS):
            pairs = [order[i] for i in third]
            first, last = pairs[0][0].targets[0], pairs[-1][0].targets[0]
            low, high = (shown_value(one.value, one.unit) for one in (first, last))
            kinds.append((f"{first.name} {low} to {high}", pairs))
    return [{"kind": name, "n": len(pairs), "parts": sum_parts(pairs)[:_PARTS]} for name, pairs in kinds]


def strongest(one: Explained, target: Target, count: int = _TOP) -> list[tuple[str, float]]:
    """The parts that decided one answer.

    Parameters
    ----------
    one : Explained
        The object.
    target : Target
        The answer.
    count : int
        At most so many.

    Returns
    -------
    list of (str, float)
        Name and summed attribution, the largest absolute sum first; without what belongs to no part.
    """
    parts = parts_of(one, target)
    order = sorted((name for name in parts if name != ELSEWHERE), key=lambda name: -abs(parts[name][0]))
    return [(name, parts[name][0]) for name in order[:count]]


def _of_object(one: Explained) -> dict[str, Any]:
    source, hdu, row = one.place
    return {
        "object_id": one.object_id,
        "source": source,
        "hdu": hdu,
        "row": row,
        "targets": {
            target.name: {
                "value": target.value,
                "nothing": target.nothing,
                "incomplete": target.incomplete,
                "decided_by": [list(pair) for pair in strongest(one, target)],
            }
            for target in one.targets
        },
    }
