"""Light curves as other surveys see them: no point invented, errors as asked, and the period is still there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.augment import light_curves
from finetune.augment.telescopes import LIGHT_CURVES
from transforms.period import measure_light_curve
from transforms.records import LightCurve

PERIOD = 0.5677


def pulsator(seed: int = 0, n: int = 600, error: float = 0.005, bands: tuple[str, ...] = ("g", "r", "z")) -> LightCurve:
    """A sine of 40 percent, 17th magnitude, over four years."""
    rng = np.random.default_rng(seed)
    time = np.sort(55000 + rng.uniform(0, 1500, n))
    band = np.array(bands)[np.arange(n) % len(bands)]
    flux = 10 ** (-0.4 * (17 - 31.4)) * (1 + 0.4 * np.sin(2 * np.pi * time / PERIOD))
    sigma = error * flux
    return LightCurve(
        source="l.csv", object_id=f"l{seed}", time=time, flux=flux + rng.normal(size=n) * sigma, flux_err=sigma,
        band=band, quality=np.zeros(n, bool), unit="nJy",
    )  # fmt: skip


def is_part(new: LightCurve, old: LightCurve) -> bool:
    return set(new.time) <= set(old.time) and bool((np.diff(new.time) >= 0).all())


@settings(max_examples=20, deadline=None)
@given(st.floats(0.05, 0.9), st.integers(0, 100))
def test_thinning_keeps_the_share_asked_for(share: float, seed: int) -> None:
    record = pulsator()
    some = light_curves.thinned(record, share, np.random.default_rng(seed))
    assert is_part(some, record)
    assert some.time.size == pytest.approx(share * 600, rel=0.15, abs=8)
    assert light_curves.thinned(pulsator(n=20), 0.1, np.random.default_rng(seed)).time.size == 20  # too few would stay


@settings(max_examples=20, deadline=None)
@given(st.floats(0.1, 0.8), st.floats(0, 1))
def test_seasons_leave_a_gap_in_every_year(dark: float, phase: float) -> None:
    seen = light_curves.with_seasons(pulsator(), dark, phase)
    year = (seen.time / 365.25 - phase) % 1
    assert year.min() >= dark
    assert seen.time.size == pytest.approx(600 * (1 - dark), rel=0.25)


@settings(max_examples=15, deadline=None)
@given(st.floats(1.5, 20.0), st.integers(0, 100))
def test_noise_is_as_asked_and_stands_in_the_errors(factor: float, seed: int) -> None:
    record = pulsator()
    noisy = light_curves.noisier(record, factor, np.random.default_rng(seed))
    assert noisy.flux_err == pytest.approx(factor * record.flux_err)
    pull = (noisy.flux - record.flux) / (record.flux_err * np.sqrt(factor**2 - 1))
    assert pull.std() == pytest.approx(1, abs=0.12)
    assert light_curves.noisier(record, 0.5, np.random.default_rng(seed)) is record
    assert np.isnan(
        light_curves.noisier(replace(record, flux_err=np.full(600, np.nan)), 9, np.random.default_rng(0)).flux_err
    ).all()


def test_fainter_keeps_the_errors() -> None:
    record = pulsator()
    dim = light_curves.fainter(record, 1.0, np.random.default_rng(0))
    assert dim.flux.mean() == pytest.approx(0.398 * record.flux.mean(), rel=0.01)
    assert dim.flux_err == pytest.approx(record.flux_err)


def test_the_error_at_the_depth_of_a_survey_is_a_fifth() -> None:
    record = replace(pulsator(n=30, bands=("r",)), flux=np.full(30, 10 ** (-0.4 * (20.6 - 31.4))))
    error = light_curves.survey_error(record, {"r": 20.6}, 0.0)
    assert error / record.flux == pytest.approx(0.2, rel=1e-3)
    bright = replace(record, flux=record.flux * 1e6)
    assert light_curves.survey_error(bright, {"r": 20.6}, 0.015) / bright.flux == pytest.approx(0.015, rel=0.01)
    relative = replace(record, unit="relative", flux=np.ones(30))
    assert light_curves.survey_error(relative, {"r": 20.6}, 0.015) == pytest.approx(0.015)


def test_a_schedule_is_no_denser_than_asked_and_prefers_good_points() -> None:
    record = pulsator(n=3000)
    quality = np.random.default_rng(0).random(3000) < 0.3
    record = replace(record, quality=quality)
    seen = light_curves.scheduled(record, 5.0, 1.0, np.random.default_rng(1))
    for name in "grz":
        assert 0.7 * 1500 / 5 < (seen.band == name).sum() <= 1500 / 5 + 2
    assert seen.quality.mean() < 0.1
    sparse = pulsator(n=30, bands=("g",))
    assert light_curves.scheduled(sparse, 1e-3, 0.5, np.random.default_rng(1)) is sparse


def test_bands_are_named_after_the_nearest_of_the_other_survey() -> None:
    record = pulsator(bands=("u", "g", "r", "i", "z"))
    assert set(light_curves.in_bands(record, ("g", "r")).band) == {"g", "r"}
    one = light_curves.in_bands(record, ("kepler",))
    assert set(one.band) == {"kepler"}
    assert set(one.time) == set(record.time[record.band == "r"])
    assert set(light_curves.in_bands(record, ("tess",)).band) == {"tess"}
    macho = replace(record, band=np.where(record.band == "r", "R", "V"))
    assert set(light_curves.in_bands(macho, ("g", "r", "i")).band) == {"g", "r"}
    unknown = replace(record, band=np.full(600, "strange"))
    assert light_curves.in_bands(unknown, ("g",)) is unknown
    same = pulsator(bands=("g", "r"))
    assert light_curves.in_bands(same, ("g", "r")) is same


@pytest.mark.parametrize("survey", [s for s in LIGHT_CURVES if s.name != "tess"], ids=lambda s: s.name)
def test_an_injected_period_is_still_found(survey: object) -> None:
    record = pulsator(3, n=1500)
    seen = survey.observe(record, np.random.default_rng(4))  # type: ignore[attr-defined]
    assert is_part(seen, record)
    assert seen.time.size < record.time.size
    assert set(seen.band) <= set(survey.bands)  # type: ignore[attr-defined]
    found = measure_light_curve(seen, {}).measured["period"]
    assert found == pytest.approx(PERIOD, rel=1e-2)


def test_tess_looks_for_one_sector() -> None:
    rng = np.random.default_rng(0)
    time = np.sort(58000 + rng.uniform(0, 200, 4000))
    record = replace(pulsator(n=4000, bands=("i",)), time=time)
    seen = LIGHT_CURVES[2].observe(record, np.random.default_rng(1))
    assert np.ptp(seen.time) <= 27.4
    assert set(seen.band) == {"tess"}


def test_a_preset_leaves_what_is_worse() -> None:
    worse = pulsator(n=9, error=0.9, bands=("g",))
    assert LIGHT_CURVES[0].observe(worse, np.random.default_rng(0)) is worse
