"""What the objects of ``nightcat label-queue`` are worth as labels, against objects drawn at random.

    python -m benchmarks.label_queue --data DATA --work WORK

The model of variable stars that ships meets EROS-1, a survey that it has not seen (four classes by eye; most stars are
of one). Of four fifths of the stars some are chosen to be labelled: by the queue as the command ranks them, by doubt
alone (the smallest margin between two classes), or at random, as often as there are seeds. The model goes on with their
labels; the last fifth judges. ``doubt`` and ``queue`` choose the same stars for every seed, which is then one of the
training alone. Intervals are 95 percent bootstrap over test stars, of the mean over seeds.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import label_efficiency_data as source
from benchmarks.methods import interval, resampled, scored, tuned, untouched
from finetune.bundle import bundled, load_bundle
from finetune.label_queue import queue, uncertainty
from finetune.neighbours import coordinates
from finetune.predict import load_predictor

HERE = Path(__file__).resolve().parent
WAYS = ("random", "doubt", "queue")


def ranked(data: source.Data, count: int) -> dict[str, list[int]]:
    """Training stars that doubt and the queue ask for."""
    predictor = load_predictor(bundled(data.task.name), threads=1, embeddings=True)
    rows = [
        row for i in range(0, len(data.prepared), 32) for row in predictor.predict(data.prepared[i : i + 32], size=32)
    ]
    vectors = np.array([row["embedding"] for row in rows], np.float64)
    points = coordinates(vectors, load_bundle(bundled(data.task.name)).space())
    doubt = np.argsort(-np.nan_to_num(uncertainty(data.task, rows)), kind="stable")
    return {"doubt": doubt.tolist()[:count], "queue": [i for i, _ in queue(data.task, rows, points, count)]}


def measure_all(data: source.Data, args: argparse.Namespace) -> dict[str, Any]:
    """Macro-F1 by way and number of labels, and what each way has over chance."""
    picks = resampled(len(data.truth))
    found: dict[str, Any] = {"labels": {}, "n_pool": len(data.train), "n_test": len(data.truth), "seeds": args.seeds}
    found["before"] = interval(scored(data, [untouched(data)], picks))
    for labels in args.labels:
        chosen = {way: [rows] * args.seeds for way, rows in ranked(data, labels).items()}
        chosen["random"] = [
            np.random.default_rng([labels, seed]).permutation(len(data.train))[:labels].tolist()
            for seed in range(args.seeds)
        ]
        scores, kinds = {}, {}
        for way in WAYS:
            answers = [tuned(data, rows, "full", seed, args)["answers"] for seed, rows in enumerate(chosen[way])]
            scores[way] = scored(data, answers, picks)
            kinds[way] = dict(Counter(str(data.train[i].labels["variable_class"]) for i in chosen[way][0]))
            print(labels, way, kinds[way], round(float(scores[way][0]), 3), flush=True)
        found["labels"][str(labels)] = {
            way: {
                "macro_f1": interval(scores[way]),
                "over_random": interval(scores[way] - scores["random"]),
                "classes": kinds[way],
            }
            for way in WAYS
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--labels", type=int, nargs="+", default=[30, 100])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=150)
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.work.mkdir(parents=True, exist_ok=True)
    command = (
        "python -m benchmarks.label_queue --data DATA --work WORK "
        f"--labels {' '.join(map(str, args.labels))} --seeds {args.seeds} --steps {args.steps}"
    )
    found = {"command": command, **measure_all(source.variable(args.data, args.work), args)}
    (HERE / "results" / "label_queue.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
