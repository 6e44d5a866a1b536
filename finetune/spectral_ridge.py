"""Kernel ridge regression on principal components of stellar spectra: the classical answer that is hard to beat.

A spectrum with noise and gaps is not projected by a plain dot product: its scores are the maximum of a posterior with
the components' variances as prior, so that bad pixels carry no weight and noise shrinks the scores to the mean.
The arithmetic is written once and runs on numpy arrays (the baseline) and on torch tensors (inside of the network).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from finetune import spectral_grid as grid

N_LABEL = 3
N_FOLD = 5  #: Inner folds whose coefficients are kept, for honest answers on the training stars.
FLOOR = 0.01  #: Error of the flux calibration and of the model, in units of the mean flux.
EXPONENTS = (0.0, 0.3, 0.5, 0.7)
GAMMAS = (0.05, 0.1, 0.2, 0.4, 0.8)
ALPHAS = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)


def fold_flux(flux: Any, ivar: Any) -> tuple[Any, Any]:
    """Bin spectra in pairs of pixels and limit the weight of any bin.

    Parameters
    ----------
    flux, ivar : ndarray or Tensor, shape (batch, N_PIXEL)
        Flux of mean one and inverse variance; 0 = bad.

    Returns
    -------
    flux, weight : ndarray or Tensor, shape (batch, N_BIN)
        Inverse-variance mean and ``1 / (1 / ivar + FLOOR ** 2)``.
    """
    shape = (flux.shape[0], grid.N_BIN, grid.BINNING)
    weight = ivar.reshape(shape)
    total = weight.sum(-1)
    mean = (flux.reshape(shape) * weight).sum(-1) / (total + 1e-20)
    return mean, total / (1 + total * FLOOR**2)


def project(flux: Any, weight: Any, basis: Any, variance: Any, xp: Any) -> tuple[Any, Any]:
    """Scores of spectra on a basis, by weighted least squares with a Gaussian prior.

    Parameters
    ----------
    flux, weight : ndarray or Tensor, shape (batch, n_bin)
        From ``fold_flux``.
    basis : ndarray or Tensor, shape (1 + k, n_bin)
        The mean spectrum and the components.
    variance : ndarray or Tensor, shape (1 + k,)
        Prior variance of the amplitude of each; the mean spectrum is expected with amplitude one.
    xp : module
        ``numpy`` or ``torch``.

    Returns
    -------
    scores : ndarray or Tensor, shape (batch, k)
        Of the spectrum scaled to amplitude one.
    chi2 : ndarray or Tensor, shape (batch,)
        Weighted mean square residual over the good bins; 0 where there are none.
    """
    precision = 1 / variance
    centre = xp.zeros_like(precision)
    centre[0] = 1
    normal = (weight[:, None, :] * basis) @ basis.T + xp.diag(precision)
    right = (weight * flux) @ basis.T + precision * centre
    amplitude = xp.linalg.solve(normal, right[..., None])[..., 0]
    residual = flux - amplitude @ basis
    good = (weight > 0).sum(-1)
    chi2 = (weight * residual**2).sum(-1) / (good + (good == 0))
    level = amplitude[:, :1]
    level = xp.where(level > 0.1, level, xp.ones_like(level))
    return amplitude[:, 1:] / level, chi2


def ridge_predict(flux: Any, ivar: Any, arrays: Mapping[str, Any], fold: Any, xp: Any) -> dict[str, Any]:
    """Labels, fit and distance to the training set.

    Parameters
    ----------
    flux, ivar : ndarray or Tensor, shape (batch, N_PIXEL)
        Spectra on the grid.
    arrays : mapping of str to ndarray or Tensor
        ``KernelRidge.arrays``.
    fold : ndarray or Tensor of int, shape (batch,), or None
        Inner fold whose stars must not answer; -1 or None: all do.
    xp : module
        ``numpy`` or ``torch``.

    Returns
    -------
    dict
        ``base`` (batch, 3) log10 Teff, logg, [Fe/H]; ``log_chi2`` (batch,), natural log of the mean square residual;
        ``log_distance`` (batch,), natural log of the distance to the second nearest training star, in units of the
        median distance between training stars that are second neighbours.
    """
    binned, weight = fold_flux(flux, ivar)
    scores, chi2 = project(binned, weight, arrays["basis"], arrays["variance"], xp)
    train, metric = arrays["scores"], arrays["metric"]
    coefficients = arrays["coefficients"]
    answers, nearest = [], 0
    for label in range(N_LABEL):
        z, t = scores * metric[label], train * metric[label]
        square = (z**2).sum(-1)[:, None] - 2 * z @ t.T + (t**2).sum(-1)
        square = square * (square > 0)
        chosen = coefficients[0, :, label] if fold is None else coefficients[fold + 1][:, :, label]
        answers.append((xp.exp(-square) * chosen).sum(-1))
        nearest = nearest + square / arrays["spacing"][label] / N_LABEL
    offset = arrays["intercept"][0] if fold is None else arrays["intercept"][fold + 1]
    second = _second_smallest(nearest, xp)
    return {
        "base": xp.stack(answers, -1) + offset,
        "log_chi2": xp.log(chi2 + 1e-6),
        "log_distance": 0.5 * xp.log(second + 1e-6),
    }


def one_by_one(predict: Callable[[slice], dict[str, Any]], count: int, xp: Any) -> dict[str, Any]:
    """Answers of a batch, each spectrum by itself.

    How a processor's library orders the sums of a small matrix product depends on how many rows it has and on which
    of them a number stands, and differs from one make of processor to the next.

    Parameters
    ----------
    predict : callable
        ``predict(rows)``: ``ridge_predict`` for a slice of the batch.
    count : int
        Size of the batch.
    xp : module
        ``numpy`` or ``torch``.

    Returns
    -------
    dict
        As ``ridge_predict``; a row depends neither on the others nor on its place.
    """
    parts = [predict(slice(row, row + 1)) for row in range(count)]
    return {name: xp.concatenate([part[name] for part in parts]) for name in parts[0]}


def _of(fold: Any, rows: slice) -> Any:
    return None if fold is None else fold[rows]


def _second_smallest(values: Any, xp: Any) -> Any:
    ordered = xp.sort(values, -1)
    ordered = ordered if isinstance(values, np.ndarray) else ordered.values
    return ordered[:, min(1, ordered.shape[1] - 1)]


class KernelRidge:
    """Radial kernel, with a metric and a regularisation of its own for each label.

    Parameters
    ----------
    arrays : mapping of str to ndarray
        As ``fit`` makes them.
    """

    FLOATS: ClassVar[tuple[str, ...]] = (
        "basis", "variance", "scores", "metric", "coefficients", "intercept", "spacing",
    )  # fmt: skip
    NAMES: ClassVar[tuple[str, ...]] = (*FLOATS, "keys", "folds")

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self.arrays = {name: np.asarray(arrays[name], np.float32) for name in self.FLOATS}
        n = self.arrays["scores"].shape[0]
        for name in ("keys", "folds"):
            self.arrays[name] = np.asarray(arrays.get(name, np.full(n, -1)), np.int64)

    @staticmethod
    def empty(stars: int, components: int) -> dict[str, np.ndarray]:
        """Arrays of the right shape that hold nothing yet.

        Parameters
        ----------
        stars, components : int
            Shape of the fit.

        Returns
        -------
        dict of str to ndarray
            Zeros; variances and spacings are ones.
        """
        shapes = {
            "basis": (components + 1, grid.N_BIN),
            "scores": (stars, components),
            "metric": (N_LABEL, components),
            "coefficients": (N_FOLD + 1, stars, N_LABEL),
            "intercept": (N_FOLD + 1, N_LABEL),
        }
        arrays = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
        arrays |= {"variance": np.ones(components + 1, np.float32), "spacing": np.ones(N_LABEL, np.float32)}
        return arrays | {name: np.zeros(stars, np.int64) for name in ("keys", "folds")}

    @classmethod
    def fit(
        cls,
        flux: np.ndarray,
        ivar: np.ndarray,
        labels: np.ndarray,
        groups: Sequence[str],
        folds: np.ndarray,
        k: int = 60,
        keys: np.ndarray | None = None,
    ) -> KernelRidge:
        """Learn from clean spectra.

        Parameters
        ----------
        flux, ivar : ndarray, shape (n, N_PIXEL)
            Training spectra.
        labels : ndarray, shape (n, 3)
            log10 Teff, logg, [Fe/H]; all finite.
        groups : sequence of str
            Stars of one group are left out together when the metric is chosen.
        folds : ndarray of int, shape (n,)
            Inner fold of each star, 0 to ``N_FOLD - 1``.
        k : int
            Principal components.
        keys : ndarray of int64, shape (n,), optional
            Keys of the stars, by which a network in training knows them again.

        Returns
        -------
        KernelRidge
            Fitted.
        """
        binned, weight = fold_flux(flux.astype(np.float64), ivar.astype(np.float64))
        mean = binned.mean(0)
        _, singular, components = np.linalg.svd(binned - mean, full_matrices=False)
        k = min(k, len(flux) - 1)
        basis = np.vstack([mean, components[:k]])
        variance = np.concatenate([[0.1], singular[:k] ** 2 / len(flux)])
        scores, _ = project(binned, weight, basis, variance, np)
        centre = np.median(labels, axis=0)
        target = labels - centre
        metric, alphas = _choose_metric(scores, target, groups)
        coefficients = np.zeros((N_FOLD + 1, len(flux), N_LABEL))
        spacing = np.ones(N_LABEL)
        for label in range(N_LABEL):
            square = _squares(scores * metric[label])
            spacing[label] = np.median(np.sort(square, axis=1)[:, 2])
            kernel = np.exp(-square)
            for fold in range(-1, N_FOLD):
                used = np.flatnonzero(folds != fold)
                matrix = kernel[np.ix_(used, used)] + alphas[label] * np.eye(len(used))
                coefficients[fold + 1, used, label] = np.linalg.solve(matrix, target[used, label])
        intercept = np.repeat(centre[None], N_FOLD + 1, axis=0)
        return cls(
            {
                "basis": basis,
                "variance": variance,
                "scores": scores,
                "metric": metric,
                "coefficients": coefficients,
                "intercept": intercept,
                "spacing": spacing,
                "folds": folds,
                "keys": np.full(len(flux), -1) if keys is None else keys,
            }
        )

    def predict(self, flux: np.ndarray, ivar: np.ndarray, fold: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Labels, fit and distance to the training set.

        Parameters
        ----------
        flux, ivar : ndarray, shape (batch, N_PIXEL)
            Spectra.
        fold : ndarray of int, shape (batch,), optional
            Inner fold whose stars must not answer.

        Returns
        -------
        dict of str to ndarray
            As ``ridge_predict``.
        """
        arrays = {name: self.arrays[name].astype(np.float64) for name in self.FLOATS}
        flux, ivar = flux.astype(np.float64), ivar.astype(np.float64)
        return one_by_one(
            lambda rows: ridge_predict(flux[rows], ivar[rows], arrays, _of(fold, rows), np), len(flux), np
        )


def _squares(z: np.ndarray) -> np.ndarray:
    norm = (z**2).sum(-1)
    return np.maximum(norm[:, None] + norm[None] - 2 * z @ z.T, 0.0)


def _choose_metric(
    scores: np.ndarray, target: np.ndarray, groups: Sequence[str]
) -> tuple[np.ndarray, tuple[float, ...]]:
    """Exponent, width and regularisation of each label by the exact leave-group-out error."""
    spread = scores.std(0)
    names = sorted(set(groups))
    members = [np.flatnonzero(np.asarray(groups) == name) for name in names]
    clusters = [rows for rows in members if len(rows) > 1]
    best: list[tuple[float, np.ndarray, float]] = [(np.inf, np.ones_like(spread), 1.0)] * N_LABEL
    for exponent in EXPONENTS:
        z = scores / spread**exponent
        square = _squares(z)
        typical = square.mean()
        for gamma in GAMMAS:
            values, vectors = np.linalg.eigh(np.exp(-square * gamma / typical))
            for alpha in ALPHAS:
                inverse = (vectors / (values + alpha)) @ vectors.T
                dual = inverse @ target
                error = dual / np.diag(inverse)[:, None]
                for rows in clusters:
                    error[rows] = np.linalg.solve(inverse[np.ix_(rows, rows)], dual[rows])
                for label, loss in enumerate(np.abs(error).mean(0)):
                    if loss < best[label][0]:
                        best[label] = (loss, np.sqrt(gamma / typical) / spread**exponent, alpha)
    return np.stack([metric for _, metric, _ in best]), tuple(alpha for _, _, alpha in best)
