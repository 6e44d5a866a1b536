"""The classical answer for the range that a spectrum lacks: principal components, conditioned on what was observed.

The scores are found by inverse-variance weights under their population's prior, so that any gap and any noise fit
(probabilistic principal components: Tipping & Bishop 1999, J. R. Stat. Soc. B 61, 611).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

COMPONENTS = 30
LEVEL = 0.5  #: Prior error of a spectrum's level, which is not known where the range that defines it is missing.
FLOOR = 1e-5  #: Variance of a bin that the components leave at least.


@dataclass(frozen=True, slots=True)
class Basis:
    """A population of spectra on the bins of the models.

    Parameters
    ----------
    mean : ndarray, shape (n_bin,)
        Of the population.
    components : ndarray, shape (n_component, n_bin)
        Scaled, so that scores have unit variance; the first is the mean itself, for the level.
    left : ndarray, shape (n_bin,)
        Variance that the components leave.
    """

    mean: np.ndarray
    components: np.ndarray
    left: np.ndarray

    @classmethod
    def fit(cls, flux: np.ndarray, good: np.ndarray, most: int = COMPONENTS) -> Basis:
        """Find the components.

        Parameters
        ----------
        flux : ndarray, shape (n, n_bin)
            Of mean one.
        good : ndarray of bool, shape (n, n_bin)
            Bins with data; the others count as the mean.
        most : int
            Components at most; a third of the spectra where those are few.

        Returns
        -------
        Basis
            Of the population.

        Raises
        ------
        ValueError
            For fewer than ten spectra.
        """
        if len(flux) < 10:
            raise ValueError(f"{len(flux)} spectra are too few for principal components; 10 are needed")
        mean = (flux * good).sum(0) / np.maximum(good.sum(0), 1)
        centred = np.where(good, flux - mean, 0.0)
        _, size, vectors = np.linalg.svd(centred, full_matrices=False)
        count = min(most, len(flux) // 3)
        scaled = vectors[:count] * size[:count, None] / np.sqrt(len(flux))
        rest = centred - (centred @ vectors[:count].T) @ vectors[:count]
        left = (rest**2 * good).sum(0) / np.maximum(good.sum(0) - count, 1)
        return cls(mean, np.vstack([LEVEL * mean, scaled]), np.maximum(left, FLOOR))

    def impute(self, flux: np.ndarray, variance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Say a whole spectrum from a part of it.

        Parameters
        ----------
        flux : ndarray, shape (n_bin,)
            Of any level near one.
        variance : ndarray, shape (n_bin,)
            Of the noise; infinite where not observed.

        Returns
        -------
        flux, sigma : ndarray, shape (n_bin,)
            Of the truth, in each bin.
        """
        weight = 1 / (variance + self.left)
        precision = np.eye(len(self.components)) + (self.components * weight) @ self.components.T
        covariance = np.linalg.inv(precision)
        scores = covariance @ (self.components @ (weight * np.where(weight > 0, flux - self.mean, 0)))
        spread = np.einsum("ki,kl,li->i", self.components, covariance, self.components)
        return self.mean + scores @ self.components, np.sqrt(np.maximum(spread, 0) + self.left)
