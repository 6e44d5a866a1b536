"""Morphology numbers of a stamp: which plane is measured, with which noise, and the columns that come out."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from transforms.columns import FLOAT32, Column
from transforms.numerics.morphology import THRESHOLD, morphology
from transforms.records import Cutout

PREFIX = "morph_"
WIDEST = 144  #: Stamps wider than this are averaged in blocks first; survey stamps rarely are, display images often.
_SHAPE, _SIZE, _FLUX = "src.morph.param", "phys.angSize", "phot.flux"

#: name, unit, UCD, sentence with its source, in catalog order.
_TABLE: tuple[tuple[str, str, str, str], ...] = (
    ("r20", "pix", _SIZE, "Circular radius that holds 20 percent of the light within 1.5 Petrosian radii"),
    ("r50", "pix", _SIZE, "Circular radius that holds 50 percent of the light within 1.5 Petrosian radii"),
    ("r80", "pix", _SIZE, "Circular radius that holds 80 percent of the light within 1.5 Petrosian radii"),
    ("r90", "pix", _SIZE, "Circular radius that holds 90 percent of the light within 1.5 Petrosian radii"),
    ("petrosian", "pix", _SIZE, "Petrosian radius, eta = 0.2 (Petrosian 1976); null where the stamp is too small"),
    ("concentration", "", _SHAPE, "Concentration 5 log10(r80 / r20) (Conselice 2003)"),
    ("r50_r90", "", _SHAPE, "Inverse concentration r50 / r90 (Strateva et al. 2001)"),
    ("asymmetry", "", _SHAPE, "Rotational asymmetry A, 180 degrees, noise term taken off (Conselice 2003)"),
    ("asymmetry_90", "", _SHAPE, "Asymmetry under a quarter turn, noise term taken off (Conselice 2003)"),
    ("asymmetry_outer", "", _SHAPE, "Rotational asymmetry of the light beyond r50 (Wen, Zheng & An 2014)"),
    ("asymmetry_shape", "", _SHAPE, "Rotational asymmetry of the segment's outline (Pawlik et al. 2016)"),
    ("smoothness", "", _SHAPE, "Clumpiness S, box of a quarter Petrosian radius (Lotz et al. 2004)"),
    ("gini", "", _SHAPE, "Gini coefficient of the pixel values (Lotz et al. 2004)"),
    ("m20", "", _SHAPE, "Normalised second moment of the brightest fifth of the light, M20 (Lotz et al. 2004)"),
    ("map_area", "pix2", _SIZE, "Pixels of the segmentation map that Gini and M20 use (Lotz et al. 2004)"),
    ("multimode", "", _SHAPE, "Area ratio of the two largest clumps at the worst threshold, M (Freeman et al. 2013)"),
    ("n_peaks", "", "meta.number", "Peaks in the segment above a tenth of the brightest"),
    ("peak_separation", "", _SHAPE, "Separation of the two brightest peaks, in r50; 0 for a single peak"),
    ("peak_ratio", "", _SHAPE, "Height of the second peak over the first; 0 for a single peak"),
    ("peak_distance", "", _SHAPE, "Distance of the brightest peak over the extent (Fanaroff & Riley 1974)"),
    ("core_fraction", "", _SHAPE, "Share of the light in the 3 x 3 pixels about the brightest"),
    ("m1", "", _SHAPE, "Lopsidedness: first azimuthal harmonic over the mean light (Rix & Zaritsky 1995)"),
    ("m2", "", _SHAPE, "Second azimuthal harmonic over the mean light, deprojected"),
    ("m3", "", _SHAPE, "Third azimuthal harmonic over the mean light, deprojected"),
    ("m4", "", _SHAPE, "Fourth azimuthal harmonic over the mean light, deprojected"),
    ("bar", "", _SHAPE, "Two-armed power without winding (Davis et al. 2012)"),
    ("spiral", "", _SHAPE, "Two-armed power of the strongest logarithmic spiral (Davis et al. 2012)"),
    ("winding", "", _SHAPE, "Winding number |p| of that spiral; its pitch angle is atan(2 / |p|)"),
    ("axis_ratio", "", "src.ellipticity", "Minor over major axis from second moments of the segment's light"),
    ("axis_ratio_flat", "", "src.ellipticity", "Minor over major axis of the segment's outline"),
    ("axis_ratio_core", "", "src.ellipticity", "Minor over major axis of the brightest 30 percent of the pixels"),
    ("size_rms", "pix", _SIZE, "Root mean square length along the major axis"),
    ("area", "pix2", "phys.angArea", "Pixels of the segment (3 x 3 mean above 1.5 sky noise)"),
    ("filled", "", _SHAPE, "Area of the segment over that of the ellipse with its moments"),
    ("raggedness", "", _SHAPE, "Perimeter squared over 4 pi area of the segment; 1 for a disk"),
    ("bend", "", _SHAPE, "Curvature of the ridge along the major axis"),
    ("skewness", "", _SHAPE, "Skewness of the light along the major axis, absolute"),
    ("kurtosis", "", _SHAPE, "Excess kurtosis of the light along the major axis"),
    ("offset", "", _SHAPE, "Distance of the brightest pixel from the centroid over size_rms"),
    ("centre_distance", "", _SHAPE, "Distance of the segment from the stamp's middle over the stamp's half side"),
    ("n_segments", "", "meta.number", "Sources of at least nine pixels in the stamp"),
    ("field_share", "", _SHAPE, "Share of the target in the light of all sources of the stamp"),
    ("field_size", "", _SHAPE, "Size of the light of all sources of the stamp over size_rms"),
    ("field_axis_ratio", "", "src.ellipticity", "Minor over major axis of the light of all sources of the stamp"),
    ("field_offset", "", _SHAPE, "Distance of the centroid of all sources from the target's, over size_rms"),
    ("field_bend", "", _SHAPE, "Curvature of the ridge of all sources of the stamp"),
    ("sn_pixel", "", "stat.snr", "Mean signal to noise of the segment's pixels (Lotz et al. 2004)"),
    ("sn_peak", "", "stat.snr", "Signal to noise of the brightest pixel"),
    *((f"hist_{i}", "", _SHAPE, f"Share of the segment's pixels in brightness bin {i} of 0 to 5") for i in range(6)),
)
NUMBERS = tuple(name for name, *_ in _TABLE)  #: Names without prefix, in catalog order.
COLUMNS = tuple(Column(PREFIX + name, FLOAT32, unit, ucd, text) for name, unit, ucd, text in _TABLE)
#: Numbers that scale with the size of a block of averaged pixels, and the power of the block's side.
SCALING = {"r20": 1, "r50": 1, "r80": 1, "r90": 1, "petrosian": 1, "size_rms": 1, "area": 2, "map_area": 2}


def measure_morphology(cutout: Cutout) -> dict[str, float | None]:
    """Measure the morphology of the object in the middle of a stamp.

    Parameters
    ----------
    cutout : Cutout
        Native pixels. Several bands are averaged by their inverse variance (display planes evenly).

    Returns
    -------
    dict of str to float or None
        Exactly the names of ``COLUMNS``; None where a number can't be measured (all of them where there is no source
        at the middle, or no usable pixel).
    """
    plane, good, sigma, block = detection_plane(cutout)
    # Correlated noise survives the 3 x 3 mean: the threshold is then raised to what it would be for white noise.
    scatter = border_sky(ndimage.uniform_filter(plane, 3), good)[1] if good.any() else 0.0
    found = morphology(plane, good, sigma, THRESHOLD * max(sigma, 3 * scatter))
    for name, power in SCALING.items():
        if name in found:
            found[name] *= block**power
    return {PREFIX + name: found.get(name) for name in NUMBERS}


def detection_plane(cutout: Cutout) -> tuple[np.ndarray, np.ndarray, float, int]:
    """Average a stamp's bands, and a wide stamp in blocks, into the plane that is measured.

    Parameters
    ----------
    cutout : Cutout
        The stamp.

    Returns
    -------
    plane : ndarray of float64, shape (ny // block, nx // block)
        Mean of the good pixels; an odd rest is trimmed. Without ivar the median of the border is taken off as sky.
    good : ndarray of bool, same shape
        True where at least one pixel of a block can be used.
    sigma : float
        Sky noise of a block; NaN where it can't be known.
    block : int
        Side of a block in pixels; 1 for stamps up to ``WIDEST``. The cost of a stamp is so bounded, and the noise of
        enlarged display images, correlated over a few pixels, becomes nearly white.
    """
    block = -(-max(cutout.flux.shape[1:]) // WIDEST)
    ny, nx = (n // block for n in cutout.flux.shape[1:])
    if min(ny, nx) == 0:
        return np.zeros((0, 0)), np.zeros((0, 0), bool), float("nan"), block
    light, weight = np.zeros((ny, nx)), np.zeros((ny, nx))
    for index in range(cutout.flux.shape[0]):
        flux, good = cutout.flux[index], ~cutout.mask[index] & np.isfinite(cutout.flux[index])
        scale = 1.0
        if cutout.ivar is not None:
            good &= np.isfinite(cutout.ivar[index]) & (cutout.ivar[index] > 0)
            scale = float(np.median(cutout.ivar[index][good])) if good.any() else 0.0
        light += scale * _block_sum(np.where(good, flux, 0), block, ny, nx)
        weight += scale * _block_sum(good, block, ny, nx)
    usable = weight > 0
    plane = light / np.where(usable, weight, 1)
    level, sigma = border_sky(plane, usable)
    if cutout.ivar is None:
        if cutout.unit == "display":
            sigma = max(sigma, 0.5)  # eight-bit rounding: a black border has no scatter of its own
        return np.where(usable, plane - level, 0), usable, sigma, block
    stated = float(np.median(weight[usable])) ** -0.5 if usable.any() else float("nan")
    if block > 1:  # pixels of wide stamps may be correlated: their mean is then noisier than ivar says
        stated = max(stated, sigma)
    return plane, usable, stated, block


def _block_sum(plane: np.ndarray, block: int, ny: int, nx: int) -> np.ndarray:
    if block == 1:
        return plane.astype(np.float64)
    y0, x0 = (plane.shape[0] - ny * block) // 2, (plane.shape[1] - nx * block) // 2
    rows = plane[y0 : y0 + ny * block, x0 : x0 + nx * block].reshape(ny, block, -1).sum(axis=1, dtype=np.float32)
    return rows.reshape(ny, nx, block).sum(axis=2, dtype=np.float64)


def border_sky(plane: np.ndarray, good: np.ndarray) -> tuple[float, float]:
    """Sky level and noise from the border of a stamp.

    Parameters
    ----------
    plane : ndarray, shape (ny, nx)
        Pixel values.
    good : ndarray of bool, shape (ny, nx)
        Pixels to be used.

    Returns
    -------
    level, sigma : float
        Median, and the robust scatter of the fainter half about it (neighbours only brighten), of a frame of a tenth
        of the side; NaN where no pixel can be used.
    """
    width = max(2, round(0.1 * min(plane.shape)))
    frame = np.ones(plane.shape, bool)
    frame[width:-width, width:-width] = False
    values = plane[frame & good]
    if values.size < 20:
        values = plane[good]
    if values.size == 0:
        return float("nan"), float("nan")
    level = float(np.median(values))
    below = level - values[values <= level]
    return level, 1.4826 * float(np.median(below))
