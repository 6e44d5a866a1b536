"""The simulated sky of light curves: repeatable, of every class, with the stated noise."""

from __future__ import annotations

import numpy as np
import pytest

from transforms.simulate.light_curve_cadence import KINDS, synthetic_cadence, thinned
from transforms.simulate.light_curve_shapes import CLASSES, damped_walk, draw
from transforms.simulate.light_curves import simulate_light_curve, simulate_light_curves


def test_the_same_seed_gives_the_same_sky():
    first, second = (simulate_light_curves(12, 5) for _ in range(2))
    for (a, truth_a), (b, truth_b) in zip(first, second, strict=True):
        assert truth_a == truth_b
        np.testing.assert_array_equal(a.flux, b.flux)
    assert [t.kind for _, t in first][:10] == list(CLASSES)


def test_records_are_sorted_finite_and_have_points():
    for record, truth in simulate_light_curves(60, 1):
        assert record.time.size >= 5, truth
        assert np.all(np.diff(record.time) >= 0)
        assert np.isfinite(record.flux).all()
        assert np.all(record.flux_err > 0)


@pytest.mark.parametrize("kind", CLASSES)
def test_periodic_shapes_repeat(kind):
    shape = draw(kind, np.random.default_rng(3))
    time, wave = np.linspace(0, 300, 700), np.full(700, 475.0)
    values = shape.evaluate(time, wave)
    assert values.shape == time.shape
    if kind in ("ea", "ew", "rrc", "cepheid"):
        again = shape.evaluate(time + shape.period, wave)
        assert np.corrcoef(values, again)[0, 1] > 0.9


def test_pulsators_are_bluer_in_amplitude():
    for seed in range(5):
        shape = draw("rrab", np.random.default_rng(seed))
        time = np.linspace(0, 30, 2000)
        blue, red = (np.ptp(shape.evaluate(time, np.full(2000, w))) for w in (475.0, 905.0))
        assert 0.35 < red / blue < 0.75


def test_damped_walk_has_its_variance():
    rng = np.random.default_rng(0)
    values = damped_walk(np.arange(0, 200000, 10.0), 100.0, 0.2, rng)
    assert np.std(values) == pytest.approx(0.2, rel=0.1)


def test_constant_stars_scatter_as_their_errors_within_the_stated_inflation():
    ratio = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        record = simulate_light_curve(draw("constant", rng), synthetic_cadence("single", rng), rng)
        middle = np.median(record.flux)
        ratio.append(np.median(np.abs(record.flux - middle) / record.flux_err) * 1.4826)
    assert 0.9 < np.median(ratio) < 2.5


@pytest.mark.parametrize("kind", KINDS)
def test_cadences(kind):
    cadence = synthetic_cadence(kind, np.random.default_rng(2), "x")
    assert cadence.time.size == cadence.band.size > 15
    assert np.all(np.diff(cadence.time) >= 0)
    few = thinned(cadence, 12, None, np.random.default_rng(0))
    assert 0 < few.time.size < cadence.time.size
    assert few.donor == "x"


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="no light-curve class named 'nova'"):
        draw("nova", np.random.default_rng(0))
    with pytest.raises(ValueError, match="no cadence named 'weekly'"):
        synthetic_cadence("weekly", np.random.default_rng(0))
