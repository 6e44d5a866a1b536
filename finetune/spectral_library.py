"""The classical answer for the range that a spectrum lacks: a Gaussian of the stars that are most like it.

The nearest spectra of a library, each scaled to what is visible, give a mean and a covariance; the missing bins are
those of that Gaussian, conditioned on the visible ones and their noise. So any gap and any noise fit, and what is said
lies among spectra that were observed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

NEAREST = 60
POWER = 1.5  #: Weight of a neighbour: its mean chi-square over that of the nearest one, to minus this power.
FLOOR = 1e-4  #: Variance of what a neighbour and the object differ by at least: 1 % of the flux.
FEWEST = 10


@dataclass(frozen=True, slots=True)
class Library:
    """Spectra on the bins of the models.

    Parameters
    ----------
    flux : ndarray, shape (n, n_bin)
        Of mean one.
    """

    flux: np.ndarray

    @classmethod
    def fit(cls, flux: np.ndarray, good: np.ndarray) -> Library:
        """Collect spectra.

        Parameters
        ----------
        flux : ndarray, shape (n, n_bin)
            Of mean one.
        good : ndarray of bool, shape (n, n_bin)
            Bins with data; the others are given the mean of all spectra.

        Returns
        -------
        Library
            Of all of them.

        Raises
        ------
        ValueError
            For fewer than ten spectra.
        """
        if len(flux) < FEWEST:
            raise ValueError(f"{len(flux)} spectra are too few to compare with; {FEWEST} are needed")
        mean = (flux * good).sum(0) / np.maximum(good.sum(0), 1)
        return cls(np.where(good, flux, mean).astype(np.float32))

    def impute(self, flux: np.ndarray, variance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Say a whole spectrum from a part of it.

        Parameters
        ----------
        flux : ndarray, shape (n_bin,)
            In any unit near that of the library.
        variance : ndarray, shape (n_bin,)
            Of the noise; infinite where not observed.

        Returns
        -------
        flux, sigma : ndarray, shape (n_bin,)
            Of the truth, in each bin, in the unit of the input.
        """
        seen = np.isfinite(variance)
        value, weight = flux[seen], 1 / (variance[seen] + FLOOR)
        shapes = self.flux[:, seen]
        scale = (shapes * (value * weight)).sum(1) / np.maximum((shapes**2 * weight).sum(1), 1e-12)
        chi2 = (weight * (value - scale[:, None] * shapes) ** 2).mean(1)
        near = np.argsort(chi2, kind="stable")[:NEAREST]
        share = (np.maximum(chi2[near], 1e-6) / max(chi2[near[0]], 1e-6)) ** -POWER
        share /= share.sum()
        scaled = scale[near, None] * self.flux[near]
        mean = share @ scaled
        parts = (scaled - mean) * np.sqrt(share)[:, None]
        covariance = np.linalg.inv(np.eye(len(near)) + (parts[:, seen] * weight) @ parts[:, seen].T)
        scores = covariance @ (parts[:, seen] @ (weight * (value - mean[seen])))
        spread = np.einsum("ki,ki->i", parts, covariance @ parts)
        return mean + scores @ parts, np.sqrt(np.maximum(spread, 0) + FLOOR)
