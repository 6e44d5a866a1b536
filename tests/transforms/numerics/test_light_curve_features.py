"""Numbers of a light curve: known shapes give known numbers."""

from __future__ import annotations

import numpy as np
import pytest

from transforms.numerics.light_curve_features import (
    DISTRIBUTION,
    distribution,
    folded_shape,
    fourier_shape,
    outburst,
    structure_function,
)
from transforms.numerics.period_search import search
from transforms.numerics.periodogram import merge_bands


def merged(time, value, noise=0.02):
    return merge_bands(time, value, np.full(time.size, noise), np.zeros(time.size, int), 1)


def test_fourier_numbers_of_a_known_series():
    phases = np.array([0.4, 1.9, 3.0, 5.1])
    amplitudes = np.array([0.5, 0.2, 0.1, 0.05])
    pairs = np.stack([amplitudes * np.cos(phases), -amplitudes * np.sin(phases)], 1)  # A cos(x + phi)
    found = fourier_shape(pairs.ravel())
    assert found["r21"] == pytest.approx(0.4)
    assert found["r41"] == pytest.approx(0.1)
    assert found["phi21"] == pytest.approx(1.9 - 2 * 0.4)
    assert found["phi31"] == pytest.approx(3.0 - 3 * 0.4)
    assert np.isnan(fourier_shape(pairs[:2].ravel())["r31"])


def test_fourier_numbers_do_not_depend_on_the_zero_of_time():
    rng = np.random.default_rng(0)
    time = np.sort(rng.uniform(0, 200, 300))

    def numbers(shift):
        t = time + shift
        value = 0.3 * np.cos(2 * np.pi * t / 0.55 + 1) + 0.12 * np.cos(4 * np.pi * t / 0.55)
        return fourier_shape(search(merged(t, 18 + value), 300).fit.coefficients[0])

    first, second = numbers(0.0), numbers(123.456)
    assert first["phi21"] == pytest.approx(second["phi21"], abs=0.02)
    assert first["r21"] == pytest.approx(second["r21"], abs=0.01)
    assert first["r21"] == pytest.approx(0.4, abs=0.02)


def test_structure_function_of_noise_is_flat_and_of_a_trend_rises():
    rng = np.random.default_rng(1)
    time = np.sort(rng.uniform(0, 900, 400))
    noise = structure_function(merged(time, rng.normal(18, 0.2, 400)))
    assert abs(noise["sf_1000"] - noise["sf_100"]) < 0.1
    trend = structure_function(merged(time, 18 + time / 300))
    assert trend["sf_1000"] > trend["sf_100"] + 0.3 > trend["sf_10"] + 0.3


def test_distribution_has_its_names_and_needs_points():
    rng = np.random.default_rng(2)
    time, value = np.arange(200.0), rng.normal(18, 0.1, 200)
    found = distribution(time, value, np.full(200, 0.1))
    assert tuple(found) == DISTRIBUTION
    assert found["chi2"] == pytest.approx(1, abs=0.3)
    assert found["range_90"] == pytest.approx(2 * 1.645 * 0.1, rel=0.15)
    assert all(np.isnan(v) for v in distribution(time[:3], value[:3], value[:3]).values())


def test_eclipses_leave_their_mark_on_the_folded_shape():
    rng = np.random.default_rng(3)
    time = np.sort(rng.uniform(0, 400, 600))
    phase = (time / 2.3) % 1

    def eclipse(centre, depth):
        return depth * np.exp(-0.5 * (((phase - centre + 0.5) % 1 - 0.5) / 0.03) ** 2)

    curve = merged(time, 18 + eclipse(0, 0.8) + eclipse(0.5, 0.3) + rng.normal(0, 0.01, 600))
    found = search(curve, 600)
    shape = folded_shape(curve, found)
    sine = merged(time, 18 + 0.4 * np.sin(2 * np.pi * time / 2.3) + rng.normal(0, 0.01, 600))
    smooth = folded_shape(sine, search(sine, 600))
    assert shape["above"] < 0.35 < smooth["above"]
    assert smooth["explained"] > 0.98
    assert smooth["string"] < 0.05


def test_outburst_finds_one_rise_and_fall():
    time = np.arange(0, 200.0)
    signal = np.where(time > 80, 50 * np.exp(-(time - 80) / 20), 0.0) + np.random.default_rng(4).normal(0, 1, 200)
    found = outburst(time, signal, np.ones(200))
    assert found["burst_height"] > 1.2
    assert found["burst_share"] < 0.12
    assert 10 ** found["fall_days"] == pytest.approx(14, abs=4)
    flat = outburst(time, np.full(200, 3.0), np.ones(200))
    assert np.isfinite(list(flat.values())).all()
