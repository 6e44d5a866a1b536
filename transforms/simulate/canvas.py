"""Where simulated galaxies are drawn: planes that components are added to, and coordinates of inclined galaxies."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage


@dataclass(slots=True)
class Canvas:
    """Planes that components are added to, and the random numbers that they draw.

    Parameters
    ----------
    size : int
        Pixels on a side.
    rng : numpy.random.Generator
        Source of all that is random.
    planes : ndarray of float64, shape (3, size, size)
        Red, green, blue light so far.
    """

    size: int
    rng: np.random.Generator
    planes: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.planes = np.zeros((3, self.size, self.size))

    def add(self, light: np.ndarray, total: float, colour: np.ndarray) -> None:
        """Add one component.

        Parameters
        ----------
        light : ndarray, shape (size, size)
            Its shape, any scale.
        total : float
            Sum of its green plane.
        colour : ndarray, shape (3,)
            Red, green, blue.
        """
        norm = float(light.sum())
        if norm > 0:
            self.planes += colour[:, None, None] * (light * (total / norm))

    def mottle(self, amplitude: float) -> None:
        """Multiply the light by a random texture: no real galaxy is as smooth as a formula.

        Parameters
        ----------
        amplitude : float
            Standard deviation of its logarithm is drawn between nothing and this.
        """
        if amplitude > 0:
            field = ndimage.gaussian_filter(self.rng.normal(0, 1, (self.size, self.size)), self.uniform(0.8, 2.5))
            field *= self.uniform(0, amplitude) / max(float(field.std()), 1e-9)
            self.planes *= np.exp(field)

    def uniform(self, low: float, high: float) -> float:
        """Draw one number.

        Parameters
        ----------
        low, high : float
            Range.

        Returns
        -------
        float
            Uniform in it.
        """
        return float(self.rng.uniform(low, high))

    def tint(self, colour: np.ndarray, spread: float = 0.07) -> np.ndarray:
        """Vary a colour a little.

        Parameters
        ----------
        colour : ndarray, shape (3,)
            Typical colour.
        spread : float
            Standard deviation of red and blue in natural logarithm, opposite to each other.

        Returns
        -------
        ndarray, shape (3,)
            Green stays 1.
        """
        step = self.rng.normal(0, spread)
        return colour * np.exp([step, 0, -1.5 * step])


@dataclass(frozen=True, slots=True)
class Frame:
    """Coordinates of an inclined, turned and perhaps warped galaxy.

    Parameters
    ----------
    along, across : ndarray, shape (size, size)
        Along the major and the minor axis, pixels, not deprojected.
    q : float
        Axis ratio.
    """

    along: np.ndarray
    across: np.ndarray
    q: float

    @property
    def radius(self) -> np.ndarray:
        """Elliptical radius along the major axis."""
        return np.hypot(self.along, self.across / self.q)

    @property
    def angle(self) -> np.ndarray:
        """Azimuth in the plane of the galaxy, radian."""
        return np.arctan2(self.across / self.q, self.along)


def frame(canvas: Canvas, q: float, *, at: tuple[float, float] = (0.0, 0.0), warp: float = 0.0) -> Frame:
    """Lay a frame at a random angle.

    Parameters
    ----------
    canvas : Canvas
        Where.
    q : float
        Axis ratio.
    at : tuple of float
        ``(y, x)`` from the canvas's middle in pixels.
    warp : float
        Amplitude in pixels of a smooth random distortion.

    Returns
    -------
    Frame
        Its coordinates.
    """
    grid = np.arange(canvas.size) - (canvas.size - 1) / 2
    dy, dx = grid[:, None] - at[0], grid[None, :] - at[1]
    if warp:
        wave = canvas.rng.uniform(0.6, 1.8, 4) * 2 * np.pi / canvas.size * 2
        phase = canvas.rng.uniform(0, 2 * np.pi, 4)
        shift_y = warp * (np.sin(wave[0] * dx + phase[0]) + np.sin(wave[1] * dy + phase[1]))
        shift_x = warp * (np.sin(wave[2] * dx + phase[2]) + np.sin(wave[3] * dy + phase[3]))
        dy, dx = dy + shift_y, dx + shift_x
    theta = canvas.uniform(0, np.pi)
    cos, sin = np.cos(theta), np.sin(theta)
    return Frame(dx * cos + dy * sin, -dx * sin + dy * cos, q)


def sersic(radius: np.ndarray, half: float, index: float) -> np.ndarray:
    """Sersic (1968) profile.

    Parameters
    ----------
    radius : ndarray
        Elliptical radius, pixels.
    half : float
        Half-light radius, pixels.
    index : float
        Sersic index, 0.5 to 8.

    Returns
    -------
    ndarray
        1 at the half-light radius; the cusp is cut at 0.4 pixels.
    """
    b = 2 * index - 1 / 3 + 0.009876 / index
    return np.exp(-b * ((np.maximum(radius, 0.4) / half) ** (1 / index) - 1))
