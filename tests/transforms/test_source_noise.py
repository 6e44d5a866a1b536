"""The photons of a source enter its flux error once, whether or not the image's own noise plane holds them already."""

from __future__ import annotations

import numpy as np
import pytest

from transforms.denoise import find_sky
from transforms.detect import measure_image
from transforms.flags import decode
from transforms.numerics.photometry import holds_source_noise
from transforms.records import Image

GAIN, SKY, READ_NOISE, SIDE, GRID = 2.0, 50.0, 4.0, 320, 40


@pytest.fixture(autouse=True)
def without_morphology(monkeypatch):
    monkeypatch.setattr("transforms.detect.measure_morphology", lambda cutout: {})


def field(rng, flux):
    """Equal stars on a grid: noisy image, expected light, variance of the sky."""
    y, x = np.mgrid[:SIDE, :SIDE]
    light = np.zeros((SIDE, SIDE))
    for row in range(GRID // 2, SIDE, GRID):
        for column in range(GRID // 2, SIDE, GRID):
            light += flux / (2 * np.pi * 4) * np.exp(-((x - column) ** 2 + (y - row) ** 2) / 8)
    noisy = rng.poisson((light + SKY) * GAIN) + rng.normal(0, READ_NOISE, light.shape)
    return (noisy / GAIN).astype(np.float32), light, SKY / GAIN + (READ_NOISE / GAIN) ** 2


def image(flux, variance, **fields):
    mask = np.zeros(flux.shape, bool)
    ivar = None if variance is None else (1 / np.broadcast_to(variance, flux.shape)).astype(np.float32)
    fields = {"gain": GAIN, "psf_fwhm": 4.7, **fields}
    return Image(source="f", flux=flux, ivar=ivar, mask=mask, core=(0, SIDE, 0, SIDE), **fields)


@pytest.mark.parametrize("stars", [1000.0, 20000.0])
@pytest.mark.parametrize(
    ("plane", "whole"), [("sky", False), ("whole", True), ("whole", False), ("none", False), ("sky", True)]
)
def test_stated_errors_are_the_true_scatter(stars, plane, whole):
    values, errors = [], []
    for seed in range(6):
        flux, light, sky = field(np.random.default_rng(seed), stars)
        variance = {"sky": sky, "whole": sky + light / GAIN, "none": None}[plane]
        for cutout in measure_image(image(flux, variance, whole_noise=whole), {"cosmic_rays": False}):
            if abs(cutout.measured["flux_aper_5"] - stars) < 0.5 * stars:  # not a peak of noise
                values.append(cutout.measured["flux_aper_5"])
                errors.append(cutout.measured["flux_aper_5_err"])
    assert len(values) == 6 * 64
    assert np.median(errors) == pytest.approx(np.std(values), rel=0.1)


def test_pixels_tell_whether_a_plane_holds_the_photons_of_sources():
    flux, light, sky = field(np.random.default_rng(0), 20000.0)
    usable, level = np.ones(flux.shape, bool), flux - SKY
    assert holds_source_noise(level, np.full(flux.shape, sky), usable, GAIN) is False
    assert holds_source_noise(level, sky + light / GAIN, usable, GAIN) is True
    assert holds_source_noise(level - level, sky + light / GAIN, usable, GAIN) is None
    assert holds_source_noise(level, sky + light / GAIN, ~usable, GAIN) is None


def test_a_star_is_not_of_low_weight_for_its_own_photons():
    flux, light, sky = field(np.random.default_rng(0), 20000.0)
    assert (sky + light / GAIN).max() > 10 * sky
    found = list(measure_image(image(flux, sky + light / GAIN, whole_noise=True), {"cosmic_rays": False}))
    assert found
    assert not any("LOW_WEIGHT" in decode(cutout.flags) for cutout in found)


def test_real_weights_of_two_pipelines_differ(data):
    """The oow planes of DECam hold the photons of the sources, those of Mosaic-3 do not."""
    from tests.transforms.readers.test_image_reader import load

    folder = data / "images_fits" / "legacypipe"
    for pattern, expected in (("testcase6/**/c4d_*_ooi_*.fits", True), ("mzlsbass/**/k4m_*_oki_*.fits", False)):
        for path in sorted(folder.glob(pattern)):
            (record,) = load(path)
            usable = ~record.mask & (record.ivar > 0)
            variance = 1 / np.where(usable, record.ivar, 1)
            level = record.flux - find_sky(record).level
            assert holds_source_noise(level, variance, usable, record.gain) is expected


def test_tiny_numbers_are_not_called_noiseless():
    flux, _, _ = field(np.random.default_rng(0), 400.0)
    with pytest.raises(ValueError, match=r"numbers too small for single precision: its sky has rms .*e-20"):
        list(measure_image(image(flux * np.float32(1e-21), None), {}))
