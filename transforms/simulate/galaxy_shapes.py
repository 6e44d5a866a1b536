"""Light of galaxies, stars and camera artifacts on a pixel grid, before the seeing: sums of components with colours.

The recipes (Sersic bulges, inclined exponential disks, logarithmic arms, boxy bars, sech-squared edge-on disks, tidal
arcs, warps) are the usual ones of e.g. Peng et al. (2010, AJ 139, 2097); shares and colours were set by what SDSS
display stamps look like, and a classifier that tells them from real ones is the measure of what is still missing.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from transforms.simulate.canvas import Canvas, Frame, frame, sersic

RED = np.array([1.20, 1.0, 0.64])  #: Colour (red, green, blue planes) of old stars.
BLUE = np.array([1.02, 1.0, 0.95])  #: Colour of a star-forming disk.
KNOT = np.array([0.90, 1.0, 1.25])  #: Colour of young clumps.


def smooth(canvas: Canvas, size: float, flux: float, at: tuple[float, float] = (0.0, 0.0)) -> None:
    """Elliptical or lenticular galaxy.

    Parameters
    ----------
    canvas : Canvas
        Changed in place.
    size : float
        Half-light radius, pixels.
    flux : float
        Sum of the green plane.
    at : tuple of float
        Place.
    """
    f = frame(canvas, canvas.uniform(0.5, 1.0), at=at)
    canvas.add(sersic(f.radius, size, canvas.uniform(2.0, 4.5)), flux, canvas.tint(RED))
    if canvas.rng.random() < 0.3:  # lenticular: a faint smooth disk
        canvas.add(sersic(f.radius, 1.6 * size, 1.0), 0.4 * flux, canvas.tint(RED))


def disk(canvas: Canvas, size: float, flux: float, at: tuple[float, float] = (0.0, 0.0), warp: float = 0.0) -> None:
    """Spiral galaxy, barred or not, arms from faint to sharp.

    Parameters
    ----------
    canvas : Canvas
        Changed in place.
    size : float
        Half-light radius, pixels.
    flux : float
        Sum of the green plane.
    at : tuple of float
        Place.
    warp : float
        Of ``frame``.
    """
    rng = canvas.rng
    f = frame(canvas, canvas.uniform(0.4, 1.0), at=at, warp=warp)
    radius = f.radius
    scale = size / 1.5
    bulge = canvas.uniform(0.03, 0.35)
    arms = int(rng.choice([2, 2, 2, 3, 4]))
    pitch = np.tan(np.radians(canvas.uniform(9, 32))) * float(rng.choice([-1, 1]))
    wave = 0.5 + 0.5 * np.cos(arms * (f.angle - np.log(radius / scale + 0.15) / pitch) + canvas.uniform(0, 2 * np.pi))
    if rng.random() < 0.5:
        wave = wave**3 * 1.6
    strength = canvas.uniform(0.4, 2.5)
    shade = 1 + strength * wave * np.clip(radius / scale - 0.3, 0, 1)
    base = np.exp(-radius / scale)
    canvas.add(base, (1 - bulge) * flux * 0.5, canvas.tint(BLUE))
    canvas.add(base * shade, (1 - bulge) * flux * 0.5, canvas.tint(BLUE, 0.1))
    canvas.add(sersic(radius, canvas.uniform(0.2, 0.45) * size, canvas.uniform(1, 3)), bulge * flux, canvas.tint(RED))
    if rng.random() < 0.35:
        bar(canvas, f, canvas.uniform(0.7, 1.5) * scale, canvas.uniform(0.1, 0.25) * flux)
    knots(canvas, base * (shade - 1), canvas.uniform(0.0, 0.12) * flux, int(rng.integers(3, 14)))


def bar(canvas: Canvas, f: Frame, length: float, flux: float) -> None:
    """Boxy bar at a random angle in the plane of a disk.

    Parameters
    ----------
    canvas : Canvas
        Changed in place.
    f : Frame
        Of the disk.
    length : float
        Half length, pixels.
    flux : float
        Sum of the green plane.
    """
    turn = canvas.uniform(0, np.pi)
    u, v = f.along, f.across / f.q
    x, y = u * np.cos(turn) + v * np.sin(turn), -u * np.sin(turn) + v * np.cos(turn)
    canvas.add(np.exp(-((x / length) ** 4) - np.abs(y / (canvas.uniform(0.2, 0.35) * length)) ** 3), flux, RED)


def knots(canvas: Canvas, where: np.ndarray, flux: float, count: int) -> None:
    """Star-forming clumps at places drawn from a map.

    Parameters
    ----------
    canvas : Canvas
        Changed in place.
    where : ndarray, shape (size, size)
        Not negative; likelihood of a clump.
    flux : float
        Sum of the green planes of all.
    count : int
        How many.
    """
    weight = np.clip(where, 0, None).ravel()
    if flux <= 0 or weight.sum() <= 0:
        return
    places = canvas.rng.choice(weight.size, size=count, p=weight / weight.sum())
    light = np.zeros(canvas.size**2)
    np.add.at(light, places, canvas.rng.exponential(1, count))
    canvas.add(light.reshape(canvas.size, -1), flux, canvas.tint(KNOT))


def edge_on(canvas: Canvas, size: float, flux: float, at: tuple[float, float] = (0.0, 0.0)) -> None:
    """Disk seen from the side, with or without bulge and dust lane.

    Parameters
    ----------
    canvas : Canvas
        Changed in place.
    size : float
        Half-light radius along the major axis, pixels.
    flux : float
        Sum of the green plane.
    at : tuple of float
        Place.
    """
    f = frame(canvas, 1.0, at=at)
    length = size / 1.1
    height = length * canvas.uniform(0.1, 0.28)
    light = np.exp(-np.abs(f.along) / length) / np.cosh(np.clip(f.across / height, -30, 30)) ** 2
    bulge = canvas.uniform(0.0, 0.35)
    colour = canvas.tint(RED if canvas.rng.random() < 0.5 else BLUE, 0.1)
    canvas.add(light, (1 - bulge) * flux, colour)
    round_ = np.hypot(f.along, f.across / canvas.uniform(0.5, 0.9))
    canvas.add(sersic(round_, 0.35 * length, canvas.uniform(1, 3)), bulge * flux, canvas.tint(RED))
    if canvas.rng.random() < 0.35:
        lane = np.exp(-((f.across - canvas.uniform(-0.3, 0.3) * height) ** 2) / (2 * (0.35 * height) ** 2))
        dark = canvas.uniform(0.3, 0.7) * lane * np.exp(-((f.along / (2 * length)) ** 4))
        canvas.planes *= 1 - np.array([0.8, 1.0, 1.2])[:, None, None] * dark * 0.8


def tail(canvas: Canvas, size: float, flux: float, at: tuple[float, float] = (0.0, 0.0)) -> None:
    """Tidal arc.

    Parameters
    ----------
    canvas : Canvas
        Changed in place.
    size : float
        Half-light radius of the galaxy it belongs to, pixels.
    flux : float
        Sum of the green plane.
    at : tuple of float
        Place of the galaxy.
    """
    f = frame(canvas, canvas.uniform(0.45, 1.0), at=at)
    span, middle = canvas.uniform(0.5, 1.5), canvas.uniform(1.4, 2.8) * size
    ridge = middle * (1 + canvas.uniform(-0.3, 0.3) * f.angle)
    light = np.exp(-(((f.radius - ridge) / (canvas.uniform(0.15, 0.35) * size)) ** 2) - (f.angle / span) ** 4)
    canvas.add(light, flux, canvas.tint(BLUE, 0.12))


def merger(canvas: Canvas, size: float, flux: float) -> None:
    """Two galaxies that touch, with tails.

    Parameters
    ----------
    canvas : Canvas
        Changed in place.
    size : float
        Half-light radius of the first, pixels.
    flux : float
        Sum of the green plane of the first.
    """
    rng = canvas.rng
    apart, turn = canvas.uniform(0.7, 2.4) * size, canvas.uniform(0, 2 * np.pi)
    step = np.array([np.sin(turn), np.cos(turn)]) * apart
    first, second = -0.35 * step, 0.65 * step
    kinds: tuple[Callable[..., None], ...] = (smooth, disk, edge_on)
    for at, share in ((first, 1.0), (second, canvas.uniform(0.25, 1.0))):
        kind = kinds[int(rng.choice(3, p=[0.5, 0.35, 0.15]))]
        kind(canvas, size * share**0.5 * canvas.uniform(0.6, 0.9), flux * share, (float(at[0]), float(at[1])))
    for _ in range(int(rng.integers(0, 3))):
        tail(canvas, size, canvas.uniform(0.05, 0.25) * flux, (float(first[0]), float(first[1])))


def disturbed(canvas: Canvas, size: float, flux: float) -> None:
    """Warped or lopsided disk, ring, clumpy irregular, galaxy with shells, tails or a dark lane.

    Parameters
    ----------
    canvas : Canvas
        Changed in place.
    size : float
        Half-light radius, pixels.
    flux : float
        Sum of the green plane.
    """
    rng = canvas.rng
    kind = int(rng.choice(5, p=[0.3, 0.2, 0.15, 0.2, 0.15]))
    if kind == 0:
        disk(canvas, size, flux, warp=canvas.uniform(0.25, 0.6) * size)
        if rng.random() < 0.5:
            tail(canvas, size, canvas.uniform(0.08, 0.3) * flux)
    elif kind == 1:  # lopsided
        disk(canvas, size, 0.7 * flux)
        at = rng.normal(0, 0.8 * size, 2)
        f = frame(canvas, canvas.uniform(0.4, 0.9), at=(float(at[0]), float(at[1])))
        canvas.add(
            sersic(f.radius, canvas.uniform(0.5, 1.0) * size, 0.8),
            canvas.uniform(0.3, 0.8) * flux,
            canvas.tint(BLUE, 0.12),
        )
    elif kind == 2:  # ring
        f = frame(canvas, canvas.uniform(0.5, 1.0))
        lit = 1 + canvas.uniform(0, 0.8) * np.cos(f.angle + canvas.uniform(0, 6.3))
        ring = lit * np.exp(-(((f.radius - 1.3 * size) / (0.25 * size)) ** 2))
        canvas.add(ring, canvas.uniform(0.3, 0.6) * flux, canvas.tint(BLUE))
        off = rng.normal(0, 0.2 * size, 2)
        core = frame(canvas, 0.8, at=(float(off[0]), float(off[1])))
        canvas.add(sersic(core.radius, 0.4 * size, 2), 0.5 * flux, canvas.tint(RED))
    elif kind == 3:  # clumpy irregular
        f = frame(canvas, canvas.uniform(0.35, 0.9), warp=canvas.uniform(0.2, 0.5) * size)
        body = sersic(f.radius, size, 0.7)
        canvas.add(body, 0.6 * flux, canvas.tint(BLUE, 0.12))
        knots(canvas, body, 0.4 * flux, int(rng.integers(2, 9)))
    else:  # elliptical with tails or shells
        smooth(canvas, size, flux)
        for _ in range(int(rng.integers(1, 4))):
            tail(canvas, 1.2 * size, canvas.uniform(0.06, 0.2) * flux)
