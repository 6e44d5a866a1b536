"""Morphology numbers against what is known analytically of made galaxies."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms.morphology import COLUMNS, NUMBERS, PREFIX, measure_morphology
from transforms.numerics.asymmetry import opposite
from transforms.numerics.morphology import morphology
from transforms.numerics.profile import radial_profile
from transforms.records import Cutout

N = 97
GOOD = np.ones((N, N), bool)
NOISE = np.random.default_rng(0).normal(0, 1, (N, N))


def grid(y=48.0, x=48.0, q=1.0, theta=0.0):
    yy, xx = np.mgrid[:N, :N]
    dx, dy = xx - x, yy - y
    along, across = dx * np.cos(theta) + dy * np.sin(theta), -dx * np.sin(theta) + dy * np.cos(theta)
    return np.hypot(along, across / q), np.arctan2(across / q, along)


def exponential(scale=6.0, peak=100.0, **where):
    return peak * np.exp(-grid(**where)[0] / scale)


def test_exponential_disk_has_the_radii_of_theory():
    profile = radial_profile(exponential(scale=5.0, peak=1.0), 48, 48)
    # Of the light within 1.5 Petrosian radii (3.63 scale lengths is the Petrosian radius for eta = 0.2).
    assert profile.found
    assert profile.petrosian == pytest.approx(3.63 * 5, rel=0.06)
    assert profile.r50 == pytest.approx(1.68 * 5, rel=0.05)
    assert profile.numbers()["concentration"] == pytest.approx(2.7, abs=0.15)


def test_round_smooth_galaxy():
    found = morphology(exponential() + NOISE, GOOD, 1.0)
    assert abs(found["asymmetry"]) < 0.06
    assert abs(found["smoothness"]) < 0.05
    assert found["axis_ratio"] > 0.93
    assert found["n_peaks"] == 1
    assert found["m2"] < 0.1
    assert found["asymmetry_shape"] < 0.25
    assert found["centre_distance"] < 0.03
    assert sum(found[f"hist_{i}"] for i in range(6)) == pytest.approx(1)


@pytest.mark.parametrize("q", [0.3, 0.5, 0.8])
def test_axis_ratio_and_its_independence_of_angle(q):
    ratios = [morphology(exponential(scale=8, q=q, theta=t), GOOD, 0.3)["axis_ratio"] for t in (0.0, 0.7, 1.6)]
    assert ratios == pytest.approx([q] * 3, abs=0.06)


def test_gini_orders_concentration():
    sharp, flat = morphology(exponential(3) + NOISE, GOOD, 1.0), morphology(exponential(12) + NOISE, GOOD, 1.0)
    boxy = morphology(np.where(grid()[0] < 12, 50.0, 0) + NOISE, GOOD, 1.0)
    assert sharp["gini"] > boxy["gini"] + 0.1
    assert flat["r50"] > 2 * sharp["r50"]
    assert sharp["m20"] < boxy["m20"]


def test_merger_is_told_from_a_single_galaxy():
    pair = morphology(exponential(4, y=43, x=40) + exponential(4, y=52, x=56, peak=70) + NOISE, GOOD, 1.0)
    single = morphology(exponential(6) + NOISE, GOOD, 1.0)
    assert pair["n_peaks"] == 2
    assert pair["peak_separation"] * pair["r50"] == pytest.approx(np.hypot(9, 16), abs=1.5)
    assert pair["m20"] > single["m20"] + 0.3
    assert pair["multimode"] > 0.3 > single["multimode"]
    assert pair["asymmetry"] > single["asymmetry"] + 0.1


def test_spiral_and_bar_are_told_apart():
    r, angle = grid()
    disk = exponential(8)
    spiral = morphology(disk * (1 + 0.7 * np.cos(2 * (angle - np.log(r + 1) / np.tan(np.radians(20))))), GOOD, 0.5)
    barred = morphology(disk + 80 * np.exp(-((grid(q=0.3, theta=0.5)[0] / 14) ** 4)), GOOD, 0.5)
    assert spiral["spiral"] > 1.5 * spiral["bar"]
    assert barred["bar"] > 1.5 * barred["spiral"]
    assert spiral["winding"] == pytest.approx(2 / np.tan(np.radians(20)), abs=1.5)


def test_lopsided_light_shows_in_the_first_harmonic():
    _, angle = grid()
    lopsided = morphology(exponential(8) * (1 + 0.5 * np.cos(angle)), GOOD, 0.3)["m1"]
    assert lopsided > 0.1 > 0.03 > morphology(exponential(8), GOOD, 0.3)["m1"]


def test_bend():
    yy, xx = np.mgrid[:N, :N] - 48.0
    straight = 60 * np.exp(-((yy / 3) ** 2) - (xx / 14) ** 2)
    bent = 60 * np.exp(-(((yy - 0.03 * xx**2) / 3) ** 2) - (xx / 14) ** 2)
    assert morphology(bent, GOOD, 1.0)["bend"] > 5 * morphology(straight, GOOD, 1.0)["bend"] + 0.1


def test_neighbours_and_masks_do_not_move_the_radii():
    plain = morphology(exponential(5) + NOISE, GOOD, 1.0)
    crowd = exponential(5) + exponential(2, y=12, x=80, peak=300) + NOISE
    assert morphology(crowd, GOOD, 1.0)["r50"] == pytest.approx(plain["r50"], rel=0.05)
    holed, good = exponential(5) + NOISE, GOOD.copy()
    holed[50:56, 52:58], good[50:56, 52:58] = np.nan, False
    assert morphology(holed, good, 1.0)["r50"] == pytest.approx(plain["r50"], rel=0.08)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 3), st.booleans(), st.integers(0, 5))
def test_numbers_do_not_depend_on_orientation(turns, flip, seed):
    noise = np.random.default_rng(seed).normal(0, 1, (N, N))
    plane = exponential(6, q=0.6, theta=0.4) + exponential(2, y=56, x=50, peak=60) + noise
    turned = np.rot90(plane, turns)
    turned = turned[:, ::-1] if flip else turned
    first, second = morphology(plane, GOOD, 1.0), morphology(np.ascontiguousarray(turned), GOOD, 1.0)
    assert first.keys() == second.keys()
    for name in ("gini", "m20", "r50", "asymmetry", "smoothness", "bend", "m1", "spiral", "bar", "raggedness"):
        assert second[name] == pytest.approx(first[name], rel=0.08, abs=0.02), name


def test_flux_scale_does_not_matter():
    first, second = (morphology(s * (exponential(5) + NOISE), GOOD, s) for s in (1.0, 1e-7))
    assert second == pytest.approx(first, rel=1e-6)


@pytest.mark.parametrize("sigma", [1.0, 0.0, np.nan, np.inf])
def test_empty_sky_yields_nothing(sigma):
    assert morphology(NOISE, GOOD, sigma) == {}


@pytest.mark.parametrize("shape", [(1, 1), (5, 40), (8, 8), (9, 30)])
def test_tiny_stamps_do_not_raise(shape):
    found = morphology(np.full(shape, 9.0), np.ones(shape, bool), 1.0)
    assert all(np.isfinite(v) for v in found.values())


def test_opposite_is_an_involution_where_it_stays_inside():
    plane = np.arange(35.0).reshape(5, 7)
    np.testing.assert_array_equal(opposite(plane, 4, 6, 0.0), plane[::-1, ::-1])
    assert opposite(plane, 0, 0, -1.0)[0, 0] == plane[0, 0]
    assert (opposite(plane, 0, 0, -1.0)[1:] == -1).all()


def cutout(flux, **more):
    flux = np.asarray(flux, np.float32)
    return Cutout(source="made", flux=flux, mask=np.zeros(flux.shape, bool), bands=("",) * len(flux), **more)


def test_columns_and_record():
    stamp = cutout([exponential(5) + NOISE] * 2, ivar=np.ones((2, N, N), np.float32))
    found = measure_morphology(stamp)
    assert tuple(found) == tuple(c.name for c in COLUMNS) == tuple(PREFIX + n for n in NUMBERS)
    assert all(v is None or np.isfinite(v) for v in found.values())
    assert found["morph_r50"] == pytest.approx(8.4, rel=0.1)


def test_all_bad_gives_nulls_only():
    dead = cutout([np.full((N, N), np.nan)])
    assert set(measure_morphology(dead).values()) == {None}
    assert set(measure_morphology(cutout([NOISE], ivar=np.zeros((1, N, N), np.float32))).values()) == {None}


def test_wide_display_stamp_gives_radii_in_its_own_pixels():
    wide = np.kron(exponential(5) + NOISE + 20, np.ones((4, 4)))
    found = measure_morphology(cutout([wide] * 3, unit="display"))
    assert found["morph_r50"] == pytest.approx(4 * 8.4, rel=0.12)
