"""Figures of ``stellar_parameters``: medians with intervals over stars, coverage, another survey.

A star that several seeds answered for stays one draw of the bootstrap: its answers are not independent. Members of one
cluster share a catalogue metallicity and are drawn together for the same reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmarks.stellar_data import CONDITIONS, Stars
from benchmarks.stellar_train import predictions
from finetune.conformal import factors, lookup
from finetune.selfcalibrate import self_calibrate
from finetune.spectral_baselines import StellarBaseline
from finetune.spectral_model import SpectralEnsemble

METHODS = ("model", "ridge", "match", "mean")
PAIRS = (("model", "ridge"), ("mean", "ridge"), ("model", "match"))
DRAWS = 2000


@dataclass(frozen=True, eq=False)
class Run:
    """Answers for the held-out stars of one fold and seed, under every condition.

    Parameters
    ----------
    fold, seed : int
        Which; runs of one fold hold the same stars.
    groups : sequence of str
        Group of each star.
    answers : mapping of str to mapping
        By condition, from ``predictions``.
    """

    fold: int
    seed: int
    groups: Sequence[str]
    answers: Mapping[str, Mapping[str, np.ndarray]]


def group_counts(groups: Sequence[str], draws: int = DRAWS) -> np.ndarray:
    """How often each row is drawn, group by group; shape (draws, rows)."""
    names, index = np.unique(np.asarray(groups), return_inverse=True)
    picked = np.random.default_rng(0).multinomial(len(names), np.full(len(names), 1 / len(names)), draws)
    return picked[:, index]


def drawn_medians(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Median of the values of each draw."""
    order = np.argsort(values, kind="stable")
    total = np.cumsum(counts[:, order], axis=1)
    return values[order][(total >= 0.5 * total[:, -1:]).argmax(axis=1)]


def interval(values: np.ndarray, counts: np.ndarray) -> list[float]:
    """Median and its 95 % bootstrap interval."""
    drawn = drawn_medians(values, counts)
    return [round(float(v), 4) for v in (np.median(values), *np.quantile(drawn, (0.025, 0.975)))]


def paired(first: np.ndarray, second: np.ndarray, counts: np.ndarray) -> list[float]:
    """Difference of the medians of two methods on the same stars, with its 95 % bootstrap interval."""
    drawn = drawn_medians(first, counts) - drawn_medians(second, counts)
    return [round(float(v), 4) for v in (np.median(first) - np.median(second), *np.quantile(drawn, (0.025, 0.975)))]


def summary(runs: Sequence[Run]) -> dict[str, Any]:
    """Errors of every method under every condition, pooled over folds and seeds, and the paired differences."""
    out: dict[str, Any] = {}
    groups = [group for run in runs for group in run.groups]
    counts = group_counts(groups)
    stars = sum(len(run.groups) for run in {run.fold: run for run in runs}.values())
    for condition in CONDITIONS:
        found = [run.answers[condition] for run in runs]
        error = {name: np.concatenate([np.abs(f[name] - f["truth"]) for f in found]) for name in METHODS}
        out[condition] = {
            "n": stars,
            **{name: [interval(error[name][:, k], counts) for k in range(3)] for name in METHODS},
            **{
                f"{first} - {second}": [paired(error[first][:, k], error[second][:, k], counts) for k in range(3)]
                for first, second in PAIRS
            },
        }
    return out


def by_seed(runs: Sequence[Run]) -> dict[str, Any]:
    """Median errors of the model under every condition, each seed alone."""
    out: dict[str, Any] = {}
    for seed in sorted({run.seed for run in runs}):
        own = [run for run in runs if run.seed == seed]
        error = {
            c: np.concatenate([np.abs(r.answers[c]["model"] - r.answers[c]["truth"]) for r in own]) for c in CONDITIONS
        }
        out[str(seed)] = {c: np.median(e, axis=0).round(4).tolist() for c, e in error.items()}
    return out


def coverages(runs: Sequence[Run]) -> dict[str, Any]:
    """Share of held-out stars within their intervals by class, calibrated on the stars of the *other* folds."""
    inside: dict[str, list[np.ndarray]] = {}
    for run in runs:
        parts = [part for other in runs if other.fold != run.fold for part in other.answers.values()]
        table = factors(
            np.concatenate([np.abs(p["model"] - p["truth"]) for p in parts]),
            np.concatenate([p["stated"] for p in parts]),
            np.concatenate([p["class"] for p in parts]).tolist(),
        )
        for condition, part in run.answers.items():
            for name in sorted(set(part["class"])):
                rows = part["class"] == name
                scale = part["stated"][rows][:, None] * lookup(table, str(name))
                hit = np.abs(part["model"][rows] - part["truth"][rows])[:, None] <= scale
                for key in (f"class {name}", f"condition {condition}"):
                    inside.setdefault(key, []).append(hit)
    out = {}
    for key, hits in sorted(inside.items()):
        hit = np.concatenate(hits)
        out[key] = {"n": len(hit), "68": hit[:, 0].mean(0).round(3).tolist(), "95": hit[:, 1].mean(0).round(3).tolist()}
    return out


def transfer(model: SpectralEnsemble, baseline: StellarBaseline, lamost: Stars) -> dict[str, Any]:
    """LAMOST as it comes, and after the label-free self-calibration."""
    assert baseline.match is not None
    known = np.flatnonzero(np.isfinite(lamost.labels).all(1))
    counts = group_counts([lamost.groups[i] for i in known])
    out: dict[str, Any] = {}
    for name, prepared in (
        ("raw", lamost.prepared),
        ("self-calibrated", self_calibrate(lamost.prepared, baseline.match)),
    ):
        found = predictions(model, baseline, replace(lamost, prepared=list(prepared)).take(known))
        out[name] = {}
        for method in METHODS:
            error = found[method] - found["truth"]
            kelvin = np.abs(10 ** found[method][:, 0] - 10 ** found["truth"][:, 0])
            out[name][method] = {
                "median absolute error": [interval(np.abs(error[:, k]), counts) for k in range(3)],
                "kelvin": round(float(np.median(kelvin)), 1),
                "bias": np.median(error, 0).round(4).tolist(),
            }
        error = {m: np.abs(found[m] - found["truth"]) for m in METHODS}
        out[name]["model - match"] = [paired(error["model"][:, k], error["match"][:, k], counts) for k in range(3)]
    out["n"] = len(known)
    return out


def table(figures: Mapping[str, Any]) -> str:
    """The figures as Markdown."""
    lines = ["| condition | n | " + " | ".join(METHODS) + " | model - ridge | mean - ridge |", "|" + "---|" * 8]
    for condition, entry in figures.items():
        cells = [
            " / ".join(f"{v[0]:.4f}" if k == 0 else f"{v[0]:.3f}" for k, v in enumerate(entry[m])) for m in METHODS
        ]
        for key in ("model - ridge", "mean - ridge"):
            cells.append(" / ".join(f"{a:+.4f} [{b:+.4f},{c:+.4f}]" for a, b, c in entry[key]))
        lines.append(f"| {condition} | {entry['n']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def verdicts(figures: Mapping[str, Any]) -> list[str]:
    """Where the model and the mean are better or worse than the ridge: the interval leaves zero out."""
    names = ("Teff", "log g", "[Fe/H]")
    lines = []
    for who in ("model", "mean"):
        found: dict[str, list[str]] = {"better": [], "worse": [], "tie": []}
        for condition, entry in figures.items():
            for name, (_, low, high) in zip(names, entry[f"{who} - ridge"], strict=True):
                found["better" if high < 0 else "worse" if low > 0 else "tie"].append(f"{name} {condition}")
        said = [f"{kind}: {', '.join(cases) or 'nowhere'}" for kind, cases in found.items()]
        lines.append(f"- {who} against ridge - {'; '.join(said)}.")
    return lines
