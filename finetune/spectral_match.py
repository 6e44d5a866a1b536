"""Match a spectrum to observed templates, weighted by its errors, over velocities and broadenings.

The second classical answer: slower and coarser than the kernel ridge on spectra of the training survey, but it carries
over to other instruments better, since resolution and velocity are fitted. Arrays only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from scipy.ndimage import gaussian_filter1d

from finetune import spectral_grid as grid
from finetune.spectral_ridge import fold_flux
from transforms.numerics.spectra.continuum import running_continuum

RANK = 150  #: Components that the templates are stored in.
BROADENINGS = (0.0, 0.7, 1.3, 2.0)  #: Gaussian sigma in pixels of 69 km/s.
SHIFTS = tuple(range(-4, 5))  #: Pixels.
NEAREST = 8  #: Templates whose labels are averaged.
CONTINUUM_BINS = 40.0
SCOUTS = 8  #: Every so-many-th template looks for the velocity.


def line_signal(flux: np.ndarray, ivar: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Binned flux over continuum, less one.

    Parameters
    ----------
    flux, ivar : ndarray, shape (n, N_PIXEL)
        Spectra; 0 = bad.

    Returns
    -------
    signal, weight : ndarray of float32, shape (n, N_BIN)
        Line signal, negative in absorption, and its inverse variance.
    """
    binned, weight = fold_flux(flux, ivar)
    level, defined = running_continuum(binned, (weight > 0).astype(float), CONTINUUM_BINS)
    level = np.maximum(level, 0.02)
    weight = np.where(defined, weight * level**2, 0.0)
    signal = np.clip(np.where(weight > 0, binned / level - 1, 0.0), -2, 5)
    return signal.astype(np.float32), weight.astype(np.float32)


class TemplateMatch:
    """Observed stars of known labels, in a low-rank form.

    Parameters
    ----------
    arrays : mapping of str to ndarray
        ``template_mean`` (N_PIXEL,), ``template_basis`` (RANK, N_PIXEL), ``template_scores`` (n, RANK) and
        ``template_labels`` (n, 3).
    """

    NAMES: ClassVar[tuple[str, ...]] = ("template_mean", "template_basis", "template_scores", "template_labels")

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self.arrays = {name: np.asarray(arrays[name]) for name in self.NAMES}
        self.labels = self.arrays["template_labels"].astype(np.float64)
        mean, basis, scores = (self.arrays[name].astype(np.float32) for name in self.NAMES[:3])
        flux = mean + scores @ basis
        ones = np.ones_like(flux)
        self.signals = []
        for sigma in BROADENINGS:
            blurred = gaussian_filter1d(flux, sigma, axis=-1, mode="nearest") if sigma else flux
            self.signals.append(line_signal(blurred, ones)[0])

    @classmethod
    def fit(cls, flux: np.ndarray, labels: np.ndarray) -> TemplateMatch:
        """Store the templates.

        Parameters
        ----------
        flux : ndarray, shape (n, N_PIXEL)
            Clean spectra of mean one, without gaps.
        labels : ndarray, shape (n, 3)
            log10 Teff, logg, [Fe/H].

        Returns
        -------
        TemplateMatch
            With the templates as they will be read back from half precision.
        """
        mean = flux.mean(0)
        _, _, basis = np.linalg.svd(flux - mean, full_matrices=False)
        basis = basis[:RANK]
        scores = (flux - mean) @ basis.T
        half = {"template_mean": mean, "template_basis": basis, "template_scores": scores}
        return cls({name: a.astype(np.float16) for name, a in half.items()} | {"template_labels": np.float32(labels)})

    def distances(self, flux: np.ndarray, ivar: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mean square weighted difference to every template, at the best velocity.

        Parameters
        ----------
        flux, ivar : ndarray, shape (N_PIXEL,)
            One spectrum.

        Returns
        -------
        chi2 : ndarray, shape (len(BROADENINGS), n)
            Per good bin; infinite where there is none.
        signal, weight : ndarray, shape (N_BIN,)
            Line signal of the spectrum at the best velocity, and its weight.
        """
        tries = [line_signal(*_moved(flux, ivar, step)) for step in SHIFTS]
        signal = np.concatenate([t[0] for t in tries])
        weight = np.concatenate([t[1] for t in tries])
        best = _mean_square(signal, weight, self.signals[1][::SCOUTS]).min(1).argmin()
        one = slice(best, best + 1)
        chi2 = np.stack([_mean_square(signal[one], weight[one], templates)[0] for templates in self.signals])
        return chi2, signal[best], weight[best]

    def nearest_signal(self, flux: np.ndarray, ivar: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mean line signal of the nearest templates, each at its best broadening, beside that of the spectrum.

        Parameters
        ----------
        flux, ivar : ndarray, shape (N_PIXEL,)
            One spectrum.

        Returns
        -------
        template, signal, weight : ndarray, shape (N_BIN,)
            Of the templates and of the spectrum; weight 0 where bad.
        """
        chi2, signal, weight = self.distances(flux, ivar)
        order = np.argsort(chi2.min(0), kind="stable")[:NEAREST]
        template = np.mean([self.signals[chi2[:, k].argmin()][k] for k in order], axis=0)
        return template, signal, weight

    def predict(self, flux: np.ndarray, ivar: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
        """Labels from the nearest templates.

        Parameters
        ----------
        flux, ivar : ndarray, shape (N_PIXEL,)
            One spectrum.

        Returns
        -------
        labels : ndarray, shape (3,)
            log10 Teff, logg, [Fe/H]; NaN where there is no good bin.
        chi2 : float
            Mean square weighted residual of the best template.
        nearest : ndarray of int, shape (NEAREST,)
            Indices of the templates, best first.
        """
        chi2 = self.distances(flux, ivar)[0].min(0)
        order = np.argsort(chi2, kind="stable")[: min(NEAREST, len(chi2))]
        if not np.isfinite(chi2[order[0]]):
            return np.full(3, np.nan), float("nan"), order
        rise = (chi2[order] - chi2[order[0]]) / max(chi2[order[-1]] - chi2[order[0]], 1e-12)
        weight = np.exp(-0.5 * rise)
        return weight @ self.labels[order] / weight.sum(), float(chi2[order[0]]), order


def _moved(flux: np.ndarray, ivar: np.ndarray, step: int) -> tuple[np.ndarray, np.ndarray]:
    """A spectrum moved by whole pixels, as a batch of one; what enters the grid is bad."""
    moved, weight = np.zeros((1, grid.N_PIXEL)), np.zeros((1, grid.N_PIXEL))
    to = slice(max(step, 0), grid.N_PIXEL + min(step, 0))
    of = slice(max(-step, 0), grid.N_PIXEL + min(-step, 0))
    moved[0, to], weight[0, to] = flux[of], ivar[of]
    return moved, weight


def _mean_square(signal: np.ndarray, weight: np.ndarray, templates: np.ndarray) -> np.ndarray:
    count = (weight > 0).sum(1)
    constant = (weight * signal**2).sum(1)
    square = constant[:, None] - 2 * (weight * signal) @ templates.T + weight @ (templates**2).T
    return np.where(count[:, None] > 50, np.maximum(square, 0) / np.maximum(count, 1)[:, None], np.inf)
