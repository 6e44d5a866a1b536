"""How light is spread in angle: harmonics, bars and logarithmic spirals, in the plane of the inclined disk."""

from __future__ import annotations

import numpy as np

from transforms.numerics.profile import Profile

RINGS = 10  #: Rings between 0.4 and 2.5 half-light radii, equal in log radius.
WINDING = np.arange(-16.0, 16.5, 1.0)  #: p of exp(i (m theta + p ln r)); the pitch angle is atan(m / |p|).
STRAIGHT = 3.0  #: Below this |p| a two-armed pattern counts as a bar, above (pitch below 34 degrees) as a spiral.


def azimuthal(
    plane: np.ndarray, y: float, x: float, profile: Profile, axis_ratio: float, theta: float
) -> dict[str, float]:
    """Azimuthal amplitudes about a centre, deprojected by the axis ratio.

    Parameters
    ----------
    plane : ndarray, shape (ny, nx)
        Cleaned, sky-subtracted flux.
    y, x : float
        Centre in pixels.
    profile : Profile
        Radii of the object.
    axis_ratio : float
        Minor over major axis; below 0.3 it is taken as 0.3, since a thick disk cannot be deprojected further.
    theta : float
        Angle of the major axis from +x towards +y, radian.

    Returns
    -------
    dict of str to float
        ``m1`` to ``m4`` (mean over rings of the relative amplitude), ``bar`` and ``spiral`` (two-armed power at
        winding numbers below and above ``STRAIGHT``; Davis et al. 2012), ``winding`` (of the strongest spiral).
    """
    ny, nx = plane.shape
    yy, xx = np.mgrid[:ny, :nx]
    dy, dx = yy - y, xx - x
    along = dx * np.cos(theta) + dy * np.sin(theta)
    across = (-dx * np.sin(theta) + dy * np.cos(theta)) / max(axis_ratio, 0.3)
    radius = np.hypot(along, across)
    scale = profile.r50 / np.sqrt(max(axis_ratio, 0.3))  # half-light radius along the major axis
    edges = np.geomspace(0.4, 2.5, RINGS + 1) * scale
    ring = np.searchsorted(edges, radius.ravel()) - 1
    use = (ring >= 0) & (ring < RINGS)
    if use.sum() < 4 * RINGS:
        return {}
    ring, flux = ring[use], plane.ravel()[use]
    angle = np.arctan2(across.ravel()[use], along.ravel()[use])
    light = np.bincount(ring, flux, minlength=RINGS)
    floor = max(float(light.max()) * 1e-3, 1e-12)
    first = np.exp(1j * angle)
    turn, waves = np.ones_like(first), []
    for _ in range(4):
        turn = turn * first
        wave = np.bincount(ring, flux * turn.real, minlength=RINGS) + 1j * np.bincount(
            ring, flux * turn.imag, minlength=RINGS
        )
        waves.append(wave / np.maximum(light, floor))
    out = {f"m{m + 1}": float(np.minimum(np.abs(wave), 1.0).mean()) for m, wave in enumerate(waves)}
    log_radius = np.log(np.sqrt(edges[1:] * edges[:-1]) / scale)
    two = waves[1] / np.maximum(np.abs(waves[1]), 1.0)
    power = np.abs(np.exp(1j * WINDING[:, None] * log_radius[None, :]) @ two) / RINGS
    straight = np.abs(WINDING) < STRAIGHT
    out["bar"] = float(power[straight].max())
    out["spiral"] = float(power[~straight].max())
    out["winding"] = float(np.abs(WINDING[~straight][np.argmax(power[~straight])]))
    return out
