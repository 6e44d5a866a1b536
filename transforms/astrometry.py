"""From pixels to the sky and back, for many sources at once, in ICRS."""

from __future__ import annotations

from typing import Any

import numpy as np

_STEP = 0.5  #: Pixels of the finite differences behind local scale and orientation.


def sky_positions(wcs: Any, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Transform pixels to ICRS.

    Parameters
    ----------
    wcs : astropy.wcs.WCS
        Celestial, two axes, any frame.
    x, y : ndarray of float64, shape (n,)
        Pixels of the full plane; 0 is the middle of the first pixel.

    Returns
    -------
    ra, dec : ndarray of float64, shape (n,)
        Degrees; NaN where the projection has no sky.
    """
    from astropy.coordinates import ICRS, SkyCoord
    from astropy.wcs.utils import wcs_to_celestial_frame

    x, y = np.atleast_1d(np.asarray(x, float)), np.atleast_1d(np.asarray(y, float))
    if wcs.wcs.lng == 0:
        lon, lat = wcs.all_pix2world(x, y, 0)
    else:
        lat, lon = wcs.all_pix2world(x, y, 0)
    frame = wcs_to_celestial_frame(wcs)
    if isinstance(frame, ICRS):
        return np.where(np.isfinite(lon), np.mod(lon, 360.0), np.nan), lat
    ra, dec = np.full(lon.shape, np.nan), np.full(lon.shape, np.nan)
    good = np.isfinite(lon) & np.isfinite(lat) & (np.abs(lat) <= 90)
    if good.any():
        icrs = SkyCoord(lon[good], lat[good], unit="deg", frame=frame).icrs
        ra[good], dec[good] = icrs.ra.deg, icrs.dec.deg
    return ra, dec


def pixel_positions(wcs: Any, ra: np.ndarray, dec: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Transform ICRS to pixels.

    Parameters
    ----------
    wcs : astropy.wcs.WCS
        Celestial, two axes, any frame.
    ra, dec : ndarray of float64, shape (n,)
        Degrees.

    Returns
    -------
    x, y : ndarray of float64, shape (n,)
        Pixels of the full plane; NaN where the projection does not reach, the far side of the sky included.
    """
    from astropy.coordinates import SkyCoord
    from astropy.wcs.utils import wcs_to_celestial_frame

    sky = SkyCoord(ra, dec, unit="deg", frame="icrs").transform_to(wcs_to_celestial_frame(wcs))
    lonlat = np.stack([sky.spherical.lon.deg, sky.spherical.lat.deg], axis=1)
    world = lonlat if wcs.wcs.lng == 0 else lonlat[:, ::-1]
    # The undistorted answer sorts out what is far away, where the iteration for the distortions need not converge.
    rough = wcs.wcs_world2pix(world, 0)
    x, y = rough[:, 0].copy(), rough[:, 1].copy()
    near = np.isfinite(rough).all(axis=1) & (np.abs(rough) < 1e6).all(axis=1)
    if near.any():
        exact = wcs.all_world2pix(world[near], 0, quiet=True)
        x[near], y[near] = exact[:, 0], exact[:, 1]
        back = sky_positions(wcs, x[near], y[near])
        wrong = ~(separation(ra[near], dec[near], *back) < 1 / 3600)
        where = np.flatnonzero(near)[wrong]
        x[where], y[where] = np.nan, np.nan
    x[~near], y[~near] = np.nan, np.nan
    return x, y


def separation(ra1: np.ndarray, dec1: np.ndarray, ra2: np.ndarray, dec2: np.ndarray) -> np.ndarray:
    """Angle between positions (haversine, exact for small angles).

    Parameters
    ----------
    ra1, dec1, ra2, dec2 : ndarray of float64
        Degrees; broadcast.

    Returns
    -------
    ndarray of float64
        Degrees.
    """
    ra1, dec1, ra2, dec2 = (np.radians(v) for v in (ra1, dec1, ra2, dec2))
    square = np.sin((dec2 - dec1) / 2) ** 2 + np.cos(dec1) * np.cos(dec2) * np.sin((ra2 - ra1) / 2) ** 2
    return np.degrees(2 * np.arcsin(np.sqrt(np.clip(square, 0, 1))))


def position_angles(wcs: Any, x: np.ndarray, y: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """Turn angles in the pixel frame into position angles on the sky, by the local distortion.

    Parameters
    ----------
    wcs : astropy.wcs.WCS
        Celestial.
    x, y : ndarray of float64, shape (n,)
        Pixels of the full plane.
    theta : ndarray of float64, shape (n,)
        Radians from the x axis towards the y axis.

    Returns
    -------
    ndarray of float64, shape (n,)
        Degrees east of north, 0 to 180; NaN where there is no sky.
    """
    dx, dy = _STEP * np.cos(theta), _STEP * np.sin(theta)
    ra, dec = sky_positions(wcs, np.concatenate([x - dx, x + dx]), np.concatenate([y - dy, y + dy]))
    n = len(x)
    east = (ra[n:] - ra[:n] + 180) % 360 - 180
    east = east * np.cos(np.radians((dec[n:] + dec[:n]) / 2))
    return np.degrees(np.arctan2(east, dec[n:] - dec[:n])) % 180


def local_scale(wcs: Any, x: float, y: float) -> float | None:
    """Side of a square pixel with the area that a pixel has on the sky.

    Parameters
    ----------
    wcs : astropy.wcs.WCS
        Celestial.
    x, y : float
        Pixel of the full plane.

    Returns
    -------
    float or None
        arcsec; None where the pixel has no sky.
    """
    xs, ys = np.array([x - _STEP, x + _STEP, x, x]), np.array([y, y, y - _STEP, y + _STEP])
    ra, dec = sky_positions(wcs, xs, ys)
    east = (ra - ra[0] + 180) % 360 - 180
    east = east * np.cos(np.radians(np.mean(dec)))
    area = (east[1] - east[0]) * (dec[3] - dec[2]) - (east[3] - east[2]) * (dec[1] - dec[0])
    scale = 3600 * np.sqrt(abs(area)) / (2 * _STEP)
    return float(scale) if np.isfinite(scale) and scale > 0 else None
