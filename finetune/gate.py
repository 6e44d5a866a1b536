"""May a candidate take the place of the model in production? Judged on objects that neither has seen; a no says why."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from finetune.evaluate import DRAWS, against, evaluate
from finetune.judge import full_rows
from finetune.task import Example, Prepared, Task
from finetune.train import prepare_all

SPEED_ROUNDS = 9  #: Of which the quickest counts: whatever else the machine does only makes a round slower.
ANSWER = "best"  #: The answer that the catalog recommends is the one that must not get worse.


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What a candidate has to hold.

    Parameters
    ----------
    objects : int
        Fewest test objects on which anything is decided.
    tolerance : float
        Loss of a figure of merit that is let pass, as a fraction of production's, where chance may have made it.
    floors : mapping of str to float
        Lowest recall of a class; for others it is ``recall_share`` of production's recall, and one below it is let pass
        where chance may have made it.
    recall_share : float
        Fraction.
    ece : float
        Largest calibration error of a classifier, unless production's is larger still.
    coverage : tuple of float
        Allowed share of labels within a 68 % interval, unless production's lies as far from 0.68.
    speed : float
        Lowest rate, as a fraction of production's on the same objects: "as fast", as far as a clock can tell.
    """

    objects: int = 50
    tolerance: float = 0.02
    floors: Mapping[str, float] = field(default_factory=dict)
    recall_share: float = 0.8
    ece: float = 0.05
    coverage: tuple[float, float] = (0.60, 0.76)
    speed: float = 0.9


def judge_candidate(
    task: Task,
    candidate: Any,
    production: Any | None,
    examples: Sequence[Example],
    limits: Limits = Limits(),
    *,
    seed: int = 0,
    draws: int = DRAWS,
) -> dict[str, Any]:
    """Compare a candidate with the model in production on the same objects.

    Parameters
    ----------
    task : Task
        Of both.
    candidate, production : Predictor
        The models; without production the candidate has to hold against its own classical answer.
    examples : sequence of Example
        Labelled objects that neither was trained or tuned on.
    limits : Limits
        What it has to hold.
    seed, draws : int
        Of the bootstrap.

    Returns
    -------
    dict
        JSON-able: ``refused`` (reasons; empty where it may pass), ``n``, ``limits``, ``candidate`` and ``production``
        (digest, figures with intervals, objects a second), ``differences``.
    """
    kept, prepared, _ = prepare_all(task, examples)
    report: dict[str, Any] = {"n": len(kept), "limits": asdict(limits), "refused": [], "answer": ANSWER}
    if len(kept) < limits.objects:
        report["refused"] = [
            f"{len(kept)} test objects that neither model has seen are too few to decide on; "
            f"{limits.objects} are needed"
        ]
        return report
    rows = full_rows(task, candidate, kept, prepared)
    labels = {"seed": seed, "draws": draws}
    new = evaluate(task, rows, kept, **labels)
    report["candidate"] = {"digest": candidate.digest, "metrics": new["metrics"]}
    if production is None:
        report["differences"] = new["differences"].get(f"{ANSWER} - baseline", {})
        old = new["metrics"].get("baseline", {})
    else:
        others = full_rows(task, production, kept, prepared)
        before = evaluate(task, others, kept, **labels)
        report["production"] = {"digest": production.digest, "metrics": before["metrics"]}
        report["differences"] = against(task, rows, others, kept, **labels)[ANSWER]
        old = before["metrics"][ANSWER]
        rates = _rates(task, {"candidate": candidate, "production": production}, prepared)
        for name, rate in rates.items():
            report[name]["objects_per_s"] = rate
    now = new["metrics"][ANSWER]
    rival = "production" if production is not None else "the classical answer"
    report["refused"] = [
        *_worse(task, report["differences"], old, limits, rival),
        *_forgotten(now, old, limits, rival),
        *_uncalibrated(now, old, limits),
        *_slower(report, limits),
    ]
    return report


def _rates(task: Task, predictors: Mapping[str, Any], prepared: Sequence[Prepared]) -> dict[str, float]:
    """Objects a second, the models in turn on the same batch, so that both see the same machine."""
    batch = list(prepared[: task.batch_size])
    seconds: dict[str, list[float]] = {name: [] for name in predictors}
    for _ in range(SPEED_ROUNDS):
        for name, predictor in predictors.items():
            started = time.perf_counter()
            predictor.predict(batch, task.batch_size)
            seconds[name].append(time.perf_counter() - started)
    return {name: len(batch) / min(took) for name, took in seconds.items()}


def _worse(task: Task, differences: Mapping[str, Any], old: Mapping[str, Any], limits: Limits, rival: str) -> list[str]:
    """Figures of merit that got worse: surely, or by more than is let pass."""
    faults = []
    for name in task.merit:
        sign, figure = (-1.0, name[1:]) if name.startswith("-") else (1.0, name)
        change, low, high = differences.get(figure, (None, None, None))
        if change is None or low is None or high is None:
            faults.append(f"{figure} cannot be compared: one of the models gives no answer")
            continue
        best = sign * (high if sign > 0 else low)
        passes = limits.tolerance * abs(old[figure][0] or 0.0)
        if best < 0 or sign * change < -passes:
            sure = "surely" if best < 0 else f"more than {passes:.3g}"
            faults.append(f"{figure} is worse than {rival}'s by {abs(change):.3g} [{low:.3g}, {high:.3g}], {sure}")
    return faults


def _forgotten(now: Mapping[str, Any], old: Mapping[str, Any], limits: Limits, rival: str) -> list[str]:
    """Classes whose recall lies below its floor."""
    faults = [
        f"the floor names class {name!r}, which has no test object"
        for name in sorted(limits.floors)
        if f"recall_{name}" not in now
    ]
    for name in sorted(name for name in now if name.startswith("recall_")):
        recall, _, high = now[name]
        kind = name.removeprefix("recall_")
        if kind in limits.floors:
            if recall is None or recall < limits.floors[kind]:
                faults.append(f"recall of {kind} is {recall:.3g}, its floor is {limits.floors[kind]:.3g}")
        elif (before := old.get(name, (None,))[0]) is not None and (high or 0.0) < limits.recall_share * before:
            faults.append(
                f"recall of {kind} is {recall:.3g}, at most {high:.3g}; the floor is {limits.recall_share:g} of the "
                f"{before:.3g} of {rival}"
            )
    return faults


def _uncalibrated(now: Mapping[str, Any], old: Mapping[str, Any], limits: Limits) -> list[str]:
    """Probabilities and errors that do not say what they mean."""
    faults = []
    low, high = limits.coverage
    for name, (value, *_) in sorted(now.items()):
        before = old.get(name, (None,))[0]
        if value is None:
            continue
        if name == "ece" and value > max(limits.ece, before or 0.0):
            faults.append(f"calibration error is {value:.3g}, at most {max(limits.ece, before or 0.0):.3g} is allowed")
        if name.endswith("_covered68") and not low <= value <= high:
            if before is not None and abs(value - 0.68) <= abs(before - 0.68):
                continue
            quantity = name.removesuffix("_covered68")
            faults.append(f"the 68 % interval of {quantity} covers {value:.1%}, allowed are {low:.0%} to {high:.0%}")
    return faults


def _slower(report: Mapping[str, Any], limits: Limits) -> list[str]:
    rates = [report.get(name, {}).get("objects_per_s") for name in ("candidate", "production")]
    if None in rates or rates[0] >= limits.speed * rates[1]:
        return []
    share = rates[0] / rates[1]
    return [
        f"it answers {rates[0]:.3g} objects a second, {share:.2f} of production's; at least {limits.speed:g} is asked"
    ]
