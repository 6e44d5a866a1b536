"""Stamps as other telescopes see them: light, width, noise and redshift as asked, and never better."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from astropy.cosmology import Planck18
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.augment import stamps
from finetune.augment.telescopes import IMAGES
from transforms.records import Cutout

ZERO_POINT = 31.4
FWHM_PER_SIGMA = 2.354820045


def point(
    fwhm: float = 3.0, flux: float = 1e4, side: int = 81, noise: float = 0.0, bands: tuple[str, ...] = ("r",)
) -> Cutout:
    y, x = np.mgrid[:side, :side] - side // 2
    sigma = fwhm / FWHM_PER_SIGMA
    plane = np.exp(-0.5 * (x**2 + y**2) / sigma**2)
    planes = np.stack([flux * plane / plane.sum()] * len(bands)).astype(np.float32)
    ivar = np.full(planes.shape, 1 / max(noise, 1e-3) ** 2, np.float32)
    if noise:
        planes += np.random.default_rng(0).normal(0, noise, planes.shape).astype(np.float32)
    return Cutout(
        source="p.fits", object_id="p", flux=planes, ivar=ivar, mask=np.zeros(planes.shape, bool), bands=bands,
        pixel_scale=0.2, unit="nJy", zero_point=ZERO_POINT, psf_fwhm=fwhm,
    )  # fmt: skip


def width(record: Cutout) -> float:
    """Full width at half maximum of a Gaussian, by its second moment."""
    plane = record.flux[0].astype(float)
    y, x = np.indices(plane.shape) - (plane.shape[0] - 1) / 2
    return FWHM_PER_SIGMA * float(np.sqrt((plane * (x**2 + y**2)).sum() / plane.sum() / 2))


@settings(max_examples=20, deadline=None)
@given(st.floats(2.0, 5.0), st.floats(1.01, 2.5))
def test_the_width_after_seeing_is_the_one_asked_for(fwhm: float, factor: float) -> None:
    record = point(fwhm)
    worse = stamps.to_seeing(record, fwhm * factor)
    assert width(worse) == pytest.approx(fwhm * factor, rel=0.02) == worse.psf_fwhm
    assert worse.flux.sum() == pytest.approx(record.flux.sum(), rel=1e-4)
    assert stamps.to_seeing(record, fwhm * 0.9) is record


@settings(max_examples=20, deadline=None)
@given(st.floats(1.1, 3.5))
def test_larger_pixels_keep_light_and_say_their_width(factor: float) -> None:
    record = point(6.0)
    coarse = stamps.to_larger_pixels(record, factor)
    assert coarse.flux.sum() == pytest.approx(1e4, rel=1e-3)
    assert coarse.pixel_scale == pytest.approx(0.2 * factor)
    assert coarse.psf_fwhm == pytest.approx(width(coarse), rel=0.02)
    assert stamps.to_larger_pixels(record, 0.7) is record
    assert stamps.to_larger_pixels(record, 20.0) is record  # four pixels would be left


@settings(max_examples=15, deadline=None)
@given(st.floats(1.2, 8.0), st.booleans())
def test_noise_is_as_asked_and_stands_in_ivar(factor: float, known: bool) -> None:
    record = point(flux=0.0, noise=2.0)
    record = record if known else replace(record, ivar=None)
    noisy = stamps.to_noise(record, [2.0 * factor], np.random.default_rng(1))
    assert noisy.flux.std() == pytest.approx(2.0 * factor, rel=0.06)
    if known:
        assert noisy.ivar is not None
        assert noisy.ivar == pytest.approx(1 / (2.0 * factor) ** 2, rel=1e-3)
    else:
        assert noisy.ivar is None
    assert stamps.to_noise(record, [1.5], np.random.default_rng(1)) is record


def test_photons_of_the_source_make_noise_where_it_is() -> None:
    record = point(8.0, 1e6)
    draws = np.stack(
        [stamps.to_noise(record, [1.0], np.random.default_rng(i), [0.5]).flux[0, 40, 40] for i in range(400)]
    )
    assert draws.var() == pytest.approx(1 + 0.5 * record.flux[0, 40, 40], rel=0.2)


def test_a_point_at_the_depth_of_a_survey_has_five_sigma() -> None:
    sigma, photons = stamps.depth_noise(24.0, ZERO_POINT, 4.0)
    light = 10 ** (-0.4 * (24.0 - ZERO_POINT))
    plane = point(4.0, light).flux[0].astype(float)
    profile = plane / plane.sum()
    noise = np.sqrt(sigma**2 / (profile**2).sum() + photons * light)  # of a weighted sum over the profile
    assert light / noise == pytest.approx(5, rel=0.02)


@pytest.mark.parametrize("survey", IMAGES, ids=lambda s: s.name)
def test_a_preset_makes_what_the_survey_has(survey: object) -> None:
    record = point(2.5, 1e5, 161, bands=("g", "r", "z"))
    record = replace(record, pixel_scale=0.05)
    seen = survey.observe(record, np.random.default_rng(2))  # type: ignore[attr-defined]
    assert seen.pixel_scale == pytest.approx(survey.pixel_scale, rel=1e-3)  # type: ignore[attr-defined]
    assert seen.psf_fwhm * seen.pixel_scale == pytest.approx(survey.seeing, rel=0.4)  # type: ignore[attr-defined]
    assert len(seen.flux) == len(seen.bands) == len(seen.mask) == len(seen.ivar)
    assert (seen.ivar < record.ivar[0, 0, 0]).all()


def test_a_preset_never_makes_better() -> None:
    bad = replace(point(20.0, noise=1e4), pixel_scale=1.0)
    for survey in IMAGES:
        assert survey.observe(bad, np.random.default_rng(0)) is bad
    assert IMAGES[0].observe(replace(point(), pixel_scale=None), np.random.default_rng(0)).flux.shape[1] == 81
    infrared = replace(point(), bands=("K",))
    assert IMAGES[0].observe(infrared, np.random.default_rng(0)) is infrared


def test_a_galaxy_at_a_higher_redshift_is_smaller_and_dimmer() -> None:
    record = point(24.0, 1e6, 161)
    record = replace(record, psf_fwhm=2.0, ivar=np.full(record.flux.shape, 1e6, np.float32))
    far = stamps.redshifted(record, 0.05, 0.1, np.random.default_rng(0))
    near, there = Planck18.luminosity_distance([0.05, 0.1]).value
    assert far.flux.sum() / record.flux.sum() == pytest.approx((near / there) ** 2, rel=0.02)
    size = Planck18.angular_diameter_distance(0.05) / Planck18.angular_diameter_distance(0.1)
    assert np.sqrt(width(far) ** 2 - 4) / np.sqrt(24.0**2 - 4) == pytest.approx(float(size), rel=0.03)
    dimming = far.flux.max() / record.flux.max()
    assert dimming == pytest.approx((1.05 / 1.1) ** 4, rel=0.03)
    assert far.pixel_scale == record.pixel_scale
    assert far.psf_fwhm == pytest.approx(2.0, rel=0.01)
    assert np.median(far.ivar) == pytest.approx(1e6, rel=0.02)  # the sky is as noisy as before
    assert stamps.redshifted(record, 0.1, 0.05, np.random.default_rng(0)) is record


def test_dust_dims_blue_more_than_red_and_keeps_the_ratio_to_the_noise() -> None:
    record = point(noise=1.0, bands=("g", "r", "z"))
    red = stamps.reddened(record, 0.3)
    dimming = -2.5 * np.log10((red.flux / record.flux)[:, 40, 40])
    assert dimming[0] > dimming[1] > dimming[2] > 0
    assert red.flux * np.sqrt(red.ivar) == pytest.approx(record.flux * np.sqrt(record.ivar), rel=1e-4)
    assert stamps.reddened(replace(record, bands=("", "", "")), 0.3).flux is record.flux


def test_fainter_keeps_the_noise() -> None:
    record = point(noise=1.0)
    dim = stamps.fainter(record, 1.0, np.random.default_rng(1))
    assert dim.flux[0, :20].std() == pytest.approx(1.0, rel=0.05)
    assert dim.ivar == pytest.approx(record.ivar, rel=1e-3)
    assert dim.flux[0, 35:46, 35:46].sum() == pytest.approx(0.398 * record.flux[0, 35:46, 35:46].sum(), rel=0.05)


def test_display_images_take_no_noise_but_seeing() -> None:
    record = replace(point(), unit="display", zero_point=None, ivar=None, pixel_scale=None)
    rng = np.random.default_rng(0)
    assert stamps.to_noise(record, [9.0], rng) is record
    assert stamps.fainter(record, 1.0, rng) is record
    assert stamps.reddened(record, 1.0) is record
    assert stamps.redshifted(record, 0.05, 0.2, rng) is record
    assert stamps.sky_residual(record, 1.0, rng) is record
    assert stamps.to_seeing(record, 6.0).flux.max() < record.flux.max()
    flat = replace(record, flux=np.full(record.flux.shape, 9, np.float32))
    assert stamps.to_larger_pixels(flat, 2.0).flux == pytest.approx(9)


def test_bands_and_sky() -> None:
    record = point(noise=1.0, bands=("g", "r", "z"))
    some = stamps.keep_bands(record, [True, False, True])
    assert some.bands == ("g", "z")
    assert some.flux.shape[0] == 2
    assert (some.flux[1] == record.flux[2]).all()
    assert stamps.keep_bands(record, [False] * 3) is record
    left = stamps.sky_residual(record, 2.0, np.random.default_rng(0))
    difference = left.flux - record.flux
    assert difference.std() > 0.5
    assert left.ivar is record.ivar
    assert np.abs(np.diff(difference, n=2, axis=1)).max() < 1e-2  # a plane


def test_what_comes_in_is_never_written_to() -> None:
    record = point(noise=1.0, bands=("g", "r"))
    before = record.flux.copy(), record.ivar.copy(), record.mask.copy()
    rng = np.random.default_rng(0)
    for new in (stamps.to_seeing(record, 9), stamps.to_larger_pixels(record, 2), stamps.fainter(record, 1, rng),
                stamps.redshifted(record, 0.05, 0.1, rng), stamps.sky_residual(record, 1, rng)):  # fmt: skip
        assert new is not record
    assert all((a == b).all() for a, b in zip(before, (record.flux, record.ivar, record.mask), strict=True))


def test_a_worse_night_is_not_less_noisy() -> None:
    record = point(noise=2.0, flux=0.0)
    worse = stamps.seen_through(record, 6.0, np.random.default_rng(7))
    assert worse.flux.std() == pytest.approx(2.0, rel=0.05)
    assert worse.ivar == pytest.approx(record.ivar, rel=1e-3)
    assert stamps.to_seeing(record, 6.0).flux.std() < 1.0


@pytest.mark.parametrize("factor", [1.3, 1.5, 2.0])
def test_the_noise_of_larger_pixels_goes_with_their_area(factor: float) -> None:
    record = point(noise=2.0, flux=0.0, side=141)
    coarse = stamps.on_larger_pixels(record, factor, np.random.default_rng(7))
    assert coarse.flux.std() == pytest.approx(2.0 * factor, rel=0.05)
    assert 1 / np.sqrt(np.median(coarse.ivar)) == pytest.approx(2.0 * factor, rel=0.01)
