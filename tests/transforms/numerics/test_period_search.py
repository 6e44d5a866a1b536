"""Period search: injected periods come back, aliases are named, noise alone gives nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms.numerics.harmonic_fit import evaluate, fit_harmonics, harmonics_for
from transforms.numerics.light_curve_clean import order_points, outliers, visits
from transforms.numerics.period_search import relation, search
from transforms.numerics.periodogram import (
    false_alarm_probability,
    frequency_range,
    lomb_scargle,
    merge_bands,
    softened_magnitude,
)


def survey(rng, n=120, years=4.0):
    nights = np.sort(rng.choice(int(years * 365), n, replace=False))
    return nights + 0.5 + rng.uniform(-0.2, 0.2, n)


def two_bands(rng, period, shape, noise=0.03, n=120):
    time = np.repeat(survey(rng, n), 2) + np.tile([0.0, 0.003], n)
    band = np.tile([0, 1], n)
    value = np.where(band == 0, 1.0, 0.6) * shape(time / period) + np.where(band == 0, 18.0, 17.5)
    return merge_bands(time, value + rng.normal(0, noise, time.size), np.full(time.size, noise), band, 2)


def sawtooth(phase):
    return sum(0.3 / k**1.3 * np.sin(2 * np.pi * k * phase) for k in (1, 2, 3))


@pytest.mark.parametrize("period", [0.071, 0.342, 0.587, 3.4, 28.7, 210.0])
def test_injected_period_is_found(period):
    rng = np.random.default_rng(int(period * 1000))
    found = search(two_bands(rng, period, sawtooth), 120)
    assert found.period == pytest.approx(period, rel=0.01)
    assert abs(found.period - period) < 6 * found.error
    assert found.fap < 1e-6


def test_bands_are_put_on_one_scale():
    merged = two_bands(np.random.default_rng(1), 0.6, sawtooth)
    assert max(merged.scale) / min(merged.scale) == pytest.approx(1 / 0.6, rel=0.15)
    assert abs(merged.value[merged.band == 1].mean()) < 0.05


def test_noise_alone_is_not_periodic():
    quiet = [search(two_bands(np.random.default_rng(seed), 1.0, lambda p: 0 * p), 120).fap > 0.01 for seed in range(20)]
    assert np.mean(quiet) >= 0.9


def test_unequal_minima_are_found_at_the_orbital_period_and_equal_ones_at_half():
    def minima(second):
        def shape(phase):
            return np.exp(-0.5 * (((phase + 0.5) % 1 - 0.5) / 0.05) ** 2) + second * np.exp(
                -0.5 * (((phase % 1) - 0.5) / 0.05) ** 2
            )

        return shape

    equal = search(two_bands(np.random.default_rng(3), 1.3, minima(1.0), n=400), 400)
    assert equal.period == pytest.approx(0.65, rel=0.01)
    unequal = search(two_bands(np.random.default_rng(3), 1.3, minima(0.1), n=400), 400)
    assert unequal.period == pytest.approx(1.3, rel=0.01)


def test_too_little_gives_none():
    one = np.arange(4.0)
    assert search(merge_bands(one, one, np.full(4, 0.1), np.zeros(4, int), 1), 4) is None
    flat = np.arange(9.0)
    assert search(merge_bands(flat, np.full(9, 18.0), np.full(9, 0.1), np.zeros(9, int), 1), 9) is None


def test_relations_have_names():
    assert relation(1.7, 0.7, 1000.0) == "day"
    assert relation(1.7, 0.85, 1000.0) == "harmonic"
    assert relation(0.3, 2.3, 1000.0) == "two_days"
    assert relation(1.7, 1.7 + 1 / 365.25, 3000.0) == "year"
    assert relation(1.7, 0.934, 1000.0) == ""


def test_frequency_range_knows_even_sampling():
    even = np.arange(0, 30, 0.0204)
    assert frequency_range(even, 0.01, 100.0)[1] == pytest.approx(0.5 / 0.0204, rel=1e-3)
    low, high = frequency_range(survey(np.random.default_rng(0)), 0.04, 1e4)
    assert high == 25.0
    assert 1 / low < 4 * 365.25


def test_power_is_that_of_least_squares():
    rng = np.random.default_rng(5)
    time = np.sort(rng.uniform(0, 50, 60))
    value, error = rng.normal(0, 1, 60), rng.uniform(0.5, 1.5, 60)
    merged = merge_bands(time, value, error, np.zeros(60, int), 1, floor=0.0)
    frequency, power = lomb_scargle(merged, 0.1, 3.0)
    for index in (7, 100, 300):
        design = np.stack([np.ones(60), *(f(2 * np.pi * frequency[index] * merged.time) for f in (np.cos, np.sin))], 1)
        design /= merged.error[:, None]
        rest = merged.value / merged.error
        chi2 = np.sum((rest - design @ np.linalg.lstsq(design, rest, rcond=None)[0]) ** 2)
        assert power[index] == pytest.approx(1 - chi2 / np.sum(rest**2), abs=1e-4)


def test_harmonic_fit_recovers_its_own_series():
    rng = np.random.default_rng(2)
    time = np.sort(rng.uniform(0, 100, 300))
    truth = np.array([0.3, -0.1, 0.1, 0.05, 0.02, 0.0, 0.0, 0.01])
    value = evaluate(truth, time / 0.77) + 18 + rng.normal(0, 0.005, 300)
    merged = merge_bands(time, value, np.full(300, 0.005), np.zeros(300, int), 1, floor=0.0)
    fit = fit_harmonics(merged, np.array([1 / 0.77, 1 / 0.9]), 4)
    shift = np.exp(-2j * np.pi * np.arange(1, 5) * (time[0] / 0.77 % 1))
    expected = (truth[::2] + 1j * truth[1::2]) * shift  # the fit's phase is zero at the first point
    np.testing.assert_allclose(fit.coefficients[0][::2] + 1j * fit.coefficients[0][1::2], expected, atol=2e-3)
    assert fit.score[0] > fit.score[1] + 100


def test_harmonics_grow_with_points():
    assert [harmonics_for(n) for n in (6, 9, 14, 20, 500)] == [1, 2, 3, 4, 4]


@given(st.floats(0.0, 0.999), st.integers(4, 2000))
@settings(deadline=None, max_examples=40)
def test_false_alarm_probability_is_one_and_falls_with_power(power, n):
    low, high = (false_alarm_probability(p, n, 1e4) for p in (power, min(power + 0.05, 1)))
    assert 0 <= high <= low <= 1


def test_softened_magnitude_is_the_usual_one_where_bright_and_finite_below_zero():
    magnitude, error = softened_magnitude(np.array([1e4, -5.0, 0.0]), np.full(3, 1.0), 1.0)
    assert magnitude[0] == pytest.approx(-10.0, abs=1e-6)
    assert error[0] == pytest.approx(1.0857e-4, rel=1e-3)
    assert magnitude[1] > magnitude[2] > magnitude[0]


def test_visits_hold_a_band_once():
    time = np.array([0.0, 0.001, 0.002, 0.5, 0.5001])
    assert visits(time, np.array([0, 1, 0, 0, 1])).tolist() == [0, 0, 1, 2, 2]
    assert visits(time, np.zeros(5, int)).tolist() == [0, 1, 2, 3, 4]


def test_order_and_duplicates():
    order, duplicate = order_points(np.array([2.0, 1.0, 2.0, 2.0]), np.array(["g", "g", "r", "g"]))
    assert order.tolist() == [1, 0, 3, 2]
    assert duplicate.tolist() == [False, False, True, False]


def test_outliers_are_single_points_not_eclipses():
    rng = np.random.default_rng(0)
    time, band = np.arange(200.0), np.zeros(200, int)
    value = rng.normal(18, 0.02, 200)
    value[50] += 2.0
    assert np.flatnonzero(outliers(time, value, band, 1)).tolist() == [50]
    eclipsing = rng.normal(18, 0.02, 200)
    eclipsing[::12] += 1.0
    assert not outliers(time, eclipsing, band, 1).any()


def test_real_rr_lyrae_periods(data):
    """A tenth of the Stripe 82 stars: the bar over all of them is 0.934 within one percent."""
    import csv

    from tests.transforms.readers.test_light_curve_readers import load
    from transforms.period import measure_light_curve

    root = data / "lightcurves"
    with (root / "labels.csv").open() as stream:
        rows = [row for row in csv.DictReader(stream) if row["file"].startswith("rrlyr_s82/")][::10]
    right = []
    for row in rows:
        found = measure_light_curve(load(root / row["file"])[0], {}).measured["period"]
        right.append(abs(found / float(row["period_d"]) - 1) < 0.01)
    assert np.mean(right) > 0.85
