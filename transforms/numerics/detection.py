"""Sources of a plane: matched filter, connected pixels, deblending (Bertin & Arnouts 1996; Barbary 2016 for sep)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import sep

from transforms.numerics.background import native

THRESHOLD = (
    4.5  #: Signal to noise of the filtered plane that five connected pixels must reach: none in 17 Mpx of noise.
)
MINIMUM_AREA = 5
DEBLEND_LEVELS = 32
DEBLEND_CONTRAST = 0.005
SEEING = 3.0  #: FWHM in pixels of the filter where the seeing is not known.
SEEING_RANGE = (1.5, 8.0)
PIXELS = 4_000_000  #: Pixels above the threshold that one plane may have, tried first.
LEAST_PIXELS = 10_000  #: Room that the smallest stamp gets.
CHILDREN = 8_192  #: Deblended children of one parent, tried first.
SUBSAMPLE = 2  #: Every second pixel is enough for the noise of the filtered plane.
MOST_EXCESS = 3.0
HUGE = np.float32(1e15)  #: Error of a worthless pixel: an infinite one would give NaN in sums.


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """What was found in one plane.

    Parameters
    ----------
    objects : structured ndarray, shape (n,)
        As ``sep.extract`` gives it: ``x``, ``y``, ``a``, ``b``, ``theta``, ``errx2``, ``npix``, ``peak``, ...
    segments : ndarray of int32, shape (ny, nx)
        Number of the object plus one; 0 for sky.
    undeblended : bool
        True where the field was too crowded to be deblended within the limits.
    """

    objects: np.ndarray
    segments: np.ndarray
    undeblended: bool = False


def kernel(fwhm: float) -> np.ndarray:
    """Gaussian of the seeing, the filter that finds stars best in white noise.

    Parameters
    ----------
    fwhm : float
        Pixels; clipped to ``SEEING_RANGE``.

    Returns
    -------
    ndarray of float32, shape (n, n)
        Odd side, sum 1.
    """
    sigma = float(np.clip(fwhm, *SEEING_RANGE)) / 2.3548
    half = int(np.ceil(2 * sigma))
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    weights = np.exp(-(x**2 + y**2) / (2 * sigma**2))
    return (weights / weights.sum()).astype(np.float32)


def noise_excess(flux: np.ndarray, error: np.ndarray, mask: np.ndarray, fwhm: float) -> float:
    """Noise of the filtered plane over what white noise of this error would leave.

    Parameters
    ----------
    flux, error, mask
        As ``detect`` takes them.
    fwhm : float
        Seeing in pixels.

    Returns
    -------
    float
        1 for white noise; more where resampling (drizzled or warped images) has tied neighbours together. Taken from
        the fainter half of the pixels, since sources only brighten; between 1 and ``MOST_EXCESS``.
    """
    from scipy import ndimage

    sigma = float(np.clip(fwhm, *SEEING_RANGE)) / 2.3548
    scaled = np.where(mask, 0, flux / error).astype(np.float32)
    filtered = ndimage.gaussian_filter(scaled, sigma, truncate=3)[::SUBSAMPLE, ::SUBSAMPLE]
    values = filtered[~mask[::SUBSAMPLE, ::SUBSAMPLE]]
    if values.size < 100:
        return 1.0
    low, middle = np.percentile(values, [15.87, 50])
    return float(np.clip((middle - low) * 2 * np.sqrt(np.pi) * sigma, 1, MOST_EXCESS))


def detect(
    flux: np.ndarray,
    error: np.ndarray,
    mask: np.ndarray,
    *,
    fwhm: float = SEEING,
    threshold: float = THRESHOLD,
    minimum_area: int = MINIMUM_AREA,
) -> Detections:
    """Find sources in a background-subtracted plane.

    Parameters
    ----------
    flux : ndarray of float32, shape (ny, nx)
        Sky-subtracted pixels, finite.
    error : ndarray of float32, shape (ny, nx)
        Standard deviation of the sky noise, finite; ``HUGE`` for worthless pixels.
    mask : ndarray of bool, shape (ny, nx)
        True = no source is looked for here.
    fwhm : float
        Seeing in pixels.
    threshold : float
        Signal to noise of the filtered plane; raised where the noise is correlated.
    minimum_area : int
        Connected pixels above the threshold.

    Returns
    -------
    Detections
        In the order in which the plane is scanned; equal inputs give equal outputs.

    Raises
    ------
    ValueError
        Where even without deblending the plane holds too many pixels above the threshold.
    """
    arguments = {
        "err": native(error),
        "mask": np.ascontiguousarray(mask),
        "minarea": minimum_area,
        "filter_kernel": kernel(fwhm),
        "filter_type": "matched",
        "deblend_nthresh": DEBLEND_LEVELS,
        "clean": False,  # sep compares fluxes of the filtered and the native plane there, and drops real faint sources
        "segmentation_map": True,
    }
    plane = native(flux)
    threshold *= noise_excess(plane, error, mask, fwhm)
    # sep allocates and clears all of its room for each plane: a stamp must not pay for a survey image
    room = min(PIXELS, max(LEAST_PIXELS, 2 * plane.size))
    # More room first, then without deblending: a crowded field must not end as an error.
    attempts = (
        (room, CHILDREN, DEBLEND_CONTRAST),
        (4 * PIXELS, 8 * CHILDREN, DEBLEND_CONTRAST),
        (8 * PIXELS, 8 * CHILDREN, 1.0),
    )
    failure: Exception | None = None
    for pixels, children, contrast in attempts:
        sep.set_extract_pixstack(pixels)
        sep.set_sub_object_limit(children)
        try:
            objects, segments = sep.extract(plane, threshold, deblend_cont=contrast, **arguments)
        except Exception as error_of_sep:  # noqa: BLE001 - sep raises the bare class for its own limits
            failure = error_of_sep
            continue
        return Detections(objects, segments, undeblended=contrast == 1.0)
    raise ValueError(f"plane of {plane.shape[1]} x {plane.shape[0]} pixels is too crowded: {failure}")
