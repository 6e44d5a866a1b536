"""Degrade clean stellar spectra on the fly to what instruments deliver: velocity, blur, tilt, noise, gaps, range.

Heavy degradation during training is what makes a small transformer better than the classical answer on spectra that
are not like its training set. Everything works on batches on the grid of ``spectral_grid``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from finetune import spectral_grid as grid

_X = np.linspace(-1.0, 1.0, grid.N_PIXEL)
_PIXEL = np.arange(grid.N_PIXEL, dtype=np.float64)
_BLURS = (0.0, 0.6, 1.0, 1.5, 2.0, 2.8)  # pixels; between them the variance is interpolated
_SKY_LINES = tuple(int(np.searchsorted(grid.wavelengths(), line)) for line in (5578.9, 6302.0))


@dataclass(frozen=True, slots=True)
class Degradation:
    """What may happen to a spectrum; probabilities are per spectrum.

    Parameters
    ----------
    mix : float
        Probability of a mix with the mate of most similar labels.
    blur : float
        Probability of a broadening of up to ``blur_pixels``.
    blur_pixels : float
        Largest Gaussian sigma at the blue end.
    velocity : float
        Largest residual velocity in km/s (half of the spectra; the others get a Gaussian of 10 km/s).
    tilt : float
        Largest amplitude of the cubic error of the flux calibration.
    noise_free : float
        Probability that no noise is added.
    sn : tuple of float
        Range of S/N per pixel, log-uniform.
    chunks : float
        Probability of up to four missing chunks.
    gap : float
        Probability of a gap between two arms.
    clip : float
        Probability of a shorter range; in half of these cases it is a blue or a red arm alone.
    no_errors : float
        Probability that the errors of a noisy spectrum are forgotten and estimated from its scatter.
    """

    mix: float = 0.5
    blur: float = 0.7
    blur_pixels: float = 2.0
    velocity: float = 300.0
    tilt: float = 0.15
    noise_free: float = 0.15
    sn: tuple[float, float] = (5.0, 300.0)
    chunks: float = 0.5
    gap: float = 0.3
    clip: float = 0.4
    no_errors: float = 0.2


def degrade(
    prepared: Mapping[str, np.ndarray],
    targets: Mapping[str, np.ndarray],
    rng: np.random.Generator,
    how: Degradation = Degradation(),
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Degrade a batch of clean spectra at random.

    Parameters
    ----------
    prepared : mapping of str to ndarray
        Stacked output of the task's ``prepare``: ``flux`` and ``ivar`` of shape (batch, N_PIXEL); other keys pass.
    targets : mapping of str to ndarray
        ``labels``, shape (batch, 3): log10 Teff, logg, [Fe/H]; NaN where missing.
    rng : numpy.random.Generator
        Source of all randomness.
    how : Degradation
        Probabilities and ranges.

    Returns
    -------
    prepared, targets : dict of str to ndarray
        New arrays; the inputs are not written to.
    """
    flux, ivar = prepared["flux"].astype(np.float64), prepared["ivar"].astype(np.float64)
    flux, ivar, labels = mix_neighbours(flux, ivar, targets["labels"], rng, how.mix)
    flux = blur(flux, rng, how)
    flux, ivar = shift(flux, ivar, draw_velocity(len(flux), rng, how.velocity) / grid.PIXEL_KMS)
    flux = flux * tilt(len(flux), rng, how.tilt)
    keep = draw_range(len(flux), rng, how)
    flux, ivar = add_noise(flux, ivar, rng, how)
    ivar = np.where(keep, ivar, 0.0)
    scale = grid.flux_scale(flux, ivar)
    scale = np.where(np.isfinite(scale), scale, 1.0)[:, None]
    flux = np.where(ivar > 0, flux / scale, 0.0)
    changed = {"flux": flux.astype(np.float32), "ivar": (ivar * scale**2).astype(np.float32)}
    return {**prepared, **changed}, {**targets, "labels": labels}


def mix_neighbours(
    flux: np.ndarray, ivar: np.ndarray, labels: np.ndarray, rng: np.random.Generator, share: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mix spectra with the batch mate whose labels are nearest, where it is near enough.

    Parameters
    ----------
    flux, ivar : ndarray, shape (batch, N_PIXEL)
        Clean spectra.
    labels : ndarray, shape (batch, 3)
        log10 Teff, logg, [Fe/H].
    rng : numpy.random.Generator
        Source of randomness.
    share : float
        Probability of a mix.

    Returns
    -------
    flux, ivar, labels : ndarray
        Mixed in the same proportion, below one half.
    """
    scaled = labels / np.array([0.1, 1.0, 0.5])
    distance = np.sqrt(((scaled[:, None] - scaled[None]) ** 2).sum(-1))
    distance[~np.isfinite(distance)] = np.inf
    np.fill_diagonal(distance, np.inf)
    mate = distance.argmin(1)
    mixed = (rng.random(len(flux)) < share) & (distance.min(1) < 0.5)
    weight = np.where(mixed, rng.uniform(0, 0.5, len(flux)), 0.0)[:, None]
    new_labels = np.where(mixed[:, None], (1 - weight) * labels + weight * labels[mate], labels)
    both = np.where(mixed[:, None], np.minimum(ivar, ivar[mate]), ivar)
    return (1 - weight) * flux + weight * flux[mate], both, new_labels.astype(np.float32)


def blur(flux: np.ndarray, rng: np.random.Generator, how: Degradation) -> np.ndarray:
    """Broaden with a Gaussian whose width changes along the spectrum.

    Parameters
    ----------
    flux : ndarray, shape (batch, N_PIXEL)
        Flux density.
    rng : numpy.random.Generator
        Source of randomness.
    how : Degradation
        Probability and width.

    Returns
    -------
    ndarray, shape (batch, N_PIXEL)
        Broadened.
    """
    n = len(flux)
    blue = np.where(rng.random(n) < how.blur, rng.uniform(0, how.blur_pixels, n), 0.0)
    red = np.where(blue > 0, np.clip(blue + rng.uniform(-0.4, 0.8, n), 0, _BLURS[-1]), 0.0)
    sigma = blue[:, None] + (red - blue)[:, None] * (0.5 + 0.5 * _X)
    return variable_blur(flux, sigma)


def variable_blur(flux: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Broaden by a Gaussian of given width at each pixel, interpolating in variance between a few fixed widths.

    Parameters
    ----------
    flux : ndarray, shape (batch, n)
        Flux density on equal pixels.
    sigma : ndarray, shape (batch, n)
        Gaussian sigma in pixels, 0 to 2.8.

    Returns
    -------
    ndarray, shape (batch, n)
        Broadened.
    """
    nodes = np.square(_BLURS)
    variance = np.clip(np.square(sigma), 0, nodes[-1])
    out = np.zeros_like(flux)
    for k, width in enumerate(_BLURS):
        level = flux if width == 0 else gaussian_filter1d(flux, width, axis=-1, mode="nearest", truncate=3.5)
        weight = np.interp(variance, nodes, np.eye(len(nodes))[k])
        out += weight * level
    return out


def draw_velocity(n: int, rng: np.random.Generator, largest: float) -> np.ndarray:
    """Residual velocities: half are errors of a measured one, half come from spectra whose velocity failed.

    Parameters
    ----------
    n : int
        How many.
    rng : numpy.random.Generator
        Source of randomness.
    largest : float
        Bound of the uniform half, km/s.

    Returns
    -------
    ndarray, shape (n,)
        km/s.
    """
    return np.where(rng.random(n) < 0.5, rng.normal(0, 10, n), rng.uniform(-largest, largest, n))


def shift(flux: np.ndarray, ivar: np.ndarray, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Move spectra along the logarithmic grid.

    Parameters
    ----------
    flux, ivar : ndarray, shape (batch, N_PIXEL)
        Spectra; what leaves the grid is lost, what enters is bad.
    pixels : ndarray, shape (batch,)
        To the red where positive.

    Returns
    -------
    flux, ivar : ndarray, shape (batch, N_PIXEL)
        Linear interpolation of the flux, nearest pixel of the inverse variance.
    """
    moved, weight = np.empty_like(flux), np.empty_like(ivar)
    for i, step in enumerate(pixels):
        moved[i] = np.interp(_PIXEL - step, _PIXEL, flux[i])
        nearest = np.rint(_PIXEL - step).astype(int)
        inside = (nearest >= 0) & (nearest < grid.N_PIXEL)
        weight[i] = np.where(inside, ivar[i][np.clip(nearest, 0, grid.N_PIXEL - 1)], 0.0)
    return moved, weight


def tilt(n: int, rng: np.random.Generator, amplitude: float) -> np.ndarray:
    """Errors of a flux calibration: a cubic and a ripple.

    Parameters
    ----------
    n : int
        How many.
    rng : numpy.random.Generator
        Source of randomness.
    amplitude : float
        Largest amplitude of the cubic.

    Returns
    -------
    ndarray, shape (n, N_PIXEL)
        Factors, positive.
    """
    size = rng.uniform(0, amplitude, n)[:, None]
    legendre = np.stack([_X, 1.5 * _X**2 - 0.5, 2.5 * _X**3 - 1.5 * _X])
    cubic = size * (rng.normal(size=(n, 3)) * [1.0, 0.6, 0.4]) @ legendre
    waves, phase = rng.uniform(3, 25, n)[:, None], rng.uniform(0, 2 * np.pi, n)[:, None]
    ripple = rng.uniform(0, 0.015, n)[:, None] * np.sin(np.pi * waves * _X + phase)
    return np.exp(np.clip(cubic, -0.7, 0.7)) * (1 + ripple)


def draw_range(n: int, rng: np.random.Generator, how: Degradation) -> np.ndarray:
    """Pixels that the instrument delivers: a range, a gap between arms, missing chunks.

    Parameters
    ----------
    n : int
        How many.
    rng : numpy.random.Generator
        Source of randomness.
    how : Degradation
        Probabilities.

    Returns
    -------
    ndarray of bool, shape (n, N_PIXEL)
        True = delivered; never less than a quarter of the grid before chunks.
    """
    keep = np.ones((n, grid.N_PIXEL), bool)
    for row in keep:
        if rng.random() < how.clip:
            length = int(grid.N_PIXEL * rng.uniform(0.35, 1.0))
            anchor = rng.random()
            first = 0 if anchor < 0.25 else grid.N_PIXEL - length
            if anchor >= 0.5:
                first = int(rng.integers(0, grid.N_PIXEL - length + 1))
            row[:first] = row[first + length :] = False
        if rng.random() < how.gap:
            centre, width = int(rng.integers(1500, 2200)), int(rng.integers(20, 360))
            row[centre - width // 2 : centre + width // 2] = False
        if rng.random() < how.chunks:
            for _ in range(int(rng.integers(1, 5))):
                first = int(rng.integers(0, grid.N_PIXEL))
                row[first : first + int(rng.integers(5, 200))] = False
    return keep


def add_noise(
    flux: np.ndarray, ivar: np.ndarray, rng: np.random.Generator, how: Degradation
) -> tuple[np.ndarray, np.ndarray]:
    """Add photon and sky noise, and state it, or forget to.

    Parameters
    ----------
    flux, ivar : ndarray, shape (batch, N_PIXEL)
        Spectra; the inverse variance that they come with stays where no noise is added.
    rng : numpy.random.Generator
        Source of randomness.
    how : Degradation
        Range of S/N and probabilities.

    Returns
    -------
    flux, ivar : ndarray, shape (batch, N_PIXEL)
        Noisy flux and its inverse variance (0 stays 0).
    """
    n = len(flux)
    good = ivar > 0
    sn = np.exp(rng.uniform(np.log(how.sn[0]), np.log(how.sn[1]), n))[:, None]
    sky = rng.uniform(0, 0.7, n)[:, None]
    level = np.median(np.abs(flux), axis=1, keepdims=True) + 1e-6
    throughput = np.exp(rng.normal(0, 0.4, n)[:, None] * _X)
    source = np.maximum(flux, 0.02 * level)
    lines = np.ones_like(flux)
    for pixel in _SKY_LINES:
        lines[:, pixel - 4 : pixel + 5] += rng.uniform(0, 20, n)[:, None]
    variance = ((1 - sky) * source + sky * level * lines) * level * throughput / sn**2
    noisy = flux + rng.normal(size=flux.shape) * np.sqrt(variance)
    stated = 1 / variance
    estimated = grid.noise_sigma(noisy, good)[:, None]
    forget = (rng.random(n) < how.no_errors)[:, None] & np.isfinite(estimated) & (estimated > 0)
    stated = np.where(forget, 1 / np.where(forget, estimated, 1.0) ** 2, stated)
    clean = (rng.random(n) < how.noise_free)[:, None]
    return np.where(clean, flux, noisy), np.where(good, np.where(clean, ivar, stated), 0.0)
