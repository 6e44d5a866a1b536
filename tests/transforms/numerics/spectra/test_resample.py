"""Air and vacuum, and rebinning: flux is conserved, variance propagates, masks are honoured."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms.numerics.spectra.resample import merge, overlaps, rebin
from transforms.numerics.spectra.wavelengths import air_to_vacuum, log_grid, pixel_edges, refraction, vacuum_to_air


def test_air_and_vacuum_against_published_lines():
    # Ca II K, H beta, Na D2, H alpha: NIST, air and vacuum
    air = np.array([3933.663, 4861.333, 5889.951, 6562.819])
    vacuum = np.array([3934.777, 4862.691, 5891.583, 6564.632])
    assert np.abs(air_to_vacuum(air) - vacuum).max() < 0.006
    assert refraction(np.array([1500.0]))[0] == 1.0


@given(st.floats(2010.0, 25_000.0))
def test_conversion_is_its_own_inverse(wavelength):
    assert abs(vacuum_to_air(air_to_vacuum(np.array([wavelength])))[0] - wavelength) < 1e-8


def test_edges_need_two_pixels():
    with pytest.raises(ValueError, match="1 pixels"):
        pixel_edges(np.array([5000.0]))


@settings(max_examples=40, deadline=None)
@given(st.integers(5, 400), st.integers(2, 200), st.integers(0, 2**31))
def test_flux_is_conserved_on_any_grid(n, m, seed):
    rng = np.random.default_rng(seed)
    old = np.cumsum(rng.uniform(0.2, 2.0, n)) + 4000.0
    edges = pixel_edges(old)
    inner = np.sort(rng.uniform(edges[0], edges[-1], m - 1))
    new_edges = np.unique(np.concatenate([[edges[0]], inner, [edges[-1]]]))
    _, j, length = overlaps(edges, new_edges)
    assert length.sum() == pytest.approx(edges[-1] - edges[0])
    assert np.bincount(j, length, new_edges.size - 1) == pytest.approx(np.diff(new_edges))


def test_integral_is_kept_through_rebinning():
    wavelength = log_grid(3700.0, 1e-4, 4000)
    flux = np.random.default_rng(1).normal(1.0, 0.3, 4000)
    grid = np.linspace(3800.0, 8900.0, 1700)
    out, ivar, bad = rebin(wavelength, flux, None, np.zeros(4000, bool), grid)
    edges, new = pixel_edges(wavelength), pixel_edges(grid)
    cumulative = np.concatenate([[0.0], np.cumsum(flux * np.diff(edges))])
    expected = np.diff(np.interp(new[[0, -1]], edges, cumulative))[0]
    assert ivar is None
    assert not bad.any()
    assert np.sum(out * np.diff(new)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("factor", [0.4, 1.0, 2.7, 10.0])
def test_variance_is_that_of_noise(factor):
    rng = np.random.default_rng(2)
    wavelength = np.arange(5000.0, 5400.0)
    sigma = rng.uniform(0.5, 2.0, wavelength.size)
    grid = np.arange(5020.0, 5380.0, factor)
    draws = np.array([rebin(wavelength, rng.normal(0, sigma), None, np.zeros(400, bool), grid)[0] for _ in range(800)])
    _, ivar, bad = rebin(wavelength, np.zeros(400), sigma**-2, np.zeros(400, bool), grid)
    assert not bad.any()
    assert np.median(draws.var(axis=0) * ivar) == pytest.approx(1.0, abs=0.06)


def test_masked_pixels_do_not_leak_and_gaps_are_masked():
    wavelength = np.arange(5000.0, 5100.0)
    flux, mask = np.ones(100), np.zeros(100, bool)
    flux[40:50], mask[40:50] = 1e9, True
    out, ivar, bad = rebin(wavelength, flux, np.ones(100), mask, np.arange(5001.0, 5095.0, 3.0))
    assert bad.any()
    assert np.all(out[~bad] == pytest.approx(1.0))
    assert np.all(out[bad] == 0)
    assert np.all(ivar[bad] == 0)
    flux[45], mask[:] = np.nan, False
    assert np.isfinite(rebin(wavelength, flux, np.ones(100), mask, wavelength)[0]).all()


def test_outside_of_the_spectrum_is_masked():
    out, ivar, bad = rebin(
        np.arange(5000.0, 5100.0), np.ones(100), np.ones(100), np.zeros(100, bool), np.arange(4900.0, 4990.0)
    )
    assert bad.all()
    assert not out.any()
    assert not ivar.any()


def test_merge_weighs_by_inverse_variance():
    grid = np.arange(5000.0, 5200.0)
    none = np.zeros(120, bool)
    parts = [
        (grid[:120], np.full(120, 1.0), np.full(120, 3.0), none),
        (grid[80:], np.full(120, 2.0), np.full(120, 1.0), none),
    ]
    flux, ivar, bad = merge(parts, grid)
    assert not bad.any()
    assert flux[10] == pytest.approx(1.0)
    assert flux[100] == pytest.approx(1.25)
    assert ivar[100] == pytest.approx(4.0)
    assert flux[190] == pytest.approx(2.0)
