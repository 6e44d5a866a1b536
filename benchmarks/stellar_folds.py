"""Cross-validation, transfer test and shipped bundle of the task ``stellar_parameters``.

    python benchmarks/stellar_folds.py train --data DATA --work WORK --folds 0 1 --seeds 0
    python benchmarks/stellar_folds.py report --data DATA --work WORK
    python benchmarks/stellar_folds.py ship --data DATA --work WORK

Every net is a folder of WORK: what is finished is not trained again, so a run that was cut off goes on with the next
net, and folds and seeds may be added later. MILES: five folds, clusters kept whole. LAMOST is never trained on.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import re
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from finetune import spectral_augment as degradation
from finetune import spectral_grid as grid
from finetune.bundle import Info, bundled, save_bundle
from finetune.conformal import factors, lookup
from finetune.network import Network, run_network
from finetune.predict import classical_rows, learned_rows, make_predictor
from finetune.selfcalibrate import self_calibrate
from finetune.spectral_baselines import StellarBaseline, inner_folds
from finetune.spectral_model import SpectralEnsemble
from finetune.spectral_ridge import KernelRidge
from finetune.spectral_training import RECIPE, assemble, train_member
from finetune.stellar_labels import quality, vector
from finetune.task import Example, Prepared
from finetune.tasks.stellar_parameters import TASK, combine, quality_numbers
from finetune.train import predict_rows
from finetune.weights import round_weights
from pipeline.version import version
from transforms.readers import spectra, survey_spectra
from transforms.readers.format import Source
from transforms.records import FileRef
from transforms.velocity import measure_spectrum

N_FOLDS = 5
STEPS = {"direct": 1800, "residual": 1100}  #: Of the nets of the folds.
SHIPPED = (("direct", 0, 2000), ("direct", 1, 2000), ("residual", 2, 1300))
METHODS = ("model", "ridge", "match", "mean")
CONDITIONS = ("clean", "sn30", "sn10", "red half", "blue half", "half resolution", "rv 100", "hard", "random")


@dataclass(frozen=True)
class Stars:
    """Labelled spectra, prepared."""

    examples: list[Example]
    prepared: list[Prepared]
    labels: np.ndarray
    groups: list[str]

    def take(self, rows: Iterable[int]) -> Stars:
        """Some of them."""
        rows = [int(i) for i in rows]
        return Stars(
            [self.examples[i] for i in rows], [self.prepared[i] for i in rows], self.labels[rows],
            [self.groups[i] for i in rows],
        )  # fmt: skip

    def array(self, name: str) -> np.ndarray:
        """One of the prepared arrays."""
        return np.stack([item[name] for item in self.prepared])


def read_record(path: Path) -> Any:
    """The first record of a file, by the package's own readers."""
    with Source(FileRef(url=str(path), source=path.name, size=path.stat().st_size)) as source:
        kind = next(kind for kind in (*survey_spectra.FORMATS, *spectra.FORMATS) if kind.sniff(source))
        item = next(iter(kind.items(source)))
        return next(iter(kind.entries(source, item))).load()


def cluster(name: str) -> str:
    """Group of a MILES star: members of one cluster share a catalogue metallicity."""
    name = " ".join(name.split())
    if not name.endswith("Cl"):
        return name
    found = re.match(r"(NGC ?\d+|M\d+|Mel)", name)
    return found.group(1) if found else "HD cluster members"


def number(text: str) -> float | None:
    """A cell of a CSV file."""
    return float(text) if text else None


def load(data: Path, kind: str) -> Stars:
    """MILES stars with a name and three labels, or all stars of LAMOST, with their measured velocities."""
    examples, groups = [], []
    folder = {"miles": "miles", "lamost": "lamost_dr1"}[kind]
    with (data / "spectra" / f"{kind}_labels.csv").open() as stream:
        rows = sorted(csv.DictReader(stream), key=lambda row: row["file"])
    for row in rows:
        labels = {"teff": number(row["teff"]), "logg": number(row["logg"]), "fe_h": number(row["feh"])}
        if kind == "miles" and (None in labels.values() or not row["star"]):
            continue
        record = read_record(data / "spectra" / folder / row["file"])
        if kind == "lamost":
            record = measure_spectrum(record, {})
        group = cluster(row["star"]) if kind == "miles" else row["file"]
        groups.append(group)
        examples.append(Example(record=record, labels=labels, group=group, origin=kind))
    labels = np.stack([TASK.encode(example.labels)["labels"] for example in examples])
    return Stars(examples, [TASK.prepare(example.record) for example in examples], labels, groups)


def split(groups: Sequence[str], k: int, seed: int) -> np.ndarray:
    """Fold of each star, groups kept whole."""
    names = sorted(set(groups))
    fold = {names[j]: i % k for i, j in enumerate(np.random.default_rng(seed).permutation(len(names)))}
    return np.array([fold[group] for group in groups])


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


def degraded(stars: Stars, condition: str, seed: int) -> Stars:
    """The same stars as another instrument would see them."""
    rng = np.random.default_rng(1000 + seed)
    flux, ivar = stars.array("flux").astype(float), stars.array("ivar").astype(float)
    if condition == "random":
        batch, _ = degradation.degrade(
            {"flux": flux, "ivar": ivar}, {"labels": stars.labels}, rng, degradation.Degradation(mix=0)
        )
        flux, ivar = batch["flux"].astype(float), batch["ivar"].astype(float)
    if condition in ("half resolution", "hard"):
        flux = degradation.variable_blur(flux, np.full((1, grid.N_PIXEL), 1.6 if condition != "hard" else 1.2))
    if condition in ("rv 100", "hard"):
        flux, ivar = degradation.shift(flux, ivar, np.full(len(flux), 100 / grid.PIXEL_KMS))
    if condition == "hard":
        flux = flux * degradation.tilt(len(flux), rng, 0.15)
    sn = {"sn30": 30.0, "sn10": 10.0, "hard": 20.0}.get(condition)
    if sn:
        how = degradation.Degradation(sn=(sn, sn * 1.0001), noise_free=0, no_errors=0)
        flux, ivar = degradation.add_noise(flux, ivar, rng, how)
    wave = grid.wavelengths()
    first, last = {"red half": (5480, 9e9), "blue half": (0, 5480), "hard": (4000, 5600)}.get(condition, (0, 9e9))
    keep = (wave >= first) & (wave < last)
    if condition == "hard":
        keep = keep & degradation.draw_range(len(flux), rng, degradation.Degradation(clip=0, gap=0, chunks=1))
    ivar = np.where(keep, ivar, 0.0)
    scale = grid.flux_scale(flux, ivar)[:, None]
    flux, ivar = np.where(ivar > 0, flux / scale, 0).astype(np.float32), (ivar * scale**2).astype(np.float32)
    prepared = [{**item, "flux": f, "ivar": i} for item, f, i in zip(stars.prepared, flux, ivar, strict=True)]
    return replace(stars, prepared=prepared)


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


def fold_results(miles: Stars, fold: int, seed: int, work: Path) -> dict[str, dict[str, np.ndarray]] | None:
    """Predictions for the outer stars of one fold under every condition, kept in a file; None: nets are missing."""
    path = work / f"fold{fold}-seed{seed}.npz"
    if not path.exists():
        folders = [work / f"{fold}-{kind}-{seed + 2 * (kind == 'residual')}-{n}" for kind, n in STEPS.items()]
        if not all((folder / "member").exists() for folder in folders):
            return None
        folds = split(miles.groups, N_FOLDS, 0)
        train, outer = miles.take(np.flatnonzero(folds != fold)), miles.take(np.flatnonzero(folds == fold))
        nets = [SpectralEnsemble.from_pretrained(folder / "member").eval() for folder in folders]
        ridge = ridge_of(nets[-1], train)
        model, baseline = assemble(nets, ridge), fitted_baseline(train)
        arrays = {}
        for condition in CONDITIONS:
            found = predictions(model, baseline, degraded(outer, condition, fold))
            arrays |= {f"{condition}|{name}": array for name, array in found.items()}
        np.savez(path, **arrays)
    stored = np.load(path)
    return {c: {k.split("|")[1]: stored[k] for k in stored.files if k.startswith(c + "|")} for c in CONDITIONS}


def held_results(model: SpectralEnsemble, baseline: StellarBaseline, miles: Stars) -> list[dict[str, Any]]:
    """The shipped bundle on the stars that it was not trained on, in two halves, so that one calibrates the other."""
    held = miles.take(np.flatnonzero(split(miles.groups, 8, 7) == 0))
    half = split(held.groups, 2, 0)
    found = {c: predictions(model, baseline, degraded(held, c, 3)) for c in CONDITIONS}
    return [{c: {k: v[half == h] for k, v in part.items()} for c, part in found.items()} for h in (0, 1)]


def ridge_of(net: SpectralEnsemble, train: Stars) -> KernelRidge:
    """The kernel ridge inside of a residual net, with the keys of its training stars."""
    arrays = {name: getattr(net, f"ridge_{name}").numpy() for name in KernelRidge.FLOATS}
    return KernelRidge(arrays | {"keys": train.array("star"), "folds": inner_folds(train.groups, 1)})


def interval(values: np.ndarray, draws: int = 2000) -> list[float]:
    """Median and its 95 % bootstrap interval over stars."""
    rng = np.random.default_rng(0)
    medians = np.median(values[rng.integers(0, len(values), (draws, len(values)))], axis=1)
    return [round(float(v), 4) for v in (np.median(values), *np.quantile(medians, (0.025, 0.975)))]


def paired(first: np.ndarray, second: np.ndarray, draws: int = 2000) -> list[float]:
    """Difference of the medians of two methods on the same stars, with its 95 % bootstrap interval."""
    pick = np.random.default_rng(0).integers(0, len(first), (draws, len(first)))
    drawn = np.median(first[pick], axis=1) - np.median(second[pick], axis=1)
    return [round(float(v), 4) for v in (np.median(first) - np.median(second), *np.quantile(drawn, (0.025, 0.975)))]


def summary(results: list[dict[str, dict[str, np.ndarray]]]) -> dict[str, Any]:
    """Errors of every method under every condition, pooled over folds, and paired differences to the kernel ridge."""
    out: dict[str, Any] = {}
    for condition in CONDITIONS:
        error = {
            name: np.concatenate([np.abs(r[condition][name] - r[condition]["truth"]) for r in results])
            for name in METHODS
        }
        out[condition] = {
            "n": len(error["model"]),
            **{name: [interval(error[name][:, k]) for k in range(3)] for name in METHODS},
            "model - ridge": [paired(error["model"][:, k], error["ridge"][:, k]) for k in range(3)],
            "mean - ridge": [paired(error["mean"][:, k], error["ridge"][:, k]) for k in range(3)],
            "model - match": [paired(error["model"][:, k], error["match"][:, k]) for k in range(3)],
        }
    return out


def coverages(results: list[dict[str, dict[str, np.ndarray]]]) -> dict[str, Any]:
    """Share of held-out stars within their intervals by class, calibrated on the *other* folds' held-out stars."""
    inside: dict[str, list[np.ndarray]] = {}
    for i, held in enumerate(results):
        rest = [r for j, r in enumerate(results) if j != i]
        parts = [part for r in rest for part in r.values()]
        table = factors(
            np.concatenate([np.abs(p["model"] - p["truth"]) for p in parts]),
            np.concatenate([p["stated"] for p in parts]),
            np.concatenate([p["class"] for p in parts]).tolist(),
        )
        for condition, part in held.items():
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
                "median absolute error": [interval(np.abs(error[:, k])) for k in range(3)],
                "kelvin": round(float(np.median(kelvin)), 1),
                "bias": np.median(error, 0).round(4).tolist(),
            }
        error = {m: np.abs(found[m] - found["truth"]) for m in METHODS}
        out[name]["model - match"] = [paired(error["model"][:, k], error["match"][:, k]) for k in range(3)]
    out["n"] = len(known)
    return out


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
    digest = hashlib.sha256(b"".join(hashlib.sha256(f.read_bytes()).digest() for f in files)).hexdigest()
    bundle = save_bundle(
        bundled_folder(), models=[model], baseline=baseline,
        info=Info(
            task=TASK.name, task_version=TASK.version, package_version=version(),
            created_by="python benchmarks/stellar_folds.py ship --data DATA --work WORK", seed=0,
            data={
                "name": "MILES", "sha256": digest, "train": len(train.examples), "validation": len(held.examples),
                "split": "by star and cluster, 8 parts, seed 7, part 0 for errors and rule",
                "licence": "public; cite Sanchez-Blazquez et al. (2006) and Cenarro et al. (2007)",
            },
            build={"members": list(model.config.members)},
            training={**RECIPE, "members": [list(m) for m in SHIPPED], "degradation": "spectral_augment.Degradation()"},
            calibration=calibration, rule=rule, metrics={k: dict(v) for k, v in metrics.items()},
        ),
    )  # fmt: skip
    size = sum(f.stat().st_size for f in bundle.path.rglob("*") if f.is_file())
    return {"digest": bundle.digest, "bytes": size, "rule": rule["method"], "metrics": metrics}


def bundled_folder() -> Path:
    """Where the bundle ships."""
    import finetune

    return Path(finetune.__file__).parent / "bundles" / TASK.name


def table(figures: dict[str, Any]) -> str:
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


def main(arguments: Sequence[str]) -> None:
    """Run one of the three commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("train", "report", "ship"))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--folds", type=int, nargs="*", default=list(range(N_FOLDS)))
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "stellar_parameters.json")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    miles = load(options.data, "miles")
    if options.command == "train":
        folds = split(miles.groups, N_FOLDS, 0)
        for fold in options.folds:
            for seed in options.seeds:
                for kind, steps in STEPS.items():
                    stars = miles.take(np.flatnonzero(folds != fold))
                    fit_net(stars, str(fold), kind, seed + 2 * (kind == "residual"), steps, options.work)
    if options.command == "ship":
        print(json.dumps(shipped(miles, options.work, options.data), indent=1))
    if options.command == "report":
        report(options, miles)


def report(options: argparse.Namespace, miles: Stars) -> None:
    """Write and print the figures of all folds whose nets are finished, and of the shipped bundle on LAMOST."""
    from finetune.bundle import load_bundle

    done, results = [], []
    for fold in options.folds:
        for seed in options.seeds:
            found = fold_results(miles, fold, seed, options.work)
            if found is not None:
                done.append([fold, seed])
                results.append(found)
    figures: dict[str, Any] = {"folds and seeds": done}
    if results:
        figures["miles"] = summary(results)
        print(table(figures["miles"]))
    if len(results) > 1:
        figures["coverage"] = coverages(results)
    bundle = load_bundle(bundled(TASK.name))
    model, baseline = bundle.models(TASK)[0], bundle.baseline(TASK)
    figures["bundle"] = bundle.digest[:16]
    halves = held_results(model, baseline, miles)
    figures["held eighth"], figures["held eighth coverage"] = summary(halves), coverages(halves)
    print(table(figures["held eighth"]))
    figures["lamost"] = transfer(model, baseline, load(options.data, "lamost"))
    print(json.dumps({k: v for k, v in figures.items() if k not in ("miles", "held eighth")}, indent=1))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
