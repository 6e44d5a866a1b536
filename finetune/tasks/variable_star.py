"""What kind of variable a light curve shows: pulsator, eclipsing binary, long-period variable, quasar, supernova."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from finetune.boosted_trees import FEWEST, BoostedTrees
from finetune.calibrate import fit_temperature
from finetune.class_probabilities import blend, class_metrics, fit_blend
from finetune.dirichlet import choose_map, class_probabilities
from finetune.light_curve_explain import explain_classes
from finetune.light_curve_tokens import INPUTS, N_COLOUR, N_SLOT, N_TOKEN, prepare
from finetune.task import Example, Labels, Prepared, Row, Task
from transforms.columns import FLOAT32, STRING, Column
from transforms.flags import bits
from transforms.records import LightCurve

CLASSES = ("rrab", "rrc", "ea", "ew", "dsct", "cepheid", "lpv", "qso", "snia", "constant")
_NAMES = {
    "rrab": "RR Lyrae star of type ab", "rrc": "RR Lyrae star of type c", "ea": "detached eclipsing binary",
    "ew": "contact eclipsing binary", "dsct": "delta Scuti or SX Phoenicis star", "cepheid": "classical Cepheid",
    "lpv": "long-period variable", "qso": "quasar", "snia": "supernova of type Ia", "constant": "no variability seen",
}  # fmt: skip
LABEL = "variable_class"
OUTSIDE = 0.05  #: Share of numbers outside of the training range that is out of support, unless calibrated.


def build(classes: Sequence[str] = CLASSES, **options: Any) -> Any:
    """Make an untrained model.

    Parameters
    ----------
    classes : sequence of str
        That the model knows.
    **options : Any
        Sizes of ``LightCurveConfig``.

    Returns
    -------
    LightCurveModel
        Random weights.
    """
    from finetune.light_curve_model import LightCurveConfig, LightCurveModel

    sizes = {"n_class": len(classes), "n_number": len(INPUTS), "n_slot": N_SLOT, **options}
    return LightCurveModel(LightCurveConfig(**sizes))


def network(config: Any) -> Any:
    """Make the model for inference.

    Parameters
    ----------
    config : object
        Fields of ``LightCurveConfig``.

    Returns
    -------
    LightCurveNetwork
        Random weights.
    """
    from finetune.light_curve_network import LightCurveNetwork

    return LightCurveNetwork(config)


def initialise(model: Any, examples: Sequence[Example], prepared: Sequence[Prepared], baseline: Any) -> None:
    """Give the model the scales of the measured numbers.

    Parameters
    ----------
    model : LightCurveModel
        Before training.
    examples : sequence of Example
        Training objects.
    prepared : sequence of Prepared
        What ``prepare`` gave for each.
    baseline : Baseline
        Not used.
    """
    model.scale.fit(np.stack([p["numbers"] for p in prepared]), np.stack([p["known"] for p in prepared]))


def encode(labels: Labels, classes: Sequence[str] = CLASSES) -> dict[str, np.ndarray]:
    """Number of the class.

    Parameters
    ----------
    labels : mapping
        With ``variable_class``.
    classes : sequence of str
        That the model knows.

    Returns
    -------
    dict of str to ndarray
        ``target``: -100 where the label is missing or of another class.
    """
    name = labels.get(LABEL)
    return {"target": np.array(classes.index(name) if name in classes else -100, np.int64)}


def loss(outputs: Mapping[str, Any], targets: Mapping[str, Any]) -> Any:
    """Cross entropy with smoothed labels.

    Parameters
    ----------
    outputs : mapping
        With ``logits``.
    targets : mapping
        With ``target``.

    Returns
    -------
    Tensor
        Scalar.
    """
    from torch.nn import functional

    return functional.cross_entropy(outputs["logits"], targets["target"], ignore_index=-100, label_smoothing=0.05)


def augment(prepared: dict[str, np.ndarray], targets: dict[str, np.ndarray], rng: np.random.Generator) -> Any:
    """Lose visits, bands, colours and numbers; add noise; let a runner-up period lead at times.

    Parameters
    ----------
    prepared, targets : dict of str to ndarray
        A stacked batch.
    rng : Generator
        Source of randomness.

    Returns
    -------
    prepared, targets : dict of str to ndarray
        New arrays where something changed.
    """
    n, n_token, n_slot = prepared["seen"].shape
    seen = prepared["seen"] * (rng.random((n, n_token, 1)) > 0.1)
    seen = seen * ((rng.random((n, 1, n_slot)) > 0.15) | (rng.random((n, 1, 1)) < 0.5))
    empty = seen.reshape(n, -1).sum(1) < FEWEST
    seen[empty] = prepared["seen"][empty]
    known = prepared["known"] * (rng.random(prepared["known"].shape) > 0.1)
    known *= rng.random((n, 1)) > 0.08  # at times the visits alone must do
    known[:, -N_COLOUR:] *= rng.random((n, 1)) > 0.4
    noise = rng.normal(0, 1, prepared["magnitude"].shape) * 10.0 ** prepared["log_error"] * 0.3
    phase = prepared["phase"].copy()
    swap = rng.random(n) < 0.05
    phase[swap] = phase[swap][..., [1, 0, 2]]
    return {
        **prepared,
        "seen": seen.astype(np.float32),
        "known": known.astype(np.float32),
        "magnitude": (prepared["magnitude"] + np.clip(noise, -1, 1)).astype(np.float32),
        "phase": phase,
    }, targets


def decode(
    outputs: Mapping[str, np.ndarray],
    prepared: Sequence[Prepared],
    calibration: Mapping[str, Any],
    classes: Sequence[str] = CLASSES,
) -> list[Row]:
    """Scores to calibrated probabilities, class and flags.

    Parameters
    ----------
    outputs : mapping of str to ndarray
        ``logits`` and ``outside``.
    prepared : sequence of Prepared
        The inputs.
    calibration : mapping
        ``temperature`` and ``outside``.
    classes : sequence of str
        That the model knows.

    Returns
    -------
    list of dict
        The columns and ``flags``.
    """
    shares = class_probabilities(outputs["logits"], calibration)
    limit = float(calibration.get("outside", OUTSIDE))
    rows = []
    for p, outside, one in zip(shares, outputs["outside"], prepared, strict=True):
        flags = bits("INPUT_TRUNCATED") if one["thinned"][0] > 0 else 0
        if one["valid"].sum() < FEWEST:
            rows.append(_row(classes, None, flags | bits("FEW_POINTS")))
        elif not np.isfinite(p).all():
            rows.append(_row(classes, None, flags | bits("MODEL_FAILED")))
        else:
            flags |= bits("AMBIGUOUS") if p.max() < 0.5 else 0
            flags |= bits("OUT_OF_SUPPORT") if outside > limit else 0
            rows.append(_row(classes, p, flags))
    return rows


def _row(classes: Sequence[str], p: np.ndarray | None, flags: int, prefix: str = "") -> Row:
    row: Row = {f"{prefix}{LABEL}": None if p is None else classes[int(p.argmax())]}
    row[f"{prefix}p_max"] = None if p is None else float(p.max())
    row.update({f"{prefix}p_{name}": None if p is None else float(p[i]) for i, name in enumerate(classes)})
    return {**row, "flags": flags}


def calibrate(
    outputs: Mapping[str, np.ndarray], prepared: Sequence[Prepared], targets: Sequence[Mapping[str, np.ndarray]]
) -> dict[str, Any]:
    """One temperature (Guo et al. 2017) or a Dirichlet map, and the limit of the support.

    Parameters
    ----------
    outputs : mapping of str to ndarray
        For the validation objects.
    prepared : sequence of Prepared
        Their inputs; those that ``decode`` gives no answer for do not count.
    targets : sequence of mapping
        From ``encode``.

    Returns
    -------
    dict
        From ``choose_map``; ``outside``, which 99 percent of the validation objects stay below.
    """
    target = np.array([int(t["target"]) for t in targets])
    answered = np.array([one["valid"].sum() >= FEWEST for one in prepared], bool)
    usable = (target >= 0) & np.isfinite(outputs["logits"]).all(1) & answered
    if usable.sum() < 20:
        return {}
    outside = float(np.quantile(outputs["outside"][usable], 0.99))
    logits, likelihood = outputs["logits"][usable].astype(np.float64), np.eye(len(CLASSES))[target[usable]]
    return {**choose_map(logits, likelihood, _temperature), "outside": max(outside, 0.01)}


def _temperature(logits: np.ndarray, likelihood: np.ndarray) -> float:
    return fit_temperature(logits, likelihood.argmax(axis=1))


def _matrix(rows: Sequence[Row], prefix: str, classes: Sequence[str]) -> np.ndarray:
    return np.array([[row[f"{prefix}p_{name}"] for name in classes] for row in rows], np.float64)


def fit_rule(
    learned: Sequence[Row], classical: Sequence[Row], labels: Sequence[Labels], classes: Sequence[str] = CLASSES
) -> dict[str, Any]:
    """Fix the weight of the learned answer in the mean of log probabilities, and its temperature.

    Parameters
    ----------
    learned, classical : sequence of dict
        Rows of the validation objects.
    labels : sequence of mapping
        Truth.
    classes : sequence of str
        That the model knows.

    Returns
    -------
    dict
        ``weight`` (0: baseline alone, 1: model alone) and ``temperature``, both by likelihood.
    """
    target = np.array([int(encode(one, classes)["target"]) for one in labels])
    return fit_blend(_matrix(learned, "", classes), _matrix(classical, "baseline_", classes), target)


def choose(learned: Row, classical: Row, rule: Mapping[str, Any], classes: Sequence[str] = CLASSES) -> Row:
    """The catalog's answer: the weighted mean of both, or the one there is.

    Parameters
    ----------
    learned, classical : dict
        Rows of one object.
    rule : mapping
        From ``fit_rule``.
    classes : sequence of str
        That the model knows.

    Returns
    -------
    dict
        ``best_*`` and flags.
    """
    flags = 0
    have = learned["variable_class"] is not None, classical["baseline_variable_class"] is not None
    if all(have):
        if learned["variable_class"] != classical["baseline_variable_class"]:
            flags = bits("DISAGREE")
        a, b = _matrix([learned], "", classes), _matrix([classical], "baseline_", classes)
        p = blend(a, b, float(rule.get("weight", 0.5)), float(rule.get("temperature", 1.0)))[0]
        return {**_row(classes, p, flags, "best_"), "best_method": "mean"}
    for there, row, prefix, method in ((have[0], learned, "", "model"), (have[1], classical, "baseline_", "baseline")):
        if there:
            return {**_row(classes, _matrix([row], prefix, classes)[0], flags, "best_"), "best_method": method}
    return {**_row(classes, None, flags, "best_"), "best_method": None}


def simulate(n: int, seed: int) -> list[Example]:
    """Simulated light curves on synthetic cadences.

    Parameters
    ----------
    n : int
        How many.
    seed : int
        Of all that is random.

    Returns
    -------
    list of Example
        Raw records.
    """
    from transforms.simulate.light_curves import simulate_light_curves

    return [
        Example(
            record=record,
            labels={LABEL: truth.kind, "period": truth.period},
            group=truth.donor,
            origin=f"simulated-{truth.cadence}",
        )
        for record, truth in simulate_light_curves(n, seed)
    ]


def _columns(prefix: str, who: str, classes: Sequence[str]) -> tuple[Column, ...]:
    return (
        Column(f"{prefix}{LABEL}", STRING, "", "meta.code.class;src.class", f"Most probable class by {who}"),
        Column(f"{prefix}p_max", FLOAT32, "", "stat.probability", f"Probability of that class by {who}"),
        *(
            Column(f"{prefix}p_{name}", FLOAT32, "", "stat.probability", f"Probability of {_named(name)} by {who}")
            for name in classes
        ),
    )


def _named(name: str) -> str:
    return _NAMES.get(name, f"the added class {name}")


def make_task(classes: tuple[str, ...] = CLASSES) -> Task:
    """Make the task, for its own classes or for more.

    Parameters
    ----------
    classes : tuple of str
        Its own, and those that were added to a model after them.

    Returns
    -------
    Task
        The task.

    Raises
    ------
    ValueError
        Where the first classes are not its own.
    """
    if classes[: len(CLASSES)] != CLASSES:
        raise ValueError(f"classes {', '.join(classes)} do not begin with {', '.join(CLASSES)}")
    return Task(
        name="variable_star",
        version=1,
        description="Class of a variable star or transient from an irregular light curve of any bands.",
        record=LightCurve,
        prepare=prepare,
        build=partial(build, classes),
        network=network,
        loss=loss,
        encode=partial(encode, classes=classes),
        decode=partial(decode, classes=classes),
        calibrate=calibrate,
        columns=_columns("", "the transformer, calibrated", classes),
        baseline=lambda: BoostedTrees(classes, LABEL),
        baseline_columns=_columns("baseline_", "boosted trees on the measured numbers", classes),
        choose=partial(choose, classes=classes),
        fit_rule=partial(fit_rule, classes=classes),
        best_columns=(
            *_columns("best_", "the weighted mean of transformer and trees", classes),
            Column("best_method", STRING, "", "meta.code", "mean, model or baseline"),
        ),
        metrics=partial(class_metrics, LABEL, classes),
        merit=("macro_f1", "-log_loss"),
        simulate=simulate,
        augment=augment,
        explain=explain_classes(classes),
        label_columns=(LABEL,),
        classes=classes,
        with_classes=make_task,
        batch_size=32,
        options={
            "build": {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 256,
                      "dropout": 0.15},
            "training": {"steps": 3500, "batch_size": 64, "learning_rate": 1.5e-3, "warmup": 0.05, "weight_decay": 0.05,
                         "ema": 0.998, "evaluations": 10},
            "initialise": initialise,
            "head": (r"^(number|neck|head)\.",),
            "backbone": {"takes": "text", "tokens": N_TOKEN + 1,
                         "head": (r"^(number|neck|head|embed|encoder\.(into|back))\.",)},
        },
        reference="Vaswani et al. (2017), arXiv:1706.03762; features and bar: Malanchev et al. (2021), MNRAS 502, 5147",
    )  # fmt: skip


TASK = make_task()
