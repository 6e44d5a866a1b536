"""Effective temperature, surface gravity and metallicity of a star from a spectrum of any grid and resolution."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from finetune import spectral_baselines, stellar_choice
from finetune import spectral_grid as grid
from finetune.conformal import factors, lookup
from finetune.selfcalibrate import apply_response, learn_response
from finetune.spectral_augment import degrade
from finetune.spectral_baselines import StellarBaseline
from finetune.spectral_explain import EXPLANATION
from finetune.spectral_input import prepare
from finetune.spectral_simulate import simulate
from finetune.stellar_labels import QUANTITIES, as_columns, columns, encode, quality
from finetune.task import Example, Prepared, Row, Task
from transforms.columns import FLOAT32, Column
from transforms.flags import bits
from transforms.records import Spectrum

MIN_COVERAGE = 0.15  #: Share of 3800 to 7200 Angstrom below which no number is given.
COLUMNS = (
    *columns("", "by the transformer", errors=True),
    Column("spectrum_sn", FLOAT32, "", "stat.snr", "Median signal-to-noise ratio per pixel of 69 km/s"),
    Column("coverage_blue", FLOAT32, "", "stat.value", "Share of 3800 to 5480 Angstrom that is usable"),
    Column("coverage_red", FLOAT32, "", "stat.value", "Share of 5480 to 7200 Angstrom that is usable"),
    Column(
        "support_distance", FLOAT32, "", "stat.value",
        "Distance to the second nearest training star, in units of what is usual among training stars",
    ),
)  # fmt: skip


def build(**options: Any) -> Any:
    """Make the untrained ensemble.

    Parameters
    ----------
    **options : Any
        Of ``SpectralConfig``.

    Returns
    -------
    SpectralEnsemble
        Random weights; residual members start from a constant until they get a kernel ridge.
    """
    from finetune.spectral_model import SpectralConfig, SpectralEnsemble

    return SpectralEnsemble(SpectralConfig(**options))


def network(config: Any) -> Any:
    """Make the ensemble for inference.

    Parameters
    ----------
    config : object
        Fields of ``SpectralConfig``.

    Returns
    -------
    SpectralNetwork
        Random weights.
    """
    from finetune.spectral_network import SpectralNetwork

    return SpectralNetwork(config)


def initialise(
    model: Any, examples: Sequence[Example], prepared: Sequence[Prepared], baseline: StellarBaseline
) -> None:
    """Give the residual member the kernel ridge that was fitted on the same stars.

    Parameters
    ----------
    model : SpectralEnsemble
        New.
    examples, prepared : sequence
        Training stars; not used.
    baseline : StellarBaseline
        Fitted.
    """
    if baseline.ridge is not None:
        model.set_ridge(baseline.ridge)


def loss(outputs: Mapping[str, Any], targets: Mapping[str, Any]) -> Any:
    """Absolute error and a likelihood for the error heads; see ``spectral_model.member_loss``.

    Parameters
    ----------
    outputs, targets : mapping of str to Tensor
        Of the model and of ``encode``.

    Returns
    -------
    Tensor
        Scalar.
    """
    from finetune.spectral_model import member_loss

    return member_loss(outputs, targets)


def combine(outputs: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Mean of the members, and their stated error with their scatter.

    Parameters
    ----------
    outputs : mapping of str to ndarray
        Of the model.

    Returns
    -------
    value, stated : ndarray, shape (batch, 3)
        log10 K, dex, dex.
    """
    value = outputs["value"].astype(np.float64)
    stated = np.exp(np.clip(outputs["log_error"].astype(np.float64), -9, 3)).mean(1)
    return value.mean(1), np.sqrt(stated**2 + value.var(1))


def quality_numbers(prepared: Sequence[Prepared]) -> tuple[np.ndarray, np.ndarray]:
    """S/N and coverage of prepared spectra.

    Parameters
    ----------
    prepared : sequence of Prepared
        Inputs.

    Returns
    -------
    sn : ndarray, shape (batch,)
        Median S/N per pixel.
    cover : ndarray, shape (batch, 3)
        Usable share of all, the blue and the red half.
    """
    flux, ivar = (np.stack([item[name] for item in prepared]) for name in ("flux", "ivar"))
    return grid.signal_to_noise(flux, ivar), grid.coverage(ivar)


def calibrate(
    outputs: Mapping[str, np.ndarray], prepared: Sequence[Prepared], targets: Sequence[Mapping[str, np.ndarray]]
) -> dict[str, Any]:
    """Learn what errors, distances and disagreements are usual, from stars that were not trained on.

    Parameters
    ----------
    outputs : mapping of str to ndarray
        Of the model for these stars, clean or degraded.
    prepared : sequence of Prepared
        Their inputs; those that ``decode`` gives no answer for do not count.
    targets : sequence of mapping
        From ``encode``.

    Returns
    -------
    dict
        ``errors``, factors on the stated errors by class of quality; ``support``, the 99.5th percentiles of log
        distance and log chi square; ``disagreement``, factors for the distance between model and kernel ridge. Empty
        where no star has an answer.
    """
    sn, cover = quality_numbers(prepared)
    answered = np.flatnonzero(cover[:, 0] >= MIN_COVERAGE)
    if not answered.size:
        return {}
    outputs = {name: values[answered] for name, values in outputs.items()}
    value, stated = combine(outputs)
    truth = np.stack([target["labels"] for target in targets])[answered]
    classes = [quality(sn[i], cover[i, 1], cover[i, 2]) for i in answered]
    return {
        "errors": factors(np.abs(value - truth), stated, classes),
        "support": [float(np.quantile(outputs[name], 0.995)) for name in ("log_distance", "log_chi2")],
        "disagreement": factors(np.abs(value - outputs["base"]), stated, classes),
    }


def decode(
    outputs: Mapping[str, np.ndarray], prepared: Sequence[Prepared], calibration: Mapping[str, Any]
) -> list[Row]:
    """Turn raw outputs into columns and flags.

    Parameters
    ----------
    outputs : mapping of str to ndarray
        Of the model.
    prepared : sequence of Prepared
        Inputs of the batch.
    calibration : mapping
        From ``calibrate``, or empty.

    Returns
    -------
    list of dict
        ``COLUMNS`` and ``"flags"``.
    """
    value, stated = combine(outputs)
    sn, cover = quality_numbers(prepared)
    rows = []
    for i, item in enumerate(prepared):
        row: Row = {column.name: None for column in COLUMNS}
        row["flags"] = _input_flags(item, sn[i], cover[i, 0])
        rows.append(row)
        if row["flags"] & bits("NO_DATA"):
            continue
        row |= {"spectrum_sn": float(sn[i]), "coverage_blue": float(cover[i, 1]), "coverage_red": float(cover[i, 2])}
        if cover[i, 0] < MIN_COVERAGE:
            row["flags"] |= bits("OUT_OF_SUPPORT")
            continue
        if not (np.isfinite(value[i]).all() and np.isfinite(stated[i]).all()):
            row["flags"] |= bits("MODEL_FAILED")
            continue
        name = quality(sn[i], cover[i, 1], cover[i, 2])
        scale = lookup(calibration["errors"], name) if calibration else np.array([[1.0] * 3, [2.0] * 3])
        row |= as_columns("", value[i], stated[i] * scale)
        row["support_distance"] = float(np.exp(outputs["log_distance"][i]))
        if calibration:
            apart = np.abs(value[i] - outputs["base"][i]) / stated[i]
            row["flags"] |= _model_flags(calibration, name, apart, (outputs["log_distance"][i], outputs["log_chi2"][i]))
    return rows


def _input_flags(item: Prepared, sn: float, covered: float) -> int:
    if not (item["ivar"] > 0).any():
        return bits("NO_DATA", "PARTIAL_COVERAGE")
    flags = 0 if item["calibrated"] > 0 else bits("NOT_CALIBRATED_TO_SURVEY")
    if covered < 0.7:
        flags |= bits("PARTIAL_COVERAGE")
    if sn < 3 / math.sqrt(3):  # a resolution element of R = 1800 holds two to three pixels
        flags |= bits("LOW_SN")
    return flags


def _model_flags(calibration: Mapping[str, Any], name: str, apart: np.ndarray, fit: tuple[float, float]) -> int:
    """Distance or fit beyond all but one in 200 validation spectra; disagreement beyond all but one in 20, and half."""
    flags = 0
    if any(value > limit for value, limit in zip(fit, calibration["support"], strict=True)):
        flags |= bits("OUT_OF_SUPPORT")
    if (apart > 1.5 * lookup(calibration["disagreement"], name)[1]).any():
        flags |= bits("DISAGREE")
    return flags


TASK = Task(
    name="stellar_parameters",
    version=1,
    description="Effective temperature, surface gravity and metallicity of stars from spectra of any grid",
    record=Spectrum,
    prepare=prepare,
    build=build,
    network=network,
    loss=loss,
    encode=encode,
    decode=decode,
    calibrate=calibrate,
    columns=COLUMNS,
    baseline=StellarBaseline,
    baseline_columns=spectral_baselines.COLUMNS,
    choose=stellar_choice.choose,
    fit_rule=stellar_choice.fit_rule,
    best_columns=stellar_choice.COLUMNS,
    metrics=stellar_choice.metrics,
    merit=("-teff_median_error", "-logg_median_error", "-fe_h_median_error"),
    simulate=simulate,
    augment=degrade,
    adapt=learn_response,
    adjust=apply_response,
    explain=EXPLANATION,
    label_columns=QUANTITIES,
    batch_size=8,
    options={
        "build": {"members": ["direct", "direct", "residual"]},
        "initialise": initialise,
        "head": (r"\.(neck|head|error|base_token)\.",),
        "backbone": {
            "takes": "text",
            "tokens": grid.N_PATCH + 1,
            "head": (r"^members\.\d+\.(neck|head|error|base_token|embed|place|encoder\.(into|back))\.",
                     r"^members\.\d+\.(cls|blind)$"),
        },
        "training": {
            "steps": 2000, "batch_size": 64, "learning_rate": 1e-3, "weight_decay": 0.05, "warmup": 0.05, "ema": 0.997,
            "evaluations": 0,
        },
    },
    reference="Transformer on patches behind a continuous encoding of wavelength, after Leung & Bovy (2024), "
    "doi:10.1093/mnras/stad3015; trained on MILES, Sanchez-Blazquez et al. (2006), "
    "doi:10.1111/j.1365-2966.2006.10699.x",
)  # fmt: skip
