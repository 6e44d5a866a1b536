"""Parts of the stellar task: grid, degradation, kernel ridge, template match, self-calibration, conformal factors."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from finetune import spectral_augment as degradation
from finetune import spectral_grid as grid
from finetune.conformal import LEVELS, factors, lookup
from finetune.selfcalibrate import self_calibrate
from finetune.spectral_baselines import StellarBaseline
from finetune.spectral_model import SpectralConfig, SpectralEnsemble
from finetune.spectral_ridge import ridge_predict
from finetune.spectral_tokens import features
from finetune.tasks.stellar_parameters import TASK


@pytest.fixture(scope="module")
def stars():
    return TASK.simulate(90, 11)


@pytest.fixture(scope="module")
def prepared(stars):
    return [TASK.prepare(star.record) for star in stars]


@pytest.fixture(scope="module")
def baseline(stars, prepared):
    fitted = StellarBaseline()
    fitted.fit(stars[:60], prepared[:60], seed=0)
    return fitted


def stacked(items, name):
    return np.stack([item[name] for item in items])


def test_noise_is_found_without_errors():
    rng = np.random.default_rng(0)
    smooth = 5 + np.sin(np.linspace(0, 20, grid.N_PIXEL))
    noisy = smooth + rng.normal(0, 0.1, (4, grid.N_PIXEL))
    assert np.allclose(grid.noise_sigma(noisy, np.ones_like(noisy, bool)), 0.1, rtol=0.08)
    assert np.isnan(grid.noise_sigma(noisy, np.zeros_like(noisy, bool))).all()


def test_scale_ignores_bad_pixels_and_says_where_there_is_none():
    flux, ivar = np.full((2, grid.N_PIXEL), 3.0), np.ones((2, grid.N_PIXEL))
    flux[:, ::7] = 1e6
    ivar[:, ::7] = 0
    ivar[1] = 0
    scale = grid.flux_scale(flux, ivar)
    assert scale[0] == pytest.approx(3.0)
    assert np.isnan(scale[1])


def test_shift_moves_a_line_by_the_velocity():
    flux = np.ones((1, grid.N_PIXEL))
    flux -= 0.5 * np.exp(-0.5 * ((np.arange(grid.N_PIXEL) - 1000) / 4) ** 2)
    moved, ivar = degradation.shift(flux, np.ones_like(flux), np.array([7.0]))
    assert moved[0].argmin() == 1007
    assert (ivar[0, :7] == 0).all()


def test_blur_keeps_the_flux_and_adds_the_variance():
    x = np.arange(grid.N_PIXEL)
    line = np.exp(-0.5 * ((x - 1400) / 3.0) ** 2)[None]
    wide = degradation.variable_blur(line, np.full((1, grid.N_PIXEL), 1.8))
    assert wide.sum() == pytest.approx(line.sum(), rel=1e-6)
    variance = (wide[0] * (x - 1400.0) ** 2).sum() / wide.sum()
    assert variance == pytest.approx(9 + 1.8**2, rel=0.01)


def test_stated_noise_is_the_noise_that_was_added():
    flux, ivar = np.ones((40, grid.N_PIXEL)), np.ones((40, grid.N_PIXEL))
    how = degradation.Degradation(noise_free=0, no_errors=0)
    noisy, stated = degradation.add_noise(flux, ivar, np.random.default_rng(1), how)
    assert np.std((noisy - 1) * np.sqrt(stated)) == pytest.approx(1.0, abs=0.01)


def test_degrade_is_reproducible_and_leaves_its_input_alone(prepared, stars):
    batch = {name: stacked(prepared[:16], name) for name in prepared[0]}
    labels = {"labels": np.stack([TASK.encode(star.labels)["labels"] for star in stars[:16]])}
    kept = batch["flux"].copy()
    one, target = degradation.degrade(batch, labels, np.random.default_rng(5))
    two, _ = degradation.degrade(batch, labels, np.random.default_rng(5))
    assert np.array_equal(kept, batch["flux"])
    assert all(np.array_equal(one[name], two[name]) for name in one)
    assert np.isfinite(one["flux"]).all()
    assert (one["ivar"] >= 0).all()
    assert target["labels"].shape == (16, 3)
    assert not np.array_equal(one["flux"], kept)


def test_features_ignore_what_lies_under_the_mask(prepared):
    flux = torch.tensor(stacked(prepared[:3], "flux"))
    ivar = torch.tensor(stacked(prepared[:3], "ivar"))
    ivar[:, 900:1300] = 0
    spoilt = flux.clone()
    spoilt[:, 900:1300] = 1e5
    first, valid = features(flux, ivar)
    second, _ = features(spoilt, ivar)
    assert torch.equal(first, second)
    assert not valid[:, 10:13].any()


def test_ridge_is_the_same_in_numpy_and_torch(prepared, baseline):
    flux, ivar = stacked(prepared[60:], "flux"), stacked(prepared[60:], "ivar")
    arrays = {name: torch.tensor(baseline.ridge.arrays[name]) for name in baseline.ridge.FLOATS}
    ours = baseline.ridge.predict(flux, ivar)
    theirs = ridge_predict(torch.tensor(flux), torch.tensor(ivar), arrays, None, torch)
    for name, value in ours.items():
        assert np.allclose(value, theirs[name].numpy(), atol=5e-3), name


def test_ridge_learns_and_knows_what_it_has_not_seen(prepared, stars, baseline):
    flux, ivar = stacked(prepared[60:], "flux"), stacked(prepared[60:], "ivar")
    truth = np.stack([TASK.encode(star.labels)["labels"] for star in stars[60:]])
    found = baseline.ridge.predict(flux, ivar)
    assert np.median(np.abs(found["base"] - truth)[:, 0]) < 0.3 * np.median(
        np.abs(truth[:, 0] - np.median(truth[:, 0]))
    )
    rng = np.random.default_rng(0)
    strange = 1 + np.abs(rng.normal(0, 3, flux[:4].shape)) * (rng.random(flux[:4].shape) < 0.05)
    odd = baseline.ridge.predict(strange, np.full(strange.shape, 1e4))
    assert odd["log_chi2"].min() > np.quantile(found["log_chi2"], 0.9)


def test_training_stars_do_not_answer_for_themselves(prepared, baseline):
    model = SpectralEnsemble(SpectralConfig(members=("residual",), hidden_size=32, num_hidden_layers=1))
    model.set_ridge(baseline.ridge)
    star = stacked(prepared[:60], "star")
    used = np.isin(star, baseline.ridge.arrays["keys"])  # one with too little coverage is left out of the fit
    assert used.sum() > 50
    inner = model.inner_fold(torch.tensor(star)).numpy()
    assert np.array_equal(inner[used], baseline.ridge.arrays["folds"])
    assert (inner[~used] == -1).all()
    assert (model.inner_fold(torch.tensor(star + 1)) == -1).all()


def test_residual_member_starts_at_the_ridge(prepared, baseline):
    model = SpectralEnsemble(SpectralConfig(members=("residual",), hidden_size=32, num_hidden_layers=1)).eval()
    model.set_ridge(baseline.ridge)
    out = model(torch.tensor(stacked(prepared[60:64], "flux")), torch.tensor(stacked(prepared[60:64], "ivar")))
    assert torch.allclose(out["value"][:, 0], out["base"], atol=1e-6)


def test_save_pretrained_round_trip(prepared, baseline, tmp_path):
    model = SpectralEnsemble(SpectralConfig(members=("direct", "residual"), hidden_size=32, num_hidden_layers=1)).eval()
    model.set_ridge(baseline.ridge)
    model.save_pretrained(tmp_path)
    again = SpectralEnsemble.from_pretrained(tmp_path).eval()
    batch = [torch.tensor(stacked(prepared[60:64], name)) for name in ("flux", "ivar")]
    with torch.inference_mode():
        assert torch.equal(model(*batch)["value"], again(*batch)["value"])


def test_match_finds_a_template_at_another_velocity_and_resolution(prepared, stars, baseline):
    flux, ivar = prepared[4]["flux"][None].astype(float), prepared[4]["ivar"][None].astype(float)
    flux = degradation.variable_blur(flux, np.full((1, grid.N_PIXEL), 0.9))
    flux, ivar = degradation.shift(flux, ivar, np.array([2.0]))
    labels, chi2, nearest = baseline.match.predict(flux[0], ivar[0])
    assert 4 in nearest
    assert abs(labels[0] - np.log10(stars[4].labels["teff"])) < 0.05
    assert np.isfinite(chi2)


def test_match_says_nothing_without_data(baseline):
    labels, chi2, _ = baseline.match.predict(np.zeros(grid.N_PIXEL), np.zeros(grid.N_PIXEL))
    assert np.isnan(labels).all()
    assert np.isnan(chi2)


def test_baseline_state_round_trip(prepared, baseline):
    again = StellarBaseline()
    again.restore(*baseline.state())
    first, second = baseline.predict(prepared[60:70]), again.predict(prepared[60:70])
    for a, b in zip(first, second, strict=True):
        assert a["baseline_match_teff"] == pytest.approx(b["baseline_match_teff"])
        assert a["baseline_teff"] == pytest.approx(b["baseline_teff"], rel=5e-3)


def test_selfcalibration_removes_a_common_instrument(prepared, baseline):
    ripple = 1 + 0.05 * np.sin(np.arange(grid.N_PIXEL) / 9.0)
    spoilt = [{**item, "flux": (item["flux"] * ripple).astype(np.float32)} for item in prepared[60:]]
    mended = self_calibrate(spoilt, baseline.match)
    inner = slice(400, 1700)

    def error(items):
        scatter = []
        for item, true in zip(items, prepared[60:], strict=True):
            good = true["ivar"][inner] > 0
            scatter.append(np.std(item["flux"][inner][good] / true["flux"][inner][good]))
        return np.median(scatter)

    before, after = error(spoilt), error(mended)
    assert after < 0.6 * before
    assert all(item["calibrated"] == 1 for item in mended)


def test_selfcalibration_needs_many_spectra(prepared, baseline):
    few = prepared[60:65]
    assert self_calibrate(few, baseline.match) == list(few)


def test_conformal_factors_cover_by_class():
    rng = np.random.default_rng(2)
    names = ["a"] * 3000 + ["b"] * 3000 + ["rare"] * 5
    width = np.array([1.0] * 3000 + [4.0] * 3000 + [1.0] * 5)[:, None]
    error = np.abs(rng.normal(0, 1, (6005, 1))) * width
    table = factors(error, np.ones_like(error), names)
    assert lookup(table, "a")[:, 0] == pytest.approx([1, 2], rel=0.05)
    assert lookup(table, "b")[:, 0] == pytest.approx([4, 8], rel=0.05)
    assert np.array_equal(lookup(table, "rare"), lookup(table, "all"))
    assert len(table["all"]) == len(LEVELS)


def test_a_quantity_that_few_of_a_class_know_takes_the_factor_of_all():
    error = np.abs(np.random.default_rng(3).normal(0, 1, (400, 2)))
    names = ["a"] * 100 + ["b"] * 300
    error[:100] *= 3
    error[:60, 1] = np.nan  # 40 of class a know the second quantity
    table = factors(error, np.ones_like(error), names)
    assert lookup(table, "a")[0, 0] > 2
    assert lookup(table, "a")[:, 1] == pytest.approx(lookup(table, "all")[:, 1])
    error[:100, 1] = np.nan
    table = factors(error, np.ones_like(error), names)
    assert lookup(table, "a")[:, 1] == pytest.approx(lookup(table, "all")[:, 1]), "not 1: that calibrates nothing"
