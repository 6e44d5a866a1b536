"""Files of many spectra and products of the surveys: nothing is lost, nothing is taken for something else."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits

from tests.transforms.readers.spectrum_twins import FLUX, WAVE, N, cells, read, tables
from transforms import flags
from transforms.attempt import NoReader, Unusable
from transforms.readers import gaia_spectra
from transforms.readers.format import Source
from transforms.records import FileRef

COLUMNS = {"WAVE_VAC": (WAVE, "Angstrom"), "FLUX": FLUX, "ERR": 0.1 * FLUX}


def pixels(name: str, scale: float = 1.0, unit: str = "Angstrom", **columns) -> fits.BinTableHDU:
    """Make a table of one row a pixel."""
    columns = {"WAVELENGTH": WAVE, "FLUX": scale * FLUX, **columns}
    units = {"WAVELENGTH": unit}
    made = [fits.Column(key, "D", unit=units.get(key), array=values) for key, values in columns.items()]
    return fits.BinTableHDU.from_columns(made, name=name)


# --- tables ---------------------------------------------------------------------------------------------------------


def test_every_table_of_a_file_is_read(tmp_path):
    """JWST x1d of a slit mask: one EXTRACT1D for each source."""
    hdus = [pixels("EXTRACT1D", k + 1.0, "um") for k in range(3)]
    for k, hdu in enumerate(hdus):
        hdu.data["WAVELENGTH"] = np.linspace(1.0, 5.0, N)
        hdu.header["SOURCEID"], hdu.ver = 10 + k, k + 1
    records = tables(tmp_path, *hdus, TELESCOP="JWST", TARGNAME="field")
    assert [r.object_id for r in records] == ["field-10", "field-11", "field-12"]
    assert [r.hdu for r in records] == ["1", "2", "3"]
    assert [r.flux[0] / FLUX[0] for r in records] == pytest.approx([1, 2, 3])
    assert all(r.wavelength[0] == 10_000.0 for r in records)


def test_an_empty_table_beside_a_full_one_is_no_reject(tmp_path):
    empty = fits.BinTableHDU.from_columns([fits.Column("WAVE", "D", array=[]), fits.Column("FLUX", "D", array=[])])
    (record,) = tables(tmp_path, empty, pixels("SPECTRUM"))
    assert record.hdu == "2"


def test_arms_of_deep2_are_one_spectrum(tmp_path):
    arms = [cells(f"Horne-{arm}", LAMBDA=WAVE + shift, SPEC=FLUX, IVAR=FLUX) for arm, shift in (("B", 0), ("R", 3000))]
    other = [cells(f"Bxspf-{arm}", LAMBDA=WAVE, SPEC=FLUX, IVAR=FLUX) for arm in "BR"]
    (record,) = tables(tmp_path, *other, *arms)
    assert record.wavelength[-1] > 9980


def test_segments_of_cos_are_one_spectrum(tmp_path):
    waves = np.stack([WAVE / 4, WAVE / 4 + 800.0])
    columns = {"SEGMENT": ["FUVB", "FUVA"], "WAVELENGTH": (waves, "Angstrom"), "FLUX": FLUX, "ERROR": FLUX}
    (record,) = tables(tmp_path, cells(rows=2, **columns), TELESCOP="HST")
    assert record.wavelength[[0, -1]] == pytest.approx([1000.0, 2550.0], rel=1e-3)


def test_rows_know_their_own_place_and_time(tmp_path):
    columns = {
        "OBJECT": ["s1", "s2", "sky"], "RA": [10.0, 20.0, np.nan], "DEC": [-1.0, -2.0, np.nan],
        "MJD": [58000.0, 58100.0, 0.0], "Z": [0.1, 0.2, np.nan], **COLUMNS,
    }  # fmt: skip
    header = {"RA": 150.0, "DEC": 2.0, "MJD-OBS": 57000.0, "EQUINOX": 2000.0}
    first, second, sky = tables(tmp_path, cells(rows=3, **columns), **header)
    assert (first.object_id, first.ra, first.dec, first.mjd, first.z_header) == ("s1", 10.0, -1.0, 58000.0, 0.1)
    assert (second.object_id, second.ra, second.dec, second.mjd, second.z_header) == ("s2", 20.0, -2.0, 58100.0, 0.2)
    assert (sky.ra, sky.mjd, sky.z_header) == (None, None, None)
    assert {"NO_POSITION", "NO_TIME"} <= set(flags.decode(sky.flags))


def test_a_night_is_no_time_and_cells_may_vary_in_length(tmp_path):
    columns = {"WAVELENGTH_VAC": [WAVE, WAVE[:100]], "FLUX": [FLUX, FLUX[:100]]}
    made = [fits.Column(key, "PD()", array=np.array(v, dtype=object)) for key, v in columns.items()]
    made.append(fits.Column("MJD", "J", array=[58000, 58001]))
    records = tables(tmp_path, fits.BinTableHDU.from_columns(made))
    assert [r.flux.size for r in records] == [300, 100]
    assert [r.mjd for r in records] == [None, None]


def test_cells_are_cut_where_their_spectrum_ends(tmp_path):
    waves = np.stack([WAVE, np.where(np.arange(N) < 200, WAVE, np.nan), np.where(np.arange(N) < 100, WAVE, 0.0)])
    records = tables(tmp_path, cells(rows=3, **{**COLUMNS, "WAVE_VAC": (waves, "Angstrom")}))
    assert [r.flux.size for r in records] == [300, 200, 100]


# --- LAMOST and SDSS ------------------------------------------------------------------------------------------------


def lamost_arm(name: str, first: float, last: float, scale: float) -> fits.BinTableHDU:
    columns = {"LOGLAM": np.linspace(np.log10(first), np.log10(last), N), "FLUX": scale * FLUX}
    columns |= {"IVAR": np.ones(N), "PIXMASK": (np.arange(N) == 7).astype(float)}
    return fits.BinTableHDU.from_columns([fits.Column(k, "D", array=v) for k, v in columns.items()], name=name)


def lamost(tmp_path, *hdus):
    cards = {"TELESCOP": "LAMOST", "OBSID": 123, "RA": 10.0, "DEC": 20.0, "HELIO": True, "MJD": 58484}  # no VACUUM
    return tables(tmp_path, *hdus, **cards, **{"DATE-OBS": "2019-01-01T12:00:00"})


def test_lamost_medium_resolution_is_the_two_coadds(tmp_path):
    arms = [
        ("B-1", 4950, 5350, 9.0),
        ("R-1", 6300, 6800, 9.0),
        ("COADD_B", 4950, 5350, 1.0),
        ("COADD_R", 6300, 6800, 2),
    ]
    (record,) = lamost(tmp_path, *(lamost_arm(*arm) for arm in arms))
    assert (record.object_id, record.unit, record.frame, record.air) == ("123", "relative", "heliocentric", False)
    assert (record.mjd, record.time_scale) == (58484.5, "utc")
    assert record.flux.size == 2 * N + 2
    assert record.mask.sum() == 4  # a bad pixel in each arm, and the ends of the gap
    assert record.wavelength[[0, N - 1, N + 2, -1]] == pytest.approx([4950, 5350, 6300, 6800])
    assert record.flux[-1] == pytest.approx(2.0 * FLUX[-1])
    assert np.diff(record.wavelength)[[N - 1, N + 1]].max() < 3.0  # the last good pixels are as wide as the others


def test_lamost_exposures_without_coadds_are_refused(tmp_path):
    with pytest.raises(Unusable, match="no COADD_B or COADD_R, only single exposures"):
        lamost(tmp_path, lamost_arm("B-84420102", 4950, 5350, 1.0))


def sdss(path, primary, *exposures, name="spec-015000-59630-4375786564.fits"):
    columns = {"flux": FLUX, "loglam": np.log10(WAVE), "ivar": np.ones(N)}
    coadd = fits.BinTableHDU.from_columns([fits.Column(k, "D", array=v) for k, v in columns.items()], name="COADD")
    other = [fits.BinTableHDU.from_columns([fits.Column("x", "D", array=[1.0])], name=n) for n in ("SPALL", "ZLINE")]
    hdus = fits.HDUList([fits.PrimaryHDU(), coadd, *other, *(fits.ImageHDU(np.zeros(3)) for _ in exposures)])
    hdus[0].header.update(primary)
    for hdu, cards in zip(hdus[4:], exposures, strict=True):
        hdu.header.update(cards)
    hdus.writeto(path / name, overwrite=True)
    found, (record,) = read(path / name)
    assert found == "sdss_spec"
    return record


def test_identifiers_of_sdss_v(tmp_path):
    cards = {"MJD": 59630, "FIELDID": 15000, "HIERARCH CATALOGID": 4375786564}
    assert sdss(tmp_path, cards).object_id == "15000-59630-4375786564"
    assert sdss(tmp_path, {"MJD": 59630}).object_id == "spec-015000-59630-4375786564"
    assert sdss(tmp_path, {"PLATEID": 1, "MJD": 55000, "FIBERID": 7}).object_id == "1-55000-7"


def test_times_of_sdss_are_those_of_the_exposures(tmp_path):
    day = 86_400.0
    exposures = [{"TAI-BEG": (55000 + k) * day, "TAI-END": (55000 + k) * day + 900.0} for k in (0, 0, 1)]
    record = sdss(tmp_path, {"MJD": 55001}, *exposures)
    assert record.mjd == pytest.approx(55000 + 1 / 3 + 450 / day, abs=1e-6)
    assert record.time_scale == "tai"
    record = sdss(tmp_path, {"MJD": 55001})
    assert record.mjd is None
    assert "NO_TIME" in flags.decode(record.flags)
    assert sdss(tmp_path, {"TAI": 55000 * day, "EXPTIME": 3600.0}).mjd == pytest.approx(55000 + 0.5 / 24)


# --- rows of images -------------------------------------------------------------------------------------------------


def rows(path, data, **cards):
    hdu = fits.PrimaryHDU(np.asarray(data, dtype=np.float32))
    hdu.header.update(cards)
    hdu.writeto(path / "rows.fits", overwrite=True)
    return read(path / "rows.fits")


@pytest.mark.parametrize(
    "axis",
    [
        {"CTYPE1": "LINEAR", "CRVAL1": 4000.0, "CDELT1": 1.0, "DC-FLAG": 0},
        {"CTYPE1": "LOG-LINEAR", "CRVAL1": np.log10(4000.0), "CDELT1": 6e-6, "DC-FLAG": 1},
        {"CTYPE1": "LINEAR", "CRVAL1": 4000.0, "CD1_1": 1.0, "WAT0_001": "system=equispec"},
        {"CTYPE1": "LINEAR", "CRVAL1": 400.0, "CDELT1": 0.1, "CUNIT1": "nm"},
    ],
)
def test_fibres_on_one_axis_are_spectra(tmp_path, axis):
    data = 100.0 + np.arange(20)[:, None] + np.zeros(1500)
    name, records = rows(tmp_path, data, OBJECT="plate", RA=1.0, DEC=2.0, APID3="star 3", VACUUM=True, **axis)
    assert (name, len(records)) == ("fits_spectrum_rows", 20)
    assert [records[k].object_id for k in (0, 2)] == ["plate-1", "star 3"]
    assert [r.flux[5] for r in records] == pytest.approx(list(data[:, 5]))
    assert all(r.wavelength[0] == pytest.approx(4000.0) and r.ra is None for r in records)


def test_bands_of_iraf_are_one_spectrum_and_its_errors(tmp_path):
    data = np.stack([np.full((1, 400), value) for value in (100.0, 99.0, 5.0, 2.0)])
    bands = {"BANDID1": "spectrum - background median, weights variance, clean no", "BANDID2": "raw - background none"}
    bands |= {"BANDID3": "background - background median", "BANDID4": "sigma - background median, weights variance"}
    axis = {"CTYPE1": "LINEAR", "CRVAL1": 4000.0, "CD1_1": 1.0, "DC-FLAG": 0, "RA": 1.0, "DEC": 2.0}
    _, (record,) = rows(tmp_path, data, OBJECT="star", **axis, **bands)
    assert (record.object_id, record.ra) == ("star", 1.0)
    assert record.flux == pytest.approx(100.0)
    assert record.ivar == pytest.approx(0.25)


def test_a_slit_that_nobody_extracted_is_refused_and_the_sky_is_left_to_the_images(tmp_path):
    axis = {"CTYPE1": "LINEAR", "CRVAL1": 4000.0, "CDELT1": 1.0, "DC-FLAG": 0}
    with pytest.raises(Unusable, match="100 rows along a slit"):
        rows(tmp_path, np.ones((100, 500)), DISPAXIS=1, **axis)
    for cards in (
        {"CTYPE1": "RA---TAN", "CRVAL1": 4.0},
        {"CTYPE1": "LINEAR", "CUNIT1": "mm"},
        {"CTYPE1": "LINEAR"},
        {},
    ):
        with pytest.raises(NoReader):
            rows(tmp_path, np.ones((100, 500)), **cards)


@pytest.mark.parametrize("visits", [1, 3])
def test_apogee_stars_are_their_summed_visits(tmp_path, visits):
    n = 8575
    shape = (n,) if visits == 1 else (visits + 2, n)
    flux, error, bits = np.full(shape, 50.0), np.full(shape, 0.5), np.zeros(shape, dtype=np.int32)
    np.atleast_2d(flux)[1:] = 7.0
    np.atleast_2d(error)[:, 10], np.atleast_2d(bits)[:, 20], np.atleast_2d(bits)[:, 30] = 1e10, 1, 1 << 9
    planes = [
        (flux, "Flux (10^-17 erg/s/cm^2/Ang)"),
        (error, "Err (10^-17 erg/s/cm^2/Ang)"),
        (bits, "Pixel flag bitmask"),
    ]
    hdus = fits.HDUList([fits.PrimaryHDU()])
    for data, unit in planes:
        hdu = fits.ImageHDU(data)
        hdu.header.update({"BUNIT": unit, "CTYPE1": "LOG-LINEAR", "CRVAL1": 4.179, "CDELT1": 6e-6, "CRPIX1": 1})
        hdus.append(hdu)
    hdus[0].header.update({"OBJID": "2M001", "RA": 10.0, "DEC": 20.0})
    hdus.writeto(tmp_path / "apStar.fits")
    name, (record,) = read(tmp_path / "apStar.fits")
    assert (name, record.object_id, record.frame, record.air) == ("apogee", "2M001", "rest", False)
    assert record.wavelength[0] == pytest.approx(10**4.179)
    assert np.flatnonzero(record.mask).tolist() == [10, 20]
    assert record.ivar[0] == pytest.approx(4.0)
    assert record.flux[0] == 50.0


def multispec(solutions, **cards):
    text = "wtype=multispec " + " ".join(f'spec{k + 1} = "{body}"' for k, body in enumerate(solutions))
    wat = {f"WAT2_{k + 1:03d}": text[68 * k : 68 * k + 68] for k in range(len(text) // 68 + 1)}
    return {"WAT0_001": "system=multispec", "CTYPE1": "MULTISPE", **wat, **cards}


def test_apertures_end_where_their_solution_ends(tmp_path):
    data = np.zeros((2, 800))
    data[0], data[1, :500] = 100.0, 100.0
    cards = multispec(["1 1 0 4000. 1.0 800 0. 1. 2.", "2 2 0 4000. 1.0 500 0. 3. 4."])
    _, records = rows(tmp_path, data, **cards)
    assert [r.flux.size for r in records] == [800, 500]
    assert all((r.flux == 100.0).all() for r in records)


def test_orders_end_where_their_solution_ends(tmp_path):
    data = np.full((2, 800), 100.0)
    data[1, 500:] = 0.0
    cards = multispec(["1 1 0 4000. 1.0 800 0. 1. 2.", "2 2 0 4700. 1.0 500 0. 3. 4."])
    _, (record,) = rows(tmp_path, data, **cards)
    assert record.wavelength[-1] == pytest.approx(5200.0, abs=3.0)
    assert record.flux[~record.mask] == pytest.approx(1.0, rel=1e-3)


def test_apertures_in_nanometres_with_errors_and_without_a_solution(tmp_path):
    data = np.stack([np.full((2, 100), value) for value in (100.0, 2.0)])
    unit = {"WAT1_001": "wtype=multispec label=Wavelength units=nanometers", "BANDID2": "sigma - background none"}
    cards = multispec([f"{k} {k} 0 400. 0.1 100 0. 1. 2." for k in (1, 2)], **unit)
    _, records = rows(tmp_path, data, VACUUM=True, **cards)
    for record in records:
        assert record.wavelength[0] == pytest.approx(4000.0)
        assert record.ivar == pytest.approx(0.25)
    with pytest.raises(Unusable, match=r"aperture 2: not calibrated in wavelength \(type -1\)"):
        rows(tmp_path, data[0], **multispec(["1 1 0 4000. 1. 100 0. 1. 2.", "2 2 -1 1. 1. 100 0. 1. 2."]))


def test_images_of_one_name_are_spectra_each(tmp_path):
    hdus = []
    for ver in (1, 2):
        for name, data in (("SCI", ver * FLUX), ("VAR", np.full(N, ver**2))):
            hdu = fits.ImageHDU(data, name=name, ver=ver)
            hdu.header.update({"CRVAL1": 4000.0, "CD1_1": 10.0})
            hdus.append(hdu)
    first, second = tables(tmp_path, *hdus, OBJECT="star", **{"MJD-OBS": 55000.0})
    assert [first.object_id, second.object_id] == ["star", "star-2"]
    assert second.flux == pytest.approx(2 * FLUX, rel=1e-6)
    assert (first.ivar[0], second.ivar[0]) == (1.0, 0.25)
    assert first.mjd == second.mjd == 55000.0


def test_a_text_file_of_gaia_is_parsed_twice_whatever_its_size(tmp_path, monkeypatch):
    cell = "(" + ",".join(["1.0e-16"] * 343) + ")"
    text = "".join(f'{k},"{cell}","{cell}"\n' for k in range(600))
    path = tmp_path / "xp.csv"
    path.write_text("source_id,flux,flux_error\n" + text)
    calls = []
    whole = gaia_spectra._table
    monkeypatch.setattr(gaia_spectra, "_table", lambda source: calls.append(1) or whole(source))
    reader = next(f for f in gaia_spectra.FORMATS if f.name == "gaia_xp_sampled")
    names = []
    with Source(FileRef(url=str(path), source=path.name)) as source:
        items = reader.items(source)
    for item in items:
        with Source(item.file) as source:
            names += [entry.object_id for entry in reader.entries(source, item)]
    assert names == [f"Gaia {k}" for k in range(600)]
    assert len(calls) == 2  # to count the rows, and to read them


def test_one_aperture_may_have_one_axis(tmp_path):
    _, (record,) = rows(tmp_path, np.ones(100), OBJECT="star", **multispec(["1 1 0 4000. 1.0 90 0. 1. 2."]))
    assert (record.object_id, record.flux.size) == ("star", 90)


def test_desi_exposures_begin_at_the_tables_time(tmp_path):
    wave = np.arange(3600.0, 3700.0, 0.8)
    ones = np.ones((1, wave.size))
    fibres = [fits.Column("TARGETID", "K", array=[7]), fits.Column("TARGET_RA", "D", array=[1.0])]
    fibres.append(fits.Column("TARGET_DEC", "D", array=[2.0]))
    exposures = {"TARGETID": [7, 7], "MJD": [59000.0, 59001.0], "EXPTIME": [864.0, 2592.0]}
    columns = [fits.Column(key, "K" if key == "TARGETID" else "D", array=v) for key, v in exposures.items()]
    hdus = [fits.BinTableHDU.from_columns(fibres, name="FIBERMAP")]
    hdus.append(fits.BinTableHDU.from_columns(columns, name="EXP_FIBERMAP"))
    hdus += [fits.ImageHDU(data, name=f"B_{n}") for n, data in (("WAVELENGTH", wave), ("FLUX", ones), ("IVAR", ones))]
    (record,) = tables(tmp_path, *hdus)
    assert record.mjd == pytest.approx(0.25 * 59000.005 + 0.75 * 59001.015, abs=1e-7)
