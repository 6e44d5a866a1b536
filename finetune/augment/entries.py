"""Names of all augmentations and presets, by the kind of record that they act on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from finetune.augment import light_curves, spectra, stamps
from finetune.augment.telescopes import IMAGES, LIGHT_CURVES, SPECTRA
from transforms.records import Cutout, LightCurve, Spectrum

Act = Callable[[Any, float, np.random.Generator], Any]
LOCAL_REDSHIFT = 0.05  #: Of a stamp that does not say its own.


@dataclass(frozen=True, slots=True)
class Entry:
    """One augmentation.

    Parameters
    ----------
    name : str
        As it is asked for.
    record : type
        What it acts on.
    strength : float
        Largest size of what is drawn, unless the user gives another; 0 for a preset, which has none.
    unit : str
        Of the strength.
    meaning : str
        What happens.
    act : callable
        ``act(record, strength, rng) -> record``, the very record where nothing is done.
    preset : bool
        Whether it stands for a telescope.
    """

    name: str
    record: type
    strength: float
    unit: str
    meaning: str
    act: Act
    preset: bool = False


def _stamp_bands(record: Cutout, p: float, rng: np.random.Generator) -> Cutout:
    return stamps.keep_bands(record, list(rng.random(len(record.flux)) >= p))


def _stamp_colour(record: Cutout, size: float, rng: np.random.Generator) -> Cutout:
    return stamps.scaled(record, 10 ** (0.4 * rng.normal(0, size, len(record.flux))))


def _stamp_redshift(record: Cutout, step: float, rng: np.random.Generator) -> Cutout:
    z = float(record.measured.get("z") or LOCAL_REDSHIFT)
    return stamps.redshifted(record, z, z + float(rng.uniform(0, step)), rng)


def _stamp_noise(record: Cutout, factor: float, rng: np.random.Generator) -> Cutout:
    by = float(np.exp(rng.uniform(0, np.log(max(factor, 1.0)))))
    return stamps.to_noise(record, by * stamps.sky_sigma(record), rng)


def _stamp_blur(record: Cutout, fwhm: float, rng: np.random.Generator) -> Cutout:
    own = record.psf_fwhm or stamps.NYQUIST
    return stamps.seen_through(record, float(np.hypot(own, rng.uniform(0, fwhm))), rng)


def _spectrum_noise(record: Spectrum, factor: float, rng: np.random.Generator) -> Spectrum:
    return spectra.noisier(record, float(np.exp(rng.uniform(0, np.log(max(factor, 1.0))))), rng)


def _spectrum_redshift(record: Spectrum, step: float, rng: np.random.Generator) -> Spectrum:
    z = max(record.z_header or 0.0, 0.0)
    return spectra.redshifted(record, z, z + float(rng.uniform(0, step)))


def _curve_bands(record: LightCurve, p: float, rng: np.random.Generator) -> LightCurve:
    names, counts = np.unique(record.band.astype(str), return_counts=True)
    lost = rng.random(len(names)) < p
    if lost.all() and len(names):
        lost[int(np.argmax(counts))] = False
    return light_curves.keep_bands(record, list(names[~lost]))


def _curve_noise(record: LightCurve, factor: float, rng: np.random.Generator) -> LightCurve:
    return light_curves.noisier(record, float(np.exp(rng.uniform(0, np.log(max(factor, 1.0))))), rng)


#: In the order in which they happen: at the source, on the way, in the telescope, in the reduction.
SINGLE: tuple[Entry, ...] = (
    Entry("redshift", Cutout, 0.1, "", "A galaxy moves up to this much farther in redshift: smaller, dimmed by (1+z)^4",
          _stamp_redshift),
    Entry("redshift", Spectrum, 0.3, "", "A galaxy moves up to this much farther in redshift", _spectrum_redshift),
    Entry("velocity", Spectrum, 300.0, "km/s", "Another velocity along the line of sight, up to this either way",
          lambda r, s, rng: spectra.shifted(r, float(rng.uniform(-s, s)))),
    Entry("dust", Cutout, 0.2, "mag", "Fitzpatrick (1999) dust before it, up to this E(B-V)",
          lambda r, s, rng: stamps.reddened(r, float(rng.uniform(0, s)))),
    Entry("dust", Spectrum, 0.2, "mag", "Fitzpatrick (1999) dust before it, up to this E(B-V)",
          lambda r, s, rng: spectra.reddened(r, float(rng.uniform(0, s)))),
    Entry("fainter", Cutout, 1.0, "mag", "Up to this much fainter under the same noise",
          lambda r, s, rng: stamps.fainter(r, float(rng.uniform(0, s)), rng)),
    Entry("fainter", LightCurve, 1.0, "mag", "Up to this much fainter under the same noise",
          lambda r, s, rng: light_curves.fainter(r, float(rng.uniform(0, s)), rng)),
    Entry("seeing", Cutout, 3.0, "pixels", "A Gaussian of up to this width at half maximum", _stamp_blur),
    Entry("pixels", Cutout, 2.0, "", "Pixels up to this many times as large",
          lambda r, s, rng: stamps.on_larger_pixels(r, float(rng.uniform(1, max(s, 1.0))), rng)),
    Entry("lsf", Spectrum, 100.0, "km/s", "Lines broadened by a Gaussian of up to this sigma",
          lambda r, s, rng: spectra.noise_restored(spectra.broadened(r, float(rng.uniform(0, s))), r, rng)),
    Entry("bands", Cutout, 0.3, "", "Each band is lost with this probability, never all", _stamp_bands),
    Entry("bands", LightCurve, 0.3, "", "Each band is lost with this probability, never all", _curve_bands),
    Entry("colour", Cutout, 0.05, "mag", "The response of each band is off by this (standard deviation)",
          _stamp_colour),
    Entry("gaps", LightCurve, 0.5, "", "Up to this share of every year cannot be seen",
          lambda r, s, rng: light_curves.with_seasons(r, float(rng.uniform(0, s)), float(rng.random()))),
    Entry("cadence", LightCurve, 0.7, "", "Up to this share of the visits is lost",
          lambda r, s, rng: light_curves.thinned(r, 1 - float(rng.uniform(0, min(s, 1.0))), rng)),
    Entry("sky", Cutout, 0.5, "sigma", "A constant and a slope of this many sigma of a pixel are left of the sky",
          lambda r, s, rng: stamps.sky_residual(r, s, rng)),
    Entry("sky", Spectrum, 3.0, "sigma", "Residuals of this many sigma of a pixel are left of the lines of the sky",
          lambda r, s, rng: spectra.sky_residual(r, s, rng)),
    Entry("noise", Cutout, 3.0, "", "Noise up to this many times what it is", _stamp_noise),
    Entry("noise", Spectrum, 3.0, "", "Signal to noise up to this many times lower", _spectrum_noise),
    Entry("noise", LightCurve, 3.0, "", "Noise up to this many times what it is", _curve_noise),
)  # fmt: skip


def _observe(survey: Any) -> Act:
    return lambda record, strength, rng: survey.observe(record, rng)


PRESETS: tuple[Entry, ...] = tuple(
    Entry(survey.name, record, 0.0, "", survey.source, _observe(survey), preset=True)
    for record, surveys in ((Cutout, IMAGES), (Spectrum, SPECTRA), (LightCurve, LIGHT_CURVES))
    for survey in surveys
)


def entries(record: type) -> dict[str, Entry]:
    """What can be asked for on a kind of record.

    Parameters
    ----------
    record : type
        Cutout, Spectrum or LightCurve.

    Returns
    -------
    dict of str to Entry
        Presets, then single augmentations in the order in which they happen.
    """
    return {entry.name: entry for entry in (*PRESETS, *SINGLE) if entry.record is record}
