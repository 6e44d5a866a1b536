"""Measured light curves: exactly the declared columns, flags for what is missing, nothing from nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from transforms.bands import sdss_like, slots, wavelength
from transforms.flags import bits
from transforms.light_curve import good_points
from transforms.period import COLUMNS, measure_light_curve
from transforms.records import LightCurve
from transforms.simulate.light_curves import simulate_light_curves


def curve(n=40, seed=0, **changes):
    rng = np.random.default_rng(seed)
    base = LightCurve(
        source="x.csv", time=np.sort(rng.uniform(59000, 60000, n)), flux=rng.normal(1000, 100, n),
        flux_err=np.full(n, 10.0), band=np.where(np.arange(n) % 2, "g", "r"), quality=np.zeros(n, bool),
    )  # fmt: skip
    return replace(base, **changes)


def test_measured_are_declared_columns_and_finite():
    names = {column.name for column in COLUMNS}
    for record, _ in simulate_light_curves(20, 4):
        found = measure_light_curve(record, {}).measured
        assert set(found) <= names
        assert all(not isinstance(v, float) or np.isfinite(v) for v in found.values())


def test_simulated_pulsators_have_their_period():
    right = []
    for record, truth in simulate_light_curves(40, 12, classes=("rrab", "rrc", "cepheid", "dsct")):
        if record.time.size > 80:
            right.append(abs(measure_light_curve(record, {}).measured["period"] / truth.period - 1) < 0.01)
    assert len(right) > 15
    assert np.mean(right) > 0.7


def test_mean_magnitudes_and_colours_are_ab():
    flux = np.where(np.arange(40) % 2, 1000.0, 2000.0)
    found = measure_light_curve(curve(flux=flux), {}).measured
    assert found["mean_mag_g"] == pytest.approx(31.4 - 7.5)
    assert found["lc_g_r"] == pytest.approx(2.5 * np.log10(2))
    assert "mean_mag_g" not in measure_light_curve(curve(flux=flux, unit="relative"), {}).measured


def test_poor_input_gives_flags_and_no_numbers():
    none = measure_light_curve(curve(flux=np.full(40, np.nan)), {})
    assert none.flags & bits("NO_DATA")
    assert "period" not in none.measured
    few = measure_light_curve(curve(n=4), {})
    assert few.flags & bits("FEW_POINTS")
    assert "period" not in few.measured
    bad = measure_light_curve(curve(quality=np.arange(40) > 10), {})
    assert bad.flags & bits("BAD_DATA")
    empty = measure_light_curve(curve(n=0), {})
    assert empty.flags & bits("NO_DATA")


def test_phases_are_not_searched():
    folded = measure_light_curve(curve(flags=bits("PHASE_FOLDED"), time=np.linspace(0, 1, 40)), {})
    assert "period" not in folded.measured
    assert folded.measured["lc_skew"] is not None


def test_missing_errors_are_estimated():
    record = curve(flux_err=np.full(40, np.nan))
    points = good_points(record)
    assert not points.errors_known
    assert 50 < np.median(points.flux_err) < 200
    assert measure_light_curve(record, {}).flags & bits("NO_ERROR")


def test_outliers_are_marked_in_quality_and_the_record_is_not_written_to():
    record = curve(n=200, flux=np.random.default_rng(1).normal(1000, 5, 200))
    record.flux[7] = 100000.0
    measured = measure_light_curve(record, {})
    assert measured.quality[7]
    assert not record.quality[7]
    assert measured.flags & bits("OUTLIERS")


def test_order_of_bands_does_not_matter():
    record = curve()
    swapped = replace(record, band=np.where(record.band == "g", "zg", "zr"))
    a, b = (measure_light_curve(r, {}).measured for r in (record, swapped))
    assert a["period"] == b["period"]
    assert a["mean_mag_g"] == b["mean_mag_g"]


def test_filters_have_wavelengths_and_slots():
    assert wavelength("zg") == wavelength("ztf_g") == wavelength("g") == 475
    assert wavelength("V") != wavelength("v_unknown")
    assert sdss_like("R") is None
    assert slots(("g", "r")) == {"g": 1, "r": 2}
    assert slots(("V", "g")) == {"V": 2, "g": 1}
    assert len(set(slots(("u", "g", "r", "i", "z", "y")).values())) == 5
    assert slots(("odd",)) == {"odd": 2}
