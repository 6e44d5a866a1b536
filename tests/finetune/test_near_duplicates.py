from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter, zoom

from finetune import tasks
from finetune.fingerprints import curve_print, spectrum_print, stamp_print
from finetune.near_duplicates import mark_twins, near_duplicates
from finetune.split import LeakError, Split, check_leaks, make_folds, make_split, merged_groups
from finetune.task import Example
from transforms.records import Cutout, LightCurve, Spectrum

DATA = Path("/work/shared/data")


def stamp(number: int, side: int = 96, flux: np.ndarray | None = None) -> Cutout:
    """A galaxy of one shape for all, in a field and a noise of its own."""
    if flux is None:
        rng = np.random.default_rng(number)
        y, x = np.mgrid[:side, :side] - (side - 1) / 2
        field = np.zeros((side, side))
        field.flat[rng.integers(0, side * side, 12)] = rng.uniform(200, 2000, 12)
        flux = 200 * np.exp(-np.hypot(y, x) / 8) + gaussian_filter(field, 1.3) + rng.normal(0, 3, (side, side))
        flux = flux[None]
    flux = np.asarray(flux, np.float32)
    return Cutout(source=f"{number}.fits", object_id=f"g{number}", flux=flux, mask=np.zeros(flux.shape, bool))


def spectrum(number: int, seed: int = 0) -> Spectrum:
    """A star with lines of its own strengths, at a signal to noise of 50."""
    rng = np.random.default_rng(number)
    wavelength = np.arange(3800.0, 7200.0, 1.2)
    depth = np.zeros(wavelength.size)
    depth[np.random.default_rng(99).integers(0, wavelength.size, 150)] = rng.uniform(0.1, 1.5, 150)
    flux = (1 - np.minimum(gaussian_filter(depth, 2.0), 0.8)) * (wavelength / 5500) ** rng.uniform(-2, 2)
    flux = flux * (1 + np.random.default_rng((number, seed)).normal(0, 0.02, flux.size))
    return Spectrum(
        source=f"{number}.fits", object_id=f"s{number}", wavelength=wavelength, flux=flux.astype(np.float32),
        mask=np.zeros(flux.size, bool),
    )  # fmt: skip


def curve(number: int, n: int = 60) -> LightCurve:
    """A sine of its own period, at the same times as all others."""
    rng = np.random.default_rng(number)
    time = np.sort(np.random.default_rng(7).uniform(59000, 59200, n))
    flux = 100 + 20 * np.sin(2 * np.pi * time / rng.uniform(0.4, 0.9) + rng.uniform(0, 6)) + rng.normal(0, 3, n)
    band = np.where(np.arange(n) % 2, "r", "g")
    return LightCurve(
        source=f"{number}.csv", object_id=f"v{number}", time=time, flux=flux, flux_err=np.full(n, 3.0), band=band,
        quality=np.zeros(n, bool),
    )  # fmt: skip


def jpeg(flux: np.ndarray) -> np.ndarray:
    shown = np.clip(128 + 100 * np.arcsinh(flux[0] / 100), 0, 255).astype(np.uint8)
    stream = BytesIO()
    Image.fromarray(shown).save(stream, "JPEG", quality=40)
    return np.asarray(Image.open(stream), np.float32)[None]


@pytest.mark.parametrize(
    "change",
    [
        lambda flux, rng: flux + rng.normal(0, 3, flux.shape),
        lambda flux, rng: np.roll(flux, 1, axis=2),
        lambda flux, rng: flux[:, ::2, ::2],
        lambda flux, rng: zoom(flux, (1, 1.3, 1.3), order=1),
        lambda flux, rng: 0.1 * flux + 50,
        lambda flux, rng: np.repeat(jpeg(flux), 3, axis=0),
    ],
    ids=["noisier", "shifted", "every second pixel", "resampled", "other units", "JPEG in colour"],
)
def test_a_changed_copy_of_a_stamp_is_found_and_no_other(change) -> None:
    originals = [stamp(i) for i in range(12)]
    copies = [stamp(100 + i, flux=change(originals[i].flux, np.random.default_rng(i))) for i in (2, 7)]
    assert [(p.one, p.two) for p in near_duplicates([*originals, *copies])] == [(2, 12), (7, 13)]


def test_one_smooth_source_tells_nothing() -> None:
    y, x = np.mgrid[:64, :64] - 31.5
    beam = np.maximum(np.exp(-(y**2 + x**2) / 8) - 0.05, 0)[None]  # as of a radio map that was clipped at the noise
    assert stamp_print(stamp(0, flux=beam)) is None
    assert stamp_print(stamp(0, flux=np.ones((1, 64, 64)))) is None
    bad = stamp(0)
    assert stamp_print(replace(bad, mask=np.ones(bad.flux.shape, bool))) is None
    assert stamp_print(replace(bad, flux=np.full(bad.flux.shape, np.nan, np.float32))) is None


def test_a_changed_copy_of_a_spectrum_is_found_and_no_other() -> None:
    stars = [spectrum(i) for i in range(40)]
    again = [spectrum(3, seed=1)]  # the same star with another noise: the signal to noise of 50 leaves it in doubt
    tilted = replace(stars[5], flux=(stars[5].flux * 7 * (stars[5].wavelength / 5000)).astype(np.float32))
    keep = slice(250, None)
    cut = replace(stars[9], **{k: getattr(stars[9], k)[keep] for k in ("wavelength", "flux", "mask")})
    noisy = stars[11].flux * (1 + np.random.default_rng(0).normal(0, 0.005, stars[11].flux.size))
    copies = [tilted, cut, replace(stars[11], flux=noisy.astype(np.float32))]
    found = {(p.one, p.two) for p in near_duplicates([*stars, *copies, *again])}
    assert found == {(5, 40), (9, 41), (11, 42)}
    flat = replace(stars[0], flux=np.ones_like(stars[0].flux))
    assert spectrum_print(flat) is None
    assert spectrum_print(replace(stars[0], mask=np.ones(stars[0].flux.size, bool))) is None


def test_a_changed_copy_of_a_light_curve_is_found_and_no_other() -> None:
    stars = [curve(i) for i in range(20)]
    rng = np.random.default_rng(0)
    some = rng.random(60) > 0.25
    fewer = replace(
        stars[4], **{k: getattr(stars[4], k)[some] for k in ("time", "flux", "flux_err", "band", "quality")}
    )
    later = replace(stars[6], time=stars[6].time + 0.004, flux=3 * stars[6].flux + 10)
    noisy = replace(stars[8], flux=stars[8].flux + rng.normal(0, 1.5, 60))
    elsewhere = replace(stars[10], time=stars[10].time + 0.3)  # the same fluxes at other times are another star's
    found = {(p.one, p.two) for p in near_duplicates([*stars, fewer, later, noisy, elsewhere])}
    assert found == {(4, 20), (6, 21), (8, 22)}
    assert curve_print(curve(0, 12)) is None
    assert curve_print(replace(stars[0], flux=np.full(60, 5.0))) is None


def test_kinds_are_not_compared_with_each_other() -> None:
    assert near_duplicates([stamp(0), spectrum(0), curve(0), object()]) == []


def test_the_order_does_not_matter() -> None:
    records = [*(curve(i) for i in range(8)), replace(curve(3), flux=curve(3).flux * 2)]
    turned = {tuple(sorted((8 - p.one, 8 - p.two))) for p in near_duplicates(records[::-1])}
    assert turned == {(p.one, p.two) for p in near_duplicates(records)} == {(3, 8)}


def examples() -> list[Example]:
    """Thirty stars, and three copies of two of them under other names."""
    stars = [curve(i) for i in range(30)]
    copies = [replace(stars[i], source=f"copy{i}.csv", object_id=f"copy{i}", flux=stars[i].flux * 2) for i in (4, 11)]
    third = replace(stars[4], source="third.csv", object_id="third", flux=stars[4].flux + 1)
    return [
        Example(record=record, labels={"class_name": "bright"}, group=record.object_id)
        for record in (*stars, *copies, third)
    ]


def test_copies_are_dealt_together_and_counted() -> None:
    plain = examples()
    marked, merged = mark_twins(plain)
    assert merged == 3
    assert len({one.group for one in marked}) == 33, "groups keep their names, so that an old split finds them"
    groups = merged_groups(marked)
    assert groups[4] == groups[30] == groups[32]
    assert groups[11] == groups[31] != groups[4]
    assert len(set(groups)) == 30
    for seed in range(5):
        for part in make_split(marked, seed=seed).apply(marked).values():
            names = {one.group for one in part}
            assert len(names & {"v4", "copy4", "third"}) in (0, 3)
    folds = make_folds(marked, 5)
    assert sum(len(held) for _, held in folds) == 33


def test_an_old_split_with_copies_on_both_sides_is_refused_by_name() -> None:
    marked, _ = mark_twins(examples())
    parts = {one.group: "train" for one in marked} | {"copy11": "test"}
    old = Split(seed=0, by="group", shares={"train": 0.8, "test": 0.2}, parts=parts)
    with pytest.raises(LeakError, match=r"near-duplicates.*v11.*copy11"):
        old.apply(marked)
    check_leaks({"train": [marked[0]], "test": [marked[1]]})


def test_copies_within_one_group_are_nobodys_business() -> None:
    star = curve(1)
    same = [
        Example(record=replace(star, source=s, flux=star.flux * f), labels={}, group="v1")
        for s, f in (("a", 1), ("b", 2))
    ]
    marked, merged = mark_twins(same)
    assert merged == 0
    assert [one.twins for one in marked] == ["", ""]


@pytest.mark.parametrize("name", ["galaxy_morphology", "variable_star", "stellar_parameters"])
def test_simulated_objects_are_not_taken_for_copies(name: str) -> None:
    records = [one.record for one in tasks.get(name).simulate(40, 5)]
    assert near_duplicates(records) == []


@pytest.mark.skipif(not DATA.is_dir(), reason=f"needs the real surveys of {DATA}")
def test_the_galaxy_that_stands_in_two_real_sets_is_found() -> None:
    from benchmarks.morphology_data import load_image

    root = DATA / "images_galaxy"
    others = sorted((root / "gz2_spiral_nonspiral").rglob("*.jpg"))[:25]
    paths = [
        next((root / "gz1_small").rglob("587731869633675331*")),
        next((root / "gz2_spiral_nonspiral").rglob("221571*")),
    ]
    found = near_duplicates([load_image(path) for path in [*paths, *others]])
    assert [(p.one, p.two) for p in found] == [(0, 1)], "other bytes, another survey's cut, the same galaxy"
