"""Nets of ``stellar_parameters``, one a folder of WORK, and the bundle that ships.

    python -m benchmarks.stellar_train --data DATA --work WORK

What is finished is not trained again: a run that was cut off goes on with the next net.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import finetune
from benchmarks.stellar_data import CONDITIONS, Stars, degraded, load, split
from finetune.bundle import Info
from finetune.bundle_writing import save_bundle
from finetune.network import Network, run_network
from finetune.predict import classical_rows, learned_rows, make_predictor
from finetune.spectral_baselines import StellarBaseline, inner_folds
from finetune.spectral_model import SpectralEnsemble
from finetune.spectral_ridge import KernelRidge
from finetune.spectral_training import RECIPE, assemble, train_member
from finetune.stellar_labels import quality, vector
from finetune.tasks.stellar_parameters import TASK, combine, quality_numbers
from finetune.train import predict_rows
from finetune.weights import round_weights
from pipeline.version import version

SHIPPED = (("direct", 0, 2000), ("direct", 1, 2000), ("residual", 2, 1300))
NOTES = {
    "intended_use": [
        "Teff, log g and [Fe/H] of single stars of type B to M (98 % of the training stars lie between 3,450 and 19,600 K) from "
        "optical spectra of any grid and of R of about 500 or more that cover a third or more of 3,800 to 7,200 Angstrom",
        "beside kernel ridge and template match, whose answers stand in the same row",
    ],
    "data": [
        "MILES library, 819 stars with three catalogue labels (Sanchez-Blazquez et al. 2006, MNRAS 371, 703; Cenarro et al. "
        "2007, MNRAS 374, 664); public, to be cited. Seven eighths train, one eighth sets the errors and the rule; "
        "clusters are kept whole",
        "degraded on the fly: noise, broadening, velocity, flux calibration, gaps, arms that are missing",
    ],
    "limits": [
        "not for galaxies, quasars, white dwarfs, emission-line stars or blends: nothing in the training is one, and the "
        "flag OUT_OF_SUPPORT catches only what fits no star at all",
        "with the red half of the range alone [Fe/H] is worse than that of the kernel ridge",
        "labels are those of the MILES catalogue with its own zero points: see the biases against LAMOST below",
        "the errors were calibrated on degraded MILES spectra; on another survey they hold only roughly (see coverage)",
    ],
}


def fit_net(stars: Stars, tag: str, kind: str, seed: int, steps: int, work: Path) -> tuple[SpectralEnsemble, Any]:
    """One net and the kernel ridge of its training stars."""
    folds = inner_folds(stars.groups, 1)
    flux, ivar = stars.array("flux"), stars.array("ivar")
    ridge = None
    if kind == "residual":
        ridge = KernelRidge.fit(flux, ivar, stars.labels, stars.groups, folds, keys=stars.array("star"))
    arrays = {"flux": flux, "ivar": ivar, "labels": stars.labels, "fold": folds}
    start = time.process_time()
    net = train_member(kind, arrays, ridge, steps=steps, seed=seed, folder=work / f"{tag}-{kind}-{seed}-{steps}")
    print(f"{tag} {kind} seed {seed}: {steps} steps, {time.process_time() - start:.0f} CPU s", flush=True)
    return net, ridge


def ridge_of(net: SpectralEnsemble, train: Stars) -> KernelRidge:
    """The kernel ridge inside of a residual net, with the keys of its training stars."""
    arrays = {name: getattr(net, f"ridge_{name}").numpy() for name in KernelRidge.FLOATS}
    return KernelRidge(arrays | {"keys": train.array("star"), "folds": inner_folds(train.groups, 1)})


def predictions(model: SpectralEnsemble, baseline: StellarBaseline, stars: Stars) -> dict[str, np.ndarray]:
    """Labels by every method, the stated error and the class of quality."""
    outputs = run_network(Network([model], torch.device("cpu")), stars.prepared, 32)
    value, stated = combine(outputs)
    rows = baseline.predict(stars.prepared)
    ridge, match = (np.stack([vector(row, prefix) for row in rows]) for prefix in ("baseline_", "baseline_match_"))
    sn, cover = quality_numbers(stars.prepared)
    names = np.array([quality(sn[i], cover[i, 1], cover[i, 2]) for i in range(len(sn))])
    return {
        "model": value, "ridge": ridge, "match": match, "mean": 0.5 * (value + ridge), "stated": stated,
        "truth": stars.labels.astype(float), "class": names,
    }  # fmt: skip


def fitted_baseline(stars: Stars) -> StellarBaseline:
    """Kernel ridge and templates of these stars."""
    baseline = StellarBaseline()
    baseline.fit(stars.examples, stars.prepared, seed=1)
    return baseline


def shipped(miles: Stars, work: Path, data: Path) -> dict[str, Any]:
    """Make the bundle: nets on seven eighths of MILES, errors and rule on the last eighth, clean and degraded."""
    eighth = split(miles.groups, 8, 7)
    train, held = miles.take(np.flatnonzero(eighth != 0)), miles.take(np.flatnonzero(eighth == 0))
    nets, ridge = [], None
    for kind, seed, steps in SHIPPED:
        folder = work / f"ship-{kind}-{seed}-{steps}" / "member"
        net = SpectralEnsemble.from_pretrained(folder).eval() if folder.exists() else None
        net = net or fit_net(train, "ship", kind, seed, steps, work)[0]
        ridge = ridge_of(net, train) if kind == "residual" else ridge
        nets.append(net)
    model, baseline = assemble(nets, ridge), fitted_baseline(train)
    round_weights(model, "fp16")
    parts = [degraded(held, c, 7) for c in CONDITIONS[:-1]] + [degraded(held, "random", 50 + i) for i in range(8)]
    prepared = [item for part in parts for item in part.prepared]
    examples = [example for part in parts for example in part.examples]
    outputs = run_network(Network([model], torch.device("cpu")), prepared, TASK.batch_size)
    calibration = TASK.calibrate(outputs, prepared, [TASK.encode(example.labels) for example in examples])
    learned = predict_rows(learned_rows(TASK, [model], calibration, device="cpu"), prepared, TASK.batch_size)
    classical = predict_rows(classical_rows(TASK, baseline), prepared, TASK.batch_size)
    rule = TASK.fit_rule(learned, classical, [example.labels for example in examples])
    predictor = make_predictor(TASK, [model], baseline, calibration=calibration, rule=rule, device="cpu")
    clean = predict_rows(predictor, held.prepared, TASK.batch_size)
    labels = [example.labels for example in held.examples]
    metrics = {p or "model_": TASK.metrics(clean, labels, p) for p in ("", "baseline_", "baseline_match_", "best_")}
    files = sorted((data / "spectra" / "miles").iterdir())
    files.append(data / "spectra" / "miles_labels.csv")
    digest = hashlib.sha256(b"".join(hashlib.sha256(f.read_bytes()).digest() for f in files)).hexdigest()
    options = {"steps": SHIPPED[0][2], **RECIPE, "nets": [list(m) for m in SHIPPED], "storage": "fp16"}
    bundle = save_bundle(
        Path(finetune.__file__).parent / "bundles" / TASK.name, models=[model], baseline=baseline,
        info=Info(
            task=TASK.name, task_version=TASK.version, package_version=version(),
            created_by="python -m benchmarks.stellar_train --data DATA --work WORK", seed=0,
            data={
                "fingerprint": digest, "train": len(train.examples), "validation": len(held.examples),
                "origins": {"MILES": len(miles.examples)}, "notes": NOTES,
                "split": "by star and cluster, 8 parts, seed 7, part 0 for errors and rule",
            },
            build={"members": list(model.config.members)},
            training={"options": options, "degradation": "spectral_augment.Degradation()"},
            calibration=calibration, rule=rule, metrics={k: dict(v) for k, v in metrics.items()},
        ),
    )  # fmt: skip
    size = sum(f.stat().st_size for f in bundle.path.rglob("*") if f.is_file())
    return {"digest": bundle.digest, "bytes": size, "rule": rule["method"], "metrics": metrics}


def main() -> None:
    """Train what is missing and save the bundle."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(json.dumps(shipped(load(options.data, "miles"), options.work, options.data), indent=1))


if __name__ == "__main__":
    main()
