"""Explanations of known functions are exact, and those of the models that ship add up, and name what decided."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from finetune import spectral_grid as grid
from finetune import tasks
from finetune.attribution import answers_at, attentions, integrated_gradients, make_function, rollout, shuffled
from finetune.bundle import Bundle, bundled, load_bundle
from finetune.explain import Explained, Explainer, Target, run_explain
from finetune.explain_report import ELSEWHERE, make_report, parts_of, strongest
from finetune.explanation import ExplainedArray, Explanation, Places, in_order, log_odds
from finetune.faithfulness import FRACTIONS, Groups, deletion, judge_curves
from finetune.inputs import list_files
from finetune.network import Network
from finetune.object_sample import sample_records
from finetune.spectral_explain import continuum
from finetune.task import Prepared
from finetune.training_options import OptionsError
from tests.finetune.toy_task import LENGTH, TASK
from transforms.records import Spectrum
from transforms.spectral_lines import features, name_features

NAMES = tuple(f"flux {i}" for i in range(LENGTH))
TOY = replace(
    TASK,
    explain=Explanation(
        arrays=(
            ExplainedArray(
                name="flux", axis="time", unit="d",
                neutral=lambda p: np.zeros_like(p["flux"]),
                places=lambda p: in_order(p["flux"], NAMES, p["flux"], p["mask"]),
                token=lambda p: np.arange(LENGTH),
            ),
        ),
        targets=TASK.classes,
        units=("", ""),
        read=lambda outputs: log_odds(outputs["logits"]),
        nothing="no flux",
    ),
)  # fmt: skip


class Linear(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([1.0, -2.0, 0.0, 4.0]))

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"value": torch.stack([(x * self.weight).sum(1), x[:, 0] ** 2], 1)}


LINEAR = Explanation(arrays=(), targets=("sum", "square"), units=("", ""), read=lambda o: o["value"], nothing="zero")
X = torch.tensor([[1.0, 1.0, 5.0, 0.5]])


def test_a_linear_model_is_explained_by_weight_times_input() -> None:
    base = torch.tensor([[0.0, 1.0, 0.0, 0.0]])
    found = integrated_gradients(make_function([Linear()], LINEAR), {"x": X}, {"x": base}, [0, 1], steps=3, chunk=2)
    assert found["x"][0] == pytest.approx([1, 0, 0, 2], abs=1e-6)
    assert found["x"][1] == pytest.approx([1, 0, 0, 0], abs=1e-6)
    bent = integrated_gradients(make_function([Linear()], LINEAR), {"x": X}, {"x": base}, [1], steps=5, bend=2.0)
    assert bent["x"][0] == pytest.approx([1, 0, 0, 0], abs=1e-5)


def test_members_are_averaged() -> None:
    other = Linear()
    torch.nn.init.zeros_(other.weight)
    found = integrated_gradients(make_function([Linear(), other], LINEAR), {"x": X}, {"x": 0 * X}, [0], steps=2)
    assert found["x"][0] == pytest.approx([0.5, -1, 0, 1], abs=1e-6)


def test_deletion_follows_the_order_of_the_explanation() -> None:
    function, rng = make_function([Linear()], LINEAR), np.random.default_rng(0)
    x = torch.tensor(rng.uniform(0.5, 1, (1, 100)), dtype=torch.float32)
    model = Linear()
    model.weight = torch.nn.Parameter(torch.tensor(rng.uniform(0, 1, 100) ** 4, dtype=torch.float32))
    function = make_function([model], LINEAR)
    truth = (model.weight * x[0]).detach().double().numpy()
    groups = Groups(inputs={"x": x}, neutral={"x": 0 * x}, index={"x": np.arange(100)[None][0]}, count=100)
    curves = deletion(function, groups, truth, 0, (truth.sum(), 0.0), 32, rng)
    assert curves["most"][0] == pytest.approx(truth.sum())
    assert curves["most"][-1] == 0
    half = FRACTIONS.index(0.5)
    assert curves["most"][half] == pytest.approx(np.sort(truth)[:50].sum(), rel=1e-4)
    assert curves["least"][half] == pytest.approx(np.sort(truth)[50:].sum(), rel=1e-4)
    good = judge_curves([curves] * 5)
    assert good["better_than_random"]
    useless = [deletion(function, groups, rng.random(100), 0, (truth.sum(), 0.0), 32, rng) for _ in range(8)]
    assert not judge_curves(useless)["better_than_random"], "an order by chance is no explanation"


def test_log_odds_know_no_common_shift() -> None:
    logits = torch.tensor([[1.0, 2.0, 0.5]])
    p = logits.softmax(1)
    assert torch.allclose(log_odds(logits), torch.log(p / (1 - p)), atol=1e-6)
    assert torch.allclose(log_odds(logits), log_odds(logits + 7), atol=1e-5)


def toy_objects(bundle: Bundle, method: str = "integrated_gradients", n: int = 6) -> list[Explained]:
    explainer = Explainer(task=TOY, models=bundle.models(TASK), method=method)
    examples = TASK.simulate(n, 3)
    rows = [{"class_name": e.labels["class_name"]} for e in examples]
    return [explainer.explain(e.record, TASK.prepare(e.record), r) for e, r in zip(examples, rows, strict=True)]


def test_a_trained_model_is_explained_and_judged(bundle: Bundle) -> None:
    objects = toy_objects(bundle)
    report = make_report(TOY, objects, method="integrated_gradients", steps=32, seed=0)
    (target,) = report["targets"].values()
    assert target["completeness"]["share"] < 0.01
    assert target["faithfulness"]["deletion_gain"][0] > 0
    assert abs(target["shuffled_weights"]["signed"][0]) < 0.9
    assert {part["part"] for part in target["parts"]} == set(NAMES)
    one = objects[0]
    (top, total), *_ = strongest(one, one.targets[0])
    assert parts_of(one, one.targets[0])[top][0] == total


def test_an_object_does_not_depend_on_the_others(bundle: Bundle) -> None:
    whole, alone = toy_objects(bundle, n=4), toy_objects(bundle, n=2)
    for one, other in zip(whole, alone, strict=False):
        assert np.array_equal(one.targets[0].attribution["flux"], other.targets[0].attribution["flux"])
        assert all(np.array_equal(one.targets[0].curves[k], v) for k, v in other.targets[0].curves.items())


def test_rollout_shares_attention_among_the_tokens(bundle: Bundle) -> None:
    (model, *_) = bundle.models(TASK)
    inputs = Network([model], torch.device("cpu")).inputs([TASK.prepare(TASK.simulate(1, 0)[0].record)])
    share = rollout([model], TOY.explain, inputs)
    assert share.shape == (LENGTH,)
    assert share.sum() == pytest.approx(1)
    assert (share > 0).all()
    with attentions(Linear()) as none:
        assert none == []
    with pytest.raises(ValueError, match="gives no attentions"):
        rollout([Linear()], LINEAR, {"x": X})
    (one, *_) = toy_objects(bundle, "rollout", 1)
    assert one.targets[0].incomplete is None
    assert one.targets[0].attribution["flux"].sum() == pytest.approx(1)


def test_shuffled_weights_are_the_same_numbers_elsewhere() -> None:
    model = torch.nn.Linear(20, 20)
    (other,) = shuffled([model], 0)
    assert not torch.equal(model.weight, other.weight)
    assert torch.equal(model.weight.flatten().sort().values, other.weight.flatten().sort().values)


def test_what_cannot_be_explained_is_said(bundle: Bundle) -> None:
    models = bundle.models(TASK)
    with pytest.raises(OptionsError, match="does not tell how"):
        Explainer(task=TASK, models=models)
    with pytest.raises(OptionsError, match="target 'blue' of toy is not one of faint, bright"):
        Explainer(task=TOY, models=models, target="blue")
    with pytest.raises(OptionsError, match="method 'guess'"):
        Explainer(task=TOY, models=models, method="guess")


@pytest.mark.usefixtures("toys")
def test_objects_of_files_are_drawn_by_seed(bundle: Bundle, tmp_path: Any) -> None:
    for number in range(6):
        (tmp_path / f"{number}.toy").write_text("TOY\n" + "".join(f"{number + k / 10}\n" for k in range(3)))
    files = list_files([str(tmp_path)])

    def drawn(n: int, seed: int) -> list[str]:
        found = run_explain(bundle.path, files, n=n, seed=seed, steps=2, task=TOY)
        return [one.object_id for one in found.objects]

    assert drawn(4, 0) == drawn(4, 0)
    assert drawn(4, 0) != drawn(4, 1)
    assert len(drawn(100, 0)) == 18


@pytest.mark.usefixtures("toys")
def test_objects_are_drawn_from_all_files(bundle: Bundle, tmp_path: Any) -> None:
    for number in range(3):
        (tmp_path / f"{number}.toy").write_text("TOY\n" + "".join(f"{number + k / 10}\n" for k in range(8)))
    found = run_explain(bundle.path, list_files([str(tmp_path)]), n=6, steps=2, task=TOY)
    assert Counter(one.place[0] for one in found.objects) == {"0.toy": 2, "1.toy": 2, "2.toy": 2}
    few = list_files([str(tmp_path)])
    (tmp_path / "1.toy").write_text("TOY\n1\n")
    found = run_explain(bundle.path, few, n=6, steps=2, task=TOY)
    assert len(found.objects) == 6, "more of the larger files where one has too few"
    assert Counter(one.place[0] for one in found.objects)["1.toy"] == 1


@pytest.mark.usefixtures("toys")
def test_files_of_one_name_in_two_folders_are_two_files(tmp_path: Any) -> None:
    for number in range(2):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "same.toy").write_text(f"TOY\n{number}\n")
    files = list_files([str(tmp_path / "0"), str(tmp_path / "1")])
    assert len(list(sample_records(files, TASK.record, 5, 0))) == 2


@pytest.mark.usefixtures("toys")
def test_each_reject_is_told_once(tmp_path: Any) -> None:
    (tmp_path / "0.toy").write_text("TOY\n1\n")
    (tmp_path / "1.toy").write_text("no toy\n")
    files = list_files([str(tmp_path)])
    for n in (1, 2, 5):
        found = list(sample_records(files, TASK.record, n, 0))
        assert sorted(type(one).__name__ for one in found) == ["LightCurve", "Reject"], n


def test_what_belongs_to_no_part_is_added_up_over_the_arrays() -> None:
    def where(*part: str) -> Places:
        nothing = np.full(len(part), np.nan)
        return Places(
            group=np.arange(len(part)), part=part, position=nothing, position_y=nothing, value=np.zeros(len(part))
        )

    target = Target(
        name="x", unit="", value=1.0, nothing=0.0, attribution={"a": np.array([1.0, 2.0]), "b": np.array([-4.0])},
        incomplete=0.0, curves={}, shuffled=(0.0, 0.0),
    )  # fmt: skip
    one = Explained(
        object_id="x", place=("x", "", 0), prepared={}, measured={}, answer={},
        places={"a": where("line", ""), "b": where("")}, targets=(target,),
    )  # fmt: skip
    assert parts_of(one, target) == {"line": (1.0, 1.0, 1), ELSEWHERE: (-2.0, 6.0, 2)}


# --- what ships ---


def prepared_star(wave: np.ndarray, flux: np.ndarray) -> Prepared:
    record = Spectrum(
        source="x.fits", object_id="x", wavelength=wave, flux=flux.astype(np.float32), frame="rest",
        ivar=np.full(wave.size, 1e4, np.float32), mask=np.zeros(wave.size, bool),
    )  # fmt: skip
    return tasks.get("stellar_parameters").prepare(record)


@pytest.fixture(scope="module")
def star_explainer() -> Explainer:
    task = tasks.get("stellar_parameters")
    return Explainer(task=task, models=load_bundle(bundled("stellar_parameters")).models(task), target="teff", steps=24)


def test_a_simulated_spectrum_is_explained_completely(star_explainer: Explainer) -> None:
    task = star_explainer.task
    objects = []
    for example in task.simulate(2, 5):
        objects.append(star_explainer.explain(example.record, task.prepare(example.record), {}))
    report = make_report(task, objects, method="integrated_gradients", steps=24, seed=0)["targets"]["teff"]
    assert report["completeness"]["share"] < 0.02
    assert report["faithfulness"]["deletion_gain"][0] > 0
    assert report["faithfulness"]["insertion_gain"][0] > 0
    assert abs(report["shuffled_weights"]["signed"][0]) < 0.3
    assert {part["part"] for part in report["parts"]} > {"H beta", "Mg b", "Na D", ELSEWHERE}


def test_the_one_line_of_a_spectrum_decides(star_explainer: Explainer) -> None:
    wave = grid.wavelengths()
    line = next(f for f in features() if f.name == "H beta")
    flux = 1 - 0.6 * np.exp(-0.5 * ((wave - line.centre) / 6) ** 2)
    record = Spectrum(source="x", wavelength=wave, flux=flux.astype(np.float32), mask=np.zeros(wave.size, bool))
    found = star_explainer.explain(record, prepared_star(wave, flux), {})
    where, map_ = found.places["flux"], found.targets[0].attribution["flux"]
    assert where.part[int(np.abs(map_).argmax())] == "H beta"
    assert strongest(found, found.targets[0], 1)[0][0] == "H beta"


def test_the_explained_function_is_the_network_that_answers(star_explainer: Explainer) -> None:
    task = star_explainer.task
    prepared = [task.prepare(example.record) for example in task.simulate(2, 1)]
    bundle = load_bundle(bundled(task.name))
    network = Network(bundle.networks(task), torch.device("cpu"))
    mean = network(prepared, 2)["value"].mean(1)
    ours = answers_at(make_function(star_explainer.models, task.explain), network.inputs(prepared), 2)
    assert np.abs(ours - mean).max() < 1e-4


def test_the_continuum_has_no_lines_and_no_gaps() -> None:
    wave = grid.wavelengths()
    prepared = dict(prepared_star(wave, np.linspace(2, 1, wave.size)))
    prepared["ivar"] = np.where((wave > 5000) & (wave < 5050), 0, prepared["ivar"])
    level = continuum(prepared)
    good = prepared["ivar"] > 0
    inner = good & (wave > 4000) & (wave < 7000)
    assert np.abs(level[inner] / prepared["flux"][inner] - 1).max() < 0.02
    assert (level[~good] == 0).all()


def test_the_frozen_stages_are_the_same_function_with_gradients() -> None:
    from finetune.backbones import frozen

    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 3, 64, 64)).astype(np.float32))
    with torch.inference_mode():
        expected = frozen().lower(images).clone()
    images.requires_grad_(True)
    found = frozen().through(images)
    assert torch.allclose(found, expected, atol=1e-4)
    found.square().sum().backward()
    assert (images.grad != 0).any()


def test_lines_lie_where_they_should_in_vacuum() -> None:
    named = dict(zip((6564.6, 5185.0, 3934.8, 5892.0, 4300.0, 4900.0), name_features(
        np.array([6564.6, 5185.0, 3934.8, 5892.0, 4300.0, 4900.0])
    ), strict=True))  # fmt: skip
    assert named == {
        6564.6: "H alpha", 5185.0: "Mg b", 3934.8: "Ca II K", 5892.0: "Na D", 4300.0: "G band (CH)", 4900.0: "",
    }  # fmt: skip


@pytest.mark.parametrize("name", tasks.names())
def test_every_task_that_explains_itself_fits_its_inputs(name: str) -> None:
    task = tasks.get(name)
    if task.explain is None:
        pytest.skip(f"{name} declares no explanation")
    from transforms.measure import measure

    (record,) = list(measure(task.simulate(1, 0)[0].record, {}))[:1]
    prepared = task.prepare(record)
    assert len(task.explain.targets) == len(task.explain.units)
    for array in task.explain.arrays:
        value, where = prepared[array.name], array.places(prepared)
        assert np.shape(array.neutral(prepared)) == where.group.shape == value.shape
        assert np.isfinite(array.neutral(prepared)).all()
        assert set(np.unique(where.group[where.group >= 0])) == set(range(len(where.part)))
        assert where.position.shape == where.position_y.shape == where.value.shape == (len(where.part),)
        if array.token is not None:
            assert array.token(prepared).shape == value.shape
