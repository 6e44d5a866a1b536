"""Flip real labels and see which are found: variable stars of EROS-1, classes by eye, boosted trees out of fold.

``python -m benchmarks.label_noise --data DATA``
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.variable_data import prepared, read, ready
from finetune.label_noise import find_suspects, out_of_fold
from finetune.task import Example
from finetune.tasks import get

RESULTS = Path(__file__).resolve().parent / "results" / "label_noise.json"
LABEL = "variable_class"


def stars(data: Path, count: int) -> list[Example]:
    """Some of EROS-1, measured; its four classes under names of ours that stand for them."""
    import pyarrow.parquet

    path = data / "lightcurves" / "eros1" / "eros1_variables.parquet"
    names = pyarrow.parquet.read_table(path, columns=["label"]).column("label").to_pylist()
    kinds = dict(zip(sorted(set(names)), ("cepheid", "ew", "lpv", "rrab"), strict=True))
    print(kinds)
    records = list(read(path, data / "lightcurves"))
    chosen = np.sort(np.random.default_rng(0).permutation(len(records))[:count])
    found = [ready(records[i], {LABEL: kinds[names[i]]}, records[i].object_id, "eros1") for i in chosen]
    # what ``ready`` leaves of a record has no data, and the same data would be one group
    return [replace(e, record=replace(e.record, time=np.array([float(i)]))) for i, e in enumerate(found)]


def judged(examples: list[Example], share: float, seed: int) -> dict[str, Any]:
    """Suspects of labels of which a share was flipped; of none flipped, how many are suspected."""
    task, rng = get("variable_star"), np.random.default_rng(seed)
    kinds = sorted({e.labels[LABEL] for e in examples})
    wrong = set(rng.permutation(len(examples))[: round(share * len(examples))].tolist())
    flipped = [
        replace(e, labels={LABEL: str(rng.choice([k for k in kinds if k != e.labels[LABEL]]))}) if i in wrong else e
        for i, e in enumerate(examples)
    ]
    kept, rows = out_of_fold(task, flipped, [prepared(e.record) for e in flipped], seed=seed)
    found = {one.object_id for one in find_suspects(task, rows, kept, "baseline_")}
    truly = {examples[i].record.object_id for i in wrong}
    hits = len(found & truly)
    return {"n": len(examples), "flipped": len(truly), "suspected": len(found), "hits": hits,
            "precision": hits / len(found) if found else None, "recall": hits / len(truly) if truly else None,
            "suspects": sorted(found) if not truly else []}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--count", type=int, default=800)
    args = parser.parse_args()
    examples = stars(args.data, args.count)
    kept = {}
    for share in (0.0, 0.05, 0.2):
        kept[f"{share:g}"] = judged(examples, share, 1)
        print(share, {k: v for k, v in kept[f"{share:g}"].items() if k != "suspects"})
    untouched = set(kept["0"].pop("suspects"))
    kept["0"]["first"] = sorted(untouched)[:10]
    for one in kept.values():
        one.pop("suspects", None)
    RESULTS.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
