"""Light-curve readers: one object in every format is one record; odd files end as flags or as clear reasons."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from transforms.attempt import NoReader, Unreadable, Unusable
from transforms.flags import bits
from transforms.readers import Source, formats, identify
from transforms.records import FileRef, LightCurve
from transforms.simulate import light_curve_files as files
from transforms.simulate.light_curves import simulate_light_curves


def load(path: Path, options: dict | None = None) -> list[LightCurve]:
    ref = FileRef(url=str(path), source=path.name)
    out = []
    with Source(ref, options or {}) as source:
        items = list(identify(source).items(source))
    for item in items:
        with Source(ref, options or {}) as source:
            out += [entry.load() for entry in formats()[item.format].entries(source, item)]
    return out


@pytest.fixture(scope="module")
def star() -> LightCurve:
    from dataclasses import replace

    record, _ = simulate_light_curves(6, 3)[0]
    return replace(record, ra=12.5, dec=-30.25)


def write(tmp_path: Path, name: str, text: str) -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def test_every_format_of_one_object_gives_one_flux(star, tmp_path):
    positive = star.flux > 0
    files.write_csv(tmp_path / "a.csv", [star])
    files.write_parquet(tmp_path / "a.parquet", [star])
    files.write_snana(tmp_path / "a.dat", star)
    csv, parquet, snana = (load(tmp_path / name)[0] for name in ("a.csv", "a.parquet", "a.dat"))
    assert csv.unit == parquet.unit == snana.unit == "nJy"
    np.testing.assert_allclose(csv.flux, star.flux[positive], rtol=2e-5)
    np.testing.assert_allclose(parquet.flux, star.flux, rtol=1e-12)
    np.testing.assert_allclose(snana.flux, star.flux, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(snana.time, star.time, atol=1e-5)
    assert csv.object_id == parquet.object_id == snana.object_id == star.object_id
    assert (csv.ra, csv.dec) == (12.5, -30.25)
    assert snana.band.tolist() == star.band.tolist()


def test_kepler_file_keeps_quality_and_barycentric_time(tmp_path):
    record = simulate_light_curves(3, 8)[0][0]
    files.write_kepler(tmp_path / "k.fits", record)
    (curve,) = load(tmp_path / "k.fits")
    assert curve.time_scale == "tdb"
    assert curve.unit == "electron/s"
    assert curve.time.size == record.time.size - 1, "the row without a time is gone"
    assert curve.quality.sum() == 1, "the row with a quality bit stays, marked"
    np.testing.assert_allclose(curve.time[0], record.time[0], atol=1e-6)


def test_many_objects_become_ranges_of_at_most_256(tmp_path):
    lines = ["object_id,mjd,flux,flux_err,band"]
    lines += [f"s{i},{60000 + k},{10 + k},1,g" for k in range(3) for i in range(600)]
    path = write(tmp_path, "many.csv", "\n".join(lines))
    with Source(FileRef(url=str(path), source="many.csv")) as source:
        items = list(identify(source).items(source))
    assert [(i.start, i.stop) for i in items] == [(0, 256), (256, 512), (512, 600)]
    curves = load(path)
    assert [c.object_id for c in curves] == [f"s{i}" for i in range(600)]
    assert all(c.time.size == 3 and c.row == i for i, c in enumerate(curves))


def test_sentinels_unsorted_and_duplicates_are_flagged_not_dropped(tmp_path):
    rows = ["60003,18.0,0.1,g", "60001,99.9,0.1,g", "60002,18.1,-1,g", "60003,18.2,0.1,g", "60004,18.3,9.9,g"]
    (curve,) = load(write(tmp_path, "odd.csv", "mjd,mag,magerr,band\n" + "\n".join(rows)))
    assert curve.time.tolist() == [60001, 60002, 60003, 60003, 60004]
    assert curve.quality.tolist() == [True, True, False, True, True]
    for name in ("UNSORTED", "DUPLICATE_TIMES", "NEGATIVE_ERROR", "NO_POSITION"):
        assert curve.flags & bits(name), name
    assert np.isfinite(curve.flux).all()


@pytest.mark.parametrize(
    ("header", "time", "mjd", "scale", "system"),
    [
        ("jd", 2459000.5, 59000.0, "", "jd"),
        ("hjd", 2459000.5, 59000.0, "", "hjd"),
        ("bjd_tdb", 2459000.5, 59000.0, "tdb", "bjd"),
        ("BJD - 2457000", 2000.0, 58999.5, "tdb", "btjd"),
        ("midpointMjdTai", 60000.0, 60000.0, "tai", "tai"),
        ("time", 60000.0, 60000.0, "", "mjd"),
    ],
)
def test_time_systems(tmp_path, header, time, mjd, scale, system):
    rows = "\n".join(f"{time + k},18,0.1,g" for k in range(5))
    (curve,) = load(write(tmp_path, "t.csv", f"{header},mag,magerr,band\n{rows}\n"))
    assert curve.time[0] == pytest.approx(mjd)
    assert curve.time_scale == scale
    assert curve.measured["time_system"] == system


def test_unknown_zero_point_is_said(tmp_path):
    rows = "\n".join(f"{k},18,0.1,V" for k in range(5))
    (curve,) = load(write(tmp_path, "t.csv", f"time,mag,magerr,band\n{rows}\n"))
    assert curve.flags & bits("TIME_ZERO_UNKNOWN")
    assert curve.mjd is None


def test_declared_columns_are_honoured_and_checked(tmp_path):
    rows = "\n".join(f"{2000 + k};{5 + k};0.5;x{k % 2};r" for k in range(6))
    path = write(tmp_path, "mine.csv", f"when;brightness;unsure;who;colour\n{rows}\n")
    mapping = {
        "time": "when",
        "time_system": "btjd",
        "flux": "brightness",
        "error": "unsure",
        "band": "colour",
        "object": "who",
    }
    curves = load(path, {"light_curves": mapping})
    assert [c.object_id for c in curves] == ["x0", "x1"]
    assert curves[0].time[0] == pytest.approx(2000 + 56999.5)
    with pytest.raises(Unusable, match=r"error=nothing.*it has when, brightness"):
        load(path, {"light_curves": {**mapping, "error": "nothing"}})
    with pytest.raises(Unusable, match="time_system 'stardate'"):
        load(path, {"light_curves": {**mapping, "time_system": "stardate"}})


def test_ecsv_and_votable(tmp_path):
    from astropy import units as u
    from astropy.table import Table

    table = Table({"mjd": [60000.0, 60001, 60002], "flux": [1.0, 2, 3], "flux_err": [0.1, 0.1, 0.1], "band": ["g"] * 3})
    table["flux"].unit = table["flux_err"].unit = u.uJy
    table.meta.update({"ra": 10.0, "dec": 20.0})
    table.write(tmp_path / "a.ecsv")
    table.write(tmp_path / "a.xml", format="votable")
    for name in ("a.ecsv", "a.xml"):
        (curve,) = load(tmp_path / name)
        assert curve.unit == "nJy"
        np.testing.assert_allclose(curve.flux, [1000, 2000, 3000])
    assert load(tmp_path / "a.ecsv")[0].ra == 10.0


def test_bands_in_list_columns_of_their_own(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet

    table = pa.table(
        {"star": ["a"], "time_points_b": [[1.0, 3.0]], "light_points_b": [[5.0, 6.0]], "error_points_b": [[1.0, 1.0]],
         "time_points_r": [[2.0]], "light_points_r": [[7.0]], "error_points_r": [[1.0]]}
    )  # fmt: skip
    pyarrow.parquet.write_table(table, tmp_path / "two.parquet")
    (curve,) = load(tmp_path / "two.parquet")
    assert curve.band.tolist() == ["B", "R", "B"]
    assert curve.flux[0] / curve.flux[2] == pytest.approx(10**0.4), "light is a magnitude there"
    assert not curve.flags & bits("UNSORTED")


def test_plain_numbers_and_macho(tmp_path):
    ogle = "\n".join(f"{2450465.7 + k} {15 + 0.1 * k} 0.003" for k in range(6))
    (curve,) = load(write(tmp_path, "ogle.dat", ogle))
    assert curve.unit == "relative"
    assert curve.time[0] == pytest.approx(50465.2)
    head = "#Field Tile Seq RA(hour) Dec(deg) Filter mean_Mag\n#1 3444 614 5.0 -69.171 B -5.9\n#MJD Mag Err\n"
    rows = "\n".join(f"{48823.4 + k} -6.{k} 0.1" for k in range(6))
    (macho,) = load(write(tmp_path, "lc.mjd", head + rows))
    assert macho.ra == 75.0
    assert set(macho.band) == {"B"}


def test_phases_are_flagged(tmp_path):
    text = '{"system_parameters": {"P": 0.49}, "interpolated_light_curves": {"phase": [0, 0.5, 1], "V": [1, 0.5, 1]}}'
    (curve,) = load(write(tmp_path, "eb.json", text))
    assert curve.flags & bits("PHASE_FOLDED")
    assert curve.mjd is None


@pytest.mark.parametrize("text", ["file,class,period\na.csv,RRab,0.5\n", "# Title\n\nSome words.\n", '{"a": 1}'])
def test_other_files_are_not_taken(tmp_path, text):
    with pytest.raises(NoReader):
        load(write(tmp_path, "x.txt", text))


def test_damage_has_a_reason(tmp_path, star):
    files.write_snana(tmp_path / "cut.dat", star)
    whole = (tmp_path / "cut.dat").read_text().splitlines()
    (tmp_path / "cut.dat").write_text("\n".join(whole[: len(whole) - 5]))
    with pytest.raises(Unreadable, match="NOBS is"):
        load(tmp_path / "cut.dat")
    with pytest.raises(Unusable, match="no rows"):
        load(write(tmp_path, "empty.csv", "object_id,mjd,flux,flux_err\n"))
    with pytest.raises(Unusable, match="none of the 2 points"):
        load(write(tmp_path, "nan.csv", "mjd,flux,flux_err\n60000,nan,1\n60001,nan,1\n"))
    with pytest.raises(Unreadable, match="table of 3 columns"):
        load(write(tmp_path, "ragged.csv", "mjd,flux,flux_err\n60000,1,1\n60001,1,1,5\n"))


def test_target_pixels_without_light_are_refused(tmp_path):
    from astropy.io import fits

    cube = np.zeros((4, 2, 2), np.float32)
    columns = [
        fits.Column("TIME", "D", array=np.arange(4.0)), fits.Column("CADENCENO", "J", array=np.arange(4)),
        fits.Column("FLUX", "4E", dim="(2,2)", array=cube), fits.Column("FLUX_ERR", "4E", dim="(2,2)", array=cube),
        fits.Column("QUALITY", "J", array=np.zeros(4)),
    ]  # fmt: skip
    aperture = fits.ImageHDU(np.full((2, 2), 3, np.int32), name="APERTURE")
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns(columns), aperture]).writeto(tmp_path / "p.fits")
    with pytest.raises(Unusable, match="zero or missing in every cadence"):
        load(tmp_path / "p.fits")


def test_real_files(data):
    root = data / "lightcurves"
    expected = {
        "rrlyr_s82/1013184.csv": ("nJy", 5), "macho_tsfeat/lc_1.3444.614.B.mjd": ("relative", 1),
        "swift_snia/SN2011fe.dat": ("nJy", 6), "ogle2_macho_small/cepheid/LMC_SC1237629.dat": ("relative", 1),
        "kepler_llc/kplr005899262-2009166043257_llc.fits": ("electron/s", 1),
    }  # fmt: skip
    for name, (unit, bands) in expected.items():
        (curve,) = load(root / name)
        assert curve.unit == unit, name
        assert len(set(curve.band.tolist())) == bands, name
        assert np.all(np.diff(curve.time) >= 0), name
        assert not curve.quality.all(), name
