"""Equivalent widths of injected lines, errors that cover, continua that masks do not move."""

from __future__ import annotations

import numpy as np
import pytest

from transforms.numerics.spectra import lines
from transforms.numerics.spectra.continuum import running_continuum, telluric_mask
from transforms.numerics.spectra.noise import difference_noise, signal_to_noise
from transforms.numerics.spectra.resample import rebin
from transforms.numerics.spectra.wavelengths import air_to_vacuum, log_grid

GRID = log_grid(3600.0, 1e-4, 3100)
HBETA = next(edges for name, _, edges in lines.INDICES if name == "hbeta")


def _with_line(width, continuum=lambda w: 1.0 + 0 * w, grid=GRID):
    """A Gaussian of equivalent width ``width`` at H beta."""
    centre, sigma = air_to_vacuum(np.array([4861.33]))[0], 2.5
    profile = width / (sigma * np.sqrt(2 * np.pi)) * np.exp(-0.5 * ((grid - centre) / sigma) ** 2)
    return continuum(grid) * (1.0 - profile)


@pytest.mark.parametrize("width", [-1.0, 0.0, 0.5, 3.0])
@pytest.mark.parametrize("slope", [0.0, 3e-4])
def test_injected_equivalent_width_is_recovered(width, slope):
    flux = _with_line(width, lambda w: 1.0 + slope * (w - 4861.0))
    value, _ = lines.line_strength(flux, np.ones(GRID.size), lines.lay_bands(GRID, HBETA), "Angstrom")
    assert value == pytest.approx(width, abs=0.01)


def test_equivalent_width_survives_rebinning():
    fine = np.arange(3600.0, 7300.0, 0.2)
    flux, _, _ = rebin(fine, _with_line(2.0, grid=fine), None, np.zeros(fine.size, bool), GRID)
    value, _ = lines.line_strength(flux, np.ones(GRID.size), lines.lay_bands(GRID, HBETA), "Angstrom")
    assert value == pytest.approx(2.0, abs=0.02)


def test_errors_cover_the_noise():
    rng, bands = np.random.default_rng(3), lines.lay_bands(GRID, HBETA)
    pulls = []
    for _ in range(400):
        noisy = _with_line(1.5) + rng.normal(0, 0.02, GRID.size)
        value, error = lines.line_strength(noisy, np.full(GRID.size, 2500.0), bands, "Angstrom")
        pulls.append((value - 1.5) / error)
    assert np.std(pulls) == pytest.approx(1.0, abs=0.1)
    assert abs(np.mean(pulls)) < 0.15


def test_magnitude_index_of_a_flat_spectrum_is_zero_and_masks_give_none():
    flat, ivar = np.ones(GRID.size), np.ones(GRID.size)
    found = lines.all_indices(flat, ivar, GRID)
    assert set(found) == {name for name, _, _ in lines.INDICES}
    assert max(abs(value) for value, _ in found.values()) < 1e-9
    ivar[(GRID > 4840) & (GRID < 4885)] = 0
    assert "hbeta" not in lines.all_indices(flat, ivar, GRID)
    assert "mgb" in lines.all_indices(flat, ivar, GRID)


def test_a_few_masked_pixels_do_not_move_an_index():
    flux, ivar = _with_line(2.0), np.ones(GRID.size)
    k = int(np.searchsorted(GRID, 4851.0))
    flux[k], ivar[k] = 500.0, 0.0
    value, _ = lines.line_strength(flux, ivar, lines.lay_bands(GRID, HBETA), "Angstrom")
    assert value == pytest.approx(2.0, abs=0.15)


def test_break_of_a_step():
    ratio, error = lines.band_ratio(
        np.where(GRID > 3975, 2.0, 1.0) / GRID**2, np.full(GRID.size, 1e20), GRID, lines.D4000_BANDS, 2
    )
    assert ratio == pytest.approx(2.0, rel=1e-6)
    assert error > 0
    assert lines.band_ratio(-np.ones(GRID.size), np.ones(GRID.size), GRID, lines.D4000_BANDS) is None


def test_continuum_is_not_moved_by_what_is_masked():
    flux, weight = np.full(2000, 5.0), np.ones(2000)
    flux[700:740], weight[700:740] = 1e6, 0.0
    level, defined = running_continuum(flux, weight, 80.0)
    assert defined.all()
    assert level == pytest.approx(5.0)
    _, nothing = running_continuum(flux, np.zeros(2000), 80.0)
    assert not nothing.any()


def test_telluric_regions():
    assert telluric_mask(np.array([5577.3, 6900.0, 7650.0])).all()
    assert not telluric_mask(np.array([4861.0, 5892.0])).any()
    assert telluric_mask(np.array([5892.0]), strong_only=False).all()


def test_noise_from_differences_and_snr_per_velocity():
    rng = np.random.default_rng(4)
    flux = 10.0 + rng.normal(0, 0.5, 4000)
    good = np.ones(4000, bool)
    assert np.median(difference_noise(flux, good)) == pytest.approx(0.5, rel=0.05)
    assert np.isnan(difference_noise(flux[:3], good[:3])).all()
    wavelength = log_grid(4000.0, 5e-5, 4000)  # half the step: the ratio per full step is larger by sqrt 2
    ratio = signal_to_noise(wavelength, flux, np.full(4000, 4.0), good, 69.03)
    assert ratio == pytest.approx(20.0 * np.sqrt(2), rel=0.01)
    assert signal_to_noise(wavelength, flux, np.full(4000, 4.0), ~good, 69.0) is None
