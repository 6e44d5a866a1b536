"""Which planes of a file, and which files beside it, belong to an image, and what becomes of them."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

from tests.transforms.readers.test_image_reader import load, ref, write
from transforms.attempt import Unusable
from transforms.readers import Source, images
from transforms.readers.images import FORMATS

fits = pytest.importorskip("astropy.io.fits")
SHAPE = (24, 32)
VARIANCE = np.full(SHAPE, 4.0, np.float32)
VARIANCE[0, 0] = 16.0


@pytest.fixture(scope="module")
def flux():
    return np.random.default_rng(1).normal(100, 2, SHAPE).astype(np.float32)


@pytest.fixture
def bad():
    plane = np.zeros(SHAPE, np.int32)
    plane[3, 4] = 1
    return plane


def planes(flux, bad, *names):
    """Extensions of these names with what such a name holds."""
    values = {"var": VARIANCE, "sigma": np.sqrt(VARIANCE), "weight": 1 / VARIANCE, "mask": bad, "flux": flux}
    kinds = {"STAT": "var", "ERR": "sigma", "RMS": "sigma", "WGT": "weight", "WHT": "weight", "MSK": "mask"}
    kinds |= {"BPM": "mask", "DQ": "mask", "FLG": "mask", "SCI": "flux", "DATA": "flux"}
    hdus = [fits.ImageHDU(values[kinds.get(name.split(".")[-1], "weight")], name=name) for name in names]
    return [fits.PrimaryHDU(), *hdus]


@pytest.mark.parametrize(
    ("names", "whole"),
    [
        (("DATA", "STAT", "DQ"), True),  # MUSE
        (("SCI", "BPM", "ERR"), True),  # LCO
        (("SCI", "MSK", "WGT"), False),  # DES
        (("WHT", "DQ", "SCI"), False),
        (("SCI", "ERR", "DQ", "AREA", "VAR_POISSON", "VAR_RNOISE", "VAR_FLAT"), True),  # JWST
        (("SCI", "ERR", "DQ", "SOMETHING"), True),
        (("DET11.SCI", "DET11.RMS", "DET11.DQ"), False),  # Euclid NISP
        (("3-4.F.SCI", "3-4.F.RMS", "3-4.F.FLG"), False),  # Euclid VIS
    ],
)
def test_one_image_with_its_noise_and_mask(tmp_path, flux, bad, names, whole):
    (image,) = load(write(tmp_path / "a.fits", *planes(flux, bad, *names)))
    assert np.array_equal(image.flux, flux)
    assert image.ivar[0, :2] == pytest.approx([1 / 16, 1 / 4])
    assert np.argwhere(image.mask).tolist() == [[3, 4]]
    assert image.whole_noise is whole


def test_context_and_exposure_maps_are_no_images(tmp_path, flux, bad):
    names = ("SCI", "WHT", "CTX", "EXP", "BKG", "CON")
    assert [image.hdu for image in load(write(tmp_path / "a.fits", *planes(flux, bad, *names)))] == ["1"]


def test_unknown_extensions_without_a_named_science_are_images(tmp_path, flux, bad):
    hdus = [fits.ImageHDU(flux, name=name) for name in ("ccd1", "ccd2", "S4")]
    assert len(load(write(tmp_path / "a.fits", fits.PrimaryHDU(), *hdus))) == 3


@pytest.mark.parametrize("by", ["EXTVER", "stem"])
def test_companions_go_to_the_detector_they_share_a_name_with(tmp_path, flux, by):
    hdus = [fits.PrimaryHDU()]
    for kind, scale in (("SCI", 1), ("ERR", 2)):
        for chip in (1, 2):
            hdu = fits.ImageHDU(flux if kind == "SCI" else np.full(SHAPE, scale * chip, np.float32))
            hdu.header["EXTNAME"] = kind if by == "EXTVER" else f"CHIP{chip}-{kind}"
            hdu.header["EXTVER"] = chip if by == "EXTVER" else 1
            hdus.append(hdu)
    first, second = load(write(tmp_path / "a.fits", *hdus))
    assert (first.ivar[0, 0], second.ivar[0, 0]) == (1 / 4, 1 / 16)


def test_eso_cards_go_before_names(tmp_path, flux, bad):
    cards = {
        "a": ("DATA", ""),
        "b": ("ERROR", "INVMSE"),
        "c": ("QUALITY", "FLAG32BIT"),
        "d": ("DATA", ""),
        "e": ("", ""),
    }
    arrays = {"a": flux, "b": 1 / VARIANCE, "c": bad, "d": flux + 1, "e": np.sqrt(VARIANCE)}
    hdus = [fits.PrimaryHDU()]
    for name, (kind, detail) in cards.items():
        hdu = fits.ImageHDU(arrays[name], name=name)
        if kind:
            hdu.header.update(HDUCLASS="ESO", HDUCLAS1="IMAGE", HDUCLAS2=kind, HDUCLAS3=detail)
        if kind in ("ERROR", "QUALITY"):
            hdu.header["SCIDATA"] = "d"
        hdus.append(hdu)
    first, second = load(write(tmp_path / "a.fits", *hdus))
    assert (first.hdu, second.hdu) == ("1", "4")
    assert first.ivar is None
    assert second.ivar[0, 0] == pytest.approx(1 / 16)
    assert second.mask.sum() == 1


@pytest.mark.parametrize("kind", ["StdDevUncertainty", "VarianceUncertainty", "InverseVariance"])
def test_uncertainty_of_ccddata_is_of_its_stated_kind(tmp_path, flux, kind):
    from astropy import nddata

    values = {"StdDevUncertainty": 2.0, "VarianceUncertainty": 4.0, "InverseVariance": 0.25}[kind]
    uncertainty = getattr(nddata, kind)(np.full(SHAPE, values))
    nddata.CCDData(flux, unit="adu", uncertainty=uncertainty).write(tmp_path / "a.fits")
    (image,) = load(tmp_path / "a.fits")
    assert np.unique(image.ivar) == pytest.approx([0.25])


def test_noise_goes_before_weight_and_pixels_without_weight_are_masked(tmp_path, flux):
    weight = np.full(SHAPE, 1500.0, np.float32)  # seconds
    weight[5, 5] = 0
    hdus = [
        fits.ImageHDU(flux, name="SCI"),
        fits.ImageHDU(weight, name="WHT"),
        fits.ImageHDU(VARIANCE**0.5, name="ERR"),
    ]
    (image,) = load(write(tmp_path / "i2d.fits", fits.PrimaryHDU(), *hdus))
    assert image.ivar[1, 1] == pytest.approx(0.25)
    assert np.argwhere(image.mask).tolist() == [[5, 5]]


def test_a_file_of_companions_only_is_refused(tmp_path, bad):
    with pytest.raises(Unusable, match=r"no HDU of a.fits is an image of the sky \(0:PrimaryHDU, 1:DQ \(mask\)\)"):
        load(write(tmp_path / "a.fits", fits.PrimaryHDU(), fits.ImageHDU(bad, name="DQ")))


@pytest.mark.parametrize(
    ("image", "noise", "mask", "kind"),
    [
        ("rings.v3.skycell.1.2.stk.r.unconv{}.fits", ".wt", ".mask", "var"),
        ("x{}.fits", "_rms", "_bpm", "sigma"),
        ("hlsp_x_drz{}.fits", "_wht", "_dq", "weight"),
        ("a.fits", "", "", ""),
    ],
)
def test_files_beside_an_image(tmp_path, flux, bad, image, noise, mask, kind):
    path = write(tmp_path / image.format(""), fits.PrimaryHDU(flux))
    if not kind:
        assert load(path)[0].ivar is None
        return
    values = {"var": VARIANCE, "sigma": VARIANCE**0.5, "weight": 1 / VARIANCE}[kind]
    beside = [image.format(noise).replace("_drz_wht", "_wht"), image.format(mask)]
    for name, plane in zip(beside, (values, bad), strict=True):
        write(tmp_path / name, fits.PrimaryHDU(plane))
        assert load(tmp_path / name) == []
    (found,) = load(path)
    assert found.ivar[0, :2] == pytest.approx([1 / 16, 1 / 4])
    assert found.mask.sum() == 1
    assert found.whole_noise is (kind == "var")


def test_ztf_mask_beside_its_image(tmp_path, flux, bad):
    science = "ztf_20200204197199_000812_zr_c04_o_q3_sciimg.fits"
    write(tmp_path / science, fits.PrimaryHDU(flux))
    marks = np.where(flux > 101, 2, 0).astype(np.int16) + 16 * bad.astype(np.int16)
    mask = write(tmp_path / science.replace("sciimg", "mskimg"), fits.PrimaryHDU(marks))
    assert load(mask) == []
    assert np.argwhere(load(tmp_path / science)[0].mask).tolist() == [[3, 4]]
    (tmp_path / science).unlink()
    with pytest.raises(Unusable, match=r"is the mask of ztf_.*_sciimg.fits, which is not beside it"):
        load(mask)


def test_asinh_pixels_of_pan_starrs_become_linear(tmp_path, flux):
    def packed(linear, softening, offset):
        scale = 2.5 / np.log(10)
        hdu = fits.PrimaryHDU((scale * np.arcsinh((linear - offset) / (2 * softening))).astype(np.float32))
        hdu.header.update(BSOFTEN=softening, BOFFSET=offset)
        return hdu

    stem = "rings.v3.skycell.1.2.stk.r.unconv"
    path = write(tmp_path / f"{stem}.fits", packed(flux, 95.4, 2.25))
    write(tmp_path / f"{stem}.wt.fits", packed(VARIANCE, 12.0, 1.0))
    (image,) = load(path)
    assert image.flux == pytest.approx(flux, rel=1e-5)
    assert image.ivar == pytest.approx(1 / VARIANCE, rel=1e-5)


@pytest.mark.parametrize(
    ("dtype", "full", "cards", "found"),
    [
        ("u2", 65535, {}, True),
        ("i2", 32767, {}, True),
        ("u1", 255, {}, True),
        ("i4", 65535, {}, False),
        ("f4", 65535, {}, False),
        ("u2", 65535, {"SATURATE": 70000}, False),
        ("u2", 60000, {"SATURATE": 50000}, True),
    ],
)
def test_a_clipped_pixel_is_saturated_whatever_the_header_says(tmp_path, flux, dtype, full, cards, found):
    plane = np.rint(flux).astype(dtype)
    plane[7, 9] = full
    hdu = fits.PrimaryHDU(plane)
    hdu.header.update(cards)
    (image,) = load(write(tmp_path / "a.fits", hdu))
    assert (image.saturated is not None) is found
    assert image.mask.sum() == found


def test_colour_cameras(tmp_path, flux):
    raw = fits.PrimaryHDU(flux)
    raw.header["BAYERPAT"] = "RGGB"
    with pytest.raises(Unusable, match=r"raw colour mosaic .RGGB.: .*debayer"):
        load(write(tmp_path / "raw.fits", raw))
    stack = fits.PrimaryHDU(np.stack([flux, 2 * flux, 3 * flux]))
    stack.header["BAYERPAT"] = "GRBG"
    found = load(write(tmp_path / "stack.fits", stack))
    assert [image.band for image in found] == ["R", "G", "B"]
    assert np.array_equal(found[2].flux, 3 * flux)


def test_tiny_flux_densities_have_an_inverse_variance(tmp_path, flux):
    science = fits.ImageHDU((flux * 1e-20).astype(np.float32), name="SCI")
    science.header["BUNIT"] = "erg/s/cm2/Angstrom"
    error = fits.ImageHDU(np.full(SHAPE, 2e-20, np.float32), name="ERR")
    (image,) = load(write(tmp_path / "a.fits", fits.PrimaryHDU(), science, error))
    assert image.unit == "1e-17 erg/s/cm2/Angstrom"
    assert image.flux == pytest.approx(flux * 1e-3, rel=1e-5)
    assert np.unique(image.ivar) == pytest.approx([250000.0])
    assert not image.mask.any()


@pytest.mark.parametrize("packed", [False, True])
def test_packed_planes_are_unpacked_once_for_a_row_of_tiles(tmp_path, monkeypatch, packed):
    grid = [(y, min(y + 40, 80), x, min(x + 40, 100)) for y in (0, 40) for x in (0, 40, 80)]
    monkeypatch.setattr(images, "tiles", lambda ny, nx: iter(grid))
    opened = []
    monkeypatch.setattr(images, "read_companion", lambda *a, read=images.read_companion: opened.append(a) or read(*a))
    plane = np.arange(8000, dtype=np.float32).reshape(80, 100)
    path, ending = tmp_path / "a.fits", ".gz" if packed else ""
    for name, values in (("a", plane), ("a_sigma", plane + 1)):
        plain = write(tmp_path / f"{name}.fits", fits.PrimaryHDU(values))
        if packed:
            (tmp_path / f"{name}.fits.gz").write_bytes(gzip.compress(plain.read_bytes()))
            plain.unlink()
    path = tmp_path / f"a.fits{ending}"
    with Source(ref(path)) as source:
        kind = next(f for f in FORMATS if f.sniff(source))
        items = kind.items(source)
        found = [entry.load() for item in items for entry in kind.entries(source, item)]
    assert len(items) == len(opened) == (2 if packed else 6)
    assert [image.row for image in found] == list(range(6))
    for image, (y0, y1, x0, x1) in zip(found, grid, strict=True):
        assert image.origin == (y0, x0)
        assert np.array_equal(image.flux, plane[y0:y1, x0:x1])
        assert image.ivar == pytest.approx((plane[y0:y1, x0:x1] + 1) ** -2.0, rel=1e-5)
