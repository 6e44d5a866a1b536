"""Figures of ``variable_star`` on data that it was not trained on; each part is kept in a JSON file and not run again.

    python -m benchmarks.variable_folds --data DATA --cache CACHE --bundle BUNDLE --results variable.json

Parts: ``period`` (real RR Lyrae, within one percent), ``trees_hard`` (boosted trees, five folds by donor;
``trees_fair``: no star near the limit), ``auc`` (can trees tell simulated RRab from real ones), ``bundle`` (model,
trees and mean on stars and donors of half B), ``seed_N`` (the same for a model trained on simulations alone),
``transfer`` (the bundle as it is on ZTF, OGLE and EROS), ``eros`` (four classes, five folds: forest, fine-tuned
transformer, mean). Intervals are 95 percent bootstrap over objects.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import variable_data
from benchmarks.variable_train import cached_task, train
from finetune.boosted_trees import BoostedTrees, table
from finetune.bundle import load_bundle
from finetune.predict import load_predictor, make_predictor
from finetune.task import Example
from finetune.tasks.variable_star import CLASSES, LABEL
from finetune.train import predict_rows
from transforms.readers import Source, identify
from transforms.records import FileRef

DRAWS = 1000


def macro_f1(truth: np.ndarray, answer: np.ndarray) -> float:
    names = np.unique(truth)
    hits = np.array([np.sum((truth == n) & (answer == n)) for n in names])
    return float(
        np.mean([2 * h / (np.sum(truth == n) + np.sum(answer == n)) for h, n in zip(hits, names, strict=True)])
    )


def accuracy(truth: np.ndarray, answer: np.ndarray) -> float:
    return float(np.mean(truth == answer))


def interval(score: Callable[..., float], *arrays: np.ndarray) -> list[float]:
    """Value and 95 percent bootstrap interval over objects."""
    rng = np.random.default_rng(0)
    n = len(arrays[0])
    draws = []
    for _ in range(DRAWS):
        pick = rng.integers(0, n, n)
        draws.append(score(*(a[pick] for a in arrays)))
    return [round(float(v), 4) for v in (score(*arrays), *np.percentile(draws, [2.5, 97.5]))]


def arrays_of(examples: list[Example]) -> tuple[np.ndarray, list[Any], np.ndarray]:
    prepared = [variable_data.prepared(e.record) for e in examples]
    return table(prepared), prepared, np.array([e.labels[LABEL] for e in examples])


def group_folds(groups: list[str], n: int = 5, seed: int = 0) -> np.ndarray:
    names = sorted(set(groups))
    order = np.random.default_rng(seed).permutation(len(names))
    fold = {name: int(k) % n for name, k in zip(names, order, strict=True)}
    return np.array([fold[g] for g in groups])


def period(args: argparse.Namespace) -> dict[str, Any]:
    root = args.data / "lightcurves"
    from transforms.period import measure_light_curve

    with (root / "labels.csv").open() as stream:
        rows = [r for r in csv.DictReader(stream) if r["file"].startswith("rrlyr_s82/")]
    right, second, spent = [], [], 0.0
    for row in rows:
        record = next(variable_data.read(root / row["file"], root))
        start = time.process_time()
        found = measure_light_curve(record, {}).measured
        spent += time.process_time() - start
        truth = float(row["period_d"])
        near = [abs(found[name] / truth - 1) < 0.01 for name in ("period", "period_2", "period_3") if name in found]
        right.append(near[0])
        second.append(any(near))
    kinds = np.array([r["class"] for r in rows])
    ok = np.array(right)
    return {
        "n": len(rows), "within_1_percent": interval(lambda a: float(a.mean()), ok),
        "rrab": float(ok[kinds == "RRab"].mean()), "rrc": float(ok[kinds == "RRc"].mean()),
        "any_of_three": float(np.mean(second)), "cpu_ms_whole_measurement": round(1e3 * spent / len(rows), 1),
    }  # fmt: skip


def trees_hard(args: argparse.Namespace, name: str = "hardB") -> dict[str, Any]:
    examples = variable_data.load(name, args.data, args.cache)
    _, prepared, truth = arrays_of(examples)
    fold = group_folds([e.group for e in examples])
    out = {}
    for name, cut in (("with_colours", 0), ("shape_only", 4)):
        answer = np.empty(truth.size, "U16")
        inputs = [
            {**p, "known": np.where(np.arange(p["known"].size) >= p["known"].size - cut, 0, p["known"])}
            for p in prepared
        ]
        for k in range(5):
            inside, held = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
            trees = BoostedTrees(CLASSES, LABEL)
            trees.fit([examples[i] for i in inside], [inputs[i] for i in inside], seed=0)
            answer[held] = np.array(CLASSES)[trees.probabilities([inputs[i] for i in held]).argmax(1)]
        out[name] = interval(macro_f1, truth, answer)
    out["median_points"] = float(np.median([p["seen"].sum() for p in prepared]))
    rr = [p for p, t in zip(examples, truth, strict=True) if t in ("rrab", "rrc")]
    log_period = np.array([10 ** variable_data.prepared(e.record)["numbers"][_place("log_period")] for e in rr])
    out["rr_periods_right"] = float(np.mean(np.abs(log_period / [e.labels["period"] for e in rr] - 1) < 0.01))
    return out


def _place(name: str) -> int:
    from finetune.light_curve_tokens import INPUTS

    return INPUTS.index(name)


def auc(args: argparse.Namespace) -> dict[str, Any]:
    """Simulated RRab on the stamps of half B against the real ones: 0.5 is a perfect simulation."""
    import lightgbm
    from sklearn.metrics import roc_auc_score

    from transforms.simulate.light_curve_shapes import draw
    from transforms.simulate.light_curves import simulate_light_curve

    real = [s for s in variable_data.halves(variable_data.stripe_82(args.data))[1] if s[1] == "rrab"]
    fake = []
    for index, (record, kind) in enumerate(real):
        rng = np.random.default_rng([77, index])
        stamps = variable_data.donor(record, 22.3, 0.01)
        fake.append(variable_data.ready(simulate_light_curve(draw(kind, rng), stamps, rng), {LABEL: kind}, "", ""))
    everything = [*variable_data.real_rr(real), *fake]
    x, _, _ = arrays_of(everything)
    y = np.arange(len(everything)) >= len(real)
    fold = np.arange(len(everything)) % len(real) % 5
    score = np.empty(y.size)
    for k in range(5):
        data = lightgbm.Dataset(x[fold != k], y[fold != k].astype(int))
        parameters = {"objective": "binary", "num_leaves": 15, "learning_rate": 0.05, "verbosity": -1, "num_threads": 1}
        score[fold == k] = lightgbm.train(parameters, data, 150).predict(x[fold == k])
    return {"n": len(real), "auc": interval(lambda a, b: float(roc_auc_score(a, b)), y, score)}


def figures(predictor: Any, examples: list[Example]) -> dict[str, Any]:
    """Figures of the model, the trees and their mean."""
    task = cached_task()
    _, prepared, truth = arrays_of(examples)
    rows = predict_rows(predictor, prepared, task.batch_size)
    out: dict[str, Any] = {"n": len(examples)}
    answers = {}
    for prefix, who in (("", "model"), ("baseline_", "trees"), ("best_", "mean")):
        answers[who] = np.array([row[f"{prefix}{LABEL}"] or "" for row in rows])
        found = task.metrics(rows, [e.labels for e in examples], prefix)
        out[who] = {
            "accuracy": interval(accuracy, truth, answers[who]), "macro_f1": interval(macro_f1, truth, answers[who]),
            "ece": round(found["ece"], 4), "recall": {k[7:]: round(v, 3) for k, v in found.items() if "recall" in k},
        }  # fmt: skip
    for name, score in (("macro_f1", macro_f1), ("accuracy", accuracy)):
        out[f"mean_less_trees_{name}"] = interval(
            lambda t, a, b, score=score: score(t, a) - score(t, b), truth, answers["mean"], answers["trees"]
        )
    wrong = [f"{t}->{a}" for t, a in zip(truth, answers["mean"], strict=True) if t != a]
    out["errors_of_mean"] = {k: wrong.count(k) for k in sorted(set(wrong), key=lambda k: (-wrong.count(k), k))[:8]}
    return out


def bundle(args: argparse.Namespace) -> dict[str, Any]:
    predictor = load_predictor(args.bundle)
    return {
        name: figures(predictor, variable_data.load(name, args.data, args.cache))
        for name in ("hardB", "fairB", "realB")
    }


def seed(args: argparse.Namespace, number: int) -> dict[str, Any]:
    """Simulations alone."""
    trained, _ = train(args.data, args.cache, ["genA", "hardA"], number, steps=args.steps)
    predictor = make_predictor(
        cached_task(), trained.models, trained.baseline, calibration=trained.calibration, rule=trained.rule
    )
    found = {
        name: figures(predictor, variable_data.load(name, args.data, args.cache))
        for name in ("hardB", "fairB", "realB")
    }
    return {**found, "rule": dict(trained.rule)}


def eros(args: argparse.Namespace) -> dict[str, Any]:
    """Four real classes; human periods are not used. The shipped network is the start of each fold's fine-tuning."""
    from sklearn.ensemble import RandomForestClassifier

    examples = variable_data.load("eros", args.data, args.cache)
    x, prepared, truth = arrays_of(examples)
    names = np.unique(truth)
    target = np.searchsorted(names, truth)
    fold = np.random.default_rng(0).permutation(len(truth)) % 5
    stored = load_bundle(args.bundle)
    forest, network = np.empty((len(truth), names.size)), np.empty((len(truth), names.size))
    filled = np.nan_to_num(x, nan=-9.0)
    for k in range(5):
        inside, held = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        trees = RandomForestClassifier(500, class_weight="balanced_subsample", random_state=0, n_jobs=1)
        forest[held] = trees.fit(filled[inside], target[inside]).predict_proba(filled[held])
        model = stored.models(stored.task())[0]
        network[held] = tuned(model, [prepared[i] for i in inside], target[inside], [prepared[i] for i in held], k)
    found = {}
    for who, p in (("forest", forest), ("transformer", network), ("mean", forest + network)):
        found[who] = {"macro_f1": interval(macro_f1, truth, names[p.argmax(1)])}
        found[who]["recall"] = {str(n): round(float(np.mean(names[p.argmax(1)][truth == n] == n)), 3) for n in names}
    found["mean_less_forest"] = interval(
        lambda t, a, b: macro_f1(t, a) - macro_f1(t, b), truth, names[(forest + network).argmax(1)],
        names[forest.argmax(1)],
    )  # fmt: skip
    return {"n": len(truth), **found}


def transfer(args: argparse.Namespace) -> dict[str, Any]:
    """The shipped bundle on other surveys, all ten answers allowed: share of answers of the right kind."""
    root = args.data / "lightcurves"
    used = {cadence.donor for cadence in variable_data.ztf_donors(args.data)}
    names = [n for n in sorted(variable_data.labels(args.data)) if n.startswith("snia_ztf")][::6]
    records = [next(variable_data.read(root / n, root)) for n in names]
    sets = {"ztf_snia": ([variable_data.ready(r, {}, "", "") for r in records if r.object_id not in used], ("snia",))}
    for folder, kinds in (("cepheid", ("cepheid",)), ("quasar", ("qso",)), ("non_variable", ("constant",))):
        curves = [c for path in sorted((root / "ogle2_macho_small" / folder).iterdir()) for c in any_format(path, root)]
        sets[f"ogle_{folder}"] = ([variable_data.ready(c, {}, "", "") for c in curves], kinds)
    stars = variable_data.load("eros", args.data, args.cache)
    for name, kinds in (("rr_lyrae", ("rrab", "rrc")), ("cepheid", ("cepheid",)), ("eclipsing_binary", ("ea", "ew")),
                        ("mira", ("lpv",))):  # fmt: skip
        sets[f"eros_{name}"] = ([e for e in stars if e.labels[LABEL] == name], kinds)
    predictor = load_predictor(args.bundle)
    out: dict[str, Any] = {}
    for name, (examples, kinds) in sets.items():
        rows = predict_rows(predictor, [variable_data.prepared(e.record) for e in examples], predictor.batch_size)
        out[name] = {"n": len(rows), "no_answer": sum(row[f"best_{LABEL}"] is None for row in rows)}
        for prefix, who in (("", "model"), ("baseline_", "trees"), ("best_", "mean")):
            out[name][who] = round(float(np.mean([row[f"{prefix}{LABEL}"] in kinds for row in rows])), 3)
        given = [str(row[f"best_{LABEL}"]) for row in rows]
        out[name]["answers_of_mean"] = {
            k: given.count(k) for k in sorted(set(given), key=lambda k: -given.count(k))[:5]
        }
    return out


def any_format(path: Path, root: Path) -> list[Any]:
    ref = FileRef(url=str(path), source=str(path.relative_to(root)))
    with Source(ref) as source:
        kind = identify(source)
        return [entry.load() for item in kind.items(source) for entry in kind.entries(source, item)]


def tuned(model: Any, inside: list[Any], target: np.ndarray, held: list[Any], seed: int, epochs: int = 6) -> np.ndarray:
    """A new head, the whole network at a low rate, balanced classes."""
    from finetune.tasks.variable_star import augment

    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    names = ("magnitude", "log_error", "seen", "time", "phase", "valid", "numbers", "known")
    model.head = torch.nn.Linear(model.head.in_features, int(target.max()) + 1)
    weight = torch.tensor(np.sqrt(target.size / np.bincount(target)), dtype=torch.float32)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.02)
    steps = epochs * (len(inside) // 64)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-3, total_steps=steps, pct_start=0.15)
    model.train()
    for _ in range(steps):
        pick = rng.integers(0, len(inside), 64)
        batch, _ = augment({n: np.stack([inside[i][n] for i in pick]) for n in names}, {}, rng)
        logits = model(**{n: torch.as_tensor(batch[n]) for n in names})["logits"]
        loss = torch.nn.functional.cross_entropy(logits, torch.as_tensor(target[pick]), weight, label_smoothing=0.05)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    model.eval()
    with torch.no_grad():
        out = [
            model(**{n: torch.as_tensor(np.stack([p[n] for p in held[i : i + 64]])) for n in names})["logits"].softmax(
                1
            )
            for i in range(0, len(held), 64)
        ]
    return torch.cat(out).numpy()


PARTS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "period": period,
    "trees_hard": trees_hard,
    "trees_fair": lambda args: trees_hard(args, "fairB"),
    "auc": auc,
    "bundle": bundle,
    "transfer": transfer,
    "eros": eros,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("data", "cache", "bundle", "results"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument(
        "--parts",
        nargs="+",
        default=[*PARTS, "seed_1"],
    )
    parser.add_argument("--steps", type=int, default=2000)
    args = parser.parse_args()
    torch.set_num_threads(1)
    results = json.loads(args.results.read_text()) if args.results.exists() else {}
    for part in args.parts:
        if part in results:
            continue
        start = time.process_time()
        run = PARTS.get(part)
        found = run(args) if run is not None else seed(args, int(part.removeprefix("seed_")))
        results[part] = {**found, "cpu_s": round(time.process_time() - start)}
        args.results.write_text(json.dumps(results, indent=1))
        print(part, json.dumps(results[part]), flush=True)


if __name__ == "__main__":
    main()
