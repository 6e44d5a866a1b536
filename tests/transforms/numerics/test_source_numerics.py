"""Sky, detection, photometry, cosmic rays, stamps and tiles: arrays in, arrays out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms.numerics.background import estimate_sky, native
from transforms.numerics.cosmic import cosmic_rays
from transforms.numerics.detection import HUGE, detect, kernel, noise_excess
from transforms.numerics.photometry import Planes, photometry, windowed
from transforms.numerics.stamps import cut, is_cut_by_edge, stamp_side
from transforms.numerics.tiles import core_of, tiles
from transforms.simulate.images import Camera, render


def gaussian_field(
    snr: float, *, side: int = 512, step: int = 64, fwhm: float = 4.0, noise: float = 10.0, seed: int = 0
):
    """A grid of equal stars, off the pixel centres, on white noise."""
    rng = np.random.default_rng(seed)
    y, x = (v.ravel() for v in np.mgrid[step // 2 : side : step, step // 2 : side : step].astype(float))
    y, x = y + rng.uniform(-0.5, 0.5, y.size), x + rng.uniform(-0.5, 0.5, x.size)
    flux = snr * noise * np.sqrt(4 * np.pi) * fwhm / 2.3548
    njy = np.full(x.size, flux * 10**0.56)
    truth = {"x": x, "y": y, "flux_njy": njy, "kind": np.full(x.size, "star"), "r50": np.zeros(x.size)}
    clean = render(rng, (side, side), truth, Camera(fwhm=fwhm))
    return clean, (clean + rng.normal(0, noise, clean.shape)).astype(np.float32), truth, flux


def test_sky_equals_the_known_one_and_ignores_masked_pixels():
    rng = np.random.default_rng(1)
    _y, x = np.mgrid[:256, :256]
    flux = (500 + 0.02 * x + rng.normal(0, 5, x.shape)).astype(np.float32)
    mask = np.zeros(flux.shape, bool)
    mask[100:150, 100:150] = True
    flux[mask] = np.nan
    sky = estimate_sky(flux, mask)
    assert np.abs(sky.level - (500 + 0.02 * x)).max() < 2.0
    assert sky.noise_median == pytest.approx(5, rel=0.03)
    assert 0.9 < sky.free <= 1


def test_sky_of_nothing_is_an_error_that_names_the_pixels():
    with pytest.raises(ValueError, match="all 100 pixels"):
        estimate_sky(np.zeros((10, 10), np.float32), np.ones((10, 10), bool))


def test_empty_sky_gives_no_source():
    for seed in range(3):
        flux = np.random.default_rng(seed).normal(100, 10, (1024, 1024)).astype(np.float32)
        mask = np.zeros(flux.shape, bool)
        sky = estimate_sky(flux, mask)
        for fwhm in (2.0, 4.0):
            assert len(detect(flux - sky.level, sky.noise, mask, fwhm=fwhm).objects) == 0


@pytest.mark.parametrize("snr", [8, 20, 100])
def test_all_stars_are_found_once_at_their_place(snr):
    _, flux, truth, _ = gaussian_field(snr)
    mask, error = np.zeros(flux.shape, bool), np.full(flux.shape, 10, np.float32)
    found = detect(flux, error, mask, fwhm=4.0)
    assert len(found.objects) == len(truth["x"])
    planes = Planes(flux, error, mask, found.segments)
    x, y = windowed(planes, found.objects, photometry(planes, found.objects)["r50"])
    distance = np.array([np.hypot(x - a, y - b).min() for a, b in zip(truth["x"], truth["y"], strict=True)])
    assert np.median(distance) < 1.5 * 4.0 / snr  # Condon (1997): about 0.6 FWHM / S/N an axis


@pytest.mark.parametrize("snr", [15, 60])
def test_aperture_flux_is_unbiased_to_one_percent_and_its_error_is_honest(snr):
    biases, pulls = [], []
    for seed in range(6):
        clean, flux, _truth, _ = gaussian_field(snr, seed=seed)
        mask, error = np.zeros(flux.shape, bool), np.full(flux.shape, 10, np.float32)
        objects = detect(flux, error, mask, fwhm=4.0).objects
        noisy = photometry(Planes(flux, error, mask, np.zeros(flux.shape, np.int32)), objects)
        exact = photometry(Planes(native(clean), error, mask, np.zeros(flux.shape, np.int32)), objects)
        biases.append(noisy["flux_aper_5"] / exact["flux_aper_5"] - 1)
        pulls.append((noisy["flux_aper_5"] - exact["flux_aper_5"]) / noisy["flux_aper_5_err"])
    bias = np.concatenate(biases)
    assert abs(bias.mean()) < 0.01
    assert np.std(np.concatenate(pulls)) == pytest.approx(1, abs=0.15)


def test_masked_pixels_are_left_out_and_their_area_is_made_up():
    _clean, flux, _, total = gaussian_field(200)
    mask, error = np.zeros(flux.shape, bool), np.full(flux.shape, 10, np.float32)
    objects = detect(flux, error, mask, fwhm=4.0).objects[:1]
    row, column = round(float(objects["y"][0])), round(float(objects["x"][0]))
    mask[row + 4, column] = True
    flux[row + 4, column] = 1e6
    error[mask] = HUGE
    found = photometry(Planes(flux, error, mask, np.zeros(flux.shape, np.int32)), objects)
    assert found["flux_aper_12"][0] == pytest.approx(total, rel=0.05)
    assert 0 < found["masked_fraction"][0] < 0.2


def test_gain_adds_the_noise_of_the_source():
    _, flux, _, total = gaussian_field(300)
    mask, error = np.zeros(flux.shape, bool), np.full(flux.shape, 10, np.float32)
    objects = detect(flux, error, mask, fwhm=4.0).objects[:4]
    segments = np.zeros(flux.shape, np.int32)
    without = photometry(Planes(flux, error, mask, segments), objects)["flux_aper_8_err"]
    with_gain = photometry(Planes(flux, error, mask, segments, gain=2.0), objects)["flux_aper_8_err"]
    assert with_gain == pytest.approx(np.sqrt(without**2 + total / 2), rel=0.02)


def test_reference_catalog_of_sextractor(data):
    """The field that sep ships with what SExtractor 2.8.6 measured in it."""
    from astropy.io import fits
    from astropy.io.ascii import read

    folder = data / "images_fits" / "sep" / "data"
    flux = native(fits.getdata(folder / "image.fits"))
    mask = np.zeros(flux.shape, bool)
    reference = read(folder / "image.cat", format="sextractor")
    level, noise = native(fits.getdata(folder / "back.fits")), native(fits.getdata(folder / "rms.fits"))
    sky = estimate_sky(flux, mask)
    assert np.abs(sky.level - level).max() < noise.mean()
    objects = detect(flux - level, noise, mask, fwhm=2.0).objects
    bright = reference[reference["FLUX_AUTO"] / reference["FLUXERR_AUTO"] > 15]
    offset = [np.hypot(objects["x"] + 1 - r["X_IMAGE"], objects["y"] + 1 - r["Y_IMAGE"]).min() for r in bright]
    assert len(bright) > 20
    assert np.mean(np.array(offset) < 1.5) > 0.95
    assert np.median(offset) < 0.1


def test_cosmic_rays_are_found_and_stars_are_kept():
    _, flux, truth, _ = gaussian_field(100, side=256)
    rng = np.random.default_rng(3)
    hits = rng.integers(5, 250, (20, 2))
    rows, columns = hits.T
    flux[rows, columns] += 800
    flat = np.zeros(flux.shape, np.float32)
    mask = np.zeros(flux.shape, bool)
    found = cosmic_rays(flux, mask, gain=4.0, level=flat, noise=flat + 10, saturation=None)
    assert found[rows, columns].mean() > 0.85
    at = np.rint(truth["y"]).astype(int), np.rint(truth["x"]).astype(int)
    clear = np.array([np.hypot(rows - y, columns - x).min() > 3 for y, x in zip(*at, strict=True)])
    assert not found[at][clear].any()


@given(st.integers(-40, 140), st.integers(-40, 140), st.integers(1, 60))
@settings(max_examples=60, deadline=None)
def test_a_stamp_holds_its_pixel_in_the_middle_and_fills_what_is_outside(y, x, half):
    plane = np.arange(100 * 90, dtype=np.float32).reshape(100, 90)
    side = 2 * half
    stamp = cut(plane, y, x, side, fill=-1)
    assert stamp.shape == (side, side)
    assert stamp.base is None
    inside = 0 <= y < 100 and 0 <= x < 90
    assert stamp[half, half] == (plane[y, x] if inside else -1)
    assert bool((stamp == -1).any()) == is_cut_by_edge(plane.shape, y, x, side)


def test_stamp_sides_are_even_and_within_limits():
    assert [stamp_side(r, 64, 256) for r in (float("nan"), 3, 40.2, 1e9)] == [64, 64, 82, 256]


@given(st.integers(1, 700), st.integers(1, 700))
@settings(max_examples=40, deadline=None)
def test_cores_cover_each_pixel_once_and_sections_hold_their_core(ny, nx):
    covered = np.zeros((ny, nx), int)
    for section in tiles(ny, nx, largest=200, core=128, overlap=32):
        y0, y1, x0, x1 = core_of(section, ny, nx, core=128, overlap=32)
        covered[y0:y1, x0:x1] += 1
        if section:
            assert section[0] <= y0 < y1 <= section[1]
            assert section[2] <= x0 < x1 <= section[3]
    assert (covered == 1).all()


def test_kernel_is_a_normalised_gaussian_of_the_seeing():
    weights = kernel(4.0)
    assert weights.sum() == pytest.approx(1, abs=1e-5)
    assert weights.shape[0] % 2 == 1
    assert kernel(1e9).shape == kernel(8.0).shape


def test_correlated_noise_raises_the_threshold_and_invents_nothing():
    from scipy import ndimage

    rng = np.random.default_rng(8)
    white = rng.normal(0, 1, (600, 600))
    tied = ndimage.uniform_filter(white, 3)
    mask = np.zeros(white.shape, bool)
    for plane, low, high in ((white, 1.0, 1.06), (tied, 1.8, 3.0)):
        plane = (plane / plane.std()).astype(np.float32)
        error = np.ones(plane.shape, np.float32)
        assert low <= noise_excess(plane, error, mask, 3.0) <= high
        assert len(detect(plane, error, mask, fwhm=3.0).objects) == 0
