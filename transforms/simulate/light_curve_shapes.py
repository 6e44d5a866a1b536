"""Shapes of variable sources in magnitudes: what each class does against time in each band, drawn at random.

A shape is a function ``shape(time, wavelength) -> magnitude`` about zero for one object, and the object's period.
Distributions follow the published surveys named beside them; none is fitted to a set that a score is quoted on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

#: ``evaluate(time in days, wavelength in nm) -> magnitude``.
Evaluate = Callable[[np.ndarray, np.ndarray], np.ndarray]
CLASSES = ("rrab", "rrc", "ea", "ew", "dsct", "cepheid", "lpv", "qso", "snia", "constant")
_REFERENCE = 475.0  # nm; amplitudes are those in g


@dataclass(frozen=True, slots=True)
class Shape:
    """One drawn object.

    Parameters
    ----------
    evaluate : callable
        Time (days) and wavelength (nm) to magnitude.
    period : float or None
        Days; None where there is none.
    colours : ndarray, shape (5,)
        Mean magnitude in u, g, r, i, z less that in r.
    transient : bool
        True where magnitudes are those of an outburst that is +inf before it.
    """

    evaluate: Evaluate
    period: float | None
    colours: np.ndarray
    transient: bool = False


def draw(kind: str, rng: np.random.Generator) -> Shape:
    """Draw an object of a class.

    Parameters
    ----------
    kind : str
        One of ``CLASSES``.
    rng : Generator
        Source of randomness.

    Returns
    -------
    Shape
        The object.

    Raises
    ------
    ValueError
        For a class that is not there.
    """
    if kind not in _DRAW:
        raise ValueError(f"no light-curve class named {kind!r}; there are {', '.join(CLASSES)}")
    return _DRAW[kind](rng)


def _colours(rng: np.random.Generator, ug: float, gr: float, ri: float, iz: float, spread: float) -> np.ndarray:
    """u to z relative to r, with one temperature-like and independent scatters, and reddening."""
    warm = rng.normal(0, spread)
    red = min(rng.exponential(0.06), 0.6)  # E(B-V), Schlafly & Finkbeiner (2011) coefficients below
    gr, ri, iz, ug = (
        gr + warm + red * 1.02,
        ri + 0.4 * warm + red * 0.59,
        iz + 0.25 * warm + red * 0.43,
        ug + red * 0.94,
    )
    ug += 1.2 * warm + rng.normal(0, 0.03)
    return np.array([ug + gr, gr, 0.0, -ri, -ri - iz]) + rng.normal(0, 0.02, 5)


def _fourier(
    period: float, amplitude: float, ratios: np.ndarray, phases: np.ndarray, start: float, ratio_red: float
) -> Evaluate:
    """Cosine series whose amplitude falls to the red by ``ratio_red`` between g and z."""
    grid = np.arange(256) / 256
    k = np.arange(1, ratios.size + 1)
    curve = (ratios * np.cos(2 * np.pi * k * grid[:, None] + phases)).sum(1)
    scale = amplitude / np.ptp(curve)

    def evaluate(time: np.ndarray, wave: np.ndarray) -> np.ndarray:
        phase = (time / period + start) % 1
        angle = 2 * np.pi * phase[:, None] * k + phases
        red = np.log(wave / _REFERENCE) / np.log(905 / _REFERENCE)
        return scale * ratio_red ** np.clip(red, -0.3, 1.3) * (ratios * np.cos(angle)).sum(1)

    return evaluate


def _blazhko(base: Evaluate, rng: np.random.Generator) -> Evaluate:
    """Slow modulation of amplitude and phase, seen in about a quarter to a half of RRab (Jurcsik et al. 2009)."""
    period, depth, shift = rng.uniform(20, 120), rng.uniform(0.05, 0.3), rng.uniform(0, 0.02)
    start = rng.uniform(0, 2 * np.pi)

    def evaluate(time: np.ndarray, wave: np.ndarray) -> np.ndarray:
        angle = 2 * np.pi * time / period + start
        return base(time + shift * np.sin(angle + 1.0), wave) * (1 + depth * np.sin(angle))

    return evaluate


def _rrab(rng: np.random.Generator) -> Shape:
    """Period-amplitude relation of LINEAR (Palaversa et al. 2013); Fourier numbers of Simon & Teays (1982)."""
    log_p = np.clip(rng.normal(-0.237, 0.055), -0.42, -0.03)
    amplitude = np.clip(1.3 * (0.70 - 1.9 * (log_p + 0.237)) + rng.normal(0, 0.17), 0.25, 1.6)
    full = np.clip((amplitude - 0.3) / 1.0, 0, 1)
    r21, r31 = rng.normal(0.40 + 0.09 * full, 0.05), rng.normal(0.20 + 0.14 * full, 0.05)
    upper = np.clip([r21, r31, rng.normal(0.10 + 0.10 * full, 0.045), rng.normal(0.10, 0.04)], 0.01, 0.7)
    ratios = np.concatenate([[1.0], upper])
    first = rng.uniform(0, 2 * np.pi)
    wander = rng.normal(0, [0.18, 0.3, 0.45, 0.6]) + (log_p + 0.237) * np.array([2.0, 4.0, 6.0, 8.0])
    phases = np.concatenate([[0], np.array([3.95, 1.95, 6.25, 4.2]) + wander])
    evaluate = _fourier(10**log_p, amplitude, ratios, phases + np.arange(1, 6) * first, 0.0, rng.normal(0.53, 0.04))
    if rng.random() < 0.3:
        evaluate = _blazhko(evaluate, rng)
    return Shape(evaluate, float(10**log_p), _colours(rng, 1.10, 0.22, 0.07, 0.01, 0.035))


def _rrc(rng: np.random.Generator) -> Shape:
    log_p = np.clip(rng.normal(-0.478, 0.055), -0.68, -0.33)
    amplitude = np.clip(rng.normal(0.49, 0.11), 0.15, 0.9)
    ratios = np.abs(np.array([1, rng.normal(0.14, 0.06), rng.normal(0.07, 0.035), rng.normal(0.045, 0.025)]))
    first = rng.uniform(0, 2 * np.pi)
    phases = np.array([0, rng.normal(4.75, 0.32), rng.normal(3.3, 0.9), rng.normal(2.0, 1.2)]) + np.arange(1, 5) * first
    evaluate = _fourier(10**log_p, amplitude, ratios, phases, 0.0, rng.normal(0.54, 0.04))
    if rng.random() < 0.15:
        evaluate = _blazhko(evaluate, rng)
    return Shape(evaluate, float(10**log_p), _colours(rng, 1.16, 0.05, -0.02, -0.03, 0.05))


def _dsct(rng: np.random.Generator) -> Shape:
    """Delta Scuti and SX Phoenicis stars of visible amplitude; a second mode in two of five."""
    log_p = np.clip(rng.normal(-1.16, 0.16), -1.38, -0.65)
    amplitude = np.clip(rng.lognormal(np.log(0.35), 0.5), 0.05, 1.0)
    full = np.clip(amplitude / 0.6, 0, 1)
    ratios = np.abs(
        np.array([1, rng.normal(0.1 + 0.28 * full, 0.07), rng.normal(0.02 + 0.13 * full, 0.05), rng.normal(0.05, 0.03)])
    )
    first = rng.uniform(0, 2 * np.pi)
    phases = np.array([0, rng.normal(4.05, 0.3), rng.normal(2.1, 0.6), rng.uniform(0, 6.3)]) + np.arange(1, 5) * first
    base = _fourier(10**log_p, amplitude, ratios, phases, 0.0, rng.normal(0.55, 0.05))
    if rng.random() < 0.4:
        share, other = rng.uniform(0.1, 0.5), 10**log_p * rng.choice([0.773, 0.84, rng.uniform(0.6, 0.95)])
        second = _fourier(other, amplitude * share, np.ones(1), rng.uniform(0, 6.3, 1), 0.0, 0.55)
        return Shape(lambda t, w: base(t, w) + second(t, w), float(10**log_p), _colours(rng, 1.08, 0.1, 0, -0.02, 0.08))
    return Shape(base, float(10**log_p), _colours(rng, 1.08, 0.1, 0.0, -0.02, 0.08))


def _cepheid(rng: np.random.Generator) -> Shape:
    """Fundamental and overtone classical Cepheids with the Hertzsprung progression, roughly as in OGLE-III."""
    overtone = rng.random() < 0.3
    log_p = rng.uniform(-0.1, 0.75) if overtone else np.clip(rng.gamma(3.0, 0.18) + 0.15, 0.15, 1.8)
    first = rng.uniform(0, 2 * np.pi)
    if overtone:
        ratios = np.abs(np.array([1, rng.normal(0.17, 0.06), rng.normal(0.05, 0.03), rng.normal(0.02, 0.02)]))
        phases = np.array([0, rng.normal(4.5, 0.4), rng.normal(3.0, 1.0), rng.uniform(0, 6.3)])
        amplitude = np.clip(rng.normal(0.42, 0.12), 0.1, 0.8)
    else:
        near_ten = np.exp(-0.5 * ((log_p - 1.0) / 0.12) ** 2)
        ratios = np.array([1, 0.42 - 0.27 * near_ten, 0.22 - 0.14 * near_ten, 0.10]) * rng.normal(
            1, [0, 0.15, 0.25, 0.4]
        )
        early = np.clip((log_p - 0.4) / 0.6, -0.5, 1)
        phi21 = 4.0 + 0.9 * early if log_p < 1 else 5.6 - 1.2 * np.clip((log_p - 1) / 0.2, 0, 1)
        phases = np.array(
            [0, rng.normal(phi21, 0.25), rng.normal(2.0 + 1.6 * early, 0.4), rng.normal(6.2 + 2 * early, 0.7)]
        )
        amplitude = np.clip(rng.normal(0.85 - 0.25 * near_ten, 0.22), 0.2, 1.6)
    phases = phases + np.arange(1, 5) * first
    evaluate = _fourier(10**log_p, amplitude, np.abs(ratios), phases, 0.0, rng.normal(0.5, 0.04))
    return Shape(evaluate, float(10**log_p), _colours(rng, 1.3, 0.45, 0.18, 0.08, 0.1))


def _eclipse(phase: np.ndarray, centre: float, width: float, power: float) -> np.ndarray:
    distance = np.abs((phase - centre + 0.5) % 1 - 0.5)
    return np.exp(-0.5 * (distance / width) ** power)


def _ea(rng: np.random.Generator) -> Shape:
    """Detached and semi-detached binaries: two minima, a quarter of them eccentric, some with ellipsoidal light."""
    period = float(10 ** np.clip(rng.normal(0.12, 0.34), -0.5, 1.6))
    depth = np.clip(rng.lognormal(np.log(0.45), 0.45), 0.1, 2.0)
    width = np.clip(rng.lognormal(np.log(0.035), 0.4), 0.008, 0.075)
    ratio, power = rng.beta(1.2, 1.2), rng.uniform(2.0, 5.0)
    eccentric = rng.random() < 0.25
    second = rng.uniform(0.35, 0.65) if eccentric else 0.5
    width_2 = width * (rng.uniform(0.7, 1.4) if eccentric else 1.0)
    ellipsoid = rng.exponential(0.03) if period < 3 else 0.0
    reflect, start, colour = rng.exponential(0.01), rng.random(), rng.normal(0, 0.12)

    def evaluate(time: np.ndarray, wave: np.ndarray) -> np.ndarray:
        phase = (time / period + start) % 1
        red = np.log(wave / _REFERENCE)
        first_depth, second_depth = depth * (1 - abs(colour) * red), depth * ratio * (1 + 1.5 * abs(colour) * red)
        out = first_depth * _eclipse(phase, 0, width, power) + second_depth * _eclipse(phase, second, width_2, power)
        return out + ellipsoid * np.cos(4 * np.pi * phase) + reflect * np.cos(2 * np.pi * phase)

    return Shape(evaluate, period, _colours(rng, 1.5, 0.6, 0.25, 0.13, 0.35))


def _ew(rng: np.random.Generator) -> Shape:
    """Contact binaries: minima of nearly equal depth, sharper than a sine; a small O'Connell effect."""
    period = float(10 ** np.clip(rng.normal(-0.50, 0.10) + rng.exponential(0.05), -0.68, 0.1))
    amplitude = np.clip(rng.lognormal(np.log(0.42), 0.35), 0.1, 1.0)
    uneven, sharp = min(rng.exponential(0.12), 0.6), rng.uniform(0.9, 1.7)
    start, connell = rng.random(), rng.normal(0, 0.015)
    colour = rng.normal(0.06, 0.05)

    def evaluate(time: np.ndarray, wave: np.ndarray) -> np.ndarray:
        phase = (time / period + start) % 1
        bowl = np.abs(np.cos(2 * np.pi * phase)) ** (2 * sharp)
        primary = 0.5 * (1 + np.cos(2 * np.pi * phase))  # 1 at the deeper minimum
        red = 1 - colour * np.log(wave / _REFERENCE)
        return amplitude * red * bowl * (1 - uneven * (1 - primary)) + connell * np.sin(2 * np.pi * phase)

    return Shape(evaluate, period, _colours(rng, 1.4, 0.5, 0.2, 0.1, 0.25))


def damped_walk(time: np.ndarray, tau: float, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Damped random walk (Kelly, Bechtold & Siemiginowska 2009, ApJ 698, 895).

    Parameters
    ----------
    time : ndarray, shape (n,)
        Days, increasing.
    tau : float
        Damping time, days.
    sigma : float
        Standard deviation at long lags, magnitudes.
    rng : Generator
        Source of randomness.

    Returns
    -------
    ndarray, shape (n,)
        Magnitudes about zero.
    """
    out = np.empty(time.size)
    value, last = rng.normal(0, sigma), time[0] if time.size else 0.0
    noise = rng.normal(0, 1, time.size)
    for index, moment in enumerate(time):
        keep = np.exp(-(moment - last) / tau)
        value = value * keep + noise[index] * sigma * np.sqrt(max(1 - keep**2, 0.0))
        out[index], last = value, moment
    return out


def _walk(
    tau: float, sigma: float, rng: np.random.Generator, span: float = 6000.0
) -> Callable[[np.ndarray], np.ndarray]:
    """A walk on a daily grid, so that every band sees the same one."""
    grid = np.arange(0.0, span)
    values = damped_walk(grid, tau, sigma, rng)
    return lambda time: np.interp(time - time.min() if time.size else time, grid, values)


def _lpv(rng: np.random.Generator) -> Shape:
    """Miras and semi-regulars, 60 to 700 d: cycles differ in height, and the mean level wanders."""
    period = float(np.exp(rng.uniform(np.log(60), np.log(650))))
    mira = rng.random() < 0.5
    amplitude = rng.uniform(2.5, 6.0) if mira else np.clip(rng.lognormal(np.log(0.5), 0.6), 0.1, 2.5)
    ratios = np.abs(np.array([1, rng.normal(0.12, 0.08), rng.normal(0.04, 0.03)]))
    phases = np.array([rng.uniform(0, 6.3), rng.uniform(0, 6.3), rng.uniform(0, 6.3)])
    base = _fourier(period, amplitude, ratios, phases, 0.0, rng.uniform(0.35, 0.6))
    height = _walk(1.5 * period, rng.uniform(0.08, 0.2) if mira else rng.uniform(0.15, 0.5), rng)
    level = _walk(rng.uniform(200, 800), amplitude * rng.uniform(0.03, 0.15 if mira else 0.3), rng)

    def evaluate(time: np.ndarray, wave: np.ndarray) -> np.ndarray:
        return base(time, wave) * np.clip(1 + height(time), 0.1, 2.0) + level(time)

    return Shape(evaluate, period, _colours(rng, 2.4, 1.4, 1.0, 0.6, 0.3))


def _qso(rng: np.random.Generator) -> Shape:
    """Damped random walks of Stripe 82 quasars (MacLeod et al. 2010, ApJ 721, 1014), stronger in the blue."""
    tau, sf = 10 ** rng.normal(2.6, 0.35), 10 ** rng.normal(-0.65, 0.2)
    walk = _walk(tau, sf / np.sqrt(2) * 1.1, rng)
    slope, bluer = rng.normal(0.45, 0.1), _walk(tau, sf * 0.12, rng)

    def evaluate(time: np.ndarray, wave: np.ndarray) -> np.ndarray:
        red = np.log(wave / _REFERENCE)
        return walk(time) * np.exp(-slope * red) + bluer(time) * red

    return Shape(evaluate, None, _colours(rng, 0.15, 0.2, 0.12, 0.08, 0.15))


_SN_EPOCH = np.array([-18, -14, -10, -6, -3, 0, 3, 7, 11, 15, 20, 25, 30, 40, 50, 70, 100], float)
#: Magnitudes above the peak in g, r, i of a normal SN Ia, read off published mean light curves (Hsiao et al. 2007).
_SN_MAG = np.array([
    [6.0, 2.6, 1.2, 0.42, 0.10, 0.0, 0.06, 0.30, 0.65, 1.05, 1.65, 2.15, 2.5, 2.9, 3.1, 3.45, 4.0],
    [6.0, 2.5, 1.1, 0.38, 0.10, 0.0, 0.04, 0.20, 0.45, 0.62, 0.72, 0.85, 1.1, 1.75, 2.15, 2.8, 3.7],
    [6.0, 2.4, 1.0, 0.30, 0.05, 0.0, 0.12, 0.40, 0.68, 0.80, 0.72, 0.62, 0.75, 1.4, 1.9, 2.7, 3.7],
])  # fmt: skip


def _snia(rng: np.random.Generator) -> Shape:
    """Type Ia supernova with stretch and the second maximum of the red bands; the outburst alone."""
    stretch, z = np.clip(rng.normal(0.98, 0.1), 0.65, 1.25), rng.uniform(0.01, 0.25)
    dilation = stretch * (1 + z)
    waves = np.array([475.0, 622.0, 763.0])
    late = rng.normal(1, 0.08)

    def evaluate(time: np.ndarray, wave: np.ndarray) -> np.ndarray:
        rest = np.where(time > 0, time * (late if stretch else 1.0), time) / dilation
        tables = [np.interp(rest, _SN_EPOCH, row, left=np.inf) for row in _SN_MAG]
        tail = np.maximum(rest - _SN_EPOCH[-1], 0) * 0.015
        place = np.clip(np.interp(wave / (1 + z), waves, [0.0, 1.0, 2.0]), 0, 2)
        low = np.minimum(place.astype(int), 1)
        share = place - low
        stack = np.stack(tables)
        index = np.arange(time.size)
        first, second = stack[low, index], stack[low + 1, index]
        return (
            np.where(
                np.isfinite(first),
                (1 - share) * np.nan_to_num(first, posinf=30) + share * np.nan_to_num(second, posinf=30),
                np.inf,
            )
            + tail
        )

    return Shape(evaluate, None, _colours(rng, 0.6, 0.0, -0.2, -0.1, 0.12), transient=True)


def _constant(rng: np.random.Generator) -> Shape:
    return Shape(lambda time, wave: np.zeros(time.size), None, _colours(rng, 1.5, 0.6, 0.25, 0.13, 0.35))


_DRAW: dict[str, Callable[[np.random.Generator], Shape]] = {
    "rrab": _rrab, "rrc": _rrc, "ea": _ea, "ew": _ew, "dsct": _dsct, "cepheid": _cepheid, "lpv": _lpv, "qso": _qso,
    "snia": _snia, "constant": _constant,
}  # fmt: skip
