"""What a header says of units, air, places and times is believed; what it leaves open is refused or flagged."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import FK5, SkyCoord
from astropy.io import fits

from tests.transforms.readers.spectrum_twins import FLUX, WAVE, N, cells, line, read, tables
from transforms import flags
from transforms.attempt import Unusable
from transforms.numerics.spectra.wavelengths import air_to_vacuum
from transforms.readers.spectrum_position import position
from transforms.readers.spectrum_time import middle_of_exposure
from transforms.readers.spectrum_units import per_wavelength, to_angstrom


def names(record):
    return set(flags.decode(record.flags))


# --- wavelengths ----------------------------------------------------------------------------------------------------


def test_nanometres_without_a_unit_are_refused(tmp_path):
    nm = np.linspace(1000.0, 2450.0, N)
    rows = "".join(f"{w:.3f},{f:.4f},0.1\n" for w, f in zip(nm, FLUX, strict=True))
    (tmp_path / "a.csv").write_text("wavelength,flux,error\n" + rows)
    with pytest.raises(Unusable, match="up to 2450 in column 'wavelength' have no unit"):
        read(tmp_path / "a.csv")
    with pytest.raises(Unusable, match="up to 2450 in column 'wave' have no unit"):
        tables(tmp_path, cells(wave=nm, flux=FLUX))
    with pytest.raises(Unusable, match="up to 969 in axis 1 of line have no unit"):
        line(tmp_path, np.ones(600), CRVAL1=370.0, CDELT1=1.0)


@pytest.mark.parametrize(
    ("cards", "first"),
    [
        ({"CUNIT1": "nm", "CRVAL1": 370.0, "CDELT1": 1.0}, 3700.0),
        ({"CUNIT1": "Angstrom", "CRVAL1": 1200.0, "CDELT1": 1.0}, 1200.0),  # ultraviolet
        ({"WAT1_001": "wtype=linear label=Wavelength units=Angstroms", "CRVAL1": 1200.0, "CDELT1": 1.0}, 1200.0),
        ({"CRVAL1": (370.0, "[nm] first pixel"), "CDELT1": 1.0}, 3700.0),
        ({"CUNIT1": "um", "CRVAL1": 2.6, "CDELT1": 0.001}, 26_000.0),  # not a logarithm
        ({"CUNIT1": "um", "CRVAL1": 3.5, "CDELT1": 0.001}, 35_000.0),
        ({"CRVAL1": 3.5, "CDELT1": 1e-3}, 10**3.5),  # a logarithm by its values
        ({"CUNIT1": "log(Angstrom)", "CRVAL1": 3.0, "CDELT1": 1e-3}, 1000.0),
        ({"DC-FLAG": 1, "CRVAL1": 3.1, "CDELT1": 1e-3}, 10**3.1),
        ({"CD1_1": 0.5, "CDELT1": 1.0, "CRVAL1": 4000.0, "CRPIX1": 3.0}, 3999.0),
    ],
)
def test_units_of_linear_axes(tmp_path, cards, first):
    record = line(tmp_path, VACUUM=True, **cards)
    assert record.wavelength[0] == pytest.approx(first, rel=1e-9)


def test_cd_goes_before_cdelt_and_a_quarrel_is_refused(tmp_path):
    record = line(tmp_path, VACUUM=True, CD1_1=5.0, CDELT1=1.0)
    assert np.diff(record.wavelength) == pytest.approx(5.0)
    with pytest.raises(Unusable, match=r"CD1_1 is 1 and CDELT1 is 0.5: two steps"):
        line(tmp_path, CD1_1=1.0, CDELT1=0.5)


@pytest.mark.parametrize(("unit", "values", "first"), [("um", (1.0, 2.4), 1e4), ("nm", (500.0, 900.0), 5e3)])
def test_the_unit_of_a_wave_extension_is_read(tmp_path, unit, values, first):
    wave = fits.ImageHDU(np.linspace(*values, N), name="WAVE")
    wave.header["BUNIT"] = unit
    flux = fits.PrimaryHDU(FLUX)
    flux.header["VACUUM"] = True
    fits.HDUList([flux, wave]).writeto(tmp_path / "a.fits")
    _, (record,) = read(tmp_path / "a.fits")
    assert record.wavelength[0] == pytest.approx(first)


def test_logarithms_in_other_units():
    assert to_angstrom(np.array([2.5, 3.0]), "log10(nm)", "x")[1] == pytest.approx(10_000.0)
    with pytest.raises(Unusable, match="have no unit"):
        to_angstrom(np.linspace(2.0, 5.0, 9), "", "x")  # micron, or 100 to 100,000 Angstrom
    with pytest.raises(Unusable, match="'furlong' of x is not known"):
        to_angstrom(np.array([1.0]), "furlong", "x")


# --- air and vacuum -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "cards", "air"),
    [
        ({}, {"TELESCOP": "JWST"}, False),
        ({}, {"TUCD1": "em.wl"}, False),
        ({}, {"TUCD1": "em.wl;obs.atmos"}, True),
        ({"WAVE_AIR": (WAVE - 1.4, "Angstrom")}, {}, False),  # ESPRESSO has both
        ({"WAVE_VAC": (WAVE + 1.4, "Angstrom")}, {}, True),
        ({}, {}, None),
    ],
)
def test_air_or_vacuum_of_a_column(tmp_path, columns, cards, air):
    hdu = cells(WAVE=(WAVE, "Angstrom"), FLUX=FLUX, **columns)
    hdu.header.update({key: value for key, value in cards.items() if key != "TELESCOP"})
    (record,) = tables(tmp_path, hdu, **{key: value for key, value in cards.items() if key == "TELESCOP"})
    assert record.wavelength == pytest.approx(WAVE if air is False else air_to_vacuum(WAVE), rel=1e-12)
    assert ("AIR_ASSUMED" in names(record)) == (air is None)


def test_a_one_dimensional_image_of_a_space_telescope_is_in_vacuum(tmp_path):
    assert not line(tmp_path, TELESCOP="HST").air
    assert line(tmp_path, TELESCOP="ESO-VLT-U2").air


# --- errors, masks, widths, units of flux -----------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, 0.0, -1.0])
def test_errors_that_are_no_numbers_do_not_cost_the_spectrum(tmp_path, value):
    (table,) = tables(tmp_path, cells(WAVE=(WAVE, "angstrom"), FLUX=FLUX, ERR=np.full(N, value)))
    fits.HDUList([fits.PrimaryHDU(FLUX), fits.ImageHDU(np.full(N, value), name="ERRS")]).writeto(tmp_path / "b.fits")
    with fits.open(tmp_path / "b.fits", mode="update") as hdus:
        hdus[0].header.update({"CRVAL1": 4000.0, "CDELT1": 10.0})
    _, (image,) = read(tmp_path / "b.fits")
    for record in (table, image):
        assert record.ivar is None
        assert not record.mask.any()
        assert "NO_ERROR" in names(record)
        assert not {"NO_DATA", "BAD_DATA"} & names(record)


def test_quality_of_eso_products_and_the_variance_of_muse(tmp_path):
    quality = np.zeros(N)
    quality[:100] = 1
    (record,) = tables(tmp_path, cells(WAVE=(WAVE, "Angstrom"), FLUX=FLUX, ERR_FLUX=0.1 * FLUX, QUAL=quality))
    assert record.mask.sum() == 100
    assert record.ivar[200] == pytest.approx((0.1 * FLUX[200]) ** -2, rel=1e-5)
    data = fits.ImageHDU(FLUX, name="DATA")
    data.header.update({"CTYPE1": "AWAV", "CUNIT1": "Angstrom", "CRVAL1": 4750.0, "CDELT1": 1.25})
    (muse,) = tables(tmp_path, data, fits.ImageHDU(np.full(N, 0.25), name="STAT"))
    assert muse.ivar == pytest.approx(4.0)
    assert "AIR_ASSUMED" not in names(muse)


def test_fwhm_counts_only_where_it_is_spectral(tmp_path):
    assert line(tmp_path, FWHM=(1.1, "seeing")).lsf_sigma is None
    assert line(tmp_path, FWHM=1.1).lsf_sigma is None
    assert line(tmp_path, FWHM=(2.5, "resolution element (angstroms)")).lsf_sigma == pytest.approx(57.87, abs=0.01)


def test_fluxes_per_frequency_become_fluxes_per_wavelength(tmp_path):
    flam = FLUX * u.Unit("1e-15 erg / (s cm2 Angstrom)")
    fnu = flam.to(u.mJy, u.spectral_density(WAVE * u.AA)).value
    columns = {"WAVE_VAC": (WAVE, "Angstrom"), "FLUX": (fnu, "mJy"), "ERR": (0.01 * fnu, "mJy")}
    (record,) = tables(tmp_path, cells(**columns))
    assert u.Unit(record.unit).is_equivalent(flam.unit)
    assert (record.flux * u.Unit(record.unit)).to_value(flam.unit) == pytest.approx(FLUX, rel=1e-5)
    assert record.flux * np.sqrt(record.ivar) == pytest.approx(100.0, rel=1e-4)


def test_units_that_nobody_knows_keep_the_right_shape():
    flux, ivar, unit = per_wavelength(np.array([5500.0, 11_000.0]), np.ones(2), np.ones(2), "1E-17 ergs per Hz and Ly")
    assert flux.tolist() == [1.0, 0.25]
    assert ivar.tolist() == [1.0, 16.0]
    assert unit == "F_lambda, at 5500 Angstrom as in 1E-17 ergs per Hz and Ly"
    assert per_wavelength(WAVE, FLUX, None, "1e-17 erg/cm^2/s/Ang")[0] is FLUX
    assert per_wavelength(WAVE, FLUX, None, "MJy/sr")[2] == "erg / (Angstrom s sr cm2)"
    with pytest.raises(Unusable, match="magnitudes"):
        per_wavelength(WAVE, FLUX, None, "mag(AB)")


# --- places and times -------------------------------------------------------------------------------------------------

B1950 = SkyCoord("12:00:00", "00:00:00", unit=("hourangle", "deg"), frame="fk4", equinox="B1950").icrs
OF_DATE = SkyCoord(180.0, 0.0, unit="deg", frame=FK5(equinox="J2015.5")).icrs


@pytest.mark.parametrize(
    ("cards", "truth"),
    [
        ({"EPOCH": 1950.0}, B1950),
        ({"EQUINOX": 1950.0}, B1950),
        ({"EQUINOX": "B1950"}, B1950),
        ({"RADECSYS": "FK4"}, B1950),
        ({"RADESYS": "FK5", "EQUINOX": 2015.5}, OF_DATE),
        ({"EQUINOX": 2015.5}, OF_DATE),
    ],
)
def test_positions_are_precessed(cards, truth):
    ra, dec = position({"RA": "12:00:00", "DEC": "00:00:00", **cards})
    assert (ra, dec) == pytest.approx((truth.ra.deg, truth.dec.deg), abs=1e-7)


@pytest.mark.parametrize(
    "cards", [{}, {"EPOCH": "2000.0"}, {"EQUINOX": 2000.0, "EPOCH": 2015.959}, {"RADESYS": "ICRS", "EQUINOX": 1950.0}]
)
def test_positions_that_need_no_precession(cards):
    assert position({"RA": 180.0, "DEC": 0.5, **cards}) == (180.0, 0.5)


def test_an_epoch_that_may_be_the_date_gives_no_position(tmp_path):
    record = line(tmp_path, RA=180.0, DEC=0.5, EPOCH=2015.959)
    assert (record.ra, record.dec) == (None, None)
    assert "NO_POSITION" in names(record)


@pytest.mark.parametrize(
    ("cards", "answer"),
    [
        ({"MJD-OBS": 55000.0, "MJD-END": 55000.1, "EXPTIME": 3600.0}, (55000.05, "utc")),  # HARPS
        ({"EXPSTART": 55000.0, "EXPEND": 55000.1}, (55000.05, "utc")),
        ({"MJD-OBS": 55000.0, "EXPTIME": 3600.0}, (55000.0 + 0.5 / 24, "utc")),
        ({"MJD-OBS": 55000.0, "EXPOSURE": 12345, "TIMESYS": "TAI"}, (55000.0, "tai")),  # a running number
        ({"MJD-AVG": 55000.2, "MJD-OBS": 55000.0, "EXPTIME": 3600.0}, (55000.2, "utc")),
        ({"UTMJD": 55000.0, "EXPOSED": 3600.0}, (55000.0 + 0.5 / 24, "utc")),
        ({"DATE-OBS": "2009-06-18T00:00:00", "EXPTIME": 3600.0, "TIMESYS": "TT"}, (55000.0 + 0.5 / 24, "tt")),
        ({"DATE-OBS": "2009-06-18T00:00:00", "TIMESYS": "LOCAL"}, (55000.0, "")),
        ({"HJD": 2455000.75, "EXPTIME": 3600.0}, (55000.25, "")),
        ({"MJD": 55000}, (None, "")),
    ],
)
def test_the_middle_of_the_exposure(cards, answer):
    assert middle_of_exposure(cards) == (pytest.approx(answer[0], abs=1e-9) if answer[0] else None, answer[1])


def test_a_date_whose_comment_says_middle_is_the_middle():
    header = fits.Header({"EXPTIME": 3600.0})
    header["DATE-OBS"] = ("2009-06-18T00:00:00", "The observation median UTC")  # LAMOST
    assert middle_of_exposure(header) == (55000.0, "utc")


# --- what is no data ------------------------------------------------------------------------------------------------


def test_gaps_filled_with_zeros_are_masked_where_no_errors_tell(tmp_path):
    flux = FLUX.copy()
    flux[:20], flux[100:130], flux[200] = 0.0, 0.0, 0.0  # an end, the gap of HARPS, and a pixel
    record = line(tmp_path, flux)
    assert np.flatnonzero(record.mask).tolist() == [*range(20), *range(100, 130)]
    (known,) = tables(tmp_path, cells(WAVE=(WAVE, "Angstrom"), FLUX=flux, ERR=np.ones(N)))
    assert not known.mask.any()


def test_gaps_of_indo_us_are_masked(tmp_path):
    assert line(tmp_path, np.where(np.arange(N) < 50, 1e-4, FLUX), TELESCOP="kpcdf").mask.sum() == 50


@pytest.mark.parametrize("cards", [{"DC-FLAG": -1}, {"CTYPE1": "PIXEL"}])
def test_pixels_are_no_wavelengths(tmp_path, cards):
    with pytest.raises(Unusable, match=r"not calibrated in wavelength|axis is PIXEL"):
        line(tmp_path, np.ones(4096), **{"CRVAL1": 101.0, "CDELT1": 1.0, **cards})


def test_decimal_hours_are_hours_where_the_comment_says_so():
    header = fits.Header([("RA", 12.5, "[hours] right ascension"), ("DEC", 3.0, "")])
    assert position(header) == (187.5, 3.0)
    header = fits.Header([("RA", "12:30:00", "RA hours"), ("DEC", 3.0, "")])
    assert position(header) == (187.5, 3.0)
