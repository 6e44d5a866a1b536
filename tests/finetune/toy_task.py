"""A toy science task: is the star bright or faint, from eight fluxes; a tiny BERT against a cut in the mean flux."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import BertConfig, BertModel, PreTrainedModel

from finetune.task import Example, Labels, Prepared, Row, Task
from transforms.attempt import Unusable
from transforms.columns import FLOAT32, STRING, Column
from transforms.flags import bits
from transforms.records import LightCurve

CLASSES = ("faint", "bright")
LENGTH = 8


class ToyModel(PreTrainedModel):
    config_class = BertConfig

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        self.embed = nn.Linear(1, config.hidden_size)
        self.encoder = BertModel(config, add_pooling_layer=False)
        self.head = nn.Linear(config.hidden_size, config.num_labels)
        self.register_buffer("shift", torch.zeros(1))
        self.post_init()

    def forward(self, flux: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
        tokens = self.embed((flux - self.shift)[..., None])
        hidden = self.encoder(inputs_embeds=tokens, attention_mask=mask.long()).last_hidden_state
        pooled = hidden.mean(1)
        return {"logits": self.head(pooled), "embedding": pooled}


def build(classes: Sequence[str] = CLASSES, width: int = 16) -> ToyModel:
    return ToyModel(
        BertConfig(
            vocab_size=2, hidden_size=width, num_hidden_layers=1, num_attention_heads=2, intermediate_size=2 * width,
            max_position_embeddings=LENGTH, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
            num_labels=len(classes),
        )
    )  # fmt: skip


def prepare(record: LightCurve) -> Prepared:
    if record.object_id == "senseless":
        raise Unusable("object 'senseless' makes no sense")
    flux = np.zeros(LENGTH, np.float32)
    flux[: record.flux.size] = record.flux[:LENGTH]
    good = np.isfinite(flux)
    return {"flux": flux, "mask": np.ones(LENGTH, bool), "empty": np.array(not good.all()), "note": np.float64(0.5)}


def encode(labels: Labels, classes: Sequence[str] = CLASSES) -> dict[str, np.ndarray]:
    name = labels.get("class_name")
    return {"class": np.array(classes.index(name) if name else -100)}


def loss(outputs: Mapping[str, Any], targets: Mapping[str, Any]) -> Any:
    return nn.functional.cross_entropy(outputs["logits"], targets["class"], ignore_index=-100)


def decode(
    outputs: Mapping[str, np.ndarray],
    prepared: Sequence[Prepared],
    calibration: Mapping[str, Any],
    classes: Sequence[str] = CLASSES,
) -> list[Row]:
    rows: list[Row] = []
    for logits, one in zip(outputs["logits"], prepared, strict=True):
        if one["empty"]:
            rows.append({"class_name": None, "p_bright": float("nan"), "flags": bits("BAD_DATA")})
            continue
        scaled = logits / calibration.get("temperature", 1.0)
        p = np.exp(scaled - scaled.max())
        p /= p.sum()
        rows.append({"class_name": classes[int(p.argmax())], "p_bright": p[1], "flags": 0})
    return rows


class Cut:
    """The mean flux against the middle between the class means."""

    def __init__(self) -> None:
        self.level = 0.0

    def fit(self, examples: Sequence[Example], prepared: Sequence[Prepared], *, seed: int) -> None:
        means = {name: [] for name in CLASSES}
        for example, one in zip(examples, prepared, strict=True):
            means.setdefault(example.labels["class_name"], []).append(float(one["flux"].mean()))
        self.level = float(np.mean([np.mean(means[name]) for name in CLASSES]))

    def predict(self, prepared: Sequence[Prepared]) -> list[Row]:
        return [
            {
                "baseline_class_name": None if one["empty"] else CLASSES[int(one["flux"].mean() > self.level)],
                "baseline_score": float(one["flux"].mean()) - self.level,
            }
            for one in prepared
        ]

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        return {"level": np.array([self.level])}, {"kind": "cut"}

    def restore(self, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
        self.level = float(arrays["level"][0])


def choose(learned: Row, classical: Row, rule: Mapping[str, Any]) -> Row:
    method = rule.get("method", "learned")
    name = learned["class_name"] if method == "learned" else classical["baseline_class_name"]
    disagree = learned["class_name"] != classical["baseline_class_name"]
    return {"best_class_name": name, "best_method": method, "flags": bits("DISAGREE") if disagree else 0}


def metrics(rows: Sequence[Row], labels: Sequence[Labels], prefix: str) -> dict[str, float]:
    right = [row[f"{prefix}class_name"] == truth["class_name"] for row, truth in zip(rows, labels, strict=True)]
    return {"accuracy": float(np.mean(right))}


def simulate(n: int, seed: int) -> list[Example]:
    rng = np.random.default_rng(seed)
    return [example(f"star{i}", CLASSES[i % 2], rng) for i in range(n)]


def example(name: str, label: str, rng: np.random.Generator, count: int = LENGTH) -> Example:
    flux = rng.normal(1.0 if label == "bright" else -1.0, 0.7, count)
    record = LightCurve(
        source=f"{name}.csv", object_id=name, time=np.arange(count, dtype=float), flux=flux,
        flux_err=np.full(count, 0.7), band=np.full(count, "g"), quality=np.zeros(count, bool),
    )  # fmt: skip
    return Example(record=record, labels={"class_name": label}, group=name, origin="simulated")


def augment(prepared: dict[str, np.ndarray], targets: dict[str, np.ndarray], rng: np.random.Generator) -> Any:
    noise = rng.normal(0, 0.1, prepared["flux"].shape).astype(np.float32)
    return {**prepared, "flux": prepared["flux"] + noise}, targets


def initialise(model: ToyModel, examples: Sequence[Example], prepared: Sequence[Prepared], baseline: Any) -> None:
    model.shift.fill_(float(np.mean([one["flux"].mean() for one in prepared])))


_CLASS = ("meta.code.class", "Class")


def make_task(classes: tuple[str, ...] = CLASSES) -> Task:
    if classes[: len(CLASSES)] != CLASSES:
        raise ValueError(f"classes {', '.join(classes)} do not begin with {', '.join(CLASSES)}")
    return Task(
        name="toy",
        version=1,
        description="Bright or faint.",
        record=LightCurve,
        prepare=prepare,
        build=partial(build, classes),
        loss=loss,
        encode=partial(encode, classes=classes),
        decode=partial(decode, classes=classes),
        calibrate=lambda outputs, prepared, targets: {"temperature": np.float32(1.5)},
        columns=(
            Column("class_name", STRING, "", *_CLASS),
            Column("p_bright", FLOAT32, "", "stat.probability", "Probability of bright"),
        ),
        baseline=Cut,
        baseline_columns=(
            Column("baseline_class_name", STRING, "", *_CLASS),
            Column("baseline_score", FLOAT32, "", "stat.value", "Mean flux over the level"),
        ),
        choose=choose,
        fit_rule=lambda learned, classical, labels: {"method": "learned"},
        best_columns=(
            Column("best_class_name", STRING, "", *_CLASS),
            Column("best_method", STRING, "", "meta.code", "Which answer it is"),
        ),
        metrics=metrics,
        simulate=simulate,
        augment=augment,
        label_columns=("class_name",),
        classes=classes,
        with_classes=make_task,
        batch_size=4,
        options={
            "build": {"width": 16},
            "training": {"steps": 40, "batch_size": 8, "learning_rate": 5e-3, "evaluations": 4},
            "initialise": initialise,
        },
    )


TASK = make_task()
