"""Does it help a task: RR Lyrae of which bands are missing, and stars of which the blue half is missing in training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import stellar_data, variable_data
from finetune import generate_light_curves as curves
from finetune import generate_spectra as spectra
from finetune import spectral_grid as grid
from finetune.bundle import bundled
from finetune.generation import Generator
from finetune.light_curve_question import look, missing_band, without
from finetune.network import Network, run_network
from finetune.predict import load_predictor
from finetune.spectral_library import Library
from finetune.spectral_question import View, binned, centres
from finetune.task import Prepared
from finetune.tasks import get
from finetune.train import start_model
from finetune.trainer import SurveyTrainer
from finetune.training_options import make_options
from transforms.attempt import Unusable
from transforms.period import measure_light_curve
from transforms.records import LightCurve

LEFT = ("g", "r")  #: Bands that an RR Lyrae keeps.
MISSING = ("u", "i", "z")
CUT = 5300.0  #: Angstrom: the spectra of half of the training stars begin there.


def completed(found: Generator, record: LightCurve, method: str) -> LightCurve:
    """A light curve with the missing bands generated at its visits, measured again."""
    curve = look(record)
    parts = [record]
    for band in MISSING:
        try:
            question = missing_band(curve, band)
            rows = curves.calibrated(curve, question, method, found.model, found.knowledge, found.errors["band"])
        except Unusable:
            continue
        parts.append(replace(
            record, time=rows["mjd"], flux=rows["flux"], flux_err=rows["flux_err"], band=rows["band"].astype(str),
            quality=np.zeros(len(rows["mjd"]), bool),
        ))  # fmt: skip
    order = np.argsort(np.concatenate([p.time for p in parts]), kind="stable")
    joined: dict[str, Any] = {
        n: np.concatenate([getattr(p, n) for p in parts])[order]
        for n in ("time", "flux", "flux_err", "band", "quality")
    }
    return measure_light_curve(replace(record, measured={}, **joined), {})


def variable_task(
    found: Generator, data: Path, is_test: Callable[[Path], bool], interval: Callable[..., list[float]]
) -> dict[str, Any]:
    """Answers of the model that ships for RR Lyrae that neither it nor the backbone has seen."""
    stars = [(r, kind) for r, kind in variable_data.halves(variable_data.stripe_82(data))[1] if is_test(Path(r.source))]
    predictor = load_predictor(bundled("variable_star"))
    ways: dict[str, Callable[[LightCurve], LightCurve]] = {
        "all five bands": lambda r: measure_light_curve(r, {}),
        "g and r": lambda r: without(r, np.isin(r.band.astype(str), LEFT)),
        "g, r and learned u, i, z": lambda r: completed(found, ways["g and r"](r), "learned"),
        "g, r and classical u, i, z": lambda r: completed(found, ways["g and r"](r), "classical"),
    }
    classes = get("variable_star").classes
    right: dict[str, np.ndarray] = {}
    loss: dict[str, np.ndarray] = {}
    for name, way in ways.items():
        answers = [predictor.predict([predictor.prepare(way(record))], 1)[0] for record, _ in stars]
        kinds = [kind for _, kind in stars]
        best = [classes[int(np.argmax([a[f"p_{c}"] for c in classes]))] for a in answers]
        right[name] = np.array([float(b == k) for b, k in zip(best, kinds, strict=True)])
        loss[name] = np.array([-np.log(max(a[f"p_{k}"], 1e-6)) for a, k in zip(answers, kinds, strict=True)])
    return {
        "objects": len(stars),
        **{
            name: {
                "accuracy": interval(right[name]), "log_loss": interval(loss[name]),
                "gain": interval(loss["g and r"] - loss[name]),
            }
            for name in ways
        },
    }  # fmt: skip


def filled(found: Generator, prepared: Prepared, method: str) -> Prepared:
    """A spectrum whose empty bins below ``CUT`` are generated."""
    empty = ~(prepared["ivar"].reshape(grid.N_BIN, -1) > 0).any(1)
    view = View(prepared["flux"], prepared["ivar"], empty & (centres() < CUT))
    flux, told = spectra.answer(method, found.model, found.knowledge, view)
    error = found.errors["blue"][method].error(told)
    asked = np.repeat(view.asked, grid.BINNING)
    new = {
        "flux": np.where(asked, np.repeat(flux, grid.BINNING), prepared["flux"]),
        "ivar": np.where(asked, np.repeat(1 / error**2, grid.BINNING) / grid.BINNING, prepared["ivar"]),
    }
    scale = float(grid.flux_scale(new["flux"], new["ivar"]))
    new = {"flux": new["flux"] / scale, "ivar": new["ivar"] * scale**2}
    return {**prepared, **{name: value.astype(np.float32) for name, value in new.items()}}


def cut(prepared: Prepared) -> Prepared:
    """A spectrum that begins at ``CUT``, of mean one over what the grid then takes for its scale."""
    keep = grid.wavelengths() >= CUT
    flux, ivar = (np.where(keep, prepared[name], 0) for name in ("flux", "ivar"))
    scale = float(grid.flux_scale(flux, ivar))
    new = {"flux": flux / scale, "ivar": ivar * scale**2}
    return {**prepared, **{name: value.astype(np.float32) for name, value in new.items()}}


def stellar_task(
    found: Generator, data: Path, work: Path, steps: int, interval: Callable[..., list[float]],
    only: Sequence[str] = (),
) -> dict[str, Any]:  # fmt: skip
    """One net for each way in which half of the training stars lost their blue."""
    from benchmarks.generation import is_test

    stars = stellar_data.load(data, "miles")
    test = np.array([is_test(Path(e.record.source)) for e in stars.examples])
    outside = {g for g, t in zip(stars.groups, test, strict=True) if t}
    inside = [i for i, g in enumerate(stars.groups) if not test[i] and g not in outside]
    judge = np.flatnonzero(test)
    lost = np.random.default_rng(5).random(len(stars.groups)) < 0.5
    whole = [stars.prepared[i] for i in inside if not lost[i]]
    flux, variance = binned(*(np.stack([p[n] for p in whole]) for n in ("flux", "ivar")))
    # the blue of a star that lost it is not in the library that says it
    found = replace(found, knowledge=Library.fit(flux, np.isfinite(variance)))
    ways: dict[str, Callable[[Prepared], Prepared]] = {
        "complete": lambda p: p,
        "without blue": cut,
        "learned blue": lambda p: filled(found, cut(p), "learned"),
        "classical blue": lambda p: filled(found, cut(p), "classical"),
    }
    out: dict[str, Any] = {"train": len(inside), "objects": len(judge), "steps": steps}
    errors: dict[str, dict[str, np.ndarray]] = {}
    for name, way in ways.items():
        if only and name not in only:
            continue
        prepared = [way(stars.prepared[i]) if lost[i] else stars.prepared[i] for i in inside]
        model = _trained([stars.examples[i] for i in inside], prepared, steps, work)
        tests = {
            "complete": [stars.prepared[i] for i in judge],
            "no blue": [
                way(cut(stars.prepared[i])) if name in ("learned blue", "classical blue") else cut(stars.prepared[i])
                for i in judge
            ],
        }
        for condition, rows in tests.items():
            answer = run_network(Network([model], _cpu()), rows, 32)["value"].mean(1)
            errors.setdefault(condition, {})[name] = np.abs(answer - stars.labels[judge])
    for condition, by in errors.items():
        for k, label in enumerate(("log Teff", "log g", "[Fe/H]")):
            told = {name: interval(e[:, k], np.median) for name, e in by.items()}
            rows = {name: by["without blue"][:, k] - e[:, k] for name, e in by.items()}
            told |= {f"{name}_gain": interval(r, np.mean) for name, r in rows.items() if name != "without blue"}
            out.setdefault(condition, {})[label] = told
    return out


def _cpu() -> Any:
    import torch

    return torch.device("cpu")


def _trained(examples: list[Any], prepared: list[Prepared], steps: int, work: Path) -> Any:
    task = get("stellar_parameters")
    sizes = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 256}
    build = {"members": ["direct"], **sizes}
    task = replace(task, options={**{k: v for k, v in task.options.items() if k != "initialise"}, "build": build})
    given = {"steps": steps, "batch_size": 32, "evaluations": 0, "seed": 0, "learning_rate": 1e-3, "ema": 0.98}
    options = make_options(task, given)
    model = start_model(task, build, examples, prepared, task.baseline(), options)
    pairs = [(one, task.encode(e.labels)) for e, one in zip(examples, prepared, strict=True)]
    SurveyTrainer(task, model, pairs, [], options, 0, str(work / "scratch")).fit()
    return model.eval()
