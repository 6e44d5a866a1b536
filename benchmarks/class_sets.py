"""Give the bundle that ships its sets of classes, and measure whether they hold the truth on other objects.

``python -m benchmarks.class_sets --data DATA``

The floors come from simulated variables of a draw that neither the training nor its calibration has seen; weights,
calibration and rule stay as they were. Judged are another such draw, the real RR Lyrae of Stripe 82 that were never
trained on, and EROS-1, another survey. ``galaxy_morphology`` has no real stamps whose label names one class and that may
be used for what ships, so its bundle has no sets, and its column is null.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import variable_data as source
from finetune.bundle import bundled, load_bundle
from finetune.bundle_writing import derive_bundle
from finetune.class_sets import KEY, class_set, fit_floors, set_prefixes, set_report
from finetune.predict import load_predictor
from finetune.task import Example
from finetune.tasks import get
from finetune.train import predict_rows

RESULTS = Path(__file__).resolve().parent / "results" / "class_sets.json"
TASK, LABEL = "variable_star", "variable_class"
EROS = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    task, bundle = get(TASK), load_bundle(bundled(TASK))
    predictor = load_predictor(bundle.path)
    stars = source.halves(source.stripe_82(args.data))
    stamps = [source.donor(record, 22.3, 0.01) for record, _ in stars[0]]
    every = stamps + source.ztf_donors(args.data)

    def simulated(n: int, seed: int) -> list[Example]:
        easy = source.simulated(3 * n // 4, seed, every, False, "sim")
        return easy + source.simulated(n // 4, seed + 1, stamps, True, "hard")

    def rows(examples: Sequence[Example]) -> list[dict[str, Any]]:
        return predict_rows(predictor, [source.prepared(e.record) for e in examples], task.batch_size)

    tuned = simulated(800, 81)
    answers = rows(tuned)
    target = np.array([task.classes.index(e.labels[LABEL]) for e in tuned])
    fitted = {
        prefix: fit_floors(
            np.array([[row[f"{prefix}p_{name}"] for name in task.classes] for row in answers], np.float64),
            target, task.classes,
        )
        for prefix in set_prefixes(task)
    }  # fmt: skip
    sets = {
        "another simulated draw": simulated(400, 91),
        "Stripe 82 RR Lyrae of the other half": source.real_rr(stars[1]),
        "EROS-1, another survey": eros(args.data),
    }
    kept: dict[str, Any] = {"n": fitted[""]["n"], "level": fitted[""]["level"], "floors": fitted, "sets": {}}
    for name, examples in sets.items():
        found = rows(examples)
        for row in found:
            row.update({f"{prefix}class_set": class_set(row, prefix, fitted[prefix]) for prefix in fitted})
        labels, groups = [e.labels for e in examples], [e.group for e in examples]
        kept["sets"][name] = {
            prefix or "learned": set_report(task, found, labels, groups, prefix)["classes"] for prefix in fitted
        }
        print(name, json.dumps(kept["sets"][name]["best_"]["all"]))
    RESULTS.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    made = bundle.info.created_by.split("; python -m benchmarks.class_sets")[0]
    command = "python -m benchmarks.class_sets --data DATA"
    calibration = {**bundle.info.calibration, KEY: fitted}
    new = derive_bundle(bundle, bundle.path, calibration=calibration, created_by=f"{made}; {command}")
    print("saved", new.path, new.digest[:16])


def eros(data: Path) -> list[Example]:
    """Some stars of EROS-1 by class: eclipsing binaries, which may be of either kind, are left out."""
    import pyarrow.parquet

    path = data / "lightcurves" / "eros1" / "eros1_variables.parquet"
    names = pyarrow.parquet.read_table(path, columns=["label"]).column("label").to_pylist()
    kinds = {name: kind for name in set(names) if (kind := _kind(name))}
    records = list(source.read(path, data / "lightcurves"))
    chosen = [i for i in np.random.default_rng(0).permutation(len(records)) if names[i] in kinds][:EROS]
    return [source.ready(records[i], {LABEL: kinds[names[i]]}, records[i].object_id, "eros1") for i in chosen]


def _kind(name: str) -> str:
    low = str(name).lower()
    return "cepheid" if "cep" in low else "lpv" if "mira" in low or "lpv" in low else ""


if __name__ == "__main__":
    main()
