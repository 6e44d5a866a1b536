"""Labelled objects of one survey to train on, and of another to test on, for ``transfer``."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import stellar_data, variable_data
from benchmarks.label_efficiency_data import EROS
from benchmarks.variable_folds import macro_f1
from finetune.boosted_trees import BoostedTrees
from finetune.spectral_baselines import StellarBaseline
from finetune.task import Example, Prepared, Task
from finetune.tasks import get
from finetune.train import prepare_all
from transforms.period import measure_light_curve

PER_CLASS = 50  #: EROS-1 stars of a class to train on.
Figure = tuple[str, str, Callable[[np.ndarray, np.ndarray], float], bool]


@dataclass(frozen=True)
class Test:
    """Objects that judge."""

    name: str
    truth: np.ndarray
    prepared: list[Prepared]


@dataclass(frozen=True)
class Data:
    """All that the benchmark needs of a task."""

    task: Task
    trained_on: str
    train: list[Example]
    prepared: list[Prepared]
    tests: tuple[Test, ...]
    answer: Callable[[Mapping[str, np.ndarray]], np.ndarray]  #: Outputs of a net to answers.
    classical: Callable[[], dict[str, dict[str, np.ndarray]]]  #: Answers by method and test.
    figures: Mapping[str, tuple[Figure, ...]]  #: Of each test: name, unit, score, higher is better.
    ways: tuple[str, ...]  #: Augmentations, each alone.


def _median(column: int) -> Callable[[np.ndarray, np.ndarray], float]:
    def score(truth: np.ndarray, answer: np.ndarray) -> float:
        return float(np.nanmedian(np.abs(answer[:, column] - truth[:, column])))

    return score


def stellar(root: Path) -> Data:
    """Four of five folds of MILES; LAMOST DR1 judges, and the fifth fold, clusters kept whole."""
    miles, lamost = stellar_data.load(root, "miles"), stellar_data.load(root, "lamost")
    lamost = lamost.take(np.flatnonzero(np.isfinite(lamost.labels).all(1)))
    fold = stellar_data.split(miles.groups, 5, 0)
    inside, outer = miles.take(np.flatnonzero(fold != 0)), miles.take(np.flatnonzero(fold == 0))
    task = get("stellar_parameters")
    options = {k: v for k, v in task.options.items() if k != "initialise"}
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 256}
    task = replace(task, options={**options, "build": {"members": ["direct"], **sizes}})
    tests = (
        Test("LAMOST DR1", lamost.labels, lamost.prepared),
        Test("MILES, held out", outer.labels, outer.prepared),
    )

    def classical() -> dict[str, dict[str, np.ndarray]]:
        baseline = StellarBaseline()
        baseline.fit(inside.examples, inside.prepared, seed=0)
        found: dict[str, dict[str, np.ndarray]] = {"kernel ridge": {}, "template match": {}}
        for test in tests:
            flux, ivar = (np.stack([one[n] for one in test.prepared]) for n in ("flux", "ivar"))
            found["kernel ridge"][test.name] = baseline.ridge.predict(flux, ivar)["base"]
            found["template match"][test.name] = np.stack(
                [baseline.match.predict(f, i)[0] for f, i in zip(flux, ivar, strict=True)]
            )
        return found

    figures: tuple[Figure, ...] = (
        ("log Teff", "dex", _median(0), False), ("log g", "dex", _median(1), False), ("[Fe/H]", "dex", _median(2), False),
    )  # fmt: skip
    return Data(
        task=task, trained_on=f"{len(inside.examples)} stars of MILES", train=inside.examples, prepared=inside.prepared,
        tests=tests, answer=lambda outputs: outputs["value"].mean(1), classical=classical,
        figures={test.name: figures for test in tests},
        ways=("lamost", "lsf", "noise", "velocity", "dust", "sky"),
    )  # fmt: skip


def _rank(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def _eros(root: Path) -> list[Example]:
    import pyarrow.parquet

    path = root / "lightcurves" / "eros1" / "eros1_variables.parquet"
    kinds = pyarrow.parquet.read_table(path, columns=["label"]).column("label").to_pylist()
    records = list(variable_data.read(path, root / "lightcurves"))
    chosen: dict[str, list[Any]] = {name: [] for name in EROS}
    for record, kind in sorted(zip(records, kinds, strict=True), key=lambda pair: _rank(pair[0].object_id)):
        if kind in chosen and len(chosen[kind]) < 2 * PER_CLASS:
            chosen[kind].append(record)
    return [
        Example(
            record=measure_light_curve(record, {}), labels={"variable_class": EROS[kind]}, group=record.object_id,
            origin="eros1",
        )
        for kind in sorted(chosen) for record in chosen[kind]
    ]  # fmt: skip


def variable(root: Path) -> Data:
    """EROS-1, four classes; RR Lyrae stars of SDSS Stripe 82 judge, and as many other stars of EROS-1."""
    task, stars = get("variable_star"), _eros(root)
    inside, outer = stars[::2], stars[1::2]
    rr = [measure_light_curve(record, {}) for record, _ in variable_data.stripe_82(root)[::3]]
    names = np.array(task.classes)
    used = [task.classes.index(name) for name in sorted(set(EROS.values()))]
    kept, prepared, _ = prepare_all(task, inside)
    tests = (
        Test("Stripe 82, RR Lyrae", np.array(["rrab"] * len(rr)), [task.prepare(record) for record in rr]),
        Test(
            "EROS-1, held out", np.array([e.labels["variable_class"] for e in outer]),
            [task.prepare(e.record) for e in outer],
        ),
    )  # fmt: skip

    def classical() -> dict[str, dict[str, np.ndarray]]:
        trees = BoostedTrees(task.classes, "variable_class")
        trees.fit(kept, prepared, seed=0)
        return {
            "boosted trees": {t.name: names[used][trees.probabilities(t.prepared)[:, used].argmax(1)] for t in tests}
        }

    def recall(truth: np.ndarray, answer: np.ndarray) -> float:
        return float(np.mean(answer == truth))

    return Data(
        task=task, trained_on=f"{len(kept)} stars of EROS-1 in four classes", train=kept, prepared=prepared, tests=tests,
        answer=lambda outputs: names[used][outputs["logits"][:, used].argmax(1)], classical=classical,
        figures={
            tests[0].name: (("recall of RR Lyrae", "", recall, True),),
            tests[1].name: (("macro-F1", "", macro_f1, True),),
        },
        ways=("rubin", "cadence", "bands"),
    )  # fmt: skip


TASKS: dict[str, Callable[[Path], Data]] = {"stellar_parameters": stellar, "variable_star": variable}
