"""Generated bands, cadences and ranges against what was held back, and whether they help a task: real data only.

    python -m benchmarks.generation --data DATA --work WORK

Stripe 82 RR Lyrae and MILES stars are split by object: a quarter, by the digest of their names, is neither pretrained
on nor fitted on, and judges; LAMOST judges as another instrument. ``learned`` and ``classical`` are the two methods of
``nightcat generate`` with its calibrated errors, the others are simple answers without errors. Intervals are 95 percent
bootstrap over objects. What is finished lies in WORK and is not run again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.generation_tasks import stellar_task, variable_task
from finetune import generate_light_curves as curves
from finetune import generate_spectra as spectra
from finetune import light_curve_trials, spectral_trials, tasks
from finetune.dataset import stream_records
from finetune.generate import run_fit
from finetune.generation import Generator, load_generator
from finetune.generation_options import METHODS
from finetune.inputs import list_files
from finetune.light_curve_population import Population
from finetune.pretrain import run_pretrain
from finetune.spectral_question import View, binned
from transforms import bands as filters
from transforms.attempt import Unusable
from transforms.records import Reject

DRAWS = 2000
HERE = Path(__file__).resolve().parent
PRETRAIN: dict[str, dict[str, Any]] = {
    "light_curves": {"steps": 400, "evaluations": 4, "hide": "band", "held_out": 0.25},
    "spectra": {
        "steps": 600, "evaluations": 4, "hide": "range", "held_out": 0.2, "hidden_size": 64, "num_hidden_layers": 3,
        "intermediate_size": 256, "batch_size": 32,
    },
}  # fmt: skip
FOLDERS = {"light_curves": "lightcurves/rrlyr_s82", "spectra": "spectra/miles"}
SIMPLE = {"band": "other bands", "cadence": "phase interpolation", "blue": "nearest star", "red": "nearest star"}


def is_test(path: Path) -> bool:
    """A quarter of the objects."""
    name = path.name.removesuffix(".gz").removesuffix(".fits").removesuffix(".csv")
    return int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) % 4 == 0


def files(data: Path, modality: str) -> tuple[list[Path], list[Path]]:
    """Files of the training and of the test objects."""
    found = sorted((data / FOLDERS[modality]).iterdir())
    return [p for p in found if not is_test(p)], [p for p in found if is_test(p)]


def generator(data: Path, work: Path, modality: str) -> Generator:
    """The backbone of the training objects, judged on those of them that it held out."""
    folder = work / modality
    train = [str(p) for p in files(data, modality)[0]]

    def say(text: str) -> None:
        print(text, flush=True)

    if not (folder / "nightcat_pretrained.json").is_file():
        run_pretrain(modality, train, folder, options=PRETRAIN[modality], command="benchmarks.generation", say=say)
    if not (folder / "generation.json").is_file():
        run_fit(folder, train, command="benchmarks.generation", say=say)
    return load_generator(folder)


def records(paths: Sequence[Path], task: str) -> Iterator[tuple[Any, Any]]:
    """Measured records and what ``prepare`` gives."""
    found = tasks.get(task)
    for file in list_files([str(p) for p in paths]):
        for record in stream_records(file, found.record):
            if not isinstance(record, Reject):
                yield record, found.prepare(record)


def simple_curve(population: Population, trial: light_curve_trials.Trial) -> np.ndarray:
    """Deviations over the scatter: other bands of the nearest visit scaled by amplitude, or a line in phase."""
    asked, prepared, c = trial.question, trial.curve.prepared, population.covariance
    seen = prepared["seen"] > 0
    if trial.kind == "band":
        visits = np.flatnonzero(seen.any(1))
        near = visits[np.abs(prepared["time"][visits][None] - asked.time[:, None]).argmin(1)]
        ratio = np.sqrt(c[asked.slot[0], asked.slot[0]] / np.diag(c))
        return (prepared["magnitude"] * seen * ratio)[near].sum(1) / seen[near].sum(1)
    out, phase = np.zeros(len(asked.time)), (2 * prepared["phase"][:, 0]) % 1
    for slot in np.unique(asked.slot):
        known, rows = np.flatnonzero(seen[:, slot]), asked.slot == slot
        where = (2 * asked.phase[rows, 0]) % 1
        out[rows] = np.interp(where, phase[known], prepared["magnitude"][known, slot], period=1)
    return out


def light_curve_scores(found: Generator, paths: Sequence[Path]) -> list[dict[str, Any]]:
    """Errors of every way on every test object."""
    rows = []
    for number, (record, _) in enumerate(records(paths, "variable_star")):
        for trial in light_curve_trials.trials(record, np.random.default_rng([7, number])):
            try:
                both = {m: curves.answer(m, found.model, found.knowledge, trial.curve, trial.question) for m in METHODS}
            except Unusable:
                continue
            part = filters.SLOTS[trial.question.slot[0]] if trial.kind == "band" else ""
            for method, one in both.items():
                error = found.errors[trial.kind][method].error(one.features(trial.question))
                rows.append(_row(trial, method, trial.truth - one.level - one.deviation, error, record, part))
            level = next(iter(both.values())).level
            simple = level + trial.curve.scale * simple_curve(found.knowledge, trial)
            rows.append(_row(trial, SIMPLE[trial.kind], trial.truth - simple, None, record, part))
    return rows


def spectrum_scores(found: Generator, pairs: Sequence[tuple[Any, Any]], library: np.ndarray) -> list[dict[str, Any]]:
    """The same for spectra; ``library`` holds training spectra on the models' bins."""
    rows = []
    for number, (record, prepared) in enumerate(pairs):
        for trial in spectral_trials.trials(prepared, np.random.default_rng([7, number]), tried=1):
            for method in METHODS:
                flux, told = spectra.answer(method, found.model, found.knowledge, trial.view)
                error = found.errors[trial.kind][method].error(told[trial.bins])
                rows.append(_row(trial, method, trial.truth - flux[trial.bins], error, record, ""))
            for name, flux in simple_spectra(trial.view, library).items():
                rows.append(_row(trial, name, trial.truth - flux[trial.bins], None, record, ""))
    return rows


def simple_spectra(view: View, library: np.ndarray) -> dict[str, np.ndarray]:
    """The training spectrum that is nearest over what is visible, and the mean one, each scaled."""
    flux, variance = binned(view.flux, view.ivar)
    seen = view.visible
    weight, x, y = 1 / (variance[seen] + 1e-4), library[:, seen], flux[seen]
    scale = (x * y * weight).sum(1) / (x * x * weight).sum(1)
    nearest = int(np.argmin((weight * (y - scale[:, None] * x) ** 2).sum(1)))
    mean = library.mean(0)
    level = (mean[seen] * y * weight).sum() / (mean[seen] ** 2 * weight).sum()
    return {"nearest star": scale[nearest] * library[nearest], "mean star": level * mean}


def _row(
    trial: Any, method: str, residual: np.ndarray, error: np.ndarray | None, record: Any, part: str
) -> dict[str, Any]:
    row = {"object": record.object_id or record.source, "kind": trial.kind, "part": part, "method": method}
    row["rms"] = float(np.sqrt(np.mean(residual**2)))
    if error is not None:
        off = np.abs(residual) / np.hypot(error, trial.noise)
        row |= {"cover68": float(np.mean(off <= 1)), "cover95": float(np.mean(off <= 1.96))}
    return row


def figures(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Every way's error and coverage, and the gain of the learned one over the classical one, paired by object."""
    out: dict[str, Any] = {}
    parts = sorted({(r["kind"], r["part"]) for r in rows} | {(r["kind"], "") for r in rows})
    for kind, part in parts:
        mine = [r for r in rows if r["kind"] == kind and part in ("", r["part"])]
        names = sorted({r["object"] for r in mine})
        place = {name: i for i, name in enumerate(names)}
        told: dict[str, Any] = {"objects": len(names)}
        means: dict[str, np.ndarray] = {}
        for method in dict.fromkeys(r["method"] for r in mine):
            told[method] = {}
            for key in ("rms", "cover68", "cover95"):
                values: list[list[float]] = [[] for _ in names]
                for r in mine:
                    if r["method"] == method and key in r:
                        values[place[r["object"]]].append(r[key])
                if all(values):
                    each = np.array([np.mean(v) for v in values])
                    told[method][key] = interval(each)
                    if key == "rms":
                        means[method] = each
        told["gain"] = interval(means["classical"] - means["learned"])
        out[f"{kind} {part}".strip()] = told
    return out


def interval(values: np.ndarray, statistic: Callable[..., Any] = np.mean) -> list[float]:
    """Mean over objects with its bootstrap interval."""
    rng = np.random.default_rng(0)
    draws = [float(statistic(values[rng.integers(0, len(values), len(values))])) for _ in range(DRAWS)]
    return [round(float(v), 5) for v in (statistic(values), *np.percentile(draws, [2.5, 97.5]))]


def part(work: Path, name: str, make: Callable[[], Any]) -> Any:
    """A part of the results, kept in a file."""
    path = work / f"{name}.json"
    if not path.is_file():
        path.write_text(json.dumps(make(), indent=1) + "\n")
        print(f"{name}: done", flush=True)
    return json.loads(path.read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=150, help="of each net of the stellar task")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.work.mkdir(parents=True, exist_ok=True)
    light = generator(args.data, args.work, "light_curves")
    found: dict[str, Any] = {}
    found["light_curves"] = part(
        args.work,
        "judged_light_curves",
        lambda: figures(light_curve_scores(light, files(args.data, "light_curves")[1])),
    )
    found["variable_star"] = part(
        args.work, "task_variable_star", lambda: variable_task(light, args.data, is_test, interval)
    )
    spectral = generator(args.data, args.work, "spectra")
    test = list(records(files(args.data, "spectra")[1], "stellar_parameters"))
    library = spectral.knowledge.flux
    found["spectra"] = part(args.work, "judged_spectra", lambda: figures(spectrum_scores(spectral, test, library)))
    lamost = sorted((args.data / "spectra" / "lamost_dr1").glob("*.fits*"))
    found["spectra_lamost"] = part(
        args.work, "judged_lamost",
        lambda: figures(spectrum_scores(spectral, list(records(lamost, "stellar_parameters")), library)),
    )  # fmt: skip
    found["stellar_parameters"] = part(
        args.work, "task_stellar_parameters", lambda: stellar_task(spectral, args.data, args.work, args.steps, interval)
    )
    found["pretraining"] = {
        m: {"options": PRETRAIN[m], "masked_error": g.backbone.info["masked_error"], "kinds": _brief(g)}
        for m, g in (("light_curves", light), ("spectra", spectral))
    }
    (HERE / "results" / "generation.json").write_text(json.dumps(found, indent=1) + "\n")
    from benchmarks.generation_page import write_page

    print(write_page(HERE / "results" / "generation.json", HERE.parent / "docs" / "generation.md"))


def _brief(found: Generator) -> dict[str, Any]:
    return {
        kind: {m: {k: v for k, v in told[m].items() if k != "errors"} for m in METHODS} | {"best": told["best"]}
        for kind, told in found.info["kinds"].items()
    }


if __name__ == "__main__":
    main()
