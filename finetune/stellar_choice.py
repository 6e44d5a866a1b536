"""Which of the answers is the best one for a spectrum, and how good answers are: fixed and judged on labelled stars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from finetune.conformal import POOLED, factors, lookup
from finetune.stellar_labels import QUANTITIES, as_columns, columns, encode, quality, vector, widths
from finetune.task import Labels, Row
from transforms.columns import STRING, Column

COLUMNS = (
    *columns("best_", "by the method that validation data prefer for such spectra", errors=True),
    Column("best_method", STRING, "", "meta.code", "Method of the best values: model, mean, ridge or match"),
)
METHODS = ("model", "mean", "ridge", "match")
MARGIN = 0.97  #: Another method must be better by three percent on validation stars to replace the model.
MIN_STARS = 30


def answers(learned: Row, classical: Row) -> dict[str, np.ndarray]:
    """The candidate answers.

    Parameters
    ----------
    learned, classical : dict
        Columns of the model and of the baseline.

    Returns
    -------
    dict of str to ndarray
        For each of ``METHODS``: log10 Teff, logg, [Fe/H]; ``mean`` is that of model and ridge.
    """
    model, ridge = vector(learned), vector(classical, "baseline_")
    match = vector(classical, "baseline_match_")
    return {"model": model, "mean": 0.5 * (model + ridge), "ridge": ridge, "match": match}


def row_quality(learned: Row) -> str:
    """Class of quality of a row.

    Parameters
    ----------
    learned : dict
        Columns of the model.

    Returns
    -------
    str
        From ``stellar_labels.quality``.
    """
    return quality(learned.get("spectrum_sn"), learned.get("coverage_blue"), learned.get("coverage_red"))


def fit_rule(learned: Sequence[Row], classical: Sequence[Row], labels: Sequence[Labels]) -> dict[str, Any]:
    """Choose a method for each class of quality.

    Parameters
    ----------
    learned, classical : sequence of dict
        Rows of validation stars.
    labels : sequence of mapping
        Their labels.

    Returns
    -------
    dict
        ``method`` by class, with the key ``"all"`` for classes that had too few stars; ``errors``, the factors on the
        model's intervals that make them hold for the chosen answers.
    """
    truth = np.stack([encode(label)["labels"] for label in labels]).astype(float)
    found = [answers(a, b) for a, b in zip(learned, classical, strict=True)]
    error = {name: np.abs(np.stack([f[name] for f in found]) - truth) for name in METHODS}
    classes = np.array([row_quality(row) for row in learned])
    method = {POOLED: _preferred(error, np.ones(len(truth), bool))}
    for name in sorted(set(classes)):
        if (classes == name).sum() >= MIN_STARS:
            method[str(name)] = _preferred(error, classes == name)
    chosen = np.stack([error[method.get(name, method[POOLED])][i] for i, name in enumerate(classes)])
    scale = np.stack([widths(row)[0] for row in learned])
    return {"method": method, "errors": factors(chosen, scale, list(classes))}


def _preferred(error: Mapping[str, np.ndarray], rows: np.ndarray) -> str:
    """The method with the smallest median errors, summed over labels in units of the model's."""
    known = {name: values[rows] for name, values in error.items()}
    scores = {}
    for name, values in known.items():
        both = np.isfinite(values) & np.isfinite(known["model"])
        if not both.any(axis=0).all():
            scores[name] = np.inf
            continue
        pairs = zip(values.T, known["model"].T, both.T, strict=True)
        scores[name] = sum(np.median(v[b]) / max(np.median(m[b]), 1e-9) for v, m, b in pairs) / len(QUANTITIES)
    best = min(METHODS, key=lambda name: scores[name])
    return best if scores[best] < MARGIN else "model"


def choose(learned: Row, classical: Row, rule: Mapping[str, Any]) -> Row:
    """The best answer of one spectrum.

    Parameters
    ----------
    learned, classical : dict
        Rows of the model and of the baseline.
    rule : mapping
        From ``fit_rule``, or empty: then the model's.

    Returns
    -------
    dict
        ``COLUMNS``; nulls where the model gave nothing.
    """
    nothing: Row = {column.name: None for column in COLUMNS}
    if learned.get("teff") is None:
        return nothing
    name = row_quality(learned)
    method = rule["method"].get(name, rule["method"][POOLED]) if rule else "model"
    value = answers(learned, classical)[method]
    if not np.isfinite(value).all():
        method, value = "model", vector(learned)
    scale = widths(learned)
    if rule:
        scale = scale[0] * lookup(rule["errors"], name)
    return {**as_columns("best_", value, scale), "best_method": method}


def metrics(rows: Sequence[Row], labels: Sequence[Labels], prefix: str = "") -> dict[str, float]:
    """Figures of merit on labelled stars.

    Parameters
    ----------
    rows : sequence of dict
        Rows with the columns that ``prefix`` selects.
    labels : sequence of mapping
        ``teff``, ``logg``, ``fe_h``.
    prefix : str
        ``""``, ``"baseline_"``, ``"baseline_match_"`` or ``"best_"``.

    Returns
    -------
    dict of str to float
        For each quantity its median absolute error, bias (median) and robust sigma (Teff in log10 K, ``teff_kelvin``
        beside it), and where the rows have intervals the share of stars within them; ``n``, stars with an answer.
    """
    truth = np.stack([encode(label)["labels"] for label in labels]).astype(float)
    value = np.stack([vector(row, prefix) for row in rows])
    width = np.stack([widths(row, prefix) for row in rows])
    error = value - truth
    out: dict[str, float] = {"n": float(np.isfinite(error).all(1).sum())}
    for k, name in enumerate(QUANTITIES):
        known = np.isfinite(error[:, k])
        if not known.any():
            continue
        e = error[known, k]
        out[f"{name}_median_error"] = float(np.median(np.abs(e)))
        out[f"{name}_bias"] = float(np.median(e))
        out[f"{name}_sigma"] = float(1.4826 * np.median(np.abs(e - np.median(e))))
        for level, share in enumerate((68, 95)):
            stated = width[known, level, k]
            if np.isfinite(stated).any():
                out[f"{name}_covered{share}"] = float(
                    np.mean(np.abs(e[np.isfinite(stated)]) <= stated[np.isfinite(stated)])
                )
    known = np.isfinite(error[:, 0])
    if known.any():
        out["teff_kelvin_median_error"] = float(np.median(np.abs(10 ** value[known, 0] - 10 ** truth[known, 0])))
    return out
