"""What is hidden is never seen, what is empty never counts, and a short run learns more than needs no learning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from transformers import ViTModel

from finetune import masked_spectra, tasks
from finetune import spectral_grid as grid
from finetune.masked import choose, compact, spread
from finetune.masked_stamps import SCALE, patch_weights
from finetune.pretrain import find_objective, make_pretrain_options
from finetune.pretrain_trainer import MaskedTrainer
from finetune.pretrained import MODULES
from finetune.spectral_tokens import N_PATCH, PATCH
from finetune.task import Prepared
from finetune.unlabelled import Unlabelled
from transforms.measure import measure

SMALL: dict[str, dict[str, Any]] = {
    "spectra": {"hidden_size": 32, "num_hidden_layers": 1, "intermediate_size": 64},
    "light_curves": {"hidden_size": 32, "num_hidden_layers": 1, "intermediate_size": 64},
    "stamps": {
        "hidden_size": 32, "num_hidden_layers": 1, "intermediate_size": 64, "decoder_hidden_size": 32,
        "decoder_num_hidden_layers": 1, "decoder_intermediate_size": 64,
    },
}  # fmt: skip


@pytest.fixture(scope="module", params=sorted(MODULES))
def modality(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def simulated(modality: str, n: int) -> list[Prepared]:
    task = tasks.get(find_objective(modality).task)
    return [task.prepare(one) for e in task.simulate(n, 3) for one in measure(e.record, {})]


def hidden_batch(modality: str, rows: list[Prepared]) -> dict[str, np.ndarray]:
    objective = find_objective(modality)
    batch = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    return objective.hide(batch, np.random.default_rng(0), objective.mask)


def answer(modality: str, batch: dict[str, np.ndarray], seed: int = 0) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    objective = find_objective(modality)
    options = make_pretrain_options(objective, SMALL[modality])
    model = objective.build(options.mask, **options.build).eval()
    taken = ("noise", "pixels") if modality == "stamps" else objective.arrays
    with torch.no_grad():
        return model(**{name: torch.as_tensor(batch[name]) for name in taken})


def garbage(modality: str, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same batch with nonsense in all that is hidden."""
    spoilt = {name: array.copy() for name, array in batch.items()}
    hidden = batch["hidden"]
    if modality == "spectra":
        pixels = hidden.repeat(PATCH * grid.BINNING, 1)
        spoilt["flux"][pixels], spoilt["ivar"][pixels] = 1e6, 1e9
    elif modality == "light_curves":
        spoilt["magnitude"][hidden], spoilt["log_error"][hidden], spoilt["seen"][hidden] = 99.0, 3.0, 1.0
    else:
        across = int(hidden.shape[1] ** 0.5)
        side = spoilt["pixels"].shape[-1] // across
        mask = hidden.reshape(-1, 1, across, across).repeat(side, 2).repeat(side, 3)
        spoilt["pixels"][np.broadcast_to(mask, spoilt["pixels"].shape)] = 255
    return spoilt


def test_hidden_places_never_see_their_own_values(modality: str) -> None:
    batch = hidden_batch(modality, simulated(modality, 4))
    clean, spoilt = answer(modality, batch), answer(modality, garbage(modality, batch))
    assert not torch.equal(clean["target"], spoilt["target"]), (
        "the garbage was to change the data, or this tests nothing"
    )
    assert torch.equal(clean["prediction"], spoilt["prediction"])
    objective = find_objective(modality)
    for name, value in objective.trivial(batch).items():
        np.testing.assert_array_equal(value, objective.trivial(garbage(modality, batch))[name])


def test_only_what_is_hidden_and_known_counts(modality: str) -> None:
    batch = hidden_batch(modality, simulated(modality, 4))
    out = answer(modality, batch)
    weight = out["weight"].numpy()
    assert weight.max() > 0
    assert weight.min() >= 0
    assert weight.max() <= 1 + 1e-6
    assert weight[~batch["hidden"]].max() == 0
    for value in find_objective(modality).trivial(batch).values():
        assert value.shape == out["target"].shape
        assert np.isfinite(value).all()


def test_empty_patches_of_a_spectrum_are_neither_hidden_nor_counted() -> None:
    rows = [dict(one) for one in simulated("spectra", 6)]
    for row in rows:
        row["flux"], row["ivar"] = row["flux"].copy(), row["ivar"].copy()
        row["ivar"][: grid.N_PIXEL // 2] = 0
        row["flux"][: grid.N_PIXEL // 2] = 7.0  # left behind by a careless reader
    batch = hidden_batch("spectra", rows)
    assert not batch["hidden"][:, : N_PATCH // 2].any()
    assert batch["hidden"].any(1).all()
    out = answer("spectra", batch)
    assert out["weight"][:, : N_PATCH // 2].max() == 0
    assert torch.isfinite(out["loss"])
    empty = {"flux": np.zeros((1, grid.N_PIXEL), np.float32), "ivar": np.zeros((1, grid.N_PIXEL), np.float32)}
    nothing = find_objective("spectra").hide(empty, np.random.default_rng(0), 0.5)
    assert not nothing["hidden"].any()
    assert answer("spectra", nothing)["loss"] == 0
    assert not masked_spectra.usable({"ivar": empty["ivar"][0]})


def test_empty_patches_of_a_stamp_do_not_count() -> None:
    target = torch.zeros(1, 4, 12)
    target[0, 1] += torch.linspace(0, 0.2, 12)
    target[0, 2] += torch.linspace(0, 2, 12)
    target[0, 3] += torch.linspace(0, 0.5 / SCALE, 12)  # rounding
    weight = patch_weights(target)[0]
    assert weight[0] == weight[3] == 0
    assert 0 < weight[1] < weight[2] < 1
    assert torch.equal(patch_weights(torch.zeros(1, 4, 12)), torch.zeros(1, 4))


def test_an_empty_visit_is_not_hidden() -> None:
    rows = [dict(one) for one in simulated("light_curves", 4)]
    for row in rows:
        row["seen"] = row["seen"].copy()
        row["seen"][:5] = 0
    assert not hidden_batch("light_curves", rows)["hidden"][:, :5].any()


def test_what_is_chosen() -> None:
    rng = np.random.default_rng(0)
    there = rng.random((200, 20)) < 0.7
    there[0], there[1] = False, np.arange(20) == 3
    hidden = choose(there, rng, 0.4, runs=0.5)
    assert not (hidden & ~there).any()
    assert hidden[:2].sum() == 0, "nothing to hide, or nothing would be left"
    count = there[2:].sum(1)
    np.testing.assert_array_equal(hidden[2:].sum(1), np.round(0.4 * count).astype(int).clip(1))
    turns = [np.flatnonzero(h[t]) for h, t in zip(hidden[2:], there[2:], strict=True)]
    runs = np.mean([np.ptp(turn) + 1 == turn.size for turn in turns])
    assert 0.4 < runs < 0.75


def test_compacting_is_undone() -> None:
    x, keep = torch.randn(5, 7, 3), torch.rand(5, 7) > 0.5
    keep[0] = False
    front, mask, index = compact(x, keep)
    assert front.shape[1] == keep.sum(1).max()
    assert torch.equal(mask.sum(1), keep.sum(1))
    assert torch.equal(spread(front * mask[..., None], index, 7), x * keep[..., None])


def stored(folder: Path, train: list[Prepared], held: list[Prepared]) -> Unlabelled:
    data = Unlabelled(folder)
    for side, rows in (("train", train), ("held", held)):
        arrays = {name: np.ascontiguousarray(np.stack([row[name] for row in rows])) for name in rows[0]}
        save_file(arrays, folder / f"{side}.safetensors")
        data.shards[side].append((f"{side}.safetensors", len(rows)))
    return data


def learn(modality: str, rows: list[Prepared], folder: Path, **options: Any) -> dict[str, float]:
    objective = find_objective(modality)
    given = {**SMALL[modality], "evaluations": 1, "batch_size": 16, "learning_rate": 3e-3, "ema": 0.0, **options}
    chosen = make_pretrain_options(objective, given)
    torch.manual_seed(0)
    cut = len(rows) * 3 // 4
    data = stored(folder, rows[:cut], rows[cut:])
    model = objective.build(chosen.mask, **chosen.build)
    trainer = MaskedTrainer(
        tasks.get(objective.task), objective, model, data, chosen.training, chosen.mask, str(folder), lambda text: None
    )
    trainer.fit()
    return trainer.figures()


def test_more_is_learnt_of_spectra_than_a_line_over_the_gap(tmp_path: Path) -> None:
    found = learn("spectra", simulated("spectra", 64), tmp_path, steps=40)
    assert found["model"] < 0.7 * found["interpolation"]
    assert 0 < found["mean_object"] < found["interpolation"]


def pulsators(n: int) -> list[Prepared]:
    """Sine waves of known phase, seen at random in two bands, in the arrays of the task."""
    rng = np.random.default_rng(0)
    (one,) = simulated("light_curves", 1)[:1]
    rows = []
    for _ in range(n):
        row = {name: np.zeros_like(array) for name, array in one.items()}
        time = np.sort(rng.uniform(-200, 200, 40)).astype(np.float32)
        phase = (0.5 * time / rng.uniform(0.3, 0.9)) % 1
        row["time"][:40], row["valid"][:40] = time, 1
        row["phase"][:40] = phase[:, None]
        row["seen"][:40, 1:3] = 1
        row["magnitude"][:40, 1:3] = (-0.5 * np.cos(4 * np.pi * phase) + rng.normal(0, 0.05, 40))[:, None]
        row["log_error"][:40, 1:3] = np.log10(0.05)
        rows.append(row)
    return rows


def test_more_is_learnt_of_light_curves_than_their_median(tmp_path: Path) -> None:
    found = learn("light_curves", pulsators(160), tmp_path, steps=150)
    assert found["model"] < 0.3 * found["median"]
    assert found["median"] < found["interpolation"], "in time, neighbours are of any phase"
    assert found["phase_interpolation"] < 0.3 * found["median"]


def dotted(n: int) -> list[Prepared]:
    """Stamps of any brightness with a dot in each patch, which no mean of neighbours can show."""
    rng = np.random.default_rng(0)
    x = np.arange(160) % 16 - 7.5
    dot = np.exp(-(x[:, None] ** 2 + x**2) / 18)
    noise = rng.normal(0, 3, (n, 2, 3, 160, 160))
    levels = rng.uniform(50, 100, (n, 1, 1, 1, 1)) + 80 * dot + noise
    return [{"views": one.clip(0, 255).astype(np.uint8)} for one in levels]


def test_stamps_start_at_the_mean_of_their_neighbours_and_get_below_it(tmp_path: Path) -> None:
    rows = dotted(32)
    start = learn("stamps", rows, tmp_path, steps=0)
    assert start["model"] == pytest.approx(start["neighbours"], rel=1e-5)
    found = learn("stamps", rows, tmp_path, steps=25, batch_size=8, learning_rate=2e-2)
    assert found["model"] < 0.7 * found["neighbours"]


def test_a_stamp_backbone_is_a_vit_of_transformers(tmp_path: Path) -> None:
    objective = find_objective("stamps")
    options = make_pretrain_options(objective, SMALL["stamps"])
    model = objective.build(options.mask, **options.build).eval()
    model.save_pretrained(tmp_path)
    vit, report = ViTModel.from_pretrained(tmp_path, add_pooling_layer=False, output_loading_info=True)
    assert not report["missing_keys"]
    assert torch.equal(vit.layernorm.weight, model.vit.layernorm.weight)
    hidden = vit.eval()(torch.randn(1, 3, 160, 160)).last_hidden_state
    assert hidden.shape == (1, 101, 32), "a class token and every patch: nothing is masked any more"
