"""Train and save the bundle of ``variable_star``: simulated sky on real stamps, and real RR Lyrae of half A.

python -m benchmarks.variable_train --data DATA --cache CACHE --output finetune/bundles/variable_star
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from benchmarks import variable_data
from finetune.bundle import Info
from finetune.bundle_writing import save_bundle
from finetune.predict import make_predictor
from finetune.task import Example, Task
from finetune.tasks import get
from finetune.train import Trained, predict_rows, train_task
from finetune.training_options import make_options

NOTES = {
    "intended_use": [
        "a first class for variable stars and transients with 12 or more visits in one to six bands",
        "beside the boosted trees, whose answer stands in the same row; the best answer is a weighted mean of both, which ties with the trees alone",
    ],
    "data": [
        "simulated light curves on synthetic stamps and on real stamps of SDSS Stripe 82 RR Lyrae and ZTF supernovae",
        "real RR Lyrae of SDSS Stripe 82, half of the stars (Sesar et al. 2010, ApJ 708, 717; SDSS data are public)",
        "stamps of ZTF Bright Transient Survey supernovae (Bellm et al. 2019, PASP 131, 018002; public)",
    ],
    "limits": [
        "all classes but RR Lyrae were learnt from simulations",
        "the probabilities hold for the simulated mix, in which all classes are equally frequent",
    ],
}


def cached_task() -> Task:
    """The task, taking what the cache holds instead of records."""
    return replace(get("variable_star"), prepare=variable_data.prepared)


def split(examples: list[Example], seed: int, share: float = 0.12) -> tuple[list[Example], list[Example]]:
    """Training and validation objects; no donor is on both sides."""
    groups = sorted({e.group for e in examples})
    held = set(np.random.default_rng(seed).permutation(groups)[: int(share * len(groups))].tolist())
    return [e for e in examples if e.group not in held], [e for e in examples if e.group in held]


def train(data: Path, cache: Path, sets: list[str], seed: int, **given: object) -> tuple[Trained, str]:
    """Train on the named sets."""
    examples = [e for name in sets for e in variable_data.load(name, data, cache)]
    inside, held = split(examples, seed)
    task = cached_task()
    trained = train_task(task, inside, held, make_options(task, {"seed": seed, **given}))
    return trained, variable_data.fingerprint(examples)


def judge(trained: Trained, examples: list[Example]) -> dict[str, dict[str, float]]:
    """Figures of the model, the trees and their mean."""
    task = cached_task()
    predictor = make_predictor(
        task, trained.models, trained.baseline, calibration=trained.calibration, rule=trained.rule
    )
    rows = predict_rows(predictor, [variable_data.prepared(e.record) for e in examples], task.batch_size)
    truth = [e.labels for e in examples]
    return {prefix or "model": task.metrics(rows, truth, prefix) for prefix in ("", "baseline_", "best_")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", default=["genA", "moreA", "hardA", "realA"])
    parser.add_argument("--steps", type=int)
    parser.add_argument("--members", type=int)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    trained, digest = train(args.data, args.cache, args.sets, args.seed, steps=args.steps, members=args.members)
    command = f"python -m benchmarks.variable_train --sets {' '.join(args.sets)} --seed {args.seed}"
    command += f" --steps {trained.options.steps} --members {trained.options.members}"
    figures = {name: judge(trained, variable_data.load(name, args.data, args.cache)) for name in ("realB", "hardB")}
    print(json.dumps(figures, indent=1))
    save(trained, args.output, command, digest, {"held_out": figures})


def save(trained: Trained, output: Path, command: str, digest: str, metrics: dict[str, object]) -> None:
    task = get("variable_star")
    info = Info(
        task=task.name, task_version=task.version, package_version=version("nightcat"), created_by=command,
        seed=trained.options.seed, data={"fingerprint": digest, "notes": NOTES, **trained.counts}, build=trained.build,
        training={"options": trained.options.as_dict(), "history": trained.history}, calibration=trained.calibration,
        rule=trained.rule, metrics=metrics, classes=task.classes,
    )  # fmt: skip
    bundle = save_bundle(
        output,
        info=info,
        models=trained.models,
        baseline=trained.baseline,
        storage=trained.options.storage,
        space=trained.space,
    )
    print(f"saved {bundle.path}, digest {bundle.digest[:16]}, rule {trained.rule}, calibration {trained.calibration}")


if __name__ == "__main__":
    main()
