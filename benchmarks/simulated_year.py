"""A simulated year: seeing gets worse, a detector changes, a new class appears; with and without retraining.

Run ``python -m benchmarks.simulated_year --output docs``. It takes some minutes on one core, and writes ``simulated_year.json``
and ``simulated_year.png``. The sky is simulated at the level of what an image's detections measure: six numbers of an
object, with what is common to its night and to its exposure. All else is the package's own: the drift statistics,
fine-tuning from production, calibration, and the gate on objects that are frozen.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import BertConfig, PreTrainedModel

from finetune.bundle import Info
from finetune.bundle_writing import save_bundle
from finetune.drift import DriftLimits, watch
from finetune.drift_scores import Night, Statistic
from finetune.gate import Limits, judge_candidate
from finetune.judge import full_rows
from finetune.task import Example, Labels, Prepared, Row, Task
from finetune.train import Trained, prepare_all, train_task
from finetune.training_options import make_options
from transforms.columns import FLOAT32, STRING, Column
from transforms.records import LightCurve

CLASSES = ("star", "galaxy", "nebula")
FEATURES = ("size", "ellipticity", "concentration", "colour_gr", "colour_ri", "noise")
NIGHTS, REFERENCE, QUIET = 364, 28, 63  #: The first ``QUIET`` nights are undisturbed.
DETECTOR, NEW_CLASS = 154, 245
EXPOSURES, OBJECTS = 6, 20
LABELLED = 12  #: Objects of each night that are labelled; they arrive at the end of the week.
STEPS = 150


class Classifier(PreTrainedModel):
    """Two layers."""

    config_class = BertConfig

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        width = config.hidden_size
        self.body = nn.Sequential(nn.Linear(len(FEATURES), width), nn.GELU(), nn.Linear(width, width), nn.GELU())
        self.head = nn.Linear(width, len(CLASSES))
        self.post_init()

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        hidden = self.body(x)
        return {"logits": self.head(hidden), "embedding": hidden}


def build(width: int = 48) -> Classifier:
    return Classifier(BertConfig(vocab_size=2, hidden_size=width, num_attention_heads=1, num_hidden_layers=1))


def prepare(record: LightCurve) -> Prepared:
    return {"x": ((record.flux - CENTRE) / SCALE).astype(np.float32)}


CENTRE = np.array([1.1, 0.2, 2.8, 0.8, 0.4, 1.0])
SCALE = np.array([0.4, 0.15, 0.4, 0.4, 0.3, 0.3])


def encode(labels: Labels) -> dict[str, np.ndarray]:
    return {"class": np.array(CLASSES.index(labels["class_name"]))}


def loss(outputs: Mapping[str, Any], targets: Mapping[str, Any]) -> Any:
    return nn.functional.cross_entropy(outputs["logits"], targets["class"])


def softmax(logits: np.ndarray) -> np.ndarray:
    p = np.exp(logits - logits.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


def decode(
    outputs: Mapping[str, np.ndarray], prepared: Sequence[Prepared], calibration: Mapping[str, Any]
) -> list[Row]:
    p = softmax(outputs["logits"] / calibration.get("temperature", 1.0))
    return [{"class_name": CLASSES[int(one.argmax())], "p_max": float(one.max()), "flags": 0} for one in p]


def calibrate(outputs: Mapping[str, np.ndarray], prepared: Any, targets: Sequence[Mapping[str, np.ndarray]]) -> dict:
    truth = np.array([int(t["class"]) for t in targets])
    grid = np.geomspace(0.3, 5, 60)
    fits = [np.log(softmax(outputs["logits"] / t)[np.arange(len(truth)), truth] + 1e-9).mean() for t in grid]
    return {"temperature": float(grid[int(np.argmax(fits))])}


class Nearest:
    """Nearest class mean: the cheap classical answer."""

    def fit(self, examples: Sequence[Example], prepared: Sequence[Prepared], *, seed: int) -> None:
        kinds = np.array([e.labels["class_name"] for e in examples])
        x = np.array([p["x"] for p in prepared])
        self.means = np.array(
            [x[kinds == k].mean(0) if (kinds == k).any() else np.full(x.shape[1], 99.0) for k in CLASSES]
        )

    def predict(self, prepared: Sequence[Prepared]) -> list[Row]:
        x = np.array([p["x"] for p in prepared])
        near = ((x[:, None] - self.means) ** 2).sum(2).argmin(1)
        return [{"baseline_class_name": CLASSES[i]} for i in near]

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        return {"means": self.means}, {}

    def restore(self, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
        self.means = arrays["means"]


def metrics(rows: Sequence[Row], labels: Sequence[Labels], prefix: str) -> dict[str, float]:
    right = [row[f"{prefix}class_name"] == truth["class_name"] for row, truth in zip(rows, labels, strict=True)]
    return {"accuracy": float(np.mean(right))}


def _name(name: str) -> Column:
    return Column(name, STRING, "", "src.class", "Class")


TASK = Task(
    name="simulated_year", version=1, description="Simulated", record=LightCurve, prepare=prepare, build=build,
    loss=loss, encode=encode, decode=decode, calibrate=calibrate,
    columns=(_name("class_name"), Column("p_max", FLOAT32, "", "stat.probability", "Probability")),
    baseline=Nearest, baseline_columns=(_name("baseline_class_name"),),
    choose=lambda learned, classical, rule: {"best_class_name": learned["class_name"], "flags": 0},
    fit_rule=lambda learned, classical, labels: {}, best_columns=(_name("best_class_name"),), metrics=metrics,
    merit=("accuracy",), simulate=lambda n, seed: [], label_columns=("class_name",), classes=CLASSES, batch_size=64,
    options={"training": {"steps": STEPS, "batch_size": 64, "learning_rate": 3e-3, "evaluations": 5}},
)  # fmt: skip


def conditions(day: int) -> dict[str, float]:
    """What has changed by a day: nothing in the first nine weeks."""
    worse = min(max((day - QUIET) / 240, 0.0), 1.0)
    return {
        "seeing": 0.8 + 0.5 * worse,
        "colour": 0.35 if day >= DETECTOR else 0.0,
        "noise": 1.5 if day >= DETECTOR else 1.0,
        "nebulae": 0.15 if day >= NEW_CLASS else 0.0,
    }


def simulate_night(day: int, seed: int) -> list[Example]:
    """Objects of one night: seeing and zero points differ from night to night and from exposure to exposure."""
    rng = np.random.default_rng([seed, day])
    now = conditions(day)
    seeing = now["seeing"] * math.exp(rng.normal(0, 0.06))
    zero = rng.normal(0, 0.015, 2)
    found = []
    for exposure in range(EXPOSURES):
        blur = seeing * math.exp(rng.normal(0, 0.03))
        shift = zero + rng.normal(0, 0.01, 2) + np.array([now["colour"], -0.6 * now["colour"]])
        for number in range(OBJECTS):
            kind = "nebula" if rng.random() < now["nebulae"] else CLASSES[int(rng.random() < 0.55)]
            faint = rng.exponential(0.25)
            radius = {"star": 0.0, "galaxy": rng.lognormal(-0.35, 0.4), "nebula": rng.lognormal(-0.3, 0.3)}[kind]
            colours = {"star": (0.65, 0.3), "galaxy": (0.95, 0.5), "nebula": (0.35, 0.95)}[kind]
            noise = now["noise"] * (0.03 + 0.06 * faint)
            size = math.hypot(blur, radius)
            shape = rng.rayleigh(0.22) * (radius / size) ** 2 if radius else 0.0
            sharp = 2.4 + (0.9 if kind == "galaxy" else 0.1) * (radius / size) ** 2
            measured = np.array([
                size * (1 + rng.normal(0, noise)), abs(shape + rng.normal(0, noise)),
                sharp + 0.3 * blur + rng.normal(0, 2 * noise), colours[0] + rng.normal(0, 0.16) + shift[0] + rng.normal(0, noise),
                colours[1] + rng.normal(0, 0.12) + shift[1] + rng.normal(0, noise), now["noise"] * (1 + 0.5 * faint) * math.exp(rng.normal(0, 0.1)),
            ])  # fmt: skip
            name = f"{day:03d}-{exposure}-{number}"
            one = np.ones(len(measured))
            record = LightCurve(
                source=f"{day:03d}-{exposure}", row=number, object_id=name, time=np.arange(len(measured), dtype=float),
                flux=measured, flux_err=one, band=np.full(len(measured), "g"), quality=np.zeros(len(measured), bool),
            )  # fmt: skip
            found.append(Example(record=record, labels={"class_name": kind}, group=name))
    return found


def train(examples: Sequence[Example], start: str, seed: int) -> Trained:
    order = np.random.default_rng(seed).permutation(len(examples))
    cut = len(examples) // 5
    options = make_options(TASK, {"start": start, "seed": seed} if start else {"seed": seed})
    return train_task(TASK, [examples[i] for i in order[cut:]], [examples[i] for i in order[:cut]], options)


def keep(trained: Trained, folder: Path) -> str:
    info = Info(
        task=TASK.name, task_version=1, package_version="0", classes=CLASSES, build=trained.build,
        calibration=trained.calibration, rule=trained.rule,
    )  # fmt: skip
    return str(save_bundle(folder, info=info, models=trained.models, baseline=trained.baseline).path)


def accuracy(predictor: Any, examples: Sequence[Example]) -> tuple[float, list[Row]]:
    kept, prepared, _ = prepare_all(TASK, examples)
    rows = full_rows(TASK, predictor, kept, prepared)
    return metrics(rows, [e.labels for e in kept], "")["accuracy"], rows


def as_night(day: int, examples: Sequence[Example], rows: Sequence[Row]) -> Night:
    """What a catalog would hold of a night: what was measured, and what the first model said."""
    values = np.array([e.record.flux for e in examples])
    numbers = {Statistic("value", name): values[:, i] for i, name in enumerate(FEATURES)}
    numbers[Statistic("value", "p_max")] = np.array([row["p_max"] for row in rows])
    return Night(
        name=f"{day:03d}", groups=np.array([e.record.source for e in examples]), numbers=numbers,
        texts={"class_name": np.array([row["class_name"] for row in rows])},
    )  # fmt: skip


def run_year(seed: int, folder: Path) -> dict[str, Any]:
    started = time.time()
    sky = [simulate_night(day, seed) for day in range(NIGHTS)]
    before = [e for k in range(12) for e in _undisturbed(seed + 1000 + k)]
    frozen = [e for k in range(4) for e in _undisturbed(seed + 2000 + k)]
    first = train(before, "", 0)
    production, model = keep(first, folder / "model_0"), first.predictor()
    fixed = model
    labels, events = list(before), []
    still, tuned, nights = [], [], []
    rng = np.random.default_rng([seed, 99])
    for day, objects in enumerate(sky):
        score, rows = accuracy(fixed, objects)
        still.append(score)
        tuned.append(accuracy(model, objects)[0])
        nights.append(as_night(day, objects, rows))
        labels += [objects[i] for i in rng.choice(len(objects), LABELLED, replace=False)]
        if day % 7 == 6 and day >= QUIET:
            trained = train(labels, production, day)
            gate = judge_candidate(TASK, trained.predictor(), model, frozen, Limits(speed=0.5), draws=200)
            events.append({"day": day, "promoted": not gate["refused"], "refused": gate["refused"]})
            if not gate["refused"]:
                production, model = keep(trained, folder / f"model_{day}"), trained.predictor()
    found = watch(nights[:REFERENCE], nights[REFERENCE:], DriftLimits())
    alarms: dict[str, str] = {}
    for f in found:
        if f.alarm:
            alarms.setdefault(f"{f.statistic.kind} {f.statistic.column}", f.night)
    late = [e for k in range(60) for e in simulate_night_like(NIGHTS - 1, seed + 3000 + k)]
    end = sky[-56:]
    best = train(late, "", 1).predictor()
    attainable = float(np.mean([accuracy(best, objects)[0] for objects in end]))
    return {
        "seed": seed, "without": still, "with": tuned, "retrainings": events, "alarms": alarms,
        "quiet_alarms": sum(f.alarm for f in found if int(f.night) < QUIET), "attainable": attainable,
        "alarm_nights": sorted({int(f.night) for f in found if f.alarm}), "seconds": time.time() - started,
    }  # fmt: skip


def _undisturbed(seed: int) -> list[Example]:
    return simulate_night_like(0, seed)


def simulate_night_like(day: int, seed: int) -> list[Example]:
    """A night of its own under the conditions of a day."""
    from dataclasses import replace

    return [
        replace(e, group=f"{seed}-{e.group}", record=replace(e.record, source=f"{seed}-{e.record.source}", object_id=f"{seed}-{e.group}"))
        for e in simulate_night(day, seed)
    ]  # fmt: skip


def summarise(years: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over years: accuracy in the quiet part, at the end without and with retraining, and what was recovered."""
    rows = []
    for year in years:
        quiet = float(np.mean(year["with"][:QUIET]))
        without, tuned = (float(np.mean(year[name][-56:])) for name in ("without", "with"))
        attainable = year["attainable"]
        rows.append({
            "seed": year["seed"], "quiet": quiet, "end_without": without, "end_with": tuned, "attainable": attainable,
            "recovered_of_lost": (tuned - without) / (quiet - without),
            "recovered_of_attainable": (tuned - without) / (attainable - without),
            "quiet_alarms": year["quiet_alarms"], "first_alarm": min(year["alarm_nights"], default=None),
            "promoted": sum(e["promoted"] for e in year["retrainings"]), "tried": len(year["retrainings"]),
            "alarms": year["alarms"],
        })  # fmt: skip
    return {
        "years": rows,
        "constants": {"quiet": QUIET, "detector": DETECTOR, "new_class": NEW_CLASS, "nights": NIGHTS},
    }


def draw(year: Mapping[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 4.2))
    days = np.arange(NIGHTS)
    for name, colour in (("without", "tab:red"), ("with", "tab:blue")):
        values = np.array(year[name])
        axes.plot(days, values, ".", color=colour, alpha=0.25, ms=3)
        axes.plot(
            days[6:],
            np.convolve(values, np.ones(7) / 7, "valid"),
            color=colour,
            label=f"{name} retraining (mean of 7 nights)",
        )
    axes.plot(
        year["alarm_nights"],
        np.full(len(year["alarm_nights"]), 0.02),
        "|",
        color="black",
        ms=8,
        transform=axes.get_xaxis_transform(),
        label="nights with a drift alarm",
    )
    for day, text in (
        (QUIET, "seeing begins\nto get worse"),
        (DETECTOR, "detector\nchanges"),
        (NEW_CLASS, "new class"),
    ):
        axes.axvline(day, color="grey", lw=0.8)
        axes.text(day + 2, 0.08, text, fontsize=8, color="grey", transform=axes.get_xaxis_transform())
    axes.set(xlabel="night", ylabel="accuracy", xlim=(0, NIGHTS))
    axes.legend(loc="lower left", fontsize=8, bbox_to_anchor=(0, 0.22))
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("docs"))
    parser.add_argument("--years", type=int, default=1, help="simulated years, each with a seed of its own")
    options = parser.parse_args()
    torch.set_num_threads(1)
    years = []
    for seed in range(options.years):
        with tempfile.TemporaryDirectory() as folder:
            years.append(run_year(seed, Path(folder)))
        print(json.dumps(summarise(years)["years"][-1], indent=1), f"{years[-1]['seconds']:.0f} s", flush=True)
    draw(years[0], options.output / "simulated_year.png")
    results = Path(__file__).parent / "results" / "simulated_year.json"
    results.write_text(
        json.dumps(
            {**summarise(years), "nights": [{k: y[k] for k in ("without", "with")} for y in years[:1]]}, indent=1
        )
        + "\n"
    )


if __name__ == "__main__":
    main()
