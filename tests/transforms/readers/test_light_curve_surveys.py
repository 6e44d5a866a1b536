"""Light curves as surveys write them: their names, signs, zero points and identifiers mean what the survey means."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from transforms.attempt import Unusable
from transforms.flags import bits
from transforms.readers import Source, formats, identify
from transforms.records import FileRef, LightCurve

MJD = 58000 + np.arange(20) * 1.37


def load(path: Path) -> list[LightCurve]:
    ref = FileRef(url=str(path), source=path.name)
    out = []
    with Source(ref) as source:
        items = list(identify(source).items(source))
    for item in items:
        with Source(ref) as source:
            out += [entry.load() for entry in formats()[item.format].entries(source, item)]
    return out


def write(tmp_path: Path, header: str, rows: list[str], name: str = "table.csv") -> Path:
    path = tmp_path / name
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def fits_table(path: Path, columns: dict[str, tuple[str, np.ndarray]], **cards: object) -> Path:
    from astropy.io import fits

    made = [fits.Column(name, _code(values), unit=unit, array=values) for name, (unit, values) in columns.items()]
    table = fits.BinTableHDU.from_columns(made)
    table.header.update(cards)
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(path, overwrite=True)
    return path


def _code(values: np.ndarray) -> str:
    return {"f": "D", "i": "K", "U": f"{values.dtype.itemsize // 4}A"}[values.dtype.kind]


def three_stars() -> dict[str, tuple[str, np.ndarray]]:
    return {
        "objectid": ("", np.repeat([11, 22, 33], 20)),
        "mjd": ("d", np.tile(MJD, 3)),
        "mag": ("mag", np.repeat([12.0, 15.0, 18.0], 20)),
        "magerr": ("mag", np.full(60, 0.01)),
        "ra": ("deg", np.repeat([10.0, 20.0, 30.0], 20)),
        "dec": ("deg", np.repeat([1.0, 2.0, 3.0], 20)),
    }


def test_objects_of_a_fits_table_stay_apart(tmp_path):
    curves = load(fits_table(tmp_path / "a.fits", three_stars()))
    assert [(c.object_id, c.ra, c.dec, c.time.size) for c in curves] == [
        ("11", 10.0, 1.0, 20), ("22", 20.0, 2.0, 20), ("33", 30.0, 3.0, 20),
    ]  # fmt: skip
    assert [(c.hdu, c.row) for c in curves] == [("1", 0), ("1", 1), ("1", 2)]


def test_many_objects_of_a_fits_table_become_ranges(tmp_path):
    columns = {
        "star": ("", np.array([f"s{i:03d}" for i in range(300)])),
        "mjd": ("d", np.full(300, 58000.0)),
        "flux": ("nJy", np.arange(300.0)),
        "flux_err": ("nJy", np.ones(300)),
    }
    path = fits_table(tmp_path / "many.fits", columns)
    with Source(FileRef(url=str(path), source="many.fits", digest="many")) as source:
        assert [(i.hdu, i.start, i.stop) for i in identify(source).items(source)] == [("1", 0, 256), ("1", 256, 300)]
    curves = load(path)
    assert [c.object_id for c in curves] == [f"s{i:03d}" for i in range(300)]
    assert curves[280].flux.tolist() == [280.0]


def test_objects_without_a_known_identifier_are_refused_not_merged(tmp_path):
    columns = three_stars()
    del columns["objectid"]
    with pytest.raises(Unusable, match=r"no column of identifiers is known.*'ra' and 'dec'"):
        load(fits_table(tmp_path / "a.fits", columns))
    named = {**columns, "name": ("", np.array(["NGC 104"] * 60))}
    with pytest.raises(Unusable, match="'NGC 104' lie up to"):
        load(fits_table(tmp_path / "b.fits", named))


def test_crts_identifiers(tmp_path):
    rows = [f"{1000 + k % 3},14.5,0.05,{10 * (k % 3)},{k % 3},{MJD[k]},0" for k in range(20)]
    curves = load(write(tmp_path, "MasterID,Mag,Magerr,RA,Decl,MJD,Blend", rows))
    assert [(c.object_id, c.ra) for c in curves] == [("1000", 0.0), ("1001", 10.0), ("1002", 20.0)]
    rows = [f"1,{1000 + k % 3},14.5,0.05,{10 * (k % 3)},{k % 3},{MJD[k]},0" for k in range(20)]
    curves = load(write(tmp_path, "InputID,ID,Mag,Magerr,RA,Decl,MJD,Blend", rows))
    assert [c.object_id for c in curves] == ["1000", "1001", "1002"], "what the user asked for is not the object"


def test_position_across_zero_hours(tmp_path):
    rows = [f"a,{t},15,0.02,{359.9999 if k % 2 else 0.0001},1.0" for k, t in enumerate(MJD)]
    (curve,) = load(write(tmp_path, "object_id,mjd,mag,magerr,ra,dec", rows))
    assert min(curve.ra, 360 - curve.ra) < 2e-4
    assert curve.dec == 1.0


@pytest.mark.parametrize(
    ("ra", "dec"), [("05:34:31.94", "-22:00:52.2"), ("05 34 31.94", "-22 00 52.2"), ("5h34m31.94s", "-22d00m52.2s")]
)
def test_sexagesimal_position(tmp_path, ra, dec):
    rows = [f"a,{t},15,0.02,{ra},{dec}" for t in MJD]
    (curve,) = load(write(tmp_path, "object_id,mjd,mag,magerr,meanra,meandec", rows))
    assert curve.ra == pytest.approx(83.633083, abs=1e-6)
    assert curve.dec == pytest.approx(-22.0145, abs=1e-6)
    columns = {"mjd": ("d", MJD), "flux": ("", MJD), "flux_err": ("", MJD)}
    (curve,) = load(fits_table(tmp_path / "a.fits", columns, RA=ra, DEC=dec))
    assert curve.ra == pytest.approx(83.633083, abs=1e-6)


def snana_pair(tmp_path: Path, *, shift: int = 0) -> Path:
    mjd = np.concatenate([np.r_[MJD, -777.0]] * 3)
    flux = np.concatenate([np.r_[np.full(20, 100.0 * k), -777.0] for k in (1, 2, 3)])
    first = np.array([1, 22, 43]) + shift
    fits_table(
        tmp_path / "X_HEAD.FITS",
        {
            "SNID": ("", np.array(["sn1 ", "sn2 ", "sn3 "])),
            "RA": ("deg", np.array([10.0, 20.0, -999.0])),
            "DECL": ("deg", np.array([-1.0, -2.0, -999.0])),
            "PTROBS_MIN": ("", first),
            "PTROBS_MAX": ("", first + 19),
        },
    )
    return fits_table(
        tmp_path / "X_PHOT.FITS",
        {
            "MJD": ("", mjd),
            "FLT": ("", np.array(["r "] * 63)),
            "FLUXCAL": ("", flux),
            "FLUXCALERR": ("", np.full(63, 3.0)),
        },
    )


def test_snana_fits_pair(tmp_path):
    path = snana_pair(tmp_path)
    curves = load(path)
    assert [(c.object_id, c.ra, c.dec, c.time.size) for c in curves] == [
        ("sn1", 10.0, -1.0, 20), ("sn2", 20.0, -2.0, 20), ("sn3", None, None, 20),
    ]  # fmt: skip
    np.testing.assert_allclose(curves[1].flux, 200 * 10**1.56)
    assert curves[0].unit == "nJy"
    assert set(curves[0].band) == {"r"}
    assert load(tmp_path / "X_HEAD.FITS") == [], "the companion has no object of its own"


def test_snana_fits_faults_are_named(tmp_path):
    path = snana_pair(tmp_path, shift=1)
    with pytest.raises(Unusable, match=r"object sn1: rows 2 to 21 .* separator"):
        load(path)
    (tmp_path / "X_HEAD.FITS").unlink()
    with pytest.raises(Unusable, match=r"X_HEAD\.FITS, is not beside it"):
        load(path)


ALERT = "oid,mjd,fid,isdiffpos,magpsf,sigmapsf"


@pytest.mark.parametrize("marks", [("t", "f"), ("1", "-1"), ("1", "0"), ("True", "False")])
def test_ztf_differences_keep_their_sign(tmp_path, marks):
    rows = [f"ZTF1,{t},{1 + k % 2},{marks[k % 2]},18.0,0.1" for k, t in enumerate(MJD)]
    (curve,) = load(write(tmp_path, ALERT, rows))
    np.testing.assert_allclose(curve.flux, np.where(curve.band == "g", 1, -1) * 10**5.36)
    assert (curve.flux_err > 0).all()
    assert curve.unit == "nJy"
    assert curve.flags & bits("DIFFERENCE_FLUX")


def test_ztf_difference_without_its_sign_is_refused(tmp_path):
    rows = [f"ZTF1,{t},1,18.0,0.1" for t in MJD]
    with pytest.raises(Unusable, match="'magpsf' needs 'isdiffpos'"):
        load(write(tmp_path, "oid,mjd,fid,magpsf,sigmapsf", rows))


def test_ztf_corrected_magnitudes_are_preferred_where_they_are_there(tmp_path):
    header = ALERT + ",magpsf_corr,sigmapsf_corr,sigmapsf_corr_ext"
    rows = [f"ZTF1,{t},1,-1,18.0,0.1,15.0,100,0.02" for t in MJD]
    (curve,) = load(write(tmp_path, header, rows))
    np.testing.assert_allclose(curve.flux, 10**6.56)
    np.testing.assert_allclose(curve.flux_err / curve.flux, 0.02 * np.log(10) / 2.5)
    assert not curve.quality.any(), "the error of 100 that stands for a lost template error is not used"
    assert not curve.flags & bits("DIFFERENCE_FLUX")
    (curve,) = load(write(tmp_path, header, [f"ZTF1,{t},1,-1,18.0,0.1,,," for t in MJD]))
    np.testing.assert_allclose(curve.flux, -(10**5.36))
    assert curve.flags & bits("DIFFERENCE_FLUX")


def test_real_ztf_detections(data):
    import pyarrow.compute as pc
    import pyarrow.csv

    path = data / "alerts" / "alerce_lc_examples" / "ZTF18abombrp_20231006" / "detections.csv"
    (curve,) = load(path)
    table = pyarrow.csv.read_csv(path)
    corrected = table.filter(pc.equal(table["fid"], 1))["magpsf_corr"].drop_null().to_numpy()
    assert set(curve.band) == {"g", "r"}
    good = curve.flux[~curve.quality & (curve.band == "g")]
    assert np.median(good) == pytest.approx(10 ** (-0.4 * (np.median(corrected) - 31.4)), rel=0.02)
    (plain,) = load(path.parents[1] / "ZTF19aawgxdn_20231025" / "detections.csv")
    assert plain.flags & bits("DIFFERENCE_FLUX"), "none of its points has a corrected magnitude"


def test_ztf_forced_photometry(tmp_path):
    comment = "# Requested input R.A. = 123.25 degrees\n# Requested input Dec. = -5.5 degrees\n"
    rows = []
    for k, t in enumerate(MJD):
        zero = 26.2 + 0.5 * (k % 2)
        flux = -(10 ** (-0.4 * (18 - zero)))
        rows.append(f" {k} {t + 2400000.5} ZTF_r {zero} {flux} {abs(flux) * 0.01}")
    path = write(tmp_path, comment + "index, jd, filter, zpdiff, forcediffimflux, forcediffimfluxunc", rows, "f.txt")
    (curve,) = load(path)
    np.testing.assert_allclose(curve.flux, -(10**5.36))
    np.testing.assert_allclose(curve.flux_err, 0.01 * 10**5.36)
    assert (curve.unit, curve.ra, curve.dec) == ("nJy", 123.25, -5.5)
    assert curve.flags & bits("DIFFERENCE_FLUX")
    with pytest.raises(Unusable, match="'forcediffimflux' needs 'zpdiff'"):
        load(write(tmp_path, "jd,forcediffimflux,forcediffimfluxunc", [f"{t + 2400000.5},5,1" for t in MJD]))


def test_ztf_archive_names_its_filters_filtercode(tmp_path):
    rows = [f"1,{t + 2400000.505},{t},18.0,0.02,0,{'zg' if k % 2 else 'zr'},10.0,1.0" for k, t in enumerate(MJD)]
    (curve,) = load(write(tmp_path, "oid,hjd,mjd,mag,magerr,catflags,filtercode,ra,dec", rows))
    assert curve.unit == "nJy"
    assert set(curve.band) == {"zg", "zr"}


def test_sncosmo_zero_points(tmp_path):
    rows = [f"{t},sdssr,{10 ** (0.4 * (zero - 20))},1.0,{zero},ab" for t, zero in zip(MJD, 22 + MJD % 3, strict=True)]
    (curve,) = load(write(tmp_path, "time,band,flux,fluxerr,zp,zpsys", rows))
    np.testing.assert_allclose(curve.flux, 10**4.56)
    assert curve.unit == "nJy"


def test_atlas_forced_photometry(tmp_path):
    header = "###MJD m dm uJy duJy F err chi/N RA Dec x y maj min phi apfit mag5sig Sky Obs"
    rows = [
        f"{t} 17.5 0.05 {-100 - k} 5 {'co'[k % 2]} {int(k == 3)} 1.0 10.5 -3.25 1 1 2 2 0 -0.4 19.5 20 x"
        for k, t in enumerate(MJD)
    ]
    (curve,) = load(write(tmp_path, header, rows, "atlas.txt"))
    np.testing.assert_allclose(curve.flux, -1000.0 * (100 + np.arange(20)))
    assert (curve.unit, curve.ra, set(curve.band)) == ("nJy", 10.5, {"c", "o"})
    assert curve.quality.tolist() == [k == 3 for k in range(20)]


def test_asas_sn(tmp_path):
    header = "JD,Flux,Flux Error,Mag,Mag Error,Limit,FWHM,Filter,Quality,Camera"
    rows = [f"{t + 2400000.5},5,0.1,14.5,0.02,17,1.5,g,{'B' if k == 4 else 'G'},bi" for k, t in enumerate(MJD)]
    (curve,) = load(write(tmp_path, header, rows))
    np.testing.assert_allclose(curve.flux, 5e6)
    np.testing.assert_allclose(curve.flux_err, 1e5)
    assert curve.quality.tolist() == [k == 4 for k in range(20)]
    header = "HJD,UT Date,Camera,FWHM,Limit,mag,mag_err,flux(mJy),flux_err,Filter"
    rows = [f"{t + 2400000.5},x,bi,1.5,17,{'>17.1' if k else 14.2},99.99,5,0.1,V" for k, t in enumerate(MJD)]
    (curve,) = load(write(tmp_path, header, rows))
    np.testing.assert_allclose(curve.flux, 5e6)


def test_unknown_quality_word_is_named(tmp_path):
    with pytest.raises(Unusable, match="'Quality' holds 'purple'"):
        load(write(tmp_path, "JD,Mag,MagErr,Quality", [f"{t + 2400000.5},14,0.1,purple" for t in MJD]))


def test_upper_limits_are_points_that_are_not_used(tmp_path):
    rows = [f"{t + 2400000.5},{'<' if k == 3 else ''}12.5,0.02,V" for k, t in enumerate(MJD)]
    (curve,) = load(write(tmp_path, "JD,Magnitude,Uncertainty,Band", rows))
    assert curve.quality.tolist() == [k == 3 for k in range(20)]
    long = [f"{t},12.5,0.02,V" for t in np.arange(2450000, 2530000) - 40000 * 0.5] + ["2459000.5,<12.5,0.02,V"]
    (curve,) = load(write(tmp_path, "JD,Magnitude,Uncertainty,Band", long))
    assert curve.quality.sum() == 1, "a limit far down, after the types were told"


def test_gaia_epoch_photometry(tmp_path):
    header = (
        "solution_id,source_id,transit_id,band,time,mag,flux,flux_error,flux_over_error,rejected_by_photometry,"
        "rejected_by_variability"
    )
    rows = [f"1,{5 + k % 2},{k},G,{1700 + k},15.0,100,1,100,{k == 4},false" for k in range(20)]
    curves = load(write(tmp_path, header, rows))
    assert [c.object_id for c in curves] == ["5", "6"]
    assert (curves[0].time[0], curves[0].time_scale) == (56897.0, "tcb")
    assert curves[0].quality.sum() == 1
    assert curves[0].unit == "electron/s"


def test_a_light_curve_with_source_id_is_no_gaia_spectrum(tmp_path):
    for time in ("mjd", "hjd", "obs_time"):
        (curve,) = load(write(tmp_path, f"source_id,{time},flux,flux_error", [f"5,{t},100,1" for t in MJD]))
        assert isinstance(curve, LightCurve)


def test_rubin_dia_sources_are_differences(tmp_path):
    header = "diaSourceId,diaObjectId,midpointMjdTai,band,psfFlux,psfFluxErr,scienceFlux,pixelFlags_bad"
    rows = [f"{k},7,{t},r,{-500 - k},10,9000,{k == 2}" for k, t in enumerate(MJD)]
    (curve,) = load(write(tmp_path, header, rows))
    np.testing.assert_allclose(curve.flux, -500.0 - np.arange(20))
    assert curve.flags & bits("DIFFERENCE_FLUX")
    assert curve.quality.sum() == 1
    assert (curve.object_id, curve.time_scale) == ("7", "tai")


def mission(tmp_path: Path, **columns: tuple[str, np.ndarray]) -> LightCurve:
    base = {"TIME": ("BJD - 2457000, days", 2000 + np.arange(20.0)), "CADENCENO": ("", np.arange(20))}
    (curve,) = load(fits_table(tmp_path / "m.fits", {**base, **columns}, OBJECT="TIC 1"))
    return curve


def test_quick_look_fluxes_are_relative_and_detrended(tmp_path):
    raw, flat = 1 + 0.1 * np.arange(20.0), 1 + 0.001 * np.arange(20.0)
    curve = mission(tmp_path, SAP_FLUX=("", raw), KSPSAP_FLUX=("", flat), KSPSAP_FLUX_ERR=("", np.full(20, 1e-4)))
    assert curve.unit == "relative"
    np.testing.assert_allclose(curve.flux, flat / np.median(flat))
    curve = mission(tmp_path, SAP_FLUX=("e-/s", raw), SAP_FLUX_ERR=("e-/s", np.full(20, 1e-4)))
    assert curve.unit == "electron/s"


def test_everest_keeps_position_and_errors(tmp_path):
    columns = {
        "CADN": ("", np.arange(20)), "FLUX": ("e-/s", np.full(20, 1e4)), "FRAW_ERR": ("e-/s", np.full(20, 3.0)),
        "QUALITY": ("", (np.arange(20) == 5).astype(int)), "TIME": ("BJD - 2454833", 2000 + np.arange(20.0)),
    }  # fmt: skip
    path = fits_table(tmp_path / "e.fits", columns, OBJECT="EPIC 2", RA_OBJ=150.0, DEC_OBJ=2.0)
    (curve,) = load(path)
    assert (curve.object_id, curve.ra, curve.unit) == ("EPIC 2", 150.0, "electron/s")
    assert (curve.flux_err == 3).all()
    assert curve.time[0] == pytest.approx(2000 + 2454833 - 2400000.5)
    assert curve.quality.sum() == 1


def test_aavso_extended_format(tmp_path):
    head = "#TYPE=EXTENDED\n#OBSCODE=XYZ\n#SOFTWARE=a, b\n#DELIM=,\n#DATE=HJD\n#OBSTYPE=CCD\n"
    head += "#NAME,DATE,MAG,MERR,FILT,TRANS,MTYPE,CNAME,CMAG,KNAME,KMAG,AMASS,GROUP,CHART,NOTES"
    rest = "0.02,V,NO,STD,na,na,na,na,1.2,na,070613,na"
    rows = [
        f"{'SS CYG' if k % 2 else 'U GEM'},{t + 2400000.5},{'<' if k == 3 else ''}11.5,{rest}"
        for k, t in enumerate(MJD)
    ]
    curves = load(write(tmp_path, head, rows, "aavso.txt"))
    assert [c.object_id for c in curves] == ["U GEM", "SS CYG"]
    assert curves[1].quality.sum() == 1
    assert curves[1].measured["time_system"] == "hjd"
    np.testing.assert_allclose(curves[0].flux_err, curves[0].flux * 0.02 * np.log(10) / 2.5)


def test_masked_integers_of_a_votable_are_missing(tmp_path):
    from astropy.table import MaskedColumn, Table

    table = Table({"name": ["a"] * 20, "mjd": MJD, "flux": np.ones(20), "flux_error": np.full(20, 0.1)})
    table["quality"] = MaskedColumn(np.zeros(20, int), mask=np.arange(20) == 7)
    table.write(tmp_path / "a.xml", format="votable")
    (curve,) = load(tmp_path / "a.xml")
    assert curve.quality.tolist() == [k == 7 for k in range(20)], "where nothing is said a point is not used"


def test_quality_in_list_columns_counts(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet

    path = tmp_path / "a.parquet"
    lists = {"mjd": [MJD], "mag": [np.full(20, 15.0)], "magerr": [np.full(20, 0.1)], "catflags": [np.arange(20) == 3]}
    pa.parquet.write_table(pa.table({"oid": [1], **lists}), path)
    (curve,) = load(path)
    assert curve.quality.tolist() == [k == 3 for k in range(20)]
    pa.parquet.write_table(pa.table({"oid": [1], **lists, "catflags": [[0, 0]]}), path)
    with pytest.raises(Unusable, match=r"differ in length: .* catflags 2"):
        load(path)


def test_snana_text_without_a_position(tmp_path):
    lines = ["SURVEY: X", "SNID: sn1", "RA: -999.0", "DECL: -999.0", "VARLIST: MJD FLT FLUXCAL FLUXCALERR"]
    path = write(tmp_path, "\n".join(lines), [f"OBS: {t} r 10 1" for t in MJD], "sn.dat")
    (curve,) = load(path)
    assert (curve.ra, curve.dec) == (None, None)
    assert curve.flags & bits("NO_POSITION")
