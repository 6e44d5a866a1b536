"""What a pretrained backbone is worth at 10, 30, 100, 300 and all labels: real labelled objects, split by group.

    python -m benchmarks.label_efficiency --task stellar_parameters --data DATA --work WORK
    python -m benchmarks.label_efficiency --task variable_star --data DATA --work WORK
    python -m benchmarks.label_efficiency --task galaxy_morphology --data DATA --work WORK

``scratch``: a network with random weights; ``pretrained``: the same network, the same training, its backbone from
``nightcat pretrain``; ``frozen``: that with only the head trained; ``elsewhere``: a frozen network that was pretrained
on something else (a language model for spectra and light curves, ImageNet for stamps), with what leads into it and out
of it trained; ``classical``: what needs no network. All get the same labelled objects. No test object is among the
files of the pretraining. Nets are trained for the same number of steps; no label beyond those counted is used, so there
is no choice of a best state. Intervals are 95 percent bootstrap over test objects, of the mean over seeds. What is
finished lies in WORK and is not run again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import label_efficiency_data as source
from finetune.arguments import pair
from finetune.backbone_source import open_backbone
from finetune.methods import apply_method, finish_method, parse_method
from finetune.network import Network, run_network
from finetune.pretrain import run_pretrain
from finetune.pretrained import load_pretrained
from finetune.task import Task
from finetune.train import start_model, with_backbone
from finetune.trainer import SurveyTrainer
from finetune.training_options import make_options, read_settings

DRAWS = 2000
HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Way:
    """How a network comes to its weights."""

    filled: bool  #: Whether the backbone has what it was pretrained to.
    method: str
    elsewhere: bool = False  #: Whether the backbone is the one from elsewhere.


WAYS = {
    "scratch": Way(False, "full"),
    "pretrained": Way(True, "full"),
    "frozen": Way(True, "head"),
    "elsewhere": Way(True, "head", elsewhere=True),
}


@dataclass(frozen=True)
class Figure:
    """A figure of merit."""

    name: str
    score: Callable[[np.ndarray, np.ndarray], float]  # of truth and answers
    higher: bool


def backbone(data: source.Data, args: argparse.Namespace) -> Path:
    """The pretrained backbone, made on the files of the training side alone."""
    folder = args.work / f"backbone_{args.task}_{args.pretrain_steps}"
    if not (folder / "nightcat_pretrained.json").is_file():
        sizes = read_settings(args.sizes)
        options = {**sizes, "steps": args.pretrain_steps, "checkpoints": str(folder) + ".work", "resume": True}
        run_pretrain(
            data.modality, [str(f) for f in data.files], folder, options=options,
            command=f"benchmarks.label_efficiency --task {args.task} --pretrain-steps {args.pretrain_steps}",
            say=lambda text: print(text, flush=True),
        )  # fmt: skip
    return folder


def trained(data: source.Data, folder: Path, way: Way, rows: list[int], seed: int, args: argparse.Namespace) -> Any:
    """One net, trained for a fixed number of steps on a few labels."""
    given: dict[str, Any] = {
        "steps": args.steps, "batch_size": args.batch_size, "evaluations": 0, "seed": seed, "learning_rate": args.rate,
        "method": way.method, "ema": 0.98, "bf16": way.elsewhere,
    }  # fmt: skip
    name = data.elsewhere if way.elsewhere else str(folder)
    if way.filled:
        given["backbone"] = name
    build = open_backbone(name, data.task).build_options(data.task.options.get("build", {}))
    task, options = with_backbone(data.task, build, make_options(data.task, given))
    if not way.filled:  # nothing was learnt that a smaller rate should keep
        options = replace(options, lr_factors=data.task.options["training"].get("lr_factors", {}))
    examples, prepared = [data.train[i] for i in rows], [data.prepared[i] for i in rows]
    model = start_model(task, build, examples, prepared, data.baseline(rows), options)
    if not (data.start_trains_head and way.method == "head"):
        model = apply_method(model, parse_method(way.method), task.options["head"])
        pairs = [(one, task.encode(e.labels)) for e, one in zip(examples, prepared, strict=True)]
        SurveyTrainer(task, model, pairs, [], options, seed, str(args.work / f"scratch_{task.name}")).fit()
    return finish_method(model).eval()


def answers(task: Task, model: torch.nn.Module, data: source.Data) -> dict[str, np.ndarray]:
    """What a net says of the test objects, under each condition."""
    network = Network([model], torch.device("cpu"))
    return {name: data.answer(run_network(network, prepared, 32)) for name, prepared in sorted(data.conditions.items())}


def chosen(data: source.Data, labels: int, seed: int) -> list[int]:
    """Training objects whose labels are used: whole strata in turn, at random within them."""
    seen: dict[str, int] = {}
    ranked = []
    for place, index in enumerate(np.random.default_rng([labels, seed]).permutation(len(data.train)).tolist()):
        stratum = data.stratum(data.train[index])
        seen[stratum] = seen.get(stratum, 0) + 1
        ranked.append((seen[stratum], place, index))
    return sorted(index for _, _, index in sorted(ranked)[:labels])


def run_one(
    data: source.Data, folder: Path, labels: int, seed: int, args: argparse.Namespace
) -> dict[str, dict[str, np.ndarray]]:
    """Answers of all ways for one draw of labels, kept in a file for each way."""
    rows = chosen(data, labels or len(data.train), seed)
    found = {}
    for name in (*WAYS, "classical"):
        path = args.work / f"{args.task}_{labels}_{seed}_{args.steps}_{args.pretrain_steps}_{name}.npz"
        if not path.exists():
            start = time.process_time()
            if name == "classical":
                said = data.classical([data.train[i] for i in rows], [data.prepared[i] for i in rows])
            else:
                said = answers(data.task, trained(data, folder, WAYS[name], rows, seed, args), data)
            np.savez(path, **said)
            print(f"{len(rows)} labels, seed {seed}, {name}: {time.process_time() - start:.0f} CPU s", flush=True)
        found[name] = dict(np.load(path))
    return found


def intervals(
    truth: np.ndarray, runs: Sequence[dict[str, dict[str, np.ndarray]]], condition: str, figure: Figure
) -> dict[str, list[float]]:
    """Each way's figure, and its gain over training from scratch, paired: value, low, high; mean over seeds."""
    rng = np.random.default_rng(0)
    picks = [np.arange(len(truth)), *(rng.integers(0, len(truth), len(truth)) for _ in range(DRAWS))]
    ways = list(runs[0])
    scores = {
        way: np.array([np.mean([figure.score(truth[p], run[way][condition][p]) for run in runs]) for p in picks])
        for way in ways
    }
    sign = 1 if figure.higher else -1
    scores |= {f"{way}_gain": sign * (scores[way] - scores["scratch"]) for way in ways if way != "scratch"}
    return {way: [round(float(v), 5) for v in (s[0], *np.percentile(s[1:], [2.5, 97.5]))] for way, s in scores.items()}


def command(args: argparse.Namespace) -> str:
    """How the figures are made again."""
    sizes = " ".join(f"{name}={value}" for name, value in args.sizes)
    return (
        f"python -m benchmarks.label_efficiency --task {args.task} --data DATA --work WORK "
        f"--labels {' '.join(str(n or 'all') for n in args.labels)} --seeds {args.seeds} --steps {args.steps} "
        f"--batch-size {args.batch_size} --rate {args.rate:g} --pretrain-steps {args.pretrain_steps}"
    ) + (f" --sizes {sizes}" if sizes else "")


def report(data: source.Data, folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """All figures."""
    runs = {n: [run_one(data, folder, n, seed, args) for seed in range(args.seeds)] for n in args.labels}
    info = load_pretrained(folder).info
    figures = {
        condition: {
            figure.name: {str(n or "all"): intervals(data.truth, runs[n], condition, figure) for n in args.labels}
            for figure in (Figure(*f) for f in data.figures)
        }
        for condition in data.conditions
    }
    return {
        "task": args.task, "labels": [n or "all" for n in args.labels], "n_train": len(data.train), "seeds": args.seeds, "steps": args.steps, "draws": DRAWS,
        "batch_size": args.batch_size, "learning_rate": args.rate, "n_test": len(data.truth),
        "sizes": info["sizes"], "elsewhere": data.elsewhere, "command": command(args),
        "pretraining": {
            "records": info["data"]["counts"]["train"], "steps": info["options"]["steps"],
            "masked_error": info["masked_error"], "fingerprint": info["data"]["fingerprint"], "data": data.note,
        },
        "figures": figures,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=sorted(source.TASKS), required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument(
        "--labels", type=lambda text: 0 if text == "all" else int(text), nargs="+", default=[10, 30, 100, 300, 0]
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--pretrain-steps", type=int, default=4000)
    parser.add_argument(
        "--sizes", nargs="*", default=[], type=pair, metavar="SIZE=N", help="of the network, where not the task's own"
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.work.mkdir(parents=True, exist_ok=True)
    data = source.TASKS[args.task](args.data, args.work)
    folder = backbone(data, args)
    found = report(data, folder, args)
    (HERE / "results").mkdir(exist_ok=True)
    path = HERE / "results" / f"label_efficiency_{args.task}.json"
    path.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found["figures"], indent=1))
    from benchmarks.label_efficiency_page import write_page

    print(write_page(HERE / "results", HERE.parent / "docs" / "label_efficiency.md"))


if __name__ == "__main__":
    main()
