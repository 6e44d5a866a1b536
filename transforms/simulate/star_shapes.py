"""Stars and what cameras do: spikes, saturated cores, glare, trails, ghosts, cosmic rays."""

from __future__ import annotations

import numpy as np

from transforms.simulate.canvas import Canvas, frame, sersic


def _star_colour(canvas: Canvas) -> np.ndarray:
    step = canvas.rng.normal(0.1, 0.22)
    return np.exp([step, 0.0, -1.3 * step])


def _glare(canvas: Canvas, y: float, x: float, power: float) -> np.ndarray:
    """Halo and spikes of a bright star, in units of the target's peak; already seen through the atmosphere."""
    grid = np.arange(canvas.size) - (canvas.size - 1) / 2
    dy, dx = grid[:, None] - y, grid[None, :] - x
    radius = np.hypot(dy, dx)
    halo = power / (1 + (radius / canvas.uniform(2, 6)) ** 2) ** canvas.uniform(0.8, 1.3)
    turn = canvas.uniform(0, np.pi / 2)
    width, length = canvas.uniform(0.6, 1.4), canvas.uniform(0.1, 0.45) * canvas.size
    spikes = np.zeros_like(radius)
    for angle in (turn, turn + np.pi / 2):
        u, v = dx * np.cos(angle) + dy * np.sin(angle), -dx * np.sin(angle) + dy * np.cos(angle)
        spikes += np.exp(-((v / width) ** 2) - np.abs(u) / length)
    light = halo + canvas.uniform(0.05, 0.4) * power * spikes
    if canvas.rng.random() < 0.3:  # bleeding along the columns
        light += power * np.exp(-((dx / 0.8) ** 2) - np.abs(dy) / (0.1 * canvas.size))
    return _star_colour(canvas)[:, None, None] * light[None]


def star(canvas: Canvas, r50: float) -> np.ndarray:
    """A star at the middle, alone, double or bright with spikes.

    Parameters
    ----------
    canvas : Canvas
        Changed in place: gets the point sources.
    r50 : float
        Half-light radius that a galaxy would have, pixels: the scale of a pair.

    Returns
    -------
    ndarray, shape (3, size, size)
        Light that the seeing does not spread further, in units of the star's peak.
    """
    middle = canvas.size // 2
    light = np.zeros((canvas.size, canvas.size))
    light[middle, middle] = 1.0
    canvas.add(light, 1.0, _star_colour(canvas))
    if canvas.rng.random() < 0.25:
        pair = np.zeros_like(light)
        y, x = (int(np.clip(middle + v, 0, canvas.size - 1)) for v in canvas.rng.normal(0, 1.2 * r50, 2))
        pair[y, x] = 1.0
        canvas.add(pair, canvas.uniform(0.2, 1.0), _star_colour(canvas))
    if canvas.rng.random() < 0.6:
        return _glare(canvas, 0.5, 0.5, canvas.uniform(0.05, 0.8))
    return np.zeros((3, canvas.size, canvas.size))


def artifact(canvas: Canvas, r50: float) -> np.ndarray:
    """Something that no galaxy is: glare of a star near by, a trail, a ghost, a cosmic ray, a background step.

    Parameters
    ----------
    canvas : Canvas
        Changed in place: often gets the small blob that made a detector fire.
    r50 : float
        Half-light radius of that blob, pixels.

    Returns
    -------
    ndarray, shape (3, size, size)
        Light that the seeing does not spread further, in units of the blob's peak.
    """
    rng, size = canvas.rng, canvas.size
    blob = frame(canvas, canvas.uniform(0.4, 1.0))
    canvas.add(
        sersic(blob.radius, canvas.uniform(0.3, 0.8) * r50, 1.0), 1.0, canvas.tint(np.array([1.2, 1.0, 0.7]), 0.2)
    )
    grid = np.arange(size) - (size - 1) / 2
    y, x = grid[:, None], grid[None, :]
    turn = canvas.uniform(0, np.pi)
    u, v = x * np.cos(turn) + y * np.sin(turn), -x * np.sin(turn) + y * np.cos(turn)
    kind = int(rng.choice(5, p=[0.45, 0.15, 0.1, 0.1, 0.2]))
    if kind == 0:
        far = canvas.uniform(0.05, 0.45) * size
        power = float(np.exp(canvas.uniform(np.log(2), np.log(30))))
        return _glare(canvas, far * np.sin(2 * turn), far * np.cos(2 * turn), power)
    if kind == 1:
        colour = np.array([(1, 0.2, 0.2), (0.2, 0.3, 1), (1, 1, 1)][int(rng.integers(3))])
        line = np.exp(-(((v - canvas.uniform(-4, 4)) / canvas.uniform(0.8, 2.5)) ** 2))
        return colour[:, None, None] * (canvas.uniform(0.3, 3) * line)
    if kind == 2:
        ring = np.exp(-(((np.hypot(u - 4, v) - canvas.uniform(0.1, 0.3) * size) / canvas.uniform(2, 6)) ** 2))
        return np.ones((3, 1, 1)) * (canvas.uniform(0.05, 0.5) * ring)
    if kind == 3:
        ray = np.exp(-((v / 0.5) ** 2)) * (np.abs(u) < canvas.uniform(1, 8))
        return np.ones((3, 1, 1)) * (canvas.uniform(1, 6) * ray)
    step = 1 / (1 + np.exp(-(v - canvas.uniform(-0.3, 0.3) * size) / canvas.uniform(0.5, 12)))
    tint = rng.uniform(0.1, 1.0, 3)
    return tint[:, None, None] * (canvas.uniform(0.05, 0.6) * step)
