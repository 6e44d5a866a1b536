"""Times of light curves: the unit, the zero point and the scale, and what is said where one of them is missing."""

from __future__ import annotations

import numpy as np
import pytest

from tests.transforms.readers.test_light_curve_surveys import MJD, fits_table, load, write
from transforms.attempt import Unusable
from transforms.flags import bits
from transforms.readers.light_curve_times import find_system, system_of, to_mjd


def curve_of(tmp_path, header: str, times: np.ndarray):
    (curve,) = load(write(tmp_path, f"{header},mag,magerr,band", [f"{t!r},15,0.1,g" for t in times.tolist()]))
    return curve


def fits_curve(tmp_path, unit: str, times: np.ndarray, **cards):
    columns = {"TIME": (unit, times), "FLUX": ("", times), "FLUX_ERR": ("", np.ones(times.size))}
    (curve,) = load(fits_table(tmp_path / "t.fits", columns, **cards))
    return curve


@pytest.mark.parametrize(("unit", "days"), [("s", 1 / 86400), ("min", 1 / 1440), ("h", 1 / 24), ("d", 1.0), ("", 1.0)])
def test_units_of_time(tmp_path, unit, days):
    times = np.linspace(45000, 60000, 50)
    curve = fits_curve(tmp_path, unit, times)
    assert np.ptp(curve.time) == pytest.approx(15000 * days)
    guessed = days == 1
    assert (curve.mjd is not None) == guessed, "a zero point is guessed for days only"
    assert bool(curve.flags & bits("TIME_ZERO_UNKNOWN")) != guessed


def test_a_unit_that_is_none_of_time_is_refused(tmp_path):
    with pytest.raises(Unusable, match="'TIME' have the unit 'mag'"):
        fits_curve(tmp_path, "mag", MJD)


def test_seconds_from_a_stated_reference(tmp_path):
    curve = fits_curve(tmp_path, "s", (MJD - 51910) * 86400, MJDREFI=51910, MJDREFF=7.428703703703703e-4)
    np.testing.assert_allclose(curve.time, MJD + 7.428703703703703e-4, atol=1e-6)
    assert not curve.flags & bits("TIME_ZERO_UNKNOWN")


@pytest.mark.parametrize(("name", "system"), [("hjd", "rhjd"), ("jd", "rjd"), ("bjd", "rbjd")])
def test_reduced_julian_dates_begin_at_noon(tmp_path, name, system):
    curve = curve_of(tmp_path, name, MJD + 0.5)
    np.testing.assert_allclose(curve.time, MJD)
    assert curve.measured["time_system"] == system
    assert curve.flags & bits("TIME_ZERO_UNKNOWN"), "the name does not state the zero point"
    assert curve.mjd is not None


@pytest.mark.parametrize(
    ("name", "zero"), [("HJD-2450000", 2450000), ("HJD - 2400000", 2400000), ("BJD_TDB-2454900.5", 2454900.5)]
)
def test_a_zero_point_in_the_name_is_exact(tmp_path, name, zero):
    curve = curve_of(tmp_path, name, MJD + 2400000.5 - zero)
    np.testing.assert_allclose(curve.time, MJD, atol=1e-8)
    assert not curve.flags & bits("TIME_ZERO_UNKNOWN")


def test_julian_dates_in_a_column_named_mjd(tmp_path):
    curve = curve_of(tmp_path, "mjd", MJD + 2400000.5)
    np.testing.assert_allclose(curve.time, MJD)
    assert curve.measured["time_system"] == "jd"


@pytest.mark.parametrize("name", ["mjd", "hjd", "bjd"])
def test_no_system_is_taken_at_its_word_for_an_impossible_year(tmp_path, name):
    curve = curve_of(tmp_path, name, MJD - 56000)
    assert curve.mjd is None
    assert curve.flags & bits("TIME_ZERO_UNKNOWN")


def test_barycentric_before_heliocentric_before_plain(tmp_path):
    rows = [f"{t},{t + 2400000.503},{t + 2400000.505},15,0.1,g" for t in MJD]
    (curve,) = load(write(tmp_path, "mjd,hjd,bjd,mag,magerr,band", rows))
    np.testing.assert_allclose(curve.time, MJD + 0.005, atol=1e-8)
    assert (curve.measured["time_system"], curve.time_scale) == ("bjd", "tdb")
    (curve,) = load(write(tmp_path, "mjd,hjd,jd,mag,magerr,band", rows))
    np.testing.assert_allclose(curve.time, MJD + 0.003, atol=1e-8)


def test_time_objects_of_ecsv_keep_their_scale(tmp_path):
    from astropy.table import Table
    from astropy.time import Time

    table = Table({"bjd": Time(MJD + 2400000.5, format="jd", scale="tdb"), "flux": MJD, "flux_err": np.ones(MJD.size)})
    table.write(tmp_path / "a.ecsv")
    (curve,) = load(tmp_path / "a.ecsv")
    np.testing.assert_allclose(curve.time, MJD, atol=1e-8)
    assert curve.time_scale == "tdb"


@pytest.mark.parametrize(
    ("name", "unit", "system"),
    [
        ("TIME", "BJD - 2457000, days", "btjd"), ("TIME", "bkjd", "bkjd"), ("HJD", "JD", "hjd"), ("ObsMJD", "", "mjd"),
        ("midpointMjdTai", "d", "tai"), ("time", "Barycentric JD in TCB - 2455197.5 (day)", "gaia"), ("flux", "", ""),
        ("JD - 2457000", "", "jd-2457000"), ("bjd", "mjd", "mjd"),
    ],
)  # fmt: skip
def test_system_of(name, unit, system):
    assert system_of(name, unit) == system


def test_every_system_gives_mjd():
    assert find_system("stardate") is None
    for system in ("jd", "hjd", "bjd"):
        offset, _, found, sure = to_mjd(2458000.5, system)
        assert (2458000.5 + offset, found, sure) == (58000.0, system, True)
    assert to_mjd(58000.0, "unstated")[1:] == ("", "", False)
