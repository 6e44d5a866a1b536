"""Line strengths: equivalent widths and magnitudes of bands against a pseudo-continuum, with errors.

Bands of the Lick system: Worthey et al. (1994, ApJS 94, 687), Worthey & Ottaviani (1997, ApJS 111, 377) and Trager et
al. (1998, ApJS 116, 1). Measured at the spectrum's own resolution, not at that of the Lick spectrograph, so that they
are "Lick-like". CaHK: Serven, Worthey & Briley (2005, ApJ 627, 754). H alpha: the project's own bands.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from transforms.numerics.spectra.wavelengths import air_to_vacuum, pixel_edges

#: Name, unit, and the edges in **air** of the blue side, the band and the red side, Angstrom.
INDICES: tuple[tuple[str, str, tuple[float, ...]], ...] = (
    ("cahk", "Angstrom", (3806.500, 3833.800, 3899.500, 4003.500, 4020.700, 4052.400)),
    ("hdelta_a", "Angstrom", (4041.600, 4081.500, 4083.500, 4122.250, 4128.500, 4161.000)),
    ("hdelta_f", "Angstrom", (4057.250, 4088.500, 4091.000, 4112.250, 4114.750, 4137.250)),
    ("cn1", "mag", (4080.125, 4117.625, 4142.125, 4177.125, 4244.125, 4284.125)),
    ("cn2", "mag", (4083.875, 4096.375, 4142.125, 4177.125, 4244.125, 4284.125)),
    ("ca4227", "Angstrom", (4211.000, 4219.750, 4222.250, 4234.750, 4241.000, 4251.000)),
    ("g4300", "Angstrom", (4266.375, 4282.625, 4281.375, 4316.375, 4317.625, 4335.125)),
    ("hgamma_a", "Angstrom", (4283.500, 4319.750, 4319.750, 4363.500, 4367.250, 4419.750)),
    ("hgamma_f", "Angstrom", (4283.500, 4319.750, 4331.250, 4352.250, 4354.750, 4384.750)),
    ("fe4383", "Angstrom", (4359.125, 4370.375, 4369.125, 4420.375, 4442.875, 4455.375)),
    ("ca4455", "Angstrom", (4445.875, 4454.625, 4452.125, 4474.625, 4477.125, 4492.125)),
    ("fe4531", "Angstrom", (4504.250, 4514.250, 4514.250, 4559.250, 4560.500, 4579.250)),
    ("c4668", "Angstrom", (4611.500, 4630.250, 4634.000, 4720.250, 4742.750, 4756.500)),
    ("hbeta", "Angstrom", (4827.875, 4847.875, 4847.875, 4876.625, 4876.625, 4891.625)),
    ("fe5015", "Angstrom", (4946.500, 4977.750, 4977.750, 5054.000, 5054.000, 5065.250)),
    ("mg1", "mag", (4895.125, 4957.625, 5069.125, 5134.125, 5301.125, 5366.125)),
    ("mg2", "mag", (4895.125, 4957.625, 5154.125, 5196.625, 5301.125, 5366.125)),
    ("mgb", "Angstrom", (5117.700, 5142.700, 5160.125, 5192.625, 5191.375, 5206.375)),
    ("fe5270", "Angstrom", (5233.150, 5248.150, 5245.650, 5285.650, 5285.650, 5318.150)),
    ("fe5335", "Angstrom", (5304.625, 5317.375, 5312.125, 5352.125, 5353.375, 5363.375)),
    ("fe5406", "Angstrom", (5376.250, 5387.500, 5387.500, 5415.000, 5415.000, 5425.000)),
    ("fe5709", "Angstrom", (5672.875, 5696.625, 5696.625, 5720.375, 5722.875, 5736.625)),
    ("fe5782", "Angstrom", (5765.375, 5775.375, 5776.625, 5796.625, 5797.875, 5811.625)),
    ("nad", "Angstrom", (5860.625, 5875.675, 5876.875, 5909.375, 5922.125, 5948.125)),
    ("tio1", "mag", (5816.625, 5849.125, 5936.625, 5994.125, 6038.625, 6103.625)),
    ("tio2", "mag", (6066.625, 6141.625, 6189.625, 6272.125, 6372.625, 6415.125)),
    ("halpha", "Angstrom", (6505.000, 6540.000, 6548.000, 6578.000, 6590.000, 6625.000)),
)
#: Vacuum Angstrom: D4000 of Balogh et al. (1999, ApJ 527, 54); the bands of the continuum colour are the project's own.
D4000_BANDS = ((3850.0, 3950.0), (4000.0, 4100.0))
COLOUR_BANDS = ((4400.0, 4700.0), (6100.0, 6500.0))
MIN_GOOD = 0.8  #: Share of each band that good pixels must cover.


@dataclass(frozen=True, slots=True)
class Bands:
    """Bands laid over a grid.

    Parameters
    ----------
    start, stop : int
        Pixels of the grid that any of the three bands touches.
    blue, band, red : ndarray of float64, shape (stop - start,)
        Overlap of each pixel with the three bands, Angstrom.
    place : ndarray of float64, shape (stop - start,)
        Position of each pixel between the middles of the side bands: 0 at the blue one, 1 at the red one.
    """

    start: int
    stop: int
    blue: np.ndarray
    band: np.ndarray
    red: np.ndarray
    place: np.ndarray


def overlap(edges: np.ndarray, first: float, last: float) -> np.ndarray:
    """Length that each pixel shares with an interval.

    Parameters
    ----------
    edges : ndarray of float64, shape (n + 1,)
        Pixel edges.
    first, last : float
        The interval.

    Returns
    -------
    ndarray of float64, shape (n,)
        In the unit of the edges.
    """
    return np.clip(np.minimum(edges[1:], last) - np.maximum(edges[:-1], first), 0.0, None)


def lay_bands(grid: np.ndarray, air_edges: tuple[float, ...]) -> Bands:
    """Lay the bands of one index over a grid.

    Parameters
    ----------
    grid : ndarray of float64, shape (n,)
        Vacuum wavelength of pixel centres in the rest frame, Angstrom.
    air_edges : tuple of float
        Six edges as in ``INDICES``.

    Returns
    -------
    Bands
        For ``line_strength``.
    """
    edges, limits = pixel_edges(grid), air_to_vacuum(np.array(air_edges))
    start = max(int(np.searchsorted(edges, limits.min())) - 1, 0)
    stop = min(int(np.searchsorted(edges, limits.max())), grid.size)
    near = edges[start : stop + 1]
    low, high = 0.5 * (limits[0] + limits[1]), 0.5 * (limits[4] + limits[5])
    blue, band, red = (overlap(near, limits[k], limits[k + 1]) for k in (0, 2, 4))
    return Bands(start, stop, blue, band, red, (grid[start:stop] - low) / (high - low))


def line_strength(flux: np.ndarray, ivar: np.ndarray, bands: Bands, unit: str) -> tuple[float, float] | None:
    """Equivalent width (or magnitude) of one index and its error.

    ``EW = integral of (1 - F/C)``, ``C`` the line through the mean fluxes of the side bands; its variance is the sum
    over pixels of the squared derivatives (as in Cardiel et al. 1998, A&AS 127, 597, without their approximations).

    Parameters
    ----------
    flux, ivar : ndarray, shape (n,)
        Flux and inverse variance on the grid; zero inverse variance = bad.
    bands : Bands
        From ``lay_bands`` on the same grid.
    unit : str
        ``"Angstrom"`` for an equivalent width (positive in absorption), ``"mag"`` for ``-2.5 log10 mean(F/C)``.

    Returns
    -------
    value, error : float
        None where less than ``MIN_GOOD`` of a band is covered or the pseudo-continuum is not positive.
    """
    part = slice(bands.start, bands.stop)
    f, w = flux[part], ivar[part]
    good = w > 0
    variance = np.divide(1.0, w, out=np.zeros(w.size), where=good)
    weights = []
    for overlaps in (bands.blue, bands.band, bands.red):
        used = np.where(good, overlaps, 0.0)
        if not overlaps.sum() or used.sum() < MIN_GOOD * overlaps.sum():
            return None
        weights.append(used)
    blue, band, red = weights
    width = bands.band.sum()
    low, high = (blue @ f) / blue.sum(), (red @ f) / red.sum()
    continuum = low + (high - low) * bands.place
    if (continuum[band > 0] <= 0).any():
        return None
    continuum = np.where(band > 0, continuum, 1.0)
    scale = width / band.sum()  # what masked pixels would have added, were they like the rest
    ratio = scale * (band @ (f / continuum))
    d_low = scale * -(band @ (f / continuum**2 * (1 - bands.place)))
    d_high = scale * -(band @ (f / continuum**2 * bands.place))
    slope = scale * band / continuum + d_low * blue / blue.sum() + d_high * red / red.sum()
    error = float(np.sqrt(np.sum(slope**2 * variance)))
    if unit == "Angstrom":
        return float(width - ratio), error
    mean = ratio / width
    return (float(-2.5 * np.log10(mean)), float(2.5 / np.log(10) * error / ratio)) if mean > 0 else None


@cache
def _laid(first: float, step: float, n: int) -> tuple[tuple[str, str, Bands], ...]:
    grid = 10.0 ** (first + step * np.arange(n))
    return tuple((name, unit, lay_bands(grid, edges)) for name, unit, edges in INDICES)


def all_indices(flux: np.ndarray, ivar: np.ndarray, grid: np.ndarray) -> dict[str, tuple[float, float]]:
    """All indices of a spectrum in the rest frame on a logarithmic grid.

    Parameters
    ----------
    flux, ivar : ndarray, shape (n,)
        Zero inverse variance = bad.
    grid : ndarray of float64, shape (n,)
        Vacuum wavelength, equal steps in log10, Angstrom.

    Returns
    -------
    dict of str to (float, float)
        Value and error of each index that can be measured.
    """
    first, last = float(np.log10(grid[0])), float(np.log10(grid[-1]))
    found = {}
    for name, unit, bands in _laid(round(first, 10), round((last - first) / (grid.size - 1), 12), grid.size):
        answer = line_strength(flux, ivar, bands, unit)
        if answer is not None:
            found[name] = answer
    return found


def band_ratio(
    flux: np.ndarray, ivar: np.ndarray, grid: np.ndarray, bands: tuple[tuple[float, float], ...], power: int = 0
) -> tuple[float, float] | None:
    """Mean flux of the red band over that of the blue one, and its error.

    Parameters
    ----------
    flux, ivar : ndarray, shape (n,)
        Zero inverse variance = bad.
    grid : ndarray of float64, shape (n,)
        Vacuum wavelength, Angstrom.
    bands : tuple of (first, last)
        Blue and red, vacuum Angstrom.
    power : int
        Power of the wavelength that weighs the flux density: 2 for flux per unit of frequency (D4000).

    Returns
    -------
    ratio, error : float
        None where a band is not covered or not positive.
    """
    edges, means, errors = pixel_edges(grid), [], []
    for first, last in bands:
        whole = overlap(edges, first, last)
        used = np.where(ivar > 0, whole, 0.0)
        if used.sum() < MIN_GOOD * (last - first):
            return None
        weights = used / used.sum() * (grid / grid[0]) ** power
        means.append(float(weights @ flux))
        errors.append(
            float(np.sqrt(np.sum(weights**2 * np.divide(1.0, ivar, out=np.zeros(ivar.size), where=used > 0))))
        )
    if min(means) <= 0:
        return None
    ratio = means[1] / means[0]
    return ratio, ratio * float(np.hypot(errors[0] / means[0], errors[1] / means[1]))
