"""Errors that cover, processes and components that say what they can know, and holes of the wanted kind."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from finetune import spectral_grid as grid
from finetune.error_model import ErrorModel, fit_errors
from finetune.generation import Judged, find_generation, object_numbers, summary
from finetune.generation_options import METHODS
from finetune.light_curve_process import band_covariance, condition
from finetune.masked_light_curves import hide_band, trivial
from finetune.masked_spectra import hide_range
from finetune.pretrained import PretrainedError
from finetune.spectral_input import prepare, unit_flux
from finetune.spectral_library import Library
from finetune.spectral_tokens import N_PATCH
from finetune.training_options import OptionsError
from transforms.records import Spectrum


def test_errors_follow_what_they_depend_on_and_cover_new_objects() -> None:
    rng = np.random.default_rng(0)

    def draw(n: int) -> tuple[np.ndarray, ...]:
        feature = rng.uniform(-1, 1, (n, 1))
        noise = rng.uniform(0.01, 0.1, n)
        true = 0.1 * np.exp(feature[:, 0])
        return np.hypot(true, noise) * rng.standard_normal(n), noise, feature, np.arange(n) // 10, true

    residual, noise, feature, group, _ = draw(4000)
    model = fit_errors(residual, noise, feature, group)
    residual, noise, feature, _, true = draw(4000)
    np.testing.assert_allclose(model.error(feature), true, rtol=0.15)
    assert abs(np.mean(np.abs(residual) < np.hypot(model.error(feature), noise)) - 0.6827) < 0.03
    again = ErrorModel.of(model.content())
    np.testing.assert_array_equal(again.error(feature), model.error(feature))


def test_a_single_blunder_does_not_set_the_error_of_all() -> None:
    rng = np.random.default_rng(1)
    residual = rng.standard_normal(500)
    residual[0] = 1e4
    model = fit_errors(residual, np.full(500, 1e-3), np.zeros((500, 1)), np.arange(500))
    assert 0.8 < float(model.error(np.zeros((1, 1)))[0]) < 1.3


def test_the_process_says_a_band_from_the_others_and_a_phase_from_other_cycles() -> None:
    rng = np.random.default_rng(2)
    time = np.sort(rng.uniform(0, 100, 40))
    period = 0.57
    phase = np.repeat(((time / period) % 1)[:, None], 3, 1)
    value = 0.4 * np.sin(2 * np.pi * time / period)
    covariance = np.array([[0.15, 0.14], [0.14, 0.15]])
    slot = np.zeros(40, int)
    seen = (time, phase, slot, value, np.full(40, 0.01))
    mean, sigma = condition(covariance, seen, (time, phase, slot + 1))
    assert np.max(np.abs(mean - value)) < 0.2
    later = 30.123 + period * np.arange(20) / 20
    later_phase = np.repeat(((later / period) % 1)[:, None], 3, 1)
    mean, sigma = condition(covariance, seen, (later, later_phase, np.zeros(20, int)))
    np.testing.assert_allclose(mean, 0.4 * np.sin(2 * np.pi * later / period), atol=0.1)
    assert np.all(sigma > 0)
    far, _ = condition(covariance * 1e-6, seen, (later, later_phase, np.zeros(20, int)))
    assert np.all(np.isfinite(far))


def test_a_covariance_is_positive_whatever_was_seen_together() -> None:
    rng = np.random.default_rng(3)
    magnitude, seen = rng.standard_normal((200, 5)), np.zeros((200, 5))
    seen[:100, :2] = seen[100:, 2:4] = 1
    found = band_covariance(magnitude, seen)
    assert np.all(np.linalg.eigvalsh(found) > 0)
    np.testing.assert_allclose(found, found.T)


def test_a_library_says_what_is_missing_at_any_level_and_how_sure_it_is() -> None:
    rng = np.random.default_rng(4)
    places = np.linspace(0, 1, 200)
    shapes = np.stack([np.sin(3 * places), np.cos(5 * places)])
    flux = 1 + 0.1 * rng.standard_normal((80, 2)) @ shapes + 0.002 * rng.standard_normal((80, 200))
    library = Library.fit(flux[:60], np.ones((60, 200), bool))
    variance = np.full(200, 0.002**2)
    variance[120:] = np.inf
    vague = np.where(np.arange(200) < 20, variance, np.inf)
    for one in flux[60:]:
        spoilt = np.where(np.isfinite(variance), one, 1e6)
        answer, sigma = library.impute(spoilt, variance)
        assert np.sqrt(np.mean((answer - one)[120:] ** 2)) < 0.03
        twice, _ = library.impute(2 * spoilt, 4 * variance)
        np.testing.assert_allclose(twice[120:], 2 * answer[120:], rtol=0.05)
        assert library.impute(one, vague)[1][120:].mean() > sigma[120:].mean()
    with pytest.raises(ValueError, match="9 spectra are too few"):
        Library.fit(flux[:9], np.ones((9, 200), bool))


def test_hide_band_hides_whole_bands_and_leaves_one() -> None:
    rng = np.random.default_rng(5)
    seen = (rng.random((300, 20, 5)) < 0.7).astype(np.float32)
    seen[:, :, 4] = 0
    valid = np.ones((300, 20), np.float32)
    batch = {name: np.zeros((300, 20, 5), np.float32) for name in ("magnitude", "log_error")}
    batch |= {"seen": seen, "valid": valid, "time": np.zeros((300, 20)), "phase": np.zeros((300, 20, 3))}
    found = hide_band(batch, rng, 0.4)
    hidden, there = found["hidden"], found["seen"] > 0
    assert (there & ~hidden).any((1, 2)).all(), "something is left to see"
    assert (there & hidden).any((1, 2)).all(), "something is hidden"
    whole = hidden.all(2)
    lost = (~(there & ~hidden).any(1) & there.any(1)).sum(1)
    assert 0.6 < np.mean(lost > 0) < 0.8
    assert set(lost.tolist()) == {0, 1, 3}
    assert (whole == hidden.any(2))[lost == 0].all(), "where no band is lost, visits are"
    assert set(trivial(found)) == {"interpolation", "median", "phase_interpolation", "other_bands"}


def test_hide_range_hides_one_run_and_leaves_two_patches() -> None:
    rng = np.random.default_rng(6)
    ivar = np.ones((400, grid.N_PIXEL), np.float32)
    ivar[:200, : grid.N_PIXEL // 3] = 0
    hidden = hide_range({"flux": ivar, "ivar": ivar}, rng, 0.5)["hidden"]
    filled = ivar.reshape(400, N_PATCH, -1).any(-1)
    assert not (hidden & ~filled).any()
    assert ((filled & ~hidden).sum(1) >= 2).all()
    assert (np.abs(np.diff(hidden.astype(int), axis=1)).sum(1) <= 2).all()
    ends = hidden[200:, 0] | hidden[200:, -1]
    assert 0.7 < ends.mean() < 0.95
    assert 0.4 < hidden[200:].mean() < 0.6


def test_stamps_are_not_asked() -> None:
    with pytest.raises(PretrainedError, match="no flux, no unit and no error"):
        find_generation("stamps")


def judged(kind: str, group: int, residual: float, seed: int = 0) -> list[Judged]:
    rng = np.random.default_rng([seed, group])
    spread = residual * rng.choice([-1.0, 1.0], 6)
    return [Judged(kind, method, spread, np.full(6, 0.01), rng.random((6, 2)), group) for method in METHODS]


def test_every_object_counts_alike_however_often_it_was_asked() -> None:
    found = [one for group in range(10) for one in judged("band", group, 1.0 if group else 4.0)]
    found += [one for seed in range(1, 4) for one in judged("band", 0, 4.0, seed)]
    told = summary(found)["band"]
    assert told["objects"] == 10
    assert told["classical"]["rms"] == pytest.approx(1.3)


def test_a_kind_that_few_objects_judge_has_no_error_to_give() -> None:
    found = [one for group in range(20) for one in judged("band", group, 1.0)]
    found += [one for group in range(3) for one in judged("cadence", group, 1.0)]
    assert set(summary(found)) == {"band"}


def test_records_of_one_object_are_one_object() -> None:
    records = [Spectrum(source=f"{i}", object_id=name, **FLAT) for i, name in enumerate(("a", "b", "a", "", ""))]
    assert object_numbers(records) == [0, 1, 0, 2, 3], "those without a name are objects of their own"


FLAT = {"wavelength": np.arange(4000.0, 4010.0), "flux": np.ones(10, np.float32), "mask": np.zeros(10, bool)}


@pytest.mark.parametrize(("first", "frame"), [(3700.0, ""), (6000.0, ""), (6000.0, "rest")])
def test_prepared_flux_comes_back_in_the_unit_of_the_file(first: float, frame: str) -> None:
    wave = np.arange(first, 7300.0)
    flux = np.where((wave > 6860) & (wave < 6970), 30.0, 7.0)  # the Earth's oxygen, which ``prepare`` takes out
    record = Spectrum(
        source="x", wavelength=wave, flux=flux.astype(np.float32), mask=np.zeros(wave.size, bool), frame=frame,
        ivar=np.full(wave.size, 1e2, np.float32),
    )  # fmt: skip
    prepared = prepare(record)
    bins = grid.wavelengths()
    good = (prepared["ivar"] > 0) & (bins > first + 5) & (bins < 6800)
    np.testing.assert_allclose(unit_flux(record) * prepared["flux"][good], 7.0, rtol=1e-5)


def test_a_library_of_spectra_that_cover_little_says_so() -> None:
    flux, ivar = np.ones(grid.N_PIXEL, np.float32), np.ones(grid.N_PIXEL, np.float32)
    ivar[: grid.N_PIXEL // 2] = 0
    with pytest.raises(OptionsError, match=r"0 of 20 training spectra hold data in 80% of the bins"):
        find_generation("spectra").learn([(None, {"flux": flux, "ivar": ivar})] * 20)


def test_a_dense_question_takes_little_memory() -> None:
    rng = np.random.default_rng(7)

    def draw(n: int) -> tuple[np.ndarray, ...]:
        return rng.uniform(0, 100, n), rng.random((n, 3)), rng.integers(0, 2, n)

    seen = (*draw(100), rng.standard_normal(100), np.full(100, 0.1))
    covariance, asked = np.array([[0.15, 0.14], [0.14, 0.15]]), draw(20_000)
    tracemalloc.start()
    mean, sigma = condition(covariance, seen, asked)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40e6
    some = np.r_[:5, 10_000:10_005, 19_995:20_000]
    again = condition(covariance, seen, tuple(one[some] for one in asked))
    np.testing.assert_allclose(again, (mean[some], sigma[some]))
