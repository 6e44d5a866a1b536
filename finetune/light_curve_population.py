"""What the classical answers know of a population of light curves: levels of bands, colours, how bands go together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from finetune.light_curve_process import band_covariance
from finetune.light_curve_question import Curve
from finetune.light_curve_tokens import N_SLOT
from transforms import bands as filters
from transforms.attempt import Unusable

FEWEST = 10  #: Objects with the wanted band and those observed that a level needs.
RIDGE = 1.0


@dataclass(frozen=True, slots=True)
class Population:
    """What the classical answers know of the objects that the backbone was trained on.

    Parameters
    ----------
    levels : ndarray, shape (n, N_SLOT)
        AB magnitudes; NaN where not observed.
    traits : ndarray, shape (n, 2)
        log10 of period and of amplitude; NaN where not known.
    covariance : ndarray, shape (N_SLOT, N_SLOT)
        From ``band_covariance``.
    """

    levels: np.ndarray
    traits: np.ndarray
    covariance: np.ndarray

    @classmethod
    def of(cls, curves: Sequence[Curve]) -> Population:
        """Collect.

        Parameters
        ----------
        curves : sequence of Curve
            Of training objects.

        Returns
        -------
        Population
            In their order.
        """
        visits = [(c.prepared["magnitude"], c.prepared["seen"]) for c in curves]
        magnitude, seen = (np.concatenate(part).astype(float) for part in zip(*visits, strict=True))
        levels, traits = np.stack([known_levels(c) for c in curves]), np.stack([_traits(c) for c in curves])
        return cls(levels, traits, band_covariance(magnitude, seen))

    def arrays(self) -> dict[str, np.ndarray]:
        """What is kept of it.

        Returns
        -------
        dict of str to ndarray
            By name.
        """
        return {name: np.asarray(getattr(self, name), np.float64) for name in ("levels", "traits", "covariance")}

    def level(self, curve: Curve, slot: int) -> tuple[float, float]:
        """Say the level of a band that was not observed.

        Parameters
        ----------
        curve : Curve
            Of the object.
        slot : int
            Of the band.

        Returns
        -------
        level, error : float
            AB magnitude.

        Raises
        ------
        Unusable
            Where no observed band has a level, or the population has too few objects to compare with.
        """
        mine = known_levels(curve)
        seen = [int(k) for k in np.flatnonzero(np.isfinite(mine)) if k != slot]
        if not seen:
            raise Unusable("no band of the ugriz family has a calibrated flux: the level of another cannot be told")
        rows = np.flatnonzero(np.isfinite(self.levels[:, [*seen, slot]]).all(1))
        if rows.size < FEWEST:
            names = "".join(filters.SLOTS[k] for k in [*seen, slot])
            raise Unusable(f"{rows.size} training objects have all of {names}; {FEWEST} are needed for a colour")
        middle = self.levels[rows][:, seen].mean(1)
        x = np.column_stack([self.levels[rows][:, seen] - middle[:, None], self.traits[rows]])
        own = np.concatenate([mine[seen] - mine[seen].mean(), _traits(curve)])
        centre = np.nan_to_num(np.nanmean(x, 0))
        x, own = np.nan_to_num(x - centre), np.nan_to_num(own - centre)
        y = self.levels[rows, slot] - middle
        gram = x.T @ x + RIDGE * np.diag(np.maximum(x.var(0), 1e-6))
        hat = np.einsum("ij,ji->i", x, np.linalg.solve(gram, x.T)) + 1 / len(x)
        weights = np.linalg.solve(gram, x.T @ (y - y.mean()))
        left = (y - y.mean() - x @ weights) / np.maximum(1 - hat, 0.1)
        error = float(np.sqrt(np.mean(np.clip(left, *np.percentile(left, [1, 99])) ** 2)))
        return float(mine[seen].mean() + y.mean() + own @ weights), max(error, 1e-3)


def known_levels(curve: Curve) -> np.ndarray:
    """Levels of the bands of the ugriz family.

    Parameters
    ----------
    curve : Curve
        Of the object.

    Returns
    -------
    ndarray, shape (N_SLOT,)
        AB magnitudes; NaN where not observed, or not calibrated.
    """
    out = np.full(N_SLOT, np.nan)
    for name, level in curve.levels.items():
        letter = filters.sdss_like(name)
        if curve.record.unit == "nJy" and letter in filters.SLOTS:
            out[filters.SLOTS.index(letter)] = level
    return out


def _traits(curve: Curve) -> np.ndarray:
    period = curve.record.measured.get("period")
    return np.array([np.log10(period) if period else np.nan, np.log10(curve.scale)])
