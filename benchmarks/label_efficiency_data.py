"""Labelled objects, test objects and files for a pretraining of ``label_efficiency``, by task."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import stellar_data, variable_data
from benchmarks.variable_folds import macro_f1
from finetune.boosted_trees import BoostedTrees
from finetune.spectral_ridge import KernelRidge
from finetune.task import Example, Prepared, Task
from finetune.tasks import get

STELLAR_CONDITIONS = ("clean", "sn10")
#: EROS-1 kinds as classes of the task.
EROS = {"rr_lyrae": "rrab", "cepheid": "cepheid", "eclipsing_binary": "ea", "mira": "lpv"}


@dataclass(frozen=True)
class Data:
    """All that the benchmark needs of a task."""

    task: Task
    modality: str
    files: list[Path]  #: Of the pretraining.
    note: str  #: What they are.
    train: list[Example]
    prepared: list[Prepared]
    truth: np.ndarray  #: Of the test objects.
    conditions: Mapping[str, list[Prepared]]  #: Test objects, as several instruments see them.
    answer: Callable[[Mapping[str, np.ndarray]], np.ndarray]  #: Outputs of a net to answers.
    classical: Callable[[list[Example], list[Prepared]], dict[str, np.ndarray]]
    stratum: Callable[[Example], str]
    figures: tuple[tuple[str, Callable[[np.ndarray, np.ndarray], float], bool], ...]


def _median(column: int) -> Callable[[np.ndarray, np.ndarray], float]:
    def score(truth: np.ndarray, answer: np.ndarray) -> float:
        return float(np.nanmedian(np.abs(answer[:, column] - truth[:, column])))

    return score


def stellar(root: Path, work: Path) -> Data:
    """MILES: fold 0 of five judges, clusters kept whole; the other folds, LAMOST and SDSS are for the pretraining."""
    miles = stellar_data.load(root, "miles")
    fold = stellar_data.split(miles.groups, 5, 0)
    inside, outer = miles.take(np.flatnonzero(fold != 0)), miles.take(np.flatnonzero(fold == 0))
    task = get("stellar_parameters")
    options = {k: v for k, v in task.options.items() if k != "initialise"}
    task = replace(task, options={**options, "build": {"members": ["direct"]}})
    spectra = root / "spectra"
    files = [spectra / "miles" / example.record.source for example in inside.examples]
    files += sorted((spectra / "lamost_dr1").glob("*.fits*")) + sorted((spectra / "sdss_boss").glob("spec-*.fits"))
    tests = {c: stellar_data.degraded(outer, c, 0) for c in STELLAR_CONDITIONS}

    def classical(examples: list[Example], prepared: list[Prepared]) -> dict[str, np.ndarray]:
        flux, ivar = (np.stack([one[n] for one in prepared]) for n in ("flux", "ivar"))
        labels = np.stack([task.encode(e.labels)["labels"] for e in examples])
        groups = [e.group for e in examples]
        names = sorted(set(groups))
        folds = np.array([names.index(g) % 5 for g in groups], np.int64)
        ridge = KernelRidge.fit(flux, ivar, labels, groups, folds)
        return {c: ridge.predict(stars.array("flux"), stars.array("ivar"))["base"] for c, stars in tests.items()}

    return Data(
        task=task, modality="spectra", files=files,
        note=f"{len(inside.examples)} MILES stars of the training side, without their labels, {len(files) - len(inside.examples)} spectra of LAMOST DR1 and SDSS",
        train=inside.examples, prepared=inside.prepared, truth=outer.labels,
        conditions={c: stars.prepared for c, stars in tests.items()},
        answer=lambda outputs: outputs["value"].mean(1), classical=classical, stratum=lambda example: "",
        figures=(("log Teff", _median(0), False), ("log g", _median(1), False), ("[Fe/H]", _median(2), False)),
    )  # fmt: skip


def variable(root: Path, work: Path) -> Data:
    """EROS-1, four classes: four fifths of the stars lend labels, a fifth judges; it is not in the pretraining."""
    stars = [e for e in variable_data.load("eros", root, work) if e.labels["variable_class"] in EROS]
    stars = [replace(e, labels={"variable_class": EROS[e.labels["variable_class"]]}) for e in stars]
    held = [int(hashlib.sha256(e.group.encode()).hexdigest()[:8], 16) % 5 == 0 for e in stars]
    inside = [e for e, h in zip(stars, held, strict=True) if not h]
    outer = [e for e, h in zip(stars, held, strict=True) if h]
    task = replace(get("variable_star"), prepare=variable_data.prepared)
    names = np.array(task.classes)
    used = [task.classes.index(name) for name in sorted(set(EROS.values()))]
    test = [variable_data.prepared(e.record) for e in outer]
    curves = root / "lightcurves"
    files = sorted((curves / "rrlyr_s82").iterdir()) + sorted((curves / "snia_ztf_bts").iterdir())
    files += sorted(p for p in (curves / "ogle2_macho_small").rglob("*") if p.is_file())

    def classical(examples: list[Example], prepared: list[Prepared]) -> dict[str, np.ndarray]:
        trees = BoostedTrees(task.classes, "variable_class")
        trees.fit(examples, prepared, seed=0)
        return {"real": names[used][trees.probabilities(test)[:, used].argmax(1)]}

    return Data(
        task=task, modality="light_curves", files=files,
        note="light curves of SDSS Stripe 82 RR Lyrae, ZTF supernovae, OGLE-II and MACHO, without their labels",
        train=inside, prepared=[variable_data.prepared(e.record) for e in inside],
        truth=np.array([e.labels["variable_class"] for e in outer]), conditions={"real": test},
        answer=lambda outputs: names[used][outputs["logits"][:, used].argmax(1)], classical=classical,
        stratum=lambda example: str(example.labels["variable_class"]), figures=(("macro-F1", macro_f1, True),),
    )  # fmt: skip


TASKS: dict[str, Callable[[Path, Path], Any]] = {"stellar_parameters": stellar, "variable_star": variable}
