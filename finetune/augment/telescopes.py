"""Numbers of telescopes and surveys, each with where it was published, and what they make of a record.

A preset never makes data better: what is as blurred, as noisy, as coarse or as sparse already stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from finetune.augment import light_curves, spectra, stamps
from transforms.bands import wavelength
from transforms.numerics.spectra.wavelengths import log_grid
from transforms.records import Cutout, LightCurve, Spectrum

SEEING_SCATTER = 0.1  #: Of the logarithm of the seeing from image to image; ours, not a survey's.
SAME_BAND = 80.0  #: Nanometres; a filter of a stamp that has no filter of the survey so near is dropped.


@dataclass(frozen=True, slots=True)
class ImageSurvey:
    """A survey of images.

    Parameters
    ----------
    name : str
        As it is asked for.
    pixel_scale : float
        arcsec per pixel.
    seeing : float
        Median full width at half maximum of a point, arcsec.
    depth : mapping of str to float
        AB magnitude of a point seen at five sigma, by filter.
    source : str
        Where the numbers come from.
    """

    name: str
    pixel_scale: float
    seeing: float
    depth: Mapping[str, float]
    source: str

    def observe(self, record: Cutout, rng: np.random.Generator) -> Cutout:
        """Show a stamp as this survey would.

        Parameters
        ----------
        record : Cutout
            With a pixel scale: without one, nothing is done. Depth needs a zero point and a linear flux.
        rng : Generator
            Draws seeing and noise.

        Returns
        -------
        Cutout
            The same where it is worse already, or has no filter of the survey.
        """
        if record.pixel_scale is None:
            return record
        match = {band: self._filter(band) for band in record.bands}
        if all(record.bands):
            if not any(match.values()):
                return record
            record = stamps.keep_bands(record, [match[band] is not None for band in record.bands])
        fwhm = self.seeing * float(np.exp(rng.normal(0, SEEING_SCATTER)))
        record = stamps.on_larger_pixels(record, self.pixel_scale / (record.pixel_scale or 1.0), rng)
        scale = record.pixel_scale or 1.0
        record = stamps.seen_through(record, fwhm / scale, rng)
        if record.zero_point is None or not all(match.get(band) for band in record.bands):
            return record
        limits = [
            stamps.depth_noise(self.depth[match[band] or ""], record.zero_point, fwhm / scale) for band in record.bands
        ]
        return stamps.to_noise(record, [s for s, _ in limits], rng, [p for _, p in limits])

    def _filter(self, band: str) -> str | None:
        wave = wavelength(band)
        if wave is None:
            return None
        near = sorted((abs((wavelength(name) or 0.0) - wave), name) for name in self.depth)
        return near[0][1] if near[0][0] <= SAME_BAND else None


@dataclass(frozen=True, slots=True)
class SpectrumSurvey:
    """A survey of spectra.

    Parameters
    ----------
    name : str
        As it is asked for.
    wavelength : tuple of float
        First and last, Angstrom in vacuum.
    resolution : tuple of (float, float)
        Pieces of the resolving power: wavelength at which it begins, and power; linear between neighbours.
    step : float
        Pixels: of log10 wavelength where below 0.01, else Angstrom.
    signal_to_noise : tuple of float
        Range of the median ratio per 69 km/s that a copy draws from, even in its logarithm; a choice of ours, around
        what the survey asks of the spectra that it publishes parameters for.
    source : str
        Where the numbers come from.
    """

    name: str
    wavelength: tuple[float, float]
    resolution: tuple[tuple[float, float], ...]
    step: float
    signal_to_noise: tuple[float, float]
    source: str

    def power(self, wavelength: np.ndarray) -> np.ndarray:
        """Resolving power.

        Parameters
        ----------
        wavelength : ndarray
            Angstrom.

        Returns
        -------
        ndarray of float64
            Wavelength over the full width at half maximum of a line.
        """
        nodes = np.array(self.resolution)
        return np.asarray(np.interp(wavelength, nodes[:, 0], nodes[:, 1]))

    def grid(self) -> np.ndarray:
        """Pixels.

        Returns
        -------
        ndarray of float64
            Centres, Angstrom.
        """
        first, last = self.wavelength
        if self.step < 0.01:
            return log_grid(first, self.step, int(np.log10(last / first) / self.step) + 1)
        return np.arange(first, last, self.step)

    def observe(self, record: Spectrum, rng: np.random.Generator) -> Spectrum:
        """Show a spectrum as this survey would.

        Parameters
        ----------
        record : Spectrum
            The spectrum.
        rng : Generator
            Draws noise.

        Returns
        -------
        Spectrum
            The same where it is worse already.
        """
        out = spectra.noise_restored(spectra.to_resolution(record, self.power(record.wavelength)), record, rng)
        out = spectra.to_grid(out, self.grid())
        first, last = self.wavelength
        out = spectra.cut(out, (out.wavelength >= first) & (out.wavelength <= last))
        low, high = np.log(self.signal_to_noise)
        return spectra.to_signal_to_noise(out, float(np.exp(rng.uniform(low, high))), rng)


@dataclass(frozen=True, slots=True)
class LightCurveSurvey:
    """A survey of light curves.

    Parameters
    ----------
    name : str
        As it is asked for.
    bands : tuple of str
        Filters.
    interval : float
        Days between visits in one filter.
    clear : float
        Share of the visits that give an observation.
    length : float
        Days that the survey looks at one object.
    dark : float
        Share of the year in which an object cannot be seen.
    floor : float
        Relative error of the brightest objects in one observation.
    depth : mapping of str to float
        AB magnitude of a point seen at five sigma in one observation, by filter; empty where only the floor counts.
    source : str
        Where the numbers come from.
    """

    name: str
    bands: tuple[str, ...]
    interval: float
    clear: float
    length: float
    dark: float
    floor: float
    depth: Mapping[str, float]
    source: str

    def observe(self, record: LightCurve, rng: np.random.Generator) -> LightCurve:
        """Show a light curve as this survey would.

        Parameters
        ----------
        record : LightCurve
            The light curve.
        rng : Generator
            Draws stretch, visits and noise.

        Returns
        -------
        LightCurve
            The same where it is worse already.
        """
        out = light_curves.in_bands(record, self.bands)
        out = light_curves.windowed(out, self.length, float(rng.random()))
        if self.dark:
            out = light_curves.with_seasons(out, self.dark, float(rng.random()))
        out = light_curves.scheduled(out, self.interval, self.clear, rng)
        return light_curves.to_error(out, light_curves.survey_error(out, self.depth, self.floor), rng)


# Each source names what was read for the numbers; docs/augmentation.md tells which of them were not found.
IMAGES = (
    ImageSurvey(
        "sdss", 0.396, 1.3, {"u": 22.15, "g": 23.13, "r": 22.70, "i": 22.20, "z": 20.71},
        "SDSS DR16, scope (sdss4.org/dr16/scope): pixels, median width in r; depth from memory, between the limits of "
        "the survey's table of constants and what single epochs of Stripe 82 reach",
    ),
    ImageSurvey(
        "legacysurvey", 0.262, 1.18, {"g": 24.7, "r": 23.9, "z": 23.0},
        "Legacy Surveys DR9, description (legacysurvey.org): pixels, depth of points in two exposures at 1.5 arcsec; "
        "seeing of DECaLS in r after Dey et al. (2019), AJ 157, 168, from memory",
    ),
    ImageSurvey(
        "hsc", 0.168, 0.6, {"g": 26.6, "r": 26.2, "i": 26.2, "z": 25.3, "y": 24.5},
        "HSC-SSP, survey page and abstract of Aihara et al. (2019), PASJ 71, 114: pixels, median seeing in i; depth of "
        "points in the Wide layer, PDR2 page as public code quotes it",
    ),
    ImageSurvey(
        "rubin", 0.2, 0.83, {"u": 23.70, "g": 24.97, "r": 24.52, "i": 24.13, "z": 23.56, "y": 22.55},
        "SMTN-002, doi:10.71929/rubin/3408482: pixels, width in r, depth of one visit of 30 s in dark sky at zenith "
        "with the throughput as measured",
    ),
    ImageSurvey(
        "euclid", 0.1, 0.16, {"r": 26.2, "i": 26.2},
        "VIS, which spans r to z and stands for r and i here; width: abstract of the Q1 paper on VIS, "
        "arXiv:2503.15303; pixels: GalSim-Euclid-Like; depth: Scaramella et al. (2022), A&A 662, A112, table 7 as "
        "photerr quotes it",
    ),
)  # fmt: skip
SPECTRA = (
    SpectrumSurvey(
        "boss", (3600.0, 10400.0), ((3700.0, 1560.0), (6000.0, 2270.0), (6001.0, 1850.0), (9000.0, 2650.0)), 1e-4,
        (5.0, 60.0),
        "SDSS-III, page of the BOSS spectrograph: range, resolving power of both arms (design; the median of nine BOSS "
        "and eBOSS spectra is within 12 %); their pixels",
    ),
    SpectrumSurvey(
        "desi", (3600.0, 9800.0), ((3600.0, 2000.0), (5550.0, 3200.0), (6560.0, 4100.0), (9800.0, 5000.0)), 0.8,
        (5.0, 100.0),
        "DESI, page of its spectrographs (desi.lbl.gov): range, resolving power of three arms (that of a coadd of the "
        "EDR is up to 15 % higher); its pixels",
    ),
    SpectrumSurvey(
        "lamost", (3700.0, 9000.0), ((3700.0, 1800.0), (9000.0, 1800.0)), 1e-4, (6.0, 100.0),
        "LAMOST DR8, description of the low-resolution data (lamost.org): 3690 to 9100, power 1800 at 5500, taken for "
        "all wavelengths; range and pixels of 91 spectra of DR1",
    ),
)  # fmt: skip
LIGHT_CURVES = (
    LightCurveSurvey(
        "ztf", ("g", "r", "i"), 3.0, 0.7, 2000.0, 0.35, 0.015, {"g": 20.8, "r": 20.6, "i": 19.9},
        "Abstract of Masci et al. (2019), PASP 131, 018003: depth of 30 s in g and r, floor between 8 and 25 mmag; "
        "Bellm et al. (2019), PASP 131, 018002 and 068003, as others quote them: depth in i, visits every three "
        "nights; clear nights, season and length are ours",
    ),
    LightCurveSurvey(
        "kepler", ("kepler",), 0.0204, 0.95, 1460.0, 0.0, 1.1e-4, {},
        "Headers and points of 16 light curves of five stars: 29.4 minutes, share of usable points; Gilliland et al. "
        "(2015), AJ 150, 133: four years; abstract of Gilliland et al. (2011), ApJS 197, 6: half more noise than the "
        "20 ppm in 6.5 hours at 12 mag aimed at, which is 1.1e-4 in one observation",
    ),
    LightCurveSurvey(
        "tess", ("tess",), 0.0208, 0.90, 27.4, 0.0, 3.3e-4, {},
        "tess.mit.edu: images of 30 minutes, one sector of 27.4 days; HEASARC, TESS observing technical details: "
        "230 ppm in an hour at 10 mag; share of usable points of a light curve of sector 1",
    ),
    LightCurveSurvey(
        "rubin", ("u", "g", "r", "i", "z", "y"), 12.8, 0.8, 3652.5, 0.4, 0.005,
        {"u": 23.70, "g": 24.97, "r": 24.52, "i": 24.13, "z": 23.56, "y": 22.55},
        "Ivezic et al. (2019), ApJ 873, 111: about 825 visits in ten years, dealt evenly to six filters here, floor of "
        "5 mmag; SMTN-002: depth of a visit; clear nights and season are ours",
    ),
)  # fmt: skip
