"""Every spectrum format: twins give back what was written, damage gives a clear reason, real files read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from tests.transforms.readers.spectrum_twins import FORMATS, read
from transforms import flags
from transforms.attempt import NoReader, Unreadable, Unusable
from transforms.numerics.spectra.wavelengths import log_grid
from transforms.readers.format import Source
from transforms.records import FileRef
from transforms.simulate import spectrum_files as files
from transforms.simulate.spectra import simulate_spectra


def simulated(kind: str, n: int = 1):
    return simulate_spectra(n, 11, kind)


TWINS = {
    "lamost": ("lamost", "a.fits", lambda path, stars: files.write_lamost(path, stars[0])),
    "sdss_spec": ("sdss", "a.fits", lambda path, stars: files.write_sdss_spec(path, stars[0])),
    "sdss_plate": ("sdss", "a.fits", files.write_sdss_plate),
    "desi_coadd": ("desi", "a.fits", files.write_desi_coadd),
    "aaomega": ("aaomega", "a.fits", lambda path, stars: files.write_aaomega(path, stars[0])),
    "fits_spectrum": ("linear", "a.fits", lambda path, stars: files.write_fits_1d(path, stars[0])),
    "text_spectrum": ("lamost", "a.csv", files.write_csv),
}


@pytest.mark.parametrize("name", TWINS)
def test_twin_gives_back_what_was_written(tmp_path, name):
    kind, file, write = TWINS[name]
    stars = simulated(kind, 3)
    write(tmp_path / file, stars)
    found, records = read(tmp_path / file)
    assert found == name
    assert len(records) == (3 if name in {"sdss_plate", "desi_coadd", "text_spectrum"} else 1)
    for record, star in zip(records, stars, strict=False):
        truth = star.spectrum
        assert record.wavelength == pytest.approx(truth.wavelength, rel=2e-6)
        assert np.array_equal(record.mask, truth.mask)
        assert record.flux == pytest.approx(truth.flux, abs=2e-6)
        assert record.ivar == pytest.approx(truth.ivar, rel=1e-4)
        assert (record.ra, record.dec) == pytest.approx((truth.ra, truth.dec), abs=1e-6)
        assert not record.flux[record.mask].any()
        assert not record.ivar[record.mask].any()
        assert record.flux.dtype == np.float32
        assert record.flux.flags.c_contiguous
        assert record.z_header is None


def test_a_simulated_night_of_all_kinds_is_read_whole(tmp_path):
    rows = files.lay_out(tmp_path, 2, 31)
    truth = {(row["source"], row["row"]): row for row in rows}
    seen = [(path.name, record) for path in sorted(tmp_path.iterdir()) for record in read(path)[1]]
    assert {(name, record.row) for name, record in seen} == set(truth)
    assert len(seen) == len(rows) == 16
    for row in rows:
        assert {"teff", "logg", "fe_h", "v_rad"} <= set(row)


def test_air_and_unit_of_an_ecsv_are_honoured(tmp_path):
    (star,) = simulated("linear")
    files.write_ecsv(tmp_path / "a.ecsv", star)
    _, (record,) = read(tmp_path / "a.ecsv")
    assert record.air
    assert record.frame == "heliocentric"
    assert record.wavelength == pytest.approx(star.spectrum.wavelength, rel=1e-9)
    assert record.mjd == star.spectrum.mjd
    assert record.object_id == star.spectrum.object_id


def test_linear_and_logarithmic_headers_of_a_2df_file_give_one_answer(tmp_path):
    (star,) = simulated("aaomega")
    answers = []
    for log in (False, True):
        for vacuum in (False, True):
            files.write_aaomega(tmp_path / "a.fits", star, log=log, vacuum=vacuum)
            answers.append(read(tmp_path / "a.fits")[1][0])
    for answer in answers:
        assert answer.wavelength == pytest.approx(answers[0].wavelength, rel=1e-9)
        assert np.array_equal(answer.flux, answers[0].flux)
    assert [a.air for a in answers] == [True, False, True, False]


def test_logarithmic_wcs(tmp_path):
    (star,) = simulated("lamost")
    files.write_fits_1d(tmp_path / "a.fits", star, log=True, air=None)
    _, (record,) = read(tmp_path / "a.fits")
    assert "AIR_ASSUMED" in flags.decode(record.flags)
    assert record.wavelength[0] == pytest.approx(3701.06, abs=0.01)  # 3700.00 in air


def test_many_spectra_are_cut_into_items(tmp_path):
    plane = np.ones((600, 700), dtype=np.float32)
    hdu = fits.PrimaryHDU(plane)
    hdu.header.update({"PLATEID": 1, "COEFF0": 3.6, "COEFF1": 1e-4, "MJD": 55000})
    hdu.writeto(tmp_path / "plate.fits")
    with Source(FileRef(url=str(tmp_path / "plate.fits"), source="plate.fits")) as source:
        reader = next(f for f in FORMATS if f.sniff(source))
        items = reader.items(source)
        assert [(i.start, i.stop) for i in items] == [(0, 256), (256, 512), (512, 600)]
        entries = list(reader.entries(source, items[2]))
        assert [e.row for e in entries] == list(range(512, 600))
        assert entries[3].load().row == 515


def _image(path: Path, data: np.ndarray, **cards) -> Path:
    hdu = fits.PrimaryHDU(data)
    hdu.header.update({"CRVAL1": 4000.0, "CDELT1": 1.0, **cards})
    hdu.writeto(path, overwrite=True)
    return path


DAMAGED = {
    "none of 500 flux values is finite": ({}, np.full(500, np.nan)),
    "the flux is zero in all of 500 pixels": ({}, np.zeros(500)),
    r"no wavelength solution \(CRVAL1 is 4000.0, CDELT1 is None\)": ({"CDELT1": None}, np.ones(500)),
    "the spectral axis is VRAD": ({"CTYPE1": "VRAD", "CUNIT1": "km/s"}, np.ones(500)),
    "wavelength unit 'furlong' of axis 1 of a is not known": ({"CUNIT1": "furlong"}, np.ones(500)),
    "cannot be Angstrom": ({"CRVAL1": -10.0, "CUNIT1": "Angstrom"}, np.ones(500)),
}


@pytest.mark.parametrize("reason", DAMAGED)
def test_damage_has_a_clear_reason(tmp_path, reason):
    cards, data = DAMAGED[reason]
    path = _image(tmp_path / "a.fits", data.astype(np.float32), **{k: v for k, v in cards.items() if v is not None})
    if None in cards.values():
        with fits.open(path, mode="update") as hdus:
            del hdus[0].header["CDELT1"]
    with pytest.raises(Unusable, match=reason):
        read(path)


def test_tables_with_bad_wavelengths_or_errors(tmp_path):
    wave = np.linspace(4000, 5000, 200)

    def table(**columns):
        made = [fits.Column(n, "D", array=v) for n, v in columns.items()]
        fits.BinTableHDU.from_columns(made).writeto(tmp_path / "t.fits", overwrite=True)
        return read(tmp_path / "t.fits")[1]

    (record,) = table(wavelength_vac=wave[::-1], flux=wave, error=np.full(200, 2.0))
    assert record.wavelength[0] == 4000.0
    assert record.flux[0] == 5000.0
    assert record.ivar[0] == 0.25
    assert not record.air
    broken = wave.copy()
    broken[50] = 4000.0
    with pytest.raises(Unusable, match=r"not monotonic: 4246.23 at pixel 49, then 4000"):
        table(wavelength=broken, flux=wave)
    with pytest.raises(Unusable, match="inverse variance is negative in 200 of 200"):
        table(wavelength=wave, flux=wave, ivar=-np.ones(200))
    with pytest.raises(Unusable, match="up to 500 in column 'wavelength' have no unit"):
        table(wavelength=wave / 10, flux=wave)
    assert table(wavelength_nm=wave / 10, flux=wave)[0].wavelength[0] == pytest.approx(4001.13, abs=0.01)
    with pytest.raises(Unusable, match="0 rows"):
        table(wavelength=[], flux=[])
    (masked,) = table(wavelength=wave, flux=wave, ivar=np.zeros(200))
    assert {"NO_DATA", "BAD_DATA"} <= set(flags.decode(masked.flags))


def test_tiny_fluxes_keep_their_errors(tmp_path):
    path = tmp_path / "s.csv"
    path.write_text("wavelength,flux,error\n" + "".join(f"{4000 + k},1e-21,1e-23\n" for k in range(60)))
    _, (record,) = read(path)
    assert not record.mask.any()
    assert record.unit == "1e-21"
    assert record.flux * np.sqrt(record.ivar) == pytest.approx(100.0)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("wavelength,flux\n4000,1\n4001\n", "line 3 has 1 cells, the header 2"),
        ("wavelength,flux\n", "0 rows"),
        ("wavelength,flux\n4000,1\n4001,2\n", "2 pixels are no spectrum"),
    ],
)
def test_damaged_text_has_a_clear_reason(tmp_path, text, reason):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises((Unusable, Unreadable), match=reason):
        read(tmp_path / "a.csv")


def test_text_forms(tmp_path):
    rows = [f"{4000 + k} {1 + k} 0.5" for k in range(40)]
    (tmp_path / "a.txt").write_text("# made by hand\n# wavelength_air flux err\n" + "\n".join(rows) + "\n")
    name, (record,) = read(tmp_path / "a.txt")
    assert name == "text_spectrum"
    assert record.air
    assert record.ivar[0] == 4.0
    (tmp_path / "lc.csv").write_text("time,flux\n1,2\n")
    with pytest.raises(NoReader):
        read(tmp_path / "lc.csv")


def test_orders_are_joined(tmp_path):
    rng = np.random.default_rng(8)
    full = log_grid(4000.0, 2e-5, 3000)
    orders = [full[k : k + 900] for k in (0, 700, 1400, 2100)]
    columns = [
        fits.Column("SPORDER", "I", array=[1, 2, 3, 4]),
        fits.Column("NELEM", "I", array=[900] * 4),
        fits.Column("WAVELENGTH", "900D", array=orders, unit="Angstroms"),
        fits.Column("FLUX", "900E", array=[10.0 + rng.normal(0, 1.0, 900) for _ in orders]),
        fits.Column("ERROR", "900E", array=np.ones((4, 900))),
    ]
    hdus = fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns(columns)])
    hdus[0].header.update({"TELESCOP": "HST", "HELCORR": "COMPLETE"})
    hdus.writeto(tmp_path / "x1d.fits")
    _, (record,) = read(tmp_path / "x1d.fits")
    assert record.frame == "heliocentric"
    assert not record.air
    assert record.wavelength[[0, -1]] == pytest.approx(full[[0, -1]], rel=1e-4)
    overlap = (record.wavelength > orders[1][20]) & (record.wavelength < orders[0][-20])
    assert np.median(record.ivar[overlap]) > 1.7
    assert record.flux.mean() == pytest.approx(10.0, abs=0.1)


def test_templates_and_coefficients_are_refused(tmp_path):
    fits.PrimaryHDU(np.ones((4, 500), dtype=np.float32)).writeto(tmp_path / "rr.fits")
    with fits.open(tmp_path / "rr.fits", mode="update") as hdus:
        hdus[0].header["EXTNAME"] = "BASIS_VECTORS"
    with pytest.raises(Unusable, match="template file with no observed spectrum"):
        read(tmp_path / "rr.fits")
    (tmp_path / "xp.csv").write_text("source_id,bp_coefficients\n1,(1.0)\n")
    with pytest.raises(Unusable, match="no sampled flux"):
        read(tmp_path / "xp.csv")


REAL = {
    "miles/MILES_res2.50_star_m0001V.fits.gz": ("fits_spectrum", 1),
    "indous/A0V__153808.fits": ("fits_spectrum", 1),
    "miuscat_thin_ssp/Iun1.30Zp0.22T12.5893.fits": ("fits_spectrum", 1),
    "lamost_dr1/spec-55862-B6212_sp06-003.fits.gz": ("lamost", 1),
    "sdss_boss/spec-0266-51602-0013.fits": ("sdss_spec", 1),
    "pydl/spPlate-4055-55359-0020.fits": ("sdss_plate", 20),
    "desi/coadd-4-80613-thru20210324.fits": ("desi_coadd", 1),
    "desi/redrock-4-80613-thru20210324.fits": ("redrock", 0),
    "desi/stack-LRG.fits": ("desi_stack", 1),
    "specutils_formats/coadd-5-169-thru20210419.fits.gz": ("desi_coadd", 5),
    "specutils_formats/L5g_0355+11_Cruz09.fits": ("fits_spectrum", 1),
    "specutils_formats/TRES.fits": ("iraf_multispec", 1),
    "specutils_formats/evega.0039.rs.ec.dispcor.fits": ("iraf_multispec", 1),
    "specutils_formats/multispec_equispec.fits": ("iraf_multispec", 1),
    "specutils_formats/odbue5030_x1d.fits.gz": ("fits_spectrum_table", 1),
    "specutils_formats/spec1d.1245.066.12004136.fits": ("fits_spectrum_table", 1),
    "gaia_xp/spss/SPSS_1nm.csv": ("gaia_xp_sampled", 5),
}


@pytest.mark.parametrize("name", REAL)
def test_real_file_reads(data, name):
    found, records = read(data / "spectra" / name)
    assert (found, len(records)) == REAL[name]
    for record in records:
        assert (np.diff(record.wavelength) > 0).all()
        assert np.isfinite(record.flux).all()
        assert not record.flux[record.mask].any()


def test_real_marz_files_are_one_object(data):
    records = [read(path)[1][0] for path in sorted((data / "spectra" / "marz").glob("*.fits"))]
    assert len(records) == 6
    for record in records:
        assert record.wavelength == pytest.approx(records[0].wavelength, rel=1e-6)
        assert np.array_equal(record.flux, records[0].flux)
        assert np.array_equal(record.ivar, records[0].ivar)
        assert (record.object_id, record.frame) == ("D0221394-2854323", "topocentric")
        assert record.mjd == pytest.approx(57373.574921, abs=1e-5)  # 13:25:23 and half of 2700 s
        assert (record.ra, record.dec) == pytest.approx((35.41427, -28.90896), abs=1e-4)


def test_real_gaia_formats_are_one_answer(data):
    files_ = sorted((data / "spectra" / "gaia_xp" / "xp_sampled").iterdir())
    answers = [read(path)[1] for path in files_]
    assert len(answers) == 5
    for records in answers:
        assert [r.object_id for r in records] == ["Gaia 6", "Gaia 4"]
        assert records[0].flux == pytest.approx(answers[0][0].flux, rel=1e-5, abs=1e-5)


def test_real_times_are_middles(data):
    folder = data / "spectra"
    times = {
        "sdss_boss/spec-6717-56397-0534.fits": 56396.7786,  # mean of exposures in two nights; MJD says 56397
        "specutils_formats/odbue5030_x1d.fits.gz": 57894.0904,  # EXPSTART to EXPEND
        "lamost_dr1/spec-55862-B6212_sp06-003.fits.gz": 55861.8351,  # DATE-OBS is the middle there
    }
    for name, mjd in times.items():
        assert read(folder / name)[1][0].mjd == pytest.approx(mjd, abs=1e-3)
    _, (lite,) = read(next((folder / "sdss_boss" / "lite").glob("*.fits")))
    assert lite.mjd is None
    assert "NO_TIME" in flags.decode(lite.flags)


def test_redshifts_of_headers_are_provenance_only(data):
    _, (record,) = read(data / "spectra" / "desi" / "coadd-4-80613-thru20210324.fits")
    assert record.z_header == pytest.approx(0.36874, abs=1e-4)
    assert "z" not in record.measured
