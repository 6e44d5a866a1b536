"""Cosmic rays: strips do not show."""

from __future__ import annotations

import numpy as np
import pytest

from transforms.numerics import cosmic
from transforms.numerics.cosmic import cosmic_rays, dilate5


@pytest.mark.parametrize("seed", [1, 2])
def test_strips_give_what_the_whole_plane_gives(monkeypatch, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape, noise = (700, 300), 5.0
    flux = rng.normal(0, noise, shape).astype(np.float32)
    y, x = np.mgrid[: shape[0], : shape[1]]
    for _ in range(60):  # stars
        cy, cx = rng.uniform(0, shape[0]), rng.uniform(0, shape[1])
        flux += (rng.uniform(100, 3000) * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * 1.7**2))).astype(np.float32)
    truth = np.zeros(shape, bool)
    for _ in range(120):  # tracks, some of them across the border of two strips
        row, column, length = rng.integers(0, 680), rng.integers(0, 280), rng.integers(1, 16)
        truth[row + np.arange(length), column + np.arange(length) // 2] = True
    truth[120:136, 50] = truth[250:262, 200] = True
    flux[truth] += 900
    mask = rng.random(shape) < 0.002
    planes = {"level": np.full(shape, 100, np.float32), "noise": np.full(shape, noise, np.float32)}
    monkeypatch.setattr(cosmic, "STRIP", 10_000)
    whole = cosmic_rays(flux, mask, gain=1.5, saturation=20_000.0, **planes)
    assert whole[truth & ~mask].mean() > 0.6
    monkeypatch.setattr(cosmic, "STRIP", 128)
    assert np.array_equal(cosmic_rays(flux, mask, gain=1.5, saturation=20_000.0, **planes), whole)


@pytest.mark.parametrize("niter", [1, 2, 3])
def test_our_dilation_is_that_of_astroscrappy(niter: int) -> None:
    from astroscrappy.utils import dilate5 as theirs

    data = np.random.default_rng(niter).random((90, 70)) < 0.01
    data[0, 0] = data[-1, 5] = True
    assert np.array_equal(dilate5(data, niter), theirs(data, niter))


def test_no_memory_is_left_behind() -> None:
    import psutil

    flux = np.random.default_rng(0).normal(0, 5, (1500, 1500)).astype(np.float32)
    planes = {"level": np.zeros_like(flux), "noise": np.full_like(flux, 5)}
    mask, process = np.zeros(flux.shape, bool), psutil.Process()

    def look() -> int:
        cosmic_rays(flux, mask, gain=1.5, saturation=None, **planes)
        return process.memory_info().rss

    for _ in range(3):
        before = look()
    for _ in range(8):
        after = look()
    assert after - before < 8 * flux.size / 2  # astroscrappy's own leaves 8 bytes a pixel behind in eight calls
