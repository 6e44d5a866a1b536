"""Cross-validation and transfer test of the task ``stellar_parameters``.

    python -m benchmarks.stellar_folds train --data DATA --work WORK --folds 0 1 --seeds 0
    python -m benchmarks.stellar_folds report --data DATA --work WORK --seeds 0 1 2

Every net is a folder of WORK: what is finished is not trained again, so a run that was cut off goes on with the next
net, and folds and seeds may be added later. MILES: five folds, clusters kept whole. LAMOST is never trained on.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.stellar_data import CONDITIONS, Stars, degraded, load, split
from benchmarks.stellar_report import Run, by_seed, coverages, summary, table, transfer, verdicts
from benchmarks.stellar_train import fit_net, fitted_baseline, predictions, ridge_of
from finetune.bundle import bundled, load_bundle
from finetune.spectral_baselines import StellarBaseline
from finetune.spectral_model import SpectralEnsemble
from finetune.spectral_training import assemble
from finetune.tasks.stellar_parameters import TASK

N_FOLDS = 5
STEPS = {"direct": 1800, "residual": 1100}  #: Of the nets of the folds.


def fold_run(miles: Stars, fold: int, seed: int, work: Path) -> Run | None:
    """Answers for the outer stars of one fold under every condition, kept in a file; None: nets are missing."""
    path = work / f"fold{fold}-seed{seed}.npz"
    folds = split(miles.groups, N_FOLDS, 0)
    outer = miles.take(np.flatnonzero(folds == fold))
    if not path.exists():
        folders = [work / f"{fold}-{kind}-{seed + 2 * (kind == 'residual')}-{n}" for kind, n in STEPS.items()]
        if not all((folder / "member").exists() for folder in folders):
            return None
        train = miles.take(np.flatnonzero(folds != fold))
        nets = [SpectralEnsemble.from_pretrained(folder / "member").eval() for folder in folders]
        model, baseline = assemble(nets, ridge_of(nets[-1], train)), fitted_baseline(train)
        arrays = {}
        for condition in CONDITIONS:
            found = predictions(model, baseline, degraded(outer, condition, fold))
            arrays |= {f"{condition}|{name}": array for name, array in found.items()}
        np.savez(path, **arrays)
    stored = np.load(path)
    answers = {c: {k.split("|")[1]: stored[k] for k in stored.files if k.startswith(c + "|")} for c in CONDITIONS}
    return Run(fold, seed, outer.groups, answers)


def held_runs(model: SpectralEnsemble, baseline: StellarBaseline, miles: Stars) -> list[Run]:
    """The shipped bundle on the stars that it was not trained on, in two halves, so that one calibrates the other."""
    held = miles.take(np.flatnonzero(split(miles.groups, 8, 7) == 0))
    half = split(held.groups, 2, 0)
    found = {c: predictions(model, baseline, degraded(held, c, 3)) for c in CONDITIONS}
    return [
        Run(h, 0, held.take(np.flatnonzero(half == h)).groups, {c: {k: v[half == h] for k, v in part.items()} for c, part in found.items()})
        for h in (0, 1)
    ]  # fmt: skip


def report(options: argparse.Namespace, miles: Stars) -> None:
    """Write and print the figures of all folds whose nets are finished, and of the shipped bundle on LAMOST."""
    wanted = [(fold, seed) for fold in options.folds for seed in options.seeds]
    runs = [run for fold, seed in wanted if (run := fold_run(miles, fold, seed, options.work)) is not None]
    figures: dict[str, Any] = {"folds and seeds": [[run.fold, run.seed] for run in runs]}
    if runs:
        figures |= {"miles": summary(runs), "miles by seed": by_seed(runs)}
        print(table(figures["miles"]), *verdicts(figures["miles"]), sep="\n")
    if len({run.fold for run in runs}) > 1:
        figures["coverage"] = coverages(runs)
    bundle = load_bundle(bundled(TASK.name))
    model, baseline = bundle.models(TASK)[0], bundle.baseline(TASK)
    figures["bundle"] = bundle.digest[:16]
    halves = held_runs(model, baseline, miles)
    figures["held eighth"], figures["held eighth coverage"] = summary(halves), coverages(halves)
    print(table(figures["held eighth"]))
    figures["lamost"] = transfer(model, baseline, load(options.data, "lamost"))
    print(json.dumps({k: v for k, v in figures.items() if k not in ("miles", "held eighth")}, indent=1))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(figures, indent=1) + "\n")


def main(arguments: Sequence[str]) -> None:
    """Run one of the two commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("train", "report"))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--folds", type=int, nargs="*", default=list(range(N_FOLDS)))
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "stellar_parameters.json")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    miles = load(options.data, "miles")
    if options.command == "report":
        report(options, miles)
        return
    folds = split(miles.groups, N_FOLDS, 0)
    for fold in options.folds:
        for seed in options.seeds:
            for kind, steps in STEPS.items():
                stars = miles.take(np.flatnonzero(folds != fold))
                fit_net(stars, str(fold), kind, seed + 2 * (kind == "residual"), steps, options.work)


if __name__ == "__main__":
    main(sys.argv[1:])
