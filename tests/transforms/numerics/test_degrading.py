"""Kernels, larger pixels and dust: light kept, widths and noise as asked."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms.numerics.extinction import extinction
from transforms.numerics.kernels import blur_plane, blur_series, gaussian_kernel
from transforms.numerics.rescale import coverage_matrix, rescale_plane

seeds = st.integers(0, 2**32 - 1)


@given(st.floats(0.05, 6.0))
def test_a_kernel_has_the_sum_one_and_the_variance_asked_for(sigma: float) -> None:
    kernel = gaussian_kernel(sigma)
    step = np.arange(kernel.size) - kernel.size // 2
    assert kernel.sum() == pytest.approx(1)
    assert (kernel * step**2).sum() == pytest.approx(sigma**2, rel=1e-3)


@settings(max_examples=20, deadline=None)
@given(seeds, st.floats(0.0, 3.0))
def test_seeing_keeps_the_light_of_a_source_in_the_middle(seed: int, sigma: float) -> None:
    flux = np.zeros((61, 61))
    flux[25:36, 25:36] = np.random.default_rng(seed).uniform(0, 100, (11, 11))
    out, variance, good = blur_plane(flux, np.ones_like(flux), np.ones(flux.shape, bool), sigma)
    assert out.sum() == pytest.approx(flux.sum(), rel=1e-6)
    assert good.all()
    assert variance is not None
    assert (variance <= 1 + 1e-9).all()


def test_the_variance_of_a_blurred_plane_is_that_of_its_noise() -> None:
    rng = np.random.default_rng(0)
    planes = rng.normal(0, 3, (300, 24, 24))
    good = np.ones((24, 24), bool)
    good[10, 12] = False
    blurred = np.stack([blur_plane(p, None, good, 1.2)[0] for p in planes])
    _, variance, kept = blur_plane(planes[0], np.full((24, 24), 9.0), good, 1.2)
    assert variance is not None
    assert not kept[10, 12]
    ratio = blurred.var(0)[kept] / variance[kept]
    assert np.median(ratio) == pytest.approx(1, abs=0.03)
    assert ratio.min() > 0.6
    assert ratio.max() < 1.5


def test_a_flat_sky_stays_flat_around_holes_and_at_the_edge() -> None:
    good = np.random.default_rng(1).random((30, 30)) > 0.1
    out, _, kept = blur_plane(np.full((30, 30), 7.0), None, good, 2.0)
    assert out[kept] == pytest.approx(7.0)
    line, _, kept = blur_series(np.full(200, 7.0), None, np.arange(200) % 17 != 0, np.linspace(0, 4, 200))
    assert line[kept] == pytest.approx(7.0)


@settings(max_examples=30, deadline=None)
@given(seeds, st.floats(1.0, 4.0))
def test_larger_pixels_keep_the_light(seed: int, factor: float) -> None:
    flux = np.zeros((48, 41))
    flux[20:29, 16:25] = np.random.default_rng(seed).uniform(0, 10, (9, 9))
    out, _, _ = rescale_plane(flux, None, np.ones(flux.shape, bool), factor)
    assert out.sum() == pytest.approx(flux.sum(), rel=1e-6)


def test_larger_pixels_keep_the_centre_and_sum_the_variance() -> None:
    flux = np.zeros((41, 41))
    flux[20, 20] = 5
    out, variance, good = rescale_plane(flux, np.full(flux.shape, 2.0), np.ones(flux.shape, bool), 3.0)
    assert out.shape == (13, 13)
    assert out[6, 6] == pytest.approx(5)
    assert variance is not None
    assert variance == pytest.approx(18.0)
    assert good.all()
    assert coverage_matrix(10, 1.0) == pytest.approx(np.eye(10))
    with pytest.raises(ValueError, match=r"pixels 0.5 times as large"):
        rescale_plane(flux, None, np.ones(flux.shape, bool), 0.5)


def test_extinction_is_that_of_fitzpatrick_1999() -> None:
    """Table 3 of the paper for R_V = 3.1: A / E(B-V) at these wavelengths."""
    waves = np.array([26500.0, 12200.0, 6000.0, 5470.0, 4670.0, 4110.0, 2700.0, 2600.0])
    table = [0.265, 0.829, 2.688, 3.055, 3.806, 4.315, 6.265, 6.591]
    assert extinction(waves, 1.0) == pytest.approx(table, abs=0.006)
    assert extinction(waves, 0.1) == pytest.approx(0.1 * extinction(waves, 1.0))
    colour = extinction(np.array([4400.0, 5500.0]), 1.0)
    assert colour[0] - colour[1] == pytest.approx(1.0, abs=0.06)  # of monochromatic bands
    with pytest.raises(ValueError, match="not at 900 to 900"):
        extinction(np.array([900.0]), 1.0)
