"""Trained on one survey, tested on another: with and without each augmentation, beside the classical answer.

    python -m benchmarks.transfer --task stellar_parameters --data DATA --work WORK
    python -m benchmarks.transfer --task variable_star --data DATA --work WORK

``nothing``: the network without any augmentation; ``own``: with the task's own augmentation of batches; a name: with
augmented copies of the training objects and nothing else; ``own+NAMES``: with both. All ways have the same seed, the
same training objects and the same number of steps, and the last state is kept, so that no test object chooses anything.
Intervals are 95 percent bootstrap over test objects. It is small: one seed, a small network, few steps. What is
finished lies in WORK and is not run again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import transfer_data as source
from finetune.augment.copies import make_copies
from finetune.network import Network, run_network
from finetune.train import start_model
from finetune.trainer import SurveyTrainer
from finetune.training_options import make_options

DRAWS = 2000
HERE = Path(__file__).resolve().parent
Answers = dict[str, np.ndarray]


def trained(data: source.Data, way: str, args: argparse.Namespace) -> tuple[torch.nn.Module, dict[str, Any]]:
    """One net, trained one way; what was done to the copies."""
    own, _, names = way.partition("+") if way.startswith("own") else ("", "", "" if way == "nothing" else way)
    task = data.task if own else replace(data.task, augment=None)
    given = {
        "steps": args.steps, "batch_size": args.batch_size, "evaluations": 0, "learning_rate": args.rate, "ema": 0.99,
        "augment": names, "augment_copies": args.copies,
    }  # fmt: skip
    options = make_options(task, given)
    copies = make_copies(task, data.train, data.prepared, options.augment, options.augment_copies, options.seed)
    examples, prepared = [*data.train, *copies.examples], [*data.prepared, *copies.prepared]
    model = start_model(task, task.options["build"], data.train, data.prepared, task.baseline(), options)
    pairs = [(one, task.encode(e.labels)) for e, one in zip(examples, prepared, strict=True)]
    SurveyTrainer(task, model, pairs, [], options, options.seed, str(args.work / "scratch")).fit()
    return model.eval(), {"copies": len(copies.examples), "changed": copies.changed, "replaced": copies.replaced}


def run_way(data: source.Data, way: str, args: argparse.Namespace) -> tuple[Answers, dict[str, Any]]:
    """Answers of one way on all tests, kept in a file."""
    stem = f"{args.task}_{way.replace(',', '-')}_{args.steps}_{args.batch_size}_{args.copies}"
    path, notes = args.work / f"{stem}.npz", args.work / f"{stem}.json"
    if not notes.exists():
        start = time.process_time()
        model, done = trained(data, way, args)
        network = Network([model], torch.device("cpu"))
        np.savez(path, **{t.name: data.answer(run_network(network, t.prepared, 32)) for t in data.tests})
        notes.write_text(json.dumps(done))
        print(f"{way}: {time.process_time() - start:.0f} CPU s, {done}", flush=True)
    stored = np.load(path)
    return {t.name: stored[t.name] for t in data.tests}, json.loads(notes.read_text())


def intervals(test: source.Test, figure: source.Figure, answers: Mapping[str, Answers]) -> dict[str, Any]:
    """Each way's figure, and its gain over the network without augmentation, paired: value, low, high."""
    _, _, score, higher = figure
    rng = np.random.default_rng(0)
    n = len(test.truth)
    picks = [np.arange(n), *(rng.integers(0, n, n) for _ in range(DRAWS))]
    scores = {w: np.array([score(test.truth[p], a[test.name][p]) for p in picks]) for w, a in answers.items()}
    sign = 1 if higher else -1
    gains = {w: sign * (s - scores["nothing"]) for w, s in scores.items() if w != "nothing"}

    def summary(values: np.ndarray) -> list[float]:
        return [round(float(v), 5) for v in (values[0], *np.percentile(values[1:], [2.5, 97.5]))]

    return {w: {"value": summary(s), "gain": summary(gains[w]) if w in gains else None} for w, s in scores.items()}


def command(args: argparse.Namespace) -> str:
    """How the figures are made again."""
    return (
        f"python -m benchmarks.transfer --task {args.task} --data DATA --work WORK --steps {args.steps} "
        f"--batch-size {args.batch_size} --rate {args.rate:g} --copies {args.copies}"
    )


def report(data: source.Data, args: argparse.Namespace) -> dict[str, Any]:
    """All figures."""
    together = ",".join(data.ways)
    ways = ("nothing", *data.ways, together, "own", f"own+{data.ways[0]}")
    answers, copies = {}, {}
    for way in ways:
        answers[way], copies[way] = run_way(data, way, args)
    classical = data.classical()
    found = {
        test.name: {
            "n": len(test.truth),
            "figures": {
                f[0]: {"unit": f[1], "higher": f[3], "ways": intervals(test, f, {**answers, **classical})}
                for f in data.figures[test.name]
            },
        }
        for test in data.tests
    }
    return {
        "task": args.task, "command": command(args), "trained_on": data.trained_on, "steps": args.steps,
        "batch_size": args.batch_size, "copies_of_each": args.copies, "draws": DRAWS, "ways": list(ways),
        "classical": sorted(classical), "copies": copies, "tests": found,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=sorted(source.TASKS), required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--copies", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.work.mkdir(parents=True, exist_ok=True)
    found = report(source.TASKS[args.task](args.data), args)
    (HERE / "results").mkdir(exist_ok=True)
    path = HERE / "results" / f"transfer_{args.task}.json"
    path.write_text(json.dumps(found, indent=1) + "\n")
    from benchmarks.transfer_page import write_page

    print(write_page(HERE / "results", HERE.parent / "docs" / "transfer.md"))


if __name__ == "__main__":
    main()
