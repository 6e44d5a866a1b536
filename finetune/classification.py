"""What all classifiers share: columns, temperature, outliers, the mixture of two answers, figures of merit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from finetune.calibrate import reliability, softmax
from finetune.dirichlet import choose_map, class_probabilities
from finetune.partial_labels import exact_class, partial_log_loss
from finetune.task import Row
from transforms.columns import FLOAT32, STRING, Column
from transforms.flags import bits


def class_columns(classes: Sequence[str], prefix: str, name: str, source: str) -> tuple[Column, ...]:
    """Columns of one classifier's answer.

    Parameters
    ----------
    classes : sequence of str
        In the order of the outputs.
    prefix : str
        Of the probabilities.
    name : str
        Of the class column.
    source : str
        Where the answer comes from, for the descriptions.

    Returns
    -------
    tuple of Column
        Class, largest probability, probability of each class.
    """
    return (
        Column(name, STRING, "", "src.class", f"Most probable class, from {source}"),
        Column(f"{prefix}p_max", FLOAT32, "", "stat.probability", f"Probability of that class, from {source}"),
        *(
            Column(f"{prefix}p_{c}", FLOAT32, "", "stat.probability", f"Probability of {c}, from {source}")
            for c in classes
        ),
    )


def fit_calibration(outputs: Mapping[str, np.ndarray], likelihood: np.ndarray) -> dict[str, Any]:
    """Learn temperature (Guo et al. 2017, arXiv:1706.04599) or Dirichlet map, and the place of the known objects.

    Parameters
    ----------
    outputs : mapping of str to ndarray
        ``logits`` (n, classes) and ``embedding`` (n, width) of validation objects; those that are not finite do not
        count.
    likelihood : ndarray, shape (n, classes)
        Their labels.

    Returns
    -------
    dict
        From ``choose_map``; ``means`` (classes, width), ``variance`` (width,), ``reach``.
    """
    good = np.isfinite(outputs["logits"]).all(axis=1) & np.isfinite(outputs["embedding"]).all(axis=1)
    logits, likelihood = outputs["logits"][good].astype(np.float64), likelihood[good]
    chosen = choose_map(logits, likelihood, _best_temperature)
    share = class_probabilities(logits, chosen) * likelihood
    owner = share.argmax(axis=1)
    embedding = outputs["embedding"][good].astype(np.float64)
    overall = embedding.mean(axis=0)
    means = np.stack(
        [embedding[owner == c].mean(axis=0) if (owner == c).any() else overall for c in range(logits.shape[1])]
    )
    variance = ((embedding - means[owner]) ** 2).mean(axis=0) + 1e-6
    reach = float(np.quantile(_distance(embedding, means, variance), 0.99))
    rounded = {"means": np.round(means, 4).tolist(), "variance": np.round(variance, 6).tolist()}
    return {**chosen, "reach": reach, **rounded}


def _best_temperature(logits: np.ndarray, likelihood: np.ndarray) -> float:
    grid = np.geomspace(0.4, 4.0, 47)
    return float(grid[int(np.argmin([partial_log_loss(softmax(logits / t), likelihood) for t in grid]))])


def _distance(embedding: np.ndarray, means: np.ndarray, variance: np.ndarray) -> np.ndarray:
    square = ((embedding[:, None, :] - means[None]) ** 2 / variance).mean(axis=2)
    out: np.ndarray = np.sqrt(square.min(axis=1))
    return out


def decode_classes(
    outputs: Mapping[str, np.ndarray],
    usable: Sequence[bool],
    calibration: Mapping[str, Any],
    classes: Sequence[str],
    name: str,
) -> list[Row]:
    """Rows of a classifier.

    Parameters
    ----------
    outputs : mapping of str to ndarray
        ``logits`` and ``embedding`` of a batch.
    usable : sequence of bool
        False where the input holds no data: all is null then.
    calibration : mapping
        From ``fit_calibration``, or empty.
    classes : sequence of str
        In the order of the outputs.
    name : str
        Of the class column.

    Returns
    -------
    list of dict
        Class, ``p_max``, ``p_<class>``, ``entropy``, ``outlier_score`` and flags.
    """
    rows: list[Row] = []
    names = [name, "p_max", *(f"p_{c}" for c in classes), "entropy", "outlier_score"]
    for index, there in enumerate(usable):
        logits, embedding = outputs["logits"][index : index + 1], outputs["embedding"][index : index + 1]
        if not there or not np.isfinite(logits).all():
            rows.append({**dict.fromkeys(names), "flags": bits("MODEL_FAILED", *(() if there else ("NO_DATA",)))})
            continue
        p = class_probabilities(logits, calibration)[0]
        best = int(np.argmax(p))
        entropy = float(-(p * np.log(np.maximum(p, 1e-12))).sum() / np.log(len(classes)))
        flags = bits("AMBIGUOUS") if p[best] < 0.5 else 0
        score = None
        if "reach" in calibration:
            means, variance = np.array(calibration["means"]), np.array(calibration["variance"])
            score = float(_distance(embedding.astype(np.float64), means, variance)[0] / calibration["reach"])
            flags |= bits("OUT_OF_SUPPORT") if score > 1 else 0
        values = [classes[best], float(p[best]), *(float(v) for v in p), entropy, score]
        rows.append({**dict(zip(names, values, strict=True)), "flags": flags})
    return rows


def table(rows: Sequence[Row], classes: Sequence[str], prefix: str) -> np.ndarray:
    """Probabilities of rows as an array.

    Parameters
    ----------
    rows : sequence of dict
        With ``<prefix>p_<class>``.
    classes : sequence of str
        Columns.
    prefix : str
        Of the names.

    Returns
    -------
    ndarray, shape (n, classes)
        NaN where null.
    """
    return np.array([[np.nan if (v := r[f"{prefix}p_{c}"]) is None else v for c in classes] for r in rows], float)


def fit_mixture(
    learned: Sequence[Row], classical: Sequence[Row], likelihood: np.ndarray, classes: Sequence[str]
) -> dict[str, Any]:
    """Share of the learned answer that gives the lowest log loss.

    Parameters
    ----------
    learned, classical : sequence of dict
        Answers on validation objects.
    likelihood : ndarray, shape (n, classes)
        Their labels.
    classes : sequence of str
        In order.

    Returns
    -------
    dict
        ``learned``, in steps of a twentieth.
    """
    first, second = table(learned, classes, ""), table(classical, classes, "baseline_")
    there = np.isfinite(first).all(axis=1) & np.isfinite(second).all(axis=1)
    if not there.any():
        return {"learned": 0.5}
    grid = np.linspace(0, 1, 21)
    losses = [partial_log_loss(w * first[there] + (1 - w) * second[there], likelihood[there]) for w in grid]
    return {"learned": round(float(grid[int(np.argmin(losses))]), 2)}


def best_of(learned: Row, classical: Row, rule: Mapping[str, Any], classes: Sequence[str], name: str) -> Row:
    """Mix two answers by a rule; where only one is there, it is taken.

    Parameters
    ----------
    learned, classical : dict
        Rows.
    rule : mapping
        From ``fit_mixture``.
    classes : sequence of str
        In order.
    name : str
        Of the class column.

    Returns
    -------
    dict
        ``best_<name>``, ``best_p_max``, ``best_p_<class>``, ``best_method`` and flags.
    """
    first, second = table([learned], classes, "")[0], table([classical], classes, "baseline_")[0]
    weight = float(rule.get("learned", 0.5))
    if not np.isfinite(first).all():
        weight = 0.0
    elif not np.isfinite(second).all():
        weight = 1.0
    mixed = np.zeros(len(classes))
    for share, part in ((weight, first), (1 - weight, second)):
        if share > 0:
            mixed = mixed + share * part
    if not np.isfinite(mixed).all():
        names = [f"best_{name}", "best_p_max", *(f"best_p_{c}" for c in classes), "best_method"]
        return {**dict.fromkeys(names), "flags": 0}
    best = int(np.argmax(mixed))
    method = {0.0: "baseline", 1.0: "learned"}.get(weight, "mixture")
    differ = np.isfinite(first).all() and np.isfinite(second).all() and np.argmax(first) != np.argmax(second)
    return {
        f"best_{name}": classes[best],
        "best_p_max": float(mixed[best]),
        **{f"best_p_{c}": float(v) for c, v in zip(classes, mixed, strict=True)},
        "best_method": method,
        "flags": bits("DISAGREE") if differ and min(first.max(), second.max()) > 0.5 else 0,
    }


def judge_classes(rows: Sequence[Row], likelihood: np.ndarray, classes: Sequence[str], prefix: str) -> dict[str, float]:
    """Figures of merit of a classifier.

    Parameters
    ----------
    rows : sequence of dict
        Answers; one without an answer counts as wrong.
    likelihood : ndarray, shape (n, classes)
        Labels.
    classes : sequence of str
        In order.
    prefix : str
        Of the columns that are judged.

    Returns
    -------
    dict of str to float
        ``accuracy``, ``macro_f1``, ``recall_<class>`` and ``ece`` over objects whose label names one class;
        ``log_loss`` over all; ``n`` and ``n_exact``.
    """
    p = table(rows, classes, prefix)
    there = np.isfinite(p).all(axis=1)
    out = {"n": float(len(rows)), "log_loss": partial_log_loss(p[there], likelihood[there])}
    truth = np.array([-1 if (c := exact_class(one)) is None else c for one in likelihood])
    sure = truth >= 0
    out["n_exact"] = float(sure.sum())
    if not sure.any():
        return out
    guess = np.where(there, np.nan_to_num(p).argmax(axis=1), -1)[sure]
    truth, p = truth[sure], np.nan_to_num(p)[sure]
    out["accuracy"] = float((guess == truth).mean())
    scores = []
    for index, name in enumerate(classes):
        own, said = truth == index, guess == index
        if own.any():
            out[f"recall_{name}"] = float(said[own].mean())
            scores.append(2 * float((own & said).sum()) / float(own.sum() + said.sum()))
    out["macro_f1"] = float(np.mean(scores))
    out["ece"] = float(reliability(p.max(axis=1), p.argmax(axis=1), truth)["ece"])
    return out
