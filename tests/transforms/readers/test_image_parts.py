"""Headers, masks, coordinates and display stamps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms.astrometry import local_scale, pixel_positions, position_angles, separation, sky_positions
from transforms.attempt import Unreadable, Unusable
from transforms.flags import decode
from transforms.readers import Source
from transforms.readers.image_header import Cards, image_facts
from transforms.readers.mask_bits import decode_community_pipeline, decode_lsst, decode_mask, has_codes
from transforms.readers.stamps import FORMATS, load_stamp, position_of_name
from transforms.readers.wcs import celestial_wcs
from transforms.records import FileRef

fits = pytest.importorskip("astropy.io.fits")


def header(**cards):
    long = {(f"HIERARCH {name}" if "." in name else name): value for name, value in cards.items()}
    return fits.Header(list(long.items()))


@pytest.mark.parametrize(
    ("plver", "instrument", "codes"),
    [
        ("V4.8.2a", "DECam", True),
        ("V3.5.0", "DECam", True),
        ("V3.6.2", "DECam", True),
        ("V3.4.1", "DECam", False),
        ("DES 2.0", "DECam", False),
        ("", "DECam", True),
        ("V2.3", "Mosaic3", True),
        ("V2.1", "90prime", True),
    ],
)
def test_version_of_the_pipeline_decides_between_codes_and_bits(plver, instrument, codes):
    assert has_codes(plver, instrument) is codes


def test_codes_and_bits_of_the_same_values_differ():
    values = np.array([[0, 1, 2, 3, 4, 5, 6, 7, 8, 16, 64]])
    codes = decode_community_pipeline(values, "V4.8.2", "DECam")
    # code 1 beside nothing saturated stays bad; 7 (seen in the difference image) is no reason to mask
    assert codes.bad.tolist() == [[False, True, True, True, True, True, True, False, True, False, False]]
    assert codes.saturated.tolist() == [[False, False, False, True, True, False, False, False, False, False, False]]
    bits = decode_community_pipeline(values, "V3.4", "DECam")
    assert bits.bad.tolist() == [[False, True, True, True, True, True, True, True, False, True, True]]
    assert bits.saturated.tolist() == [[False, False, True, True, False, False, True, True, False, False, True]]


def test_bad_pixel_that_touches_a_saturated_one_is_saturated():
    values = np.zeros((5, 5), np.int16)
    values[2, 2], values[3, 3], values[0, 0] = 3, 1, 1
    saturated = decode_community_pipeline(values, "V4.8", "DECam").saturated
    assert saturated[3, 3]
    assert not saturated[0, 0]


def test_lsst_planes_may_be_moved_by_the_header():
    values = np.array([[1 << 1, 1 << 5, 1 << 12]])
    assert decode_lsst(values).bad.tolist() == [[True, False, False]]
    moved = decode_lsst(values, Cards(header(MP_SAT=12, MP_BAD=0)))
    assert moved.saturated.tolist() == [[False, False, True]]
    assert moved.bad.tolist() == [[False, False, True]]  # a plane that is not listed is not there


@pytest.mark.parametrize(
    ("cards", "values", "bad", "saturated"),
    [
        ({"TELESCOP": "JWST"}, [0, 1, 2, 3, 4, 2048], [1, 3], [3]),
        ({"TELESCOP": "ROMAN"}, [0, 1, 4], [1], []),
        ({"TELESCOP": "EUCLID"}, [0, 1, 4, 9], [1, 9], []),
        ({"TELESCOP": "HST"}, [0, 16, 256, 2048], [16, 256, 2048], [256, 2048]),
        ({"ORIGIN": "LCOGT"}, [0, 1, 2, 8], [1, 2, 8], [2]),
        ({"DES_EXT": "MASK", "TELESCOP": "CTIO 4.0-m telescope"}, [0, 1, 2, 32, 2048, 64], [1, 2, 64], [2, 64]),
        ({"TELESCOP": "Backyard"}, [0, 1, 4], [1, 4], []),
        ({"MSKNAM00": "SAT", "MSKVAL00": 4, "MSKNAM01": "MASK.VALUE", "MSKVAL01": 7}, [0, 1, 4, 8], [1, 4], [4]),
        ({}, [0.0, 0.5, np.nan], [0.5, np.nan], []),
    ],
)
def test_mask_bits_are_those_of_the_telescope(cards, values, bad, saturated):
    found = decode_mask("mask", np.array([values]), Cards(header(**cards)))
    assert found.bad[0].tolist() == [any(value is b or value == b for b in bad) for value in values]
    assert found.saturated[0].tolist() == [value in saturated for value in values]


def test_a_ztf_mask_does_not_hide_the_sources_it_marks():
    found = decode_mask("mask_ztf", np.array([[0, 2, 2048, 16, 256, 258]]), Cards())
    assert found.bad.tolist() == [[False, False, False, True, True, True]]
    assert found.saturated.tolist() == [[False, False, False, False, True, True]]


def test_a_mask_that_may_call_zero_bad_is_refused():
    with pytest.raises(Unusable, match="HDUCLAS3 = 'MASKONE'"):
        decode_mask("mask_unclear", np.zeros((2, 2), int), Cards(header(HDUCLAS3="MASKONE")))


@pytest.mark.parametrize(
    ("cards", "mjd", "scale"),
    [
        ({"MJD-OBS": 57828.25, "EXPTIME": 172.8, "TIMESYS": "UTC approximate"}, 57828.251, "utc"),
        ({"DATE-OBS": "2013-05-05T12:00:00", "EXPTIME": 0}, 56417.5, "utc"),
        ({"EXPSTART": 53125.0, "EXPEND": 53126.0}, 53125.5, "utc"),
        ({"DATE-OBS": "2001-04-15", "TAIHMS": "12:00:00.0", "TIMESYS": "TAI"}, 52014.5, "tai"),
        ({"MJD": 57130.2, "DATE-OBS": "1999-01-01T00:00:00"}, 57130.2, "utc"),
        ({"MJD": 58849, "DATE-OBS": "2020-01-01T05:00:00", "EXPTIME": 600.0}, 58849.211806, "utc"),
        ({"MJD": 58849, "DATE-OBS": "2020-01-01"}, None, ""),
        ({"OBSMJD": 58849.25, "EXPTIME": 30.0}, 58849.250174, "utc"),
        ({"DATE-OBS": "2003-03-07"}, None, ""),
        ({"MJD-OBS": 53077.0, "DATE-OBS": "2004-03-13"}, None, ""),
        ({"MJD-OBS": 51544.499257131, "DATE-OBS": "2000-01-01T11:58:55.816"}, None, ""),
        ({"DATE-OBS": "05/04/87"}, None, ""),
        ({}, None, ""),
    ],
)
def test_middle_of_the_exposure(cards, mjd, scale):
    facts = image_facts([header(**cards)], None)
    assert facts.time_scale == scale
    assert facts.mjd == (None if mjd is None else pytest.approx(mjd, abs=1e-6))


@pytest.mark.parametrize(
    ("cards", "factor", "unit"),
    [
        ({"MAGZERO": 31.4}, 1.0, "nJy"),
        ({"BUNIT": "nanomaggy"}, 3631.0, "nJy"),
        ({"BUNIT": "uJy"}, 1e3, "nJy"),
        ({"BUNIT": "mJy"}, 1e6, "nJy"),
        ({"FLUXMAG0": 63095734448.0194}, 10 ** (0.4 * 4.4), "nJy"),
        ({"BUNIT": "MJy/sr", "MAGZERO": 25.0}, 1.0, "MJy/sr"),
        ({"BUNIT": "MJy/sr", "PIXAR_SR": 9.31e-14}, 93.1, "nJy"),  # JWST NIRCam
        ({"BUNIT": "erg/s/cm2/Hz"}, 1e32, "nJy"),
        ({"FPA.ZP": 25.0, "EXPTIME": 100.0}, 10 ** (0.4 * 1.4), "nJy"),  # Pan-STARRS
        ({"BUNIT": "Jy/beam"}, 1.0, "Jy/beam"),
        ({"MAGZP": 22.5}, 1.0, "adu"),  # unWISE: Vega
        ({"MAGZP": 26.4, "INSTRUME": "ZTF/MOSAIC"}, 100.0, "nJy"),
        ({"FPA.ZP": 25.0}, 1.0, "adu"),
        ({"FPA.ZP": 25.0, "BUNIT": "counts/s"}, 10 ** (0.4 * 6.4), "nJy"),
        ({}, 1.0, "adu"),
    ],
)
def test_zero_points_are_stated_ones_only(cards, factor, unit):
    facts = image_facts([header(**cards)], None)
    assert facts.unit == unit
    assert facts.factor == pytest.approx(factor, rel=2e-3)
    assert (facts.zero_point is None) == (unit != "nJy")


def test_hst_zero_point_of_acs():
    cards = {"PHOTFLAM": 7.0724e-20, "PHOTPLAM": 8045.5, "BUNIT": "ELECTRONS/S", "EXPTIME": 1000.0}
    facts = image_facts([header(**cards)], None)
    assert 31.4 - 2.5 * np.log10(facts.factor) == pytest.approx(25.94, abs=0.03)  # ACS F814W, AB
    assert facts.gain * facts.factor == pytest.approx(1000)


def test_filter_gain_seeing_and_inheritance():
    extension = header(GAINA=3.8, GAINB=4.0, SATURATE=45000)
    primary = header(FILTER="z DECam SDSS c0004 9260.0 1520.0", SEEING=0.9, EXPTIME=10.0)
    facts = image_facts([extension, primary], 0.3)
    assert (facts.band, facts.gain, facts.saturation) == ("z", pytest.approx(3.9), 45000)
    assert facts.psf_fwhm == pytest.approx(3.0)
    assert image_facts([header(FILTER1="CLEAR1L", FILTER2="F814W")], None).band == "F814W"
    assert image_facts([header(**{"FPA.FILTER": "i.00000"})], None).band == "i"
    assert image_facts([header(FILTER="F444W", PUPIL="F405N")], None).band == "F405N"
    assert image_facts([header(FILTER="F444W", PUPIL="CLEAR")], None).band == "F444W"


def test_flux_densities_of_wavelength_are_scaled_for_single_precision():
    facts = image_facts([header(BUNIT="erg/s/cm2/Angstrom")], None)
    assert (facts.factor, facts.unit, facts.zero_point) == (pytest.approx(1e17), "1e-17 erg/s/cm2/Angstrom", None)
    assert image_facts([header(BUNIT="10**(-20)*erg/s/cm**2/Angstrom")], None).factor == 1


@pytest.mark.parametrize(
    ("cards", "gain"),
    [
        ({"GAIN": 100, "EGAIN": 0.25}, 0.25),  # N.I.N.A.: the setting of the driver, and the gain
        ({"GAIN": 4.3, "EGAIN": 0.0}, 4.3),
        ({"GAIN": 120}, None),
        ({"GAIN": 120.0}, None),
        ({"GAIN": 123.4}, 123.4),  # a stack by SWarp
        ({"GAIN": 5, "OFFSET": 50, "XPIXSZ": 3.76}, None),
        ({"GAIN": 2}, 2),
        ({"CELL.GAIN": 1.1}, 1.1),
        ({"GAINA": 3.8, "GAINB": 4.0}, 3.9),
        ({"GAINB": 4.0}, 4.0),
        ({}, None),
    ],
)
def test_gain_is_that_of_the_detector_and_no_setting(cards, gain):
    assert image_facts([header(**cards)], None).gain == (None if gain is None else pytest.approx(gain))


def wcs_header(kind="TAN", **more):
    step = 0.262 / 3600
    cards = {"NAXIS": 2, "NAXIS1": 200, "NAXIS2": 200, "CTYPE1": f"RA---{kind}", "CTYPE2": f"DEC--{kind}"}
    cards |= {"CRPIX1": 100.5, "CRPIX2": 100.5, "CRVAL1": 150.0, "CRVAL2": 40.0, "CUNIT1": "deg", "CUNIT2": "deg"}
    return header(**cards, CD1_1=-step, CD1_2=0.0, CD2_1=0.0, CD2_2=step, **more)


def test_scale_and_angles_on_the_sky():
    wcs = celestial_wcs(wcs_header())
    assert local_scale(wcs, 100, 100) == pytest.approx(0.262, rel=1e-5)
    at = np.array([99.5] * 3)
    angles = position_angles(wcs, at, at, np.radians([90.0, 0.0, 135.0]))
    assert angles == pytest.approx([0, 90, 45], abs=1e-3) or angles == pytest.approx([180, 90, 45], abs=1e-3)


def test_distortion_terms_are_applied():
    plain = celestial_wcs(wcs_header())
    polynomial = {"PV1_0": 0.0, "PV1_1": 1.0, "PV1_4": 0.05, "PV2_0": 0.0, "PV2_1": 1.0, "PV2_4": 0.05}
    bent = celestial_wcs(wcs_header("TPV", **polynomial))
    same = celestial_wcs(wcs_header("TPV", PV1_1=1.0, PV2_1=1.0))
    x, y = np.array([0.0, 199.0]), np.array([0.0, 10.0])
    reference = sky_positions(plain, x, y)
    assert separation(*reference, *sky_positions(same, x, y)).max() < 1e-9
    assert separation(*reference, *sky_positions(bent, x, y)).max() * 3600 > 1e-3
    back = pixel_positions(bent, *sky_positions(bent, x, y))
    assert np.abs(np.array(back) - (x, y)).max() < 1e-3


@given(st.floats(0, 359.99), st.floats(-89, 89))
@settings(max_examples=50, deadline=None)
def test_positions_off_the_image_are_never_on_it(ra, dec):
    wcs = celestial_wcs(wcs_header())
    x, y = pixel_positions(wcs, np.array([ra]), np.array([dec]))
    if separation(ra, dec, 150.0, 40.0) > 0.1:
        assert not (0 <= x[0] < 200 and 0 <= y[0] < 200)


@pytest.mark.parametrize("change", [{"CTYPE1": "HPLN-TAN", "CTYPE2": "HPLT-TAN"}, {"CTYPE1": "LINEAR"}])
def test_what_is_no_sky_has_no_wcs(change):
    bad = wcs_header()
    bad.update(change)
    assert celestial_wcs(bad) is None


def test_galactic_axes_become_icrs():
    galactic = wcs_header()
    galactic.update(CTYPE1="GLON-TAN", CTYPE2="GLAT-TAN", CRVAL1=0.0, CRVAL2=0.0)
    ra, dec = sky_positions(celestial_wcs(galactic), np.array([99.5]), np.array([99.5]))
    assert (ra[0], dec[0]) == (pytest.approx(266.40499, abs=1e-4), pytest.approx(-28.93617, abs=1e-4))


def test_real_tpv_against_tan(data):
    (path,) = (data / "images_fits" / "legacypipe" / "testcase4").rglob("*_ooi_*.fits")
    with fits.open(path) as hdus:
        tpv = celestial_wcs(hdus[1].header, hdus)
        plain = hdus[1].header.copy()
        for name in [key for key in plain if key.startswith("PV")]:
            del plain[name]
        plain["CTYPE1"], plain["CTYPE2"] = "RA---TAN", "DEC--TAN"
        tan = celestial_wcs(plain)
        kept = hdus[1].header.copy()
        kept["CTYPE1"], kept["CTYPE2"] = "RA---TAN", "DEC--TAN"  # as SCAMP writes it
        scamp = celestial_wcs(kept)
    y, x = (v.ravel().astype(float) for v in np.mgrid[0:251:50, 0:245:50])
    right = sky_positions(tpv, x, y)
    assert 3600 * np.median(separation(*right, *sky_positions(tan, x, y))) == pytest.approx(4.04, abs=0.05)
    assert 3600 * separation(*right, *sky_positions(scamp, x, y)).max() < 1e-6


def picture(tmp_path, values, name, **options):
    from PIL import Image as Picture

    path = tmp_path / name
    Picture.fromarray(values).save(path, **options)
    return Source(FileRef(url=str(path), source=name))


def test_display_stamp(tmp_path):
    rgb = np.random.default_rng(0).integers(0, 255, (40, 50, 3)).astype(np.uint8)
    source = picture(tmp_path, rgb, "587722952230175035.png")
    assert FORMATS[0].sniff(source)
    stamp = load_stamp(source)
    assert (stamp.object_id, stamp.unit, stamp.ra) == ("587722952230175035", "display", None)
    assert np.array_equal(stamp.flux[:, ::-1].transpose(1, 2, 0), rgb)
    assert {"DISPLAY_IMAGE", "NO_POSITION", "UNCALIBRATED"} <= set(decode(stamp.flags))
    grey = load_stamp(picture(tmp_path, rgb[:, :, 0], "150.5_-2.25_3_Proctor_Tab1.jpg"))
    assert grey.flux.shape == (1, 40, 50)
    assert (grey.ra, grey.dec) == (150.5, -2.25)


def test_bad_pictures(tmp_path):
    with pytest.raises(Unusable, match="8 x 8 pixels"):
        load_stamp(picture(tmp_path, np.zeros((8, 8), np.uint8), "a.png"))
    with pytest.raises(Unusable, match="all pixels are 7"):
        load_stamp(picture(tmp_path, np.full((40, 40), 7, np.uint8), "b.png"))
    noise = np.random.default_rng(0).integers(0, 255, (99, 99, 3)).astype(np.uint8)
    whole = picture(tmp_path, noise, "c.jpg")
    path = tmp_path / "d.jpg"
    path.write_bytes(whole.content[:2000])
    with pytest.raises(Unreadable, match=r"d.jpg can't be decoded"):
        load_stamp(Source(FileRef(url=str(path), source="d.jpg")))


@pytest.mark.parametrize(
    ("name", "ra", "dec"),
    [
        ("0.878_0.466_3_Proctor_Tab1", 0.878, 0.466),
        ("SDSSJ100000.00-013000.0", 150.0, -1.5),
        ("J235959.9+895959", 359.99958, 89.99972),
        ("587722952230175035", None, None),
        ("400.1_10.0_x", None, None),
    ],
)
def test_position_of_a_name(name, ra, dec):
    found = position_of_name(name)
    assert found == ((None, None) if ra is None else (pytest.approx(ra, abs=1e-4), pytest.approx(dec, abs=1e-4)))
