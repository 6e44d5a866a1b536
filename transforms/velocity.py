"""Classical measurements on one spectrum: signal-to-noise, radial velocity, line indices, continuum.

The velocity comes from the blue arm and the red one apart, by chi squared against the stellar templates; the two are
joined where they agree. Where they do not (LAMOST DR1: 40 km/s), the blue one stands and the row is flagged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from transforms import spectral_templates as templates
from transforms.columns import BOOL, FLOAT32, INT32, STRING, Column, unique
from transforms.constants import C_KMS
from transforms.flags import bits
from transforms.numerics.spectra import lines
from transforms.numerics.spectra.continuum import running_continuum, telluric_mask
from transforms.numerics.spectra.crosscorrelation import chi2_gain, find_peak
from transforms.numerics.spectra.noise import difference_noise, signal_to_noise
from transforms.numerics.spectra.resample import rebin
from transforms.records import Spectrum

BLUE, RED = (3850.0, 5650.0), (5950.0, 6850.0)  #: Vacuum Angstrom; between them many spectrographs join their arms.
MAX_LAG = 24  #: Pixels of 69 km/s: 1660 km/s, more than any star of the Galaxy.
MISMATCH = 0.01  #: Of the continuum: what the nearest template is off by, added to the noise in quadrature.
FLOOR_KMS = 4.0  #: Zero points of the templates (their spread among themselves), added to the error.
BEST = 10  #: Templates whose median is the velocity.
MIN_PIXELS = 150  #: Good pixels of an arm.
COARSE_KMS = 250.0  #: Pixels wider than this hold no velocity of a star (Gaia XP).
UNCERTAIN_RATIO = 0.5  #: Height of the second peak over the first.
MIN_GAIN = (
    50.0  #: Chi squared that the best of 854 templates at 49 lags must gain: of 200 spectra of noise none gave 25.
)
MIN_EXPLAINED = 0.5  #: Share of the line signal above the noise that a star's template explains.
CONTINUUM_SIGMA = templates.CONTINUUM_SIGMA

_MEASURED = (
    Column("snr", FLOAT32, "", "stat.snr", "Median signal-to-noise ratio per 69 km/s"),
    Column("wave_min", FLOAT32, "Angstrom", "em.wl;stat.min", "First good wavelength (vacuum)"),
    Column("wave_max", FLOAT32, "Angstrom", "em.wl;stat.max", "Last good wavelength (vacuum)"),
    Column("n_good", INT32, "", "meta.number", "Number of good pixels"),
    Column("masked_fraction", FLOAT32, "", "stat.value", "Share of pixels that are masked"),
    Column("wave_frame", STRING, "", "meta.note", "Frame of the wavelengths as the file states it"),
    Column("wave_from_air", BOOL, "", "meta.note", "Wavelengths were converted from air to vacuum"),
    Column("lsf_sigma", FLOAT32, "km / s", "instr.det.psf", "Sigma of the line-spread function at 5500 Angstrom"),
    Column("v_rad", FLOAT32, "km / s", "spect.dopplerVeloc.opt", "Radial velocity in the frame of wave_frame"),
    Column("v_rad_err", FLOAT32, "km / s", "stat.error;spect.dopplerVeloc.opt", "Error of v_rad, floor included"),
    Column("v_rad_peak_ratio", FLOAT32, "", "stat.value", "Height of the second peak over that of the first"),
    Column("v_rad_template", STRING, "", "meta.id", "Template star that fits best"),
    Column("v_rad_arm", STRING, "", "meta.note", "Arm that v_rad comes from: blue, red or both"),
    Column("v_rad_red_blue", FLOAT32, "km / s", "spect.dopplerVeloc.opt", "Velocity of the red arm minus the blue"),
    Column("v_rad_red_blue_err", FLOAT32, "km / s", "stat.error", "Error of v_rad_red_blue"),
    Column("stellar_chi2", FLOAT32, "", "stat.fit.chi2", "Reduced chi squared of the best template"),
    Column("stellar_explained", FLOAT32, "", "stat.fit.goodness", "Share of the line signal it explains"),
    Column("d4000", FLOAT32, "", "spect.continuum", "4000 Angstrom break, narrow bands of Balogh et al. (1999)"),
    Column("d4000_err", FLOAT32, "", "stat.error;spect.continuum", "Error of d4000"),
    Column("continuum_colour", FLOAT32, "mag", "phot.color", "Flux of 4400-4700 against 6100-6500 Angstrom"),
    Column("continuum_colour_err", FLOAT32, "mag", "stat.error;phot.color", "Error of continuum_colour"),
)


def _index_columns() -> list[Column]:
    found = []
    for name, unit, edges in lines.INDICES:
        what = f"Index {name}, band {edges[2]:g}-{edges[3]:g} Angstrom (air)"
        found.append(Column(f"ew_{name}", FLOAT32, unit, "spect.line.eqWidth", what))
        found.append(Column(f"ew_{name}_err", FLOAT32, unit, "stat.error;spect.line.eqWidth", f"Error of ew_{name}"))
    return found


COLUMNS = unique([*_MEASURED, *_index_columns()])


@dataclass(frozen=True, slots=True)
class ArmVelocity:
    """Velocity from one arm.

    Parameters
    ----------
    value, error : float
        km/s; the error is that of the best template's peak and the spread of the templates, in quadrature.
    ratio : float
        Height of the second peak over that of the first.
    template : str
        Star that fits best.
    chi2 : float
        Reduced chi squared.
    explained : float
        Share of the line signal above the noise that the template explains.
    """

    value: float
    error: float
    ratio: float
    template: str
    chi2: float
    explained: float


def measure_spectrum(record: Spectrum, options: Mapping[str, Any]) -> Spectrum:
    """Measure one spectrum.

    Parameters
    ----------
    record : Spectrum
        As a reader gave it.
    options : mapping
        Not used: nothing here is a matter of taste.

    Returns
    -------
    Spectrum
        The same with ``measured`` (``COLUMNS``) and ``flags`` filled.
    """
    good = ~record.mask
    measured: dict[str, Any] = {
        "n_good": int(good.sum()),
        "masked_fraction": float(record.mask.mean()),
        "wave_frame": record.frame or None,
        "wave_from_air": record.air,
        "lsf_sigma": record.lsf_sigma,
    }
    flags = record.flags
    if not good.any():
        return _with(record, measured, flags | bits("NO_DATA"))
    used = record.wavelength[good]
    measured["wave_min"], measured["wave_max"] = float(used[0]), float(used[-1])
    ivar = record.ivar if record.ivar is not None else _estimated_ivar(record.flux, good)
    measured["snr"] = signal_to_noise(record.wavelength, record.flux, ivar, good, templates.PIXEL_KMS)
    if measured["snr"] is not None and measured["snr"] < 3:
        flags |= bits("LOW_SN")
    flags |= _coverage_flags(record, good)
    if C_KMS * float(np.median(np.diff(np.log(record.wavelength)))) > COARSE_KMS:
        return _with(record, measured, flags | bits("MEASURE_FAILED"))
    velocity, velocity_flags = measure_velocity(record.wavelength, record.flux, ivar, record.mask)
    measured.update(velocity)
    if (v_rad := velocity.get("v_rad")) is not None:
        measured.update(_line_measures(record, ivar, v_rad))
    return _with(record, measured, flags | velocity_flags)


def _with(record: Spectrum, measured: dict[str, Any], flags: int) -> Spectrum:
    kept = {key: value for key, value in measured.items() if value is not None and value == value}
    return replace(record, measured={**record.measured, **kept}, flags=flags)


def _estimated_ivar(flux: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Inverse variance from the scatter; the reader has set NO_ERROR, which says so."""
    sigma = difference_noise(flux, good)
    level = np.abs(np.median(flux[good])) or 1.0
    sigma = np.maximum(
        np.nan_to_num(sigma, nan=level), 1e-3 * level
    )  # a model without noise has S/N 1000, not infinite
    return np.where(good, 1.0 / sigma**2, 0.0)


def _coverage_flags(record: Spectrum, good: np.ndarray) -> int:
    width = np.gradient(record.wavelength)
    inside = (record.wavelength > 3800) & (record.wavelength < 7300)
    flags = bits("PARTIAL_COVERAGE") if width[good & inside].sum() < 0.7 * 3500.0 else 0
    return flags | (bits("TELLURIC") if (good & telluric_mask(record.wavelength)).any() else 0)


def measure_velocity(
    wavelength: np.ndarray, flux: np.ndarray, ivar: np.ndarray, mask: np.ndarray
) -> tuple[dict[str, Any], int]:
    """Measure the radial velocity of a star from both arms.

    Parameters
    ----------
    wavelength : ndarray of float64, shape (n,)
        Vacuum Angstrom.
    flux, ivar : ndarray, shape (n,)
        Flux and inverse variance.
    mask : ndarray of bool, shape (n,)
        True = bad.

    Returns
    -------
    measured : dict
        Columns ``v_rad*`` and ``stellar_*``; without ``v_rad`` where none can be had.
    flags : int
        Bits of what went wrong.
    """
    bad = mask | telluric_mask(wavelength)
    grid_flux, grid_ivar, grid_bad = rebin(wavelength, flux, ivar, bad, templates.grid())
    weight = np.where(grid_bad, 0.0, 0.0 if grid_ivar is None else grid_ivar)
    level, defined = running_continuum(grid_flux, ~grid_bad, CONTINUUM_SIGMA)
    signal = np.clip(np.where(defined, grid_flux / level - 1.0, 0.0), -1.0, 1.0)
    noise = np.divide(1.0, weight * level**2, out=np.full(level.size, np.inf), where=defined & (weight > 0))
    weight = 1.0 / (noise + MISMATCH**2)
    blue, red = arm_velocity(signal, weight, BLUE), arm_velocity(signal, weight, RED)
    best = blue or red
    if best is None:
        return {}, bits("MEASURE_FAILED")
    measured: dict[str, Any] = {"stellar_chi2": best.chi2, "stellar_explained": best.explained}
    if best.explained < MIN_EXPLAINED:
        return measured, bits("NOT_STELLAR", "MEASURE_FAILED")
    flags = bits("VELOCITY_UNCERTAIN") if best.ratio > UNCERTAIN_RATIO else 0
    value, error, arm = best.value, best.error, "blue" if blue else "red"
    if blue and red:
        value, error, arm, apart = _join(blue, red)
        measured["v_rad_red_blue"] = red.value - blue.value
        measured["v_rad_red_blue_err"] = float(np.sqrt(blue.error**2 + red.error**2 + 2 * FLOOR_KMS**2))
        flags |= bits("ARMS_DISAGREE") if apart else 0
    measured |= {
        "v_rad": value,
        "v_rad_err": float(np.hypot(error, FLOOR_KMS)),
        "v_rad_peak_ratio": best.ratio,
        "v_rad_template": best.template,
        "v_rad_arm": arm,
    }
    return measured, flags


def _join(blue: ArmVelocity, red: ArmVelocity) -> tuple[float, float, str, bool]:
    """Weighted mean where the arms agree within 2 sigma, else the blue one, which has more and narrower lines."""
    variance = (blue.error**2 + FLOOR_KMS**2, red.error**2 + FLOOR_KMS**2)
    if abs(red.value - blue.value) > 2 * np.sqrt(sum(variance)):
        return blue.value, blue.error, "blue", True
    weights = 1 / blue.error**2, 1 / red.error**2
    value = (blue.value * weights[0] + red.value * weights[1]) / sum(weights)
    return value, float(1 / np.sqrt(sum(weights))), "both", False


def arm_velocity(signal: np.ndarray, weight: np.ndarray, window: tuple[float, float]) -> ArmVelocity | None:
    """Measure the velocity in one window of the templates' grid.

    Parameters
    ----------
    signal : ndarray, shape (N_PIXEL,)
        Spectrum over continuum, minus one, on ``spectral_templates.grid()``.
    weight : ndarray, shape (N_PIXEL,)
        Its inverse variance, zero where bad.
    window : tuple of float
        First and last wavelength, vacuum Angstrom.

    Returns
    -------
    ArmVelocity or None
        None where too few pixels are good or no peak stands out.
    """
    part, bank = templates.bank(*window, MAX_LAG)
    d, w = signal[part], weight[part]
    n = int((w > 0).sum())
    if n < MIN_PIXELS:
        return None
    which, gain, _ = chi2_gain(d, w, bank, BEST)
    found = [(int(k), peak) for k, curve in zip(which, gain, strict=True) if not (peak := find_peak(curve)).edge]
    if not found or found[0][1].height < MIN_GAIN:
        return None
    library = templates.load()
    values = np.array([_velocity(peak.lag) + float(library.zero_point[k]) for k, peak in found])
    first, peak = found[0]
    total = float(w @ d**2)
    chi2 = (total - peak.height) / n
    formal = peak.error * templates.PIXEL_KMS * np.sqrt(max(chi2, 1.0))
    spread = 1.4826 * np.median(np.abs(values - np.median(values)))  # what the choice of the template does
    return ArmVelocity(
        value=float(np.median(values)),
        error=float(np.hypot(formal, spread)),
        ratio=peak.ratio,
        template=library.names[first],
        chi2=chi2,
        explained=float(min(peak.height / max(total - n, peak.height), 1.0)),
    )


def _velocity(lag: float) -> float:
    return C_KMS * (10.0 ** (templates.STEP * lag) - 1.0)


def _line_measures(record: Spectrum, ivar: np.ndarray, v_rad: float) -> dict[str, Any]:
    """Indices, break and colour in the rest frame."""
    grid = templates.grid()
    flux, weight, _ = rebin(record.wavelength / (1.0 + v_rad / C_KMS), record.flux, ivar, record.mask, grid)
    if weight is None:
        return {}
    measured: dict[str, Any] = {}
    for name, (value, error) in lines.all_indices(flux, weight, grid).items():
        measured[f"ew_{name}"], measured[f"ew_{name}_err"] = value, error
    if (found := lines.band_ratio(flux, weight, grid, lines.D4000_BANDS, power=2)) is not None:
        measured["d4000"], measured["d4000_err"] = found
    if (found := lines.band_ratio(flux, weight, grid, lines.COLOUR_BANDS)) is not None:
        measured["continuum_colour"] = float(2.5 * np.log10(found[0]))
        measured["continuum_colour_err"] = float(2.5 / np.log(10) * found[1] / found[0])
    return measured
