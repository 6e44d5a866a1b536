"""Simulated stamps: reproducible, with the noise that ivar states, and with the shapes that their class names."""

from __future__ import annotations

import numpy as np
import pytest

from transforms.morphology import measure_morphology
from transforms.numerics.stretch import SKY_LEVEL, asinh_display, lupton_rgb, window
from transforms.simulate.galaxies import BANDS, CLASSES, DISPLAY_SIDE, SHARES, moffat_transfer, scene, simulate_galaxies


@pytest.fixture(scope="module")
def stamps():
    return list(simulate_galaxies(100, 11))


def test_a_stamp_depends_on_seed_and_number_only(stamps):
    fewer = list(simulate_galaxies(3, 11))
    for (a, truth), (b, same) in zip(fewer, stamps, strict=False):
        np.testing.assert_array_equal(a.flux, b.flux)
        assert truth == same
    other = next(iter(simulate_galaxies(1, 12)))[0]
    assert other.flux.shape != stamps[0][0].flux.shape or not np.array_equal(other.flux, stamps[0][0].flux)


def test_records_are_whole(stamps):
    assert {t["morphology_class"] for _, t in stamps} == set(CLASSES)
    assert sum(SHARES) == pytest.approx(1)
    for cutout, truth in stamps:
        assert cutout.flux.dtype == np.float32
        assert cutout.mask.shape == cutout.flux.shape
        assert len(cutout.bands) == len(cutout.flux)
        assert truth["r50"] > 0
        if cutout.unit == "display":
            assert cutout.flux.shape == (3, DISPLAY_SIDE, DISPLAY_SIDE)
            assert 0 <= cutout.flux.min() <= cutout.flux.max() <= 255
        else:
            assert cutout.bands in (("r",), BANDS)
            assert np.isfinite(cutout.flux[~cutout.mask]).all()
            assert np.isnan(cutout.flux[cutout.mask]).all()


def test_sky_noise_is_what_ivar_says():
    ratios = []
    for cutout, _ in simulate_galaxies(30, 2, display=0.0, classes=("smooth",)):
        if cutout.ivar is not None and not cutout.mask.any():
            step = np.diff(cutout.flux[0, :6], axis=1)
            ratios.append(1.4826 * np.median(np.abs(step)) / np.sqrt(2) * np.sqrt(cutout.ivar.max()))
    assert np.median(ratios) == pytest.approx(1, abs=0.08)


def test_classes_have_their_shapes():
    found = {}
    for name in ("smooth", "disk", "edge_on", "odd"):
        parts = [measure_morphology(c) for c, _ in simulate_galaxies(30, 4, classes=(name,))]
        found[name] = {
            key: np.median([p[f"morph_{key}"] for p in parts if p[f"morph_{key}"] is not None])
            for key in ("axis_ratio", "asymmetry", "concentration", "r50")
        }
    assert found["edge_on"]["axis_ratio"] < found["smooth"]["axis_ratio"] - 0.2
    assert found["odd"]["asymmetry"] > found["smooth"]["asymmetry"]
    assert found["smooth"]["concentration"] > found["disk"]["concentration"]


def test_size_of_truth_is_measured_back():
    ratios = []
    for cutout, truth in simulate_galaxies(25, 6, display=0.0, classes=("smooth",)):
        measured = measure_morphology(cutout)["morph_r50"]
        if measured is not None and truth["r50"] > 3 and truth["sn_peak"] > 50:
            ratios.append(measured / np.hypot(truth["r50"], cutout.psf_fwhm / 2))
    assert len(ratios) > 3
    assert 0.6 < np.median(ratios) < 1.2


def test_moffat_conserves_flux():
    transfer = moffat_transfer(64, 3.0, 3.0, (0.0, 0.0))
    assert transfer[0, 0].real == pytest.approx(1)
    assert (np.abs(transfer) <= 1 + 1e-9).all()


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("size", [48, 61])
def test_scene_has_the_size_asked_for(name, size):
    planes, peak = scene(np.random.default_rng(1), name, size, 5.0, 3.0)
    assert planes.shape == (3, size, size)
    assert np.isfinite(planes).all()
    assert peak > 0.3


def test_stretch():
    sn = np.linspace(-20, 500, 400)
    shown = asinh_display(sn)
    assert (np.diff(shown) >= 0).all()
    assert asinh_display(np.zeros(1))[0] == SKY_LEVEL
    assert shown[-1] == 255
    assert shown[0] == 0
    grey = lupton_rgb(np.full((3, 4, 4), 2.0), 6.0, 10.0)
    assert grey.std() == 0
    hot = lupton_rgb(np.array([50.0, 5.0, 5.0])[:, None, None] * np.ones((3, 2, 2)), 6.0, 1.0)
    assert hot[0].max() == 255
    assert hot[0, 0, 0] / hot[1, 0, 0] == pytest.approx(10)


def test_window_is_filled_where_it_leaves_the_plane():
    plane = np.arange(16.0).reshape(4, 4)
    np.testing.assert_array_equal(window(plane, (1.5, 1.5), 4, -1.0), plane)
    np.testing.assert_array_equal(window(plane, (1.5, 1.5), 2, -1.0), plane[1:3, 1:3])
    wide = window(plane, (1.5, 1.5), 8, -1.0)
    assert (wide == -1).sum() == 48
    np.testing.assert_array_equal(wide[2:6, 2:6], plane)
    assert (window(plane, (40.0, 40.0), 3, -1.0) == -1).all()
