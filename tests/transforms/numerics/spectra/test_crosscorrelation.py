"""Chi squared at all lags: the FFT gives what the direct sums give, and the peak is unbiased."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d, shift

from transforms.numerics.spectra.crosscorrelation import chi2_gain, find_peak, make_bank

LAG, N = 12, 600


@pytest.fixture(scope="module")
def sky():
    rng = np.random.default_rng(5)
    basis = gaussian_filter1d(rng.normal(size=(4, N + 2 * LAG)), 2.0, axis=1)
    coefficients = rng.normal(size=(30, 4))
    return basis, coefficients, make_bank(basis, coefficients, LAG)


def test_gain_equals_the_direct_sums(sky):
    basis, coefficients, bank = sky
    rng = np.random.default_rng(6)
    signal, weight = rng.normal(size=N), rng.uniform(0, 2, N) * (rng.random(N) > 0.1)
    which, gain, amplitude = chi2_gain(signal, weight, bank, 5)
    for row, k in enumerate(which):
        template = coefficients[k] @ basis
        for column, s in enumerate(range(-LAG, LAG + 1)):
            part = template[LAG - s : LAG - s + N]
            top, bottom = np.sum(weight * signal * part), np.sum(weight * part**2)
            assert gain[row, column] == pytest.approx(max(top, 0) ** 2 / bottom, rel=2e-3, abs=1e-3)
            assert amplitude[row, column] == pytest.approx(top / bottom, rel=2e-3, abs=1e-4)


@pytest.mark.parametrize("true", [-7.3, -0.5, 0.0, 0.25, 3.8])
def test_sub_pixel_peak_is_unbiased_even_where_lines_have_less_noise(sky, true):
    basis, coefficients, bank = sky
    template = coefficients[3] @ basis
    moved = shift(template, true, order=3, mode="nearest")[LAG : LAG + N]
    weight = 50.0 * np.exp(-2.0 * moved)  # deep lines weigh more, as photon noise has it
    which, gain, _ = chi2_gain(moved, weight, bank, 1)
    peak = find_peak(gain[0])
    assert which[0] == 3
    assert peak.lag == pytest.approx(true, abs=0.03)
    assert not peak.edge


def test_error_of_the_peak_is_the_scatter(sky):
    basis, coefficients, bank = sky
    clean = (coefficients[7] @ basis)[LAG : LAG + N]
    rng, lags, errors = np.random.default_rng(7), [], []
    for _ in range(150):
        which, gain, _ = chi2_gain(clean + rng.normal(0, 0.5, N), np.full(N, 4.0), bank, 30)
        peak = find_peak(gain[list(which).index(7)])
        lags.append(peak.lag)
        errors.append(peak.error)
    assert np.std(lags) == pytest.approx(np.median(errors), rel=0.25)
    assert abs(np.mean(lags)) < 4 * np.std(lags) / np.sqrt(150) + 0.01


def test_peak_at_the_end_is_no_peak_and_second_peak_is_reported():
    assert find_peak(np.arange(20.0)).edge
    assert find_peak(np.zeros(21)).edge
    x = np.arange(-20, 21)
    peak = find_peak(np.exp(-0.5 * (x - 8) ** 2) + 0.6 * np.exp(-0.5 * (x + 8) ** 2))
    assert peak.lag == pytest.approx(8.0, abs=0.01)
    assert peak.ratio == pytest.approx(0.6, abs=0.01)
