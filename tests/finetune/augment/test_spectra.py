"""Spectra as other spectrographs see them: resolution, signal to noise, velocity and dust as asked, never better."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.augment import spectra
from finetune.augment.telescopes import SPECTRA
from transforms.constants import C_KMS
from transforms.numerics.extinction import extinction
from transforms.numerics.spectra.noise import signal_to_noise
from transforms.records import Spectrum

LINE = 5500.0


def lines(sigma_kms: float = 30.0, step: float = 0.3, noise: float = 0.01, depth: float = 0.5) -> Spectrum:
    """A flat continuum with one line in absorption, Gaussian of the given sigma."""
    wave = np.arange(3900.0, 9300.0, step)
    flux = 1 - depth * np.exp(-0.5 * (C_KMS * np.log(wave / LINE) / sigma_kms) ** 2)
    flux = flux + np.random.default_rng(5).normal(0, noise, wave.size)
    return Spectrum(
        source="s.fits", object_id="s", wavelength=wave, flux=flux.astype(np.float32),
        ivar=np.full(wave.size, 1 / noise**2, np.float32), mask=np.zeros(wave.size, bool), lsf_sigma=sigma_kms,
        frame="rest", instrument="lab",
    )  # fmt: skip


def sigma(record: Spectrum) -> float:
    """Sigma of the line in km/s, by its depth: the area under it is kept."""
    near = np.abs(record.wavelength - LINE) < 25
    absorbed = 1 - record.flux[near].astype(float)
    area = float((absorbed * np.gradient(record.wavelength)[near]).sum())
    return area / float(absorbed.max()) / np.sqrt(2 * np.pi) / LINE * C_KMS


@settings(max_examples=15, deadline=None)
@given(st.floats(700.0, 3500.0))
def test_the_resolution_is_the_one_asked_for(power: float) -> None:
    record = lines(noise=1e-6)
    low = spectra.to_resolution(record, power)
    wanted = C_KMS / power / 2.354820045
    assert sigma(low) == pytest.approx(wanted, rel=0.02)
    assert low.lsf_sigma == pytest.approx(wanted, rel=0.01)
    width = np.gradient(record.wavelength)
    assert ((low.flux - 1) * width).sum() == pytest.approx(((record.flux - 1) * width).sum(), rel=1e-3)


def test_resolution_is_never_raised_not_even_in_a_part() -> None:
    record = lines(sigma_kms=60.0)  # R = 2122 at 5500 Angstrom
    assert spectra.to_resolution(record, 9000.0) is record
    power = np.where(record.wavelength < 6000, 9000.0, 500.0)
    mixed = spectra.to_resolution(record, power)
    blue, red = record.wavelength < 5900, record.wavelength > 6100
    assert mixed.flux[blue] == pytest.approx(record.flux[blue], abs=1e-6)
    assert mixed.flux[red].std() < 0.5 * record.flux[red].std()
    assert (mixed.ivar[red] > 2 * record.ivar[red]).mean() > 0.95  # of each pixel alone
    unknown = replace(record, lsf_sigma=None)
    assert spectra.line_width(unknown) == pytest.approx(spectra.pixel_kms(unknown) * 2 / 2.354820045)


@settings(max_examples=15, deadline=None)
@given(st.floats(1.0, 80.0), st.booleans(), st.integers(0, 1000))
def test_the_signal_to_noise_is_the_one_asked_for(ratio: float, known: bool, seed: int) -> None:
    record = lines(noise=0.01, step=1.0)
    record = record if known else replace(record, ivar=None)
    noisy = spectra.to_signal_to_noise(record, ratio, np.random.default_rng(seed))
    assert noisy.ivar is not None
    good = noisy.ivar > 0
    stated = signal_to_noise(record.wavelength, record.flux, noisy.ivar, good, spectra.STEP_KMS)
    assert stated == pytest.approx(ratio, rel=0.01)
    # What was drawn has the variance that was stated, less what was there before.
    added = 1 / noisy.ivar.astype(float) - 1e-4
    pull = (noisy.flux.astype(float) - record.flux)[added > 1e-5] / np.sqrt(added[added > 1e-5])
    assert pull.std() == pytest.approx(1, abs=0.08)
    assert spectra.to_signal_to_noise(noisy, ratio * 1.5, np.random.default_rng(seed)) is noisy


def test_there_is_more_noise_where_the_sky_shines() -> None:
    noisy = spectra.to_signal_to_noise(lines(step=1.0), 10, np.random.default_rng(0))
    line, off = np.abs(noisy.wavelength - 5578.9) < 0.6, np.abs(noisy.wavelength - 5540) < 20
    assert np.median(noisy.ivar[line]) < 0.3 * np.median(noisy.ivar[off])


@given(st.floats(-500, 500))
def test_a_velocity_moves_the_pixels(v_rad: float) -> None:
    record = lines(noise=1e-6, step=0.5)
    moved = spectra.shifted(record, v_rad)
    assert moved.flux is record.flux
    assert moved.ivar is record.ivar
    centre = moved.wavelength[np.argmin(moved.flux)]
    assert C_KMS * (centre / LINE - 1) == pytest.approx(v_rad, abs=30)
    assert moved.frame == ("rest" if v_rad == 0 else "heliocentric")


def test_dust_reddens_and_keeps_the_signal_to_noise() -> None:
    record = lines()
    red = spectra.reddened(record, 0.3)
    assert -2.5 * np.log10(red.flux / record.flux) == pytest.approx(extinction(record.wavelength, 0.3), abs=1e-3)
    assert red.flux * np.sqrt(red.ivar) == pytest.approx(record.flux * np.sqrt(record.ivar), rel=1e-4)
    assert spectra.reddened(record, 0.0) is record


def test_a_galaxy_at_a_higher_redshift() -> None:
    record = replace(lines(), z_header=0.1, frame="heliocentric")
    far = spectra.redshifted(record, 0.1, 0.2)
    assert far.wavelength == pytest.approx(record.wavelength * 1.2 / 1.1)
    ratio = (far.flux * np.gradient(far.wavelength)).sum() / (record.flux * np.gradient(record.wavelength)).sum()
    assert ratio == pytest.approx(0.2204, rel=0.02)  # (467.8 / 997.6 Mpc)**2 for h = 0.677
    assert far.z_header is None
    assert spectra.redshifted(record, 0.1, 0.1) is record


def test_residuals_of_the_sky_stand_in_the_errors() -> None:
    record = lines(step=1.0)
    pulls = []
    for seed in range(60):
        left = spectra.sky_residual(record, 5.0, np.random.default_rng(seed))
        near = np.abs(record.wavelength - 6302.0) < 0.6
        pulls.append((left.flux - record.flux)[near] / np.sqrt(1 / left.ivar[near] - 1e-4))
    assert np.std(pulls) == pytest.approx(1, abs=0.3)
    far = np.abs(record.wavelength - 4500) < 100
    assert (left.flux[far] == record.flux[far]).all()
    assert left.ivar[far] == pytest.approx(record.ivar[far])


@pytest.mark.parametrize("survey", SPECTRA, ids=lambda s: s.name)
def test_a_preset_makes_what_the_survey_has(survey: object) -> None:
    record = lines(sigma_kms=15.0, step=0.2)
    seen = survey.observe(record, np.random.default_rng(0))  # type: ignore[attr-defined]
    first, last = survey.wavelength  # type: ignore[attr-defined]
    assert seen.wavelength[0] >= first
    assert seen.wavelength[-1] <= last
    assert seen.wavelength.size < record.wavelength.size
    assert seen.lsf_sigma == pytest.approx(C_KMS / survey.power(np.array([5500.0]))[0] / 2.3548, rel=0.01)  # type: ignore[attr-defined]
    low, high = survey.signal_to_noise  # type: ignore[attr-defined]
    ratio = signal_to_noise(seen.wavelength, seen.flux, seen.ivar, seen.ivar > 0, 69.0)
    assert 0.9 * low < ratio < 1.1 * high
    assert len(seen.flux) == len(seen.ivar) == len(seen.mask) == len(seen.wavelength)


def test_a_preset_leaves_what_is_worse() -> None:
    wave = np.linspace(4000, 8000, 300)
    coarse = replace(lines(), wavelength=wave, flux=np.ones(300, np.float32), ivar=np.full(300, 0.01, np.float32),
                     mask=np.zeros(300, bool), lsf_sigma=None)  # fmt: skip
    for survey in SPECTRA:
        assert survey.observe(coarse, np.random.default_rng(0)) is coarse


def test_masked_pixels_lend_nothing() -> None:
    record = lines(step=1.0)
    flux, mask = record.flux.copy(), record.mask.copy()
    flux[1000:1004], mask[1000:1004] = 1e6, True
    spoilt = replace(record, flux=flux, mask=mask)
    for survey in SPECTRA:
        assert np.abs(survey.observe(spoilt, np.random.default_rng(0)).flux).max() < 10
    assert (record.flux == lines(step=1.0).flux).all()


def test_a_coarser_spectrograph_is_not_less_noisy() -> None:
    record = lines(step=1.0, depth=0.0)
    smooth = spectra.broadened(record, 200.0)
    again = spectra.noise_restored(smooth, record, np.random.default_rng(7))
    assert smooth.flux.std() < 0.6 * record.flux.std()
    assert again.flux.std() == pytest.approx(0.01, rel=0.05)
    assert again.ivar == pytest.approx(record.ivar, rel=1e-3)
    assert spectra.noise_restored(record, record, np.random.default_rng(7)) is record
