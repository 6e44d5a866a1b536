"""Galaxy morphology judged: fold by fold, on another labelled set, and simulated against real.

``python -m benchmarks.morphology_folds --data DATA --cache CACHE --out RESULTS.json`` goes on where it stopped, and
prints the table at the end. Fold k holds out a fifth of both Galaxy Zoo 2 sets; the frozen bar and the fine-tuned
network are trained on the same objects, so that their difference is paired.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.morphology_data import LABELS, Stamps, real, simulated
from finetune.calibrate import reliability, softmax
from finetune.morphology_baseline import MorphologyBaseline
from finetune.morphology_model import MorphologyModel
from finetune.morphology_training import train_head
from finetune.partial_labels import parse_label
from finetune.tasks.galaxy_morphology import CLASSES, DIHEDRALS, TASK, build
from finetune.trainer import SurveyTrainer
from finetune.training_options import make_options
from finetune.weights import round_weights
from transforms.morphology import NUMBERS, SCALING

FOLDS = 5
#: Chance of an object of each set in training, all together 1.
SHARES = {"gz2": 0.40, "gng": 0.15, "sim": 0.45}
QUESTIONS = {"gz2": "Odd spiral or the rest (Galaxy Zoo 2)", "gng": "Star or artifact, or galaxy"}
KINDS = {
    "morphology_gbm": "morphology numbers, boosted trees",
    "frozen_lr": "frozen image features, logistic regression",
    "bar": "bar: mean of these two, trained for this question",
    "baseline5": "five-class baseline of the bundle",
    "network": "fine-tuned five-class network",
    "mixture": "two thirds network, one third bar",
}
POSITIVE = {"gz2": "spirals", "gng": "nongalaxy"}


def fold_of(stamps: Stamps, seed: int = 0) -> np.ndarray:
    """Which fold holds each object out."""
    out = np.zeros(len(stamps.source), int)
    for k, (_, held) in enumerate(StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(out, stamps.label)):
        out[held] = k
    return out


def joined(parts: list[Stamps]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Features, numbers and labels of several sets, and the chance of each object."""
    copies = max(p.pooled.shape[1] for p in parts)
    tiled = [np.resize(np.arange(p.pooled.shape[1]), copies) for p in parts]
    arrays = {
        "pooled": np.concatenate([p.pooled[:, t] for p, t in zip(parts, tiled, strict=True)]),
        **{n: np.concatenate([getattr(p, n) for p in parts]) for n in ("numbers", "known", "likelihood")},
    }
    return arrays, np.concatenate([np.full(len(p.source), SHARES[p.name] / len(p.source)) for p in parts])


def head_alone(parts: list[Stamps], seed: int) -> MorphologyModel:
    """First step of the recipe: the image stages as they were pretrained, the head trained."""
    torch.manual_seed(seed)
    model = build(dihedrals=DIHEDRALS)
    arrays, chance = joined(parts)
    train_head(model, arrays["pooled"], arrays["numbers"], arrays["known"], arrays["likelihood"], chance)
    return model


def fine_tune(parts: list[Stamps], steps: int, seed: int) -> tuple[MorphologyModel, dict[str, float]]:
    """Both steps of the recipe on cached activations."""
    start = time.process_time()
    model = head_alone(parts, seed)
    head = time.process_time() - start
    copies, pairs = max(p.pooled.shape[1] for p in parts), []
    chance = np.concatenate([np.full(len(p.source), SHARES[p.name] / len(p.source)) for p in parts])
    for part in parts:
        order = np.resize(np.arange(part.lower.shape[1]), copies)
        for one, likelihood in zip(part.prepared(), part.likelihood, strict=True):
            pairs.append(({**one, "lower": one["lower"][order]}, {"likelihood": likelihood}))
    options = make_options(TASK, {"steps": steps, "seed": seed, "evaluations": 0})
    trainer = SurveyTrainer(TASK, model, pairs, [], options, seed, f"/tmp/nightcat-morphology-{seed}", chance)
    trainer.fit()
    model.requires_grad_(True)
    round_weights(model, "fp16")
    return model.eval(), {"head_cpu_s": head, "joint_cpu_s": time.process_time() - start - head}


@torch.inference_mode()
def outputs(model: MorphologyModel, stamps: Stamps) -> dict[str, np.ndarray]:
    """Logits and embedding, mean over the coloured copies."""
    found: list[dict[str, torch.Tensor]] = []
    for i in range(0, len(stamps.source), 8):
        part = stamps.take(np.arange(i, min(i + 8, len(stamps.source))))
        lower = torch.from_numpy(part.lower[:, : min(DIHEDRALS, part.lower.shape[1])]).float().flatten(0, 1)
        numbers, known = torch.from_numpy(part.numbers), torch.from_numpy(part.known)
        found.append(model(lower=lower, numbers=numbers, known=known))
    return {name: torch.cat([f[name] for f in found]).numpy() for name in found[0]}


def fit_baseline(parts: list[Stamps], seed: int) -> MorphologyBaseline:
    """The five-class bar on frozen features of the coloured copies."""
    baseline = MorphologyBaseline(CLASSES, DIHEDRALS)
    features = np.concatenate([coloured(p) for p in parts])
    arrays, _ = joined(parts)
    baseline.fit_arrays(features, arrays["numbers"], arrays["known"], arrays["likelihood"], seed)
    return baseline


def coloured(stamps: Stamps) -> np.ndarray:
    """Mean frozen features over the coloured copies."""
    count = 1 if stamps.name == "sim" else 4
    out: np.ndarray = stamps.pooled[:, :count].astype(np.float32).mean(axis=1)
    return out


def shape_trees(seed: int, least: int = 10) -> Any:
    """Boosted trees for morphology numbers; ``least``: objects of a leaf."""
    import lightgbm

    return lightgbm.LGBMClassifier(
        n_estimators=300, learning_rate=0.03, num_leaves=15, min_child_samples=least, subsample=0.7, subsample_freq=1,
        colsample_bytree=0.5, verbose=-1, n_jobs=1, random_state=seed,
    )  # fmt: skip


def binary_bar(train: Stamps, test: Stamps, seed: int) -> dict[str, np.ndarray]:
    """The bar for one set's own question: regression on frozen features, trees on numbers, and their mean."""
    truth = train.label == POSITIVE[train.name]
    lr = make_pipeline(StandardScaler(), LogisticRegression(C=0.001, max_iter=500))
    first = lr.fit(coloured(train).reshape(len(truth), -1), truth)
    image = first.predict_proba(coloured(test).reshape(len(test.source), -1))[:, 1]
    trees = shape_trees(seed)
    trees.fit(np.where(train.known > 0, train.numbers, np.nan), truth)
    shape = trees.predict_proba(np.where(test.known > 0, test.numbers, np.nan))[:, 1]
    return {"frozen_lr": image, "morphology_gbm": shape, "bar": (image + shape) / 2}


def domain_auc(sim: Stamps, other: Stamps) -> dict[str, float]:
    """How well simulated display stamps of galaxies can be told from real ones; 0.5 would be perfect."""
    import lightgbm
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import cross_val_predict

    sim = sim.take(np.flatnonzero((sim.unit == "display") & (sim.label != "star_or_artifact"))[:400])
    other = other.take(np.random.default_rng(0).permutation(len(other.source))[:400])
    truth = np.r_[np.zeros(len(sim.source)), np.ones(len(other.source))]
    numbers, known = (np.concatenate([getattr(s, n) for s in (sim, other)]) for n in ("numbers", "known"))
    scaled = [i for i, n in enumerate(NUMBERS) if n in SCALING]  # sizes in pixels differ by the enlargement alone
    numbers = np.where(known > 0, numbers, np.nan)
    numbers[:, scaled] = np.nan
    trees = lightgbm.LGBMClassifier(n_estimators=150, num_leaves=15, verbose=-1, n_jobs=1, random_state=0)
    lr = make_pipeline(StandardScaler(), LogisticRegression(C=0.001, max_iter=500))
    first = np.concatenate([s.pooled[:, 0].astype(np.float32).reshape(len(s.source), -1) for s in (sim, other)])
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    return {
        name: float(roc_auc_score(truth, cross_val_predict(model, x, truth, cv=folds, method="predict_proba")[:, 1]))
        for name, model, x in (("morphology numbers", trees, numbers), ("frozen image features", lr, first))
    }


def score(probability: np.ndarray, name: str) -> np.ndarray:
    """Probability of a set's own positive label, from our five classes."""
    likelihood = parse_label(LABELS[f"{name}/{POSITIVE[name]}"], CLASSES)
    out: np.ndarray = probability @ likelihood
    return out


def run_fold(k: int, sets: dict[str, Stamps], steps: int, seed: int) -> dict:
    """Train without fold k, answer for it."""
    folds = {n: fold_of(s) for n, s in sets.items() if n != "sim"}
    train = [sets[n].take(np.flatnonzero(folds[n] != k)) if n in folds else sets[n] for n in sets]
    model, cost = fine_tune(train, steps, seed)
    baseline = fit_baseline(train, seed)
    result: dict = {"cost": cost, "sets": {}}
    for name in folds:
        test = sets[name].take(np.flatnonzero(folds[name] == k))
        own = binary_bar(sets[name].take(np.flatnonzero(folds[name] != k)), test, seed)
        learned = softmax(outputs(model, test)["logits"])
        classical = baseline.probabilities(coloured(test), test.numbers, test.known)
        answers = {**own, "network": score(learned, name), "baseline5": score(classical, name)}
        answers["mixture"] = (2 * answers["network"] + answers["bar"]) / 3
        result["sets"][name] = {
            "source": test.source.tolist(),
            "truth": (test.label == POSITIVE[name]).tolist(),
            **{n: np.round(v, 5).tolist() for n, v in answers.items()},
        }
    return result


def interval(values: np.ndarray, seed: int = 0) -> str:
    """Mean with its 95 percent bootstrap interval over objects."""
    rng = np.random.default_rng(seed)
    draws = values[rng.integers(len(values), size=(2000, len(values)))].mean(axis=1)
    low, high = np.quantile(draws, (0.025, 0.975))
    return f"{values.mean():.3f} [{low:.3f}, {high:.3f}]"


def report(results: dict) -> list[str]:
    """What the folds gave, as Markdown: for each set a verdict over the seeds, then one table for each seed."""
    from sklearn.metrics import f1_score, roc_auc_score

    lines: list[str] = []
    for name, question in QUESTIONS.items():
        seeds = sorted({key.split("/")[1] for key in results})
        folds = {s: [results[k]["sets"][name] for k in sorted(results) if k.split("/")[1] == s] for s in seeds}
        whole = [seed for seed in seeds if len(folds[seed]) == FOLDS]
        if len(whole) > 1:
            lines += verdict(question, {seed: folds[seed] for seed in whole})
        for seed, done in folds.items():
            truth, answers = all_folds(done)
            right = {kind: ((p > 0.5) == truth).astype(float) for kind, p in answers.items()}
            lines += ["", f"{question}, {len(done)} of {FOLDS} folds, n {len(truth)}, seed {seed}", ""]
            lines += ["| answer | accuracy | minus bar, paired | macro-F1 | recalls | AUC | ECE |", "|---" * 7 + "|"]
            for kind, p in answers.items():
                ece = reliability(np.maximum(p, 1 - p), (p > 0.5).astype(int), truth.astype(int))["ece"]
                f1 = f1_score(truth, p > 0.5, average="macro")
                recalls = f"{np.mean(p[~truth] <= 0.5):.2f} {np.mean(p[truth] > 0.5):.2f}"
                minus = "" if kind == "bar" else interval(right[kind] - right["bar"])
                figures = f"{f1:.3f} | {recalls} | {roc_auc_score(truth, p):.3f} | {ece:.3f}"
                lines.append(f"| {KINDS[kind]} | {interval(right[kind])} | {minus} | {figures} |")
    return lines


def all_folds(folds: list[dict]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Truth and answers of all folds of one seed, in the order of the folds."""
    truth = np.concatenate([d["truth"] for d in folds]).astype(bool)
    return truth, {kind: np.concatenate([d[kind] for d in folds]) for kind in KINDS}


def verdict(question: str, folds: dict[str, list[dict]]) -> list[str]:
    """Accuracy of a run, its mean over the seeds, and that of the seeds' mean probability; intervals over objects."""
    runs = [all_folds(done) for done in folds.values()]
    truth = runs[0][0]
    once = {k: np.mean([(p[k] > 0.5) == truth for _, p in runs], axis=0) for k in KINDS}
    together = {k: ((np.mean([p[k] for _, p in runs], axis=0) > 0.5) == truth).astype(float) for k in KINDS}
    lines = ["", f"**{question}, all folds, {len(runs)} seeds, n {len(truth)}**", ""]
    lines += [
        "| answer | accuracy of one run | minus bar, paired | mean of the seeds | minus bar, paired |",
        "|---" * 5 + "|",
    ]
    for kind in KINDS:
        cells = [text for s in (once, together)
                 for text in (interval(s[kind]), "" if kind == "bar" else interval(s[kind] - s["bar"]))]  # fmt: skip
        lines.append(f"| {KINDS[kind]} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Run what is missing and print all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--folds", type=int, nargs="*", default=list(range(FOLDS)))
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--sims", type=int, default=3000)
    parser.add_argument("--steps", type=int, default=400)
    args = parser.parse_args()
    torch.set_num_threads(1)
    results = json.loads(args.out.read_text()) if args.out.exists() else {}
    sets: dict[str, Stamps] = {}
    for seed in args.seeds:
        for k in args.folds:
            key = f"fold{k}/{seed}"
            if key in results:
                continue
            if not sets:
                sets = {n: real(n, args.data, args.cache)[0] for n in ("gz2", "gng")}
                sets["sim"] = simulated(args.sims, 1, args.cache)
            results[key] = run_fold(k, sets, args.steps, seed)
            args.out.write_text(json.dumps(results))
            print(key, results[key]["cost"], flush=True)
    print("\n".join(report(results)))


if __name__ == "__main__":
    main()
