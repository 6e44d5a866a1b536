"""Devices without one: the models that ship on a simulated accelerator, precision, memory, and who gets which GPU."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import finetune.predict
from finetune import placement, precision, tasks
from finetune.batches import Batches
from finetune.bundle import Bundle, bundled, load_bundle
from finetune.devices import Cpu, deal, gpus, open_device, worker_number
from finetune.placement import Need, fitting_together, measure_need, shape_for
from finetune.precision import Tolerance, disagreements, guarded, probes
from finetune.predict import TaskPredictor, load_predictor
from finetune.task import Prepared, Row
from pipeline.models import placed
from tests.finetune.toy_task import TASK
from tests.simulated_device import SimulatedDevice, total_bytes
from transforms.columns import FLOAT32, STRING, Column
from transforms.flags import decode

SHIPPED = ("galaxy_morphology", "stellar_parameters", "variable_star")


@cache
def shipped(name: str) -> tuple[TaskPredictor, list[Prepared], list[Row]]:
    """A model on the processor, some objects, and the answer for each of them alone."""
    predictor = load_predictor(bundled(name))
    objects = probes(tasks.get(name), 5)
    return predictor, objects, [predictor.predict([one])[0] for one in objects]


@pytest.fixture(params=SHIPPED)
def case(request: pytest.FixtureRequest) -> Iterator[tuple[TaskPredictor, list[Prepared], list[Row]]]:
    predictor, objects, rows = shipped(request.param)
    yield predictor, objects, rows
    predictor.network.batches = Batches(Cpu())


def test_on_an_accelerator_the_models_that_ship_answer_as_on_a_processor(case: Any) -> None:
    """In shapes of the same size, that is: what a GPU's kernels say is for ``benchmarks.gpu`` to compare."""
    predictor, objects, alone = case
    batches = predictor.network.batches = Batches(SimulatedDevice())
    assert predictor.rows.predict([*objects, *objects], predictor.shape) == [*alone, *alone]
    assert batches.meter.drain()["objects"] == 10


def test_an_object_without_room_has_a_row_with_nulls_and_the_classical_answer(case: Any) -> None:
    predictor, objects, alone = case
    name = next(name for name, value in objects[2].items() if value.size > 50)
    large = torch.from_numpy(np.asarray(objects[2][name]))

    def need(tensors: Any) -> int:
        return 1 << 50 if any(torch.equal(row, large.to(row.dtype)) for row in tensors[name]) else 1

    predictor.network.batches = Batches(SimulatedDevice(need=need))
    rows = predictor.predict(objects)
    for at in (0, 1, 3, 4):
        for key, value in alone[at].items():
            assert rows[at][key] == (pytest.approx(value, rel=1e-4, abs=1e-4) if isinstance(value, float) else value)
    task = predictor.definition
    assert all(rows[2][column.name] is None for column in task.columns)
    assert {c.name: rows[2][c.name] for c in task.baseline_columns} == {
        c.name: alone[2][c.name] for c in task.baseline_columns
    }
    assert "MODEL_FAILED" in decode(rows[2]["flags"])
    assert predictor.used()["unfit"] == 1


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(room=st.integers(1, 40), count=st.integers(1, 40), depth=st.integers(1, 2), seed=st.integers(0, 9))
def test_answers_are_those_of_one_by_one_whatever_the_memory(room: int, count: int, depth: int, seed: int) -> None:
    predictor, objects, alone = shipped("variable_star")
    one = total_bytes(predictor.network.inputs(objects[:1]))
    chosen = np.random.default_rng(seed).integers(0, len(objects), count)
    device = SimulatedDevice(memory=2 * one * room, depth=depth)
    predictor.network.batches = Batches(device)
    try:
        rows = predictor.rows.predict([objects[i] for i in chosen], predictor.shape)
    finally:
        predictor.network.batches = Batches(Cpu())
    for at, row in zip(chosen, rows, strict=True):
        for key, value in alone[at].items():
            assert row[key] == (pytest.approx(value, rel=1e-5, abs=1e-6) if isinstance(value, float) else value)
    assert device.used == 0


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accelerators take eight of the toy's inputs, which have sixteen numbers, at once."""
    monkeypatch.setattr(placement, "VALUES", 140)


def test_an_accelerator_is_given_larger_batches_and_a_warm_up(bundle: Bundle, small: None) -> None:
    device = SimulatedDevice()
    predictor = load_predictor(bundle.path, task=TASK, device=device)
    assert (predictor.shape, predictor.batch_size, TASK.batch_size) == (8, 32, 4)
    assert [event for event, _ in device.events][:4] == ["put", "run", "put", "run"]
    assert predictor.used() == {}, "the warm-up is not counted"
    batch = [predictor.prepare(example.record) for example in TASK.simulate(33, 5)]
    rows = predictor.predict(batch[:32])
    assert predictor.used() == {"batches": 4, "objects": 32, "objects_fp32": 32, "slots": 32}
    whole = load_predictor(bundle.path, task=TASK)
    for row, one in zip(rows, batch, strict=False):
        (wanted,) = whole.predict([one])
        assert row["class_name"] == wanted["class_name"]
        assert row["p_bright"] == pytest.approx(wanted["p_bright"], rel=1e-5)
    with pytest.raises(ValueError, match="a batch of 33 does not fit a shape of 32"):
        predictor.predict(batch)


def test_the_warm_up_finds_the_shape_that_fits(bundle: Bundle, small: None) -> None:
    device = SimulatedDevice(memory=4 * (8 * 4 + 8), depth=1)
    predictor = load_predictor(bundle.path, task=TASK, device=device)
    assert predictor.network.batches.limit == 2
    device.events.clear()
    predictor.predict([predictor.prepare(example.record) for example in TASK.simulate(4, 5)])
    assert "release" not in [event for event, _ in device.events]


@pytest.mark.parametrize("name", SHIPPED)
def test_shapes_keep_within_the_budget(name: str) -> None:
    predictor, objects, _ = shipped(name)
    network = predictor.network.in_precision("fp32")
    assert shape_for(predictor.definition, network, objects[0]) == predictor.definition.batch_size
    network.device = SimulatedDevice()
    shape = shape_for(predictor.definition, network, objects[0])
    assert shape * network.values(objects[0]) <= placement.VALUES
    assert shape == {"galaxy_morphology": 64, "stellar_parameters": 512, "variable_star": 512}[name]


# precision


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_half_precision_is_used_where_the_answers_stay(
    bundle: Bundle, dtype: str, caplog: pytest.LogCaptureFixture
) -> None:
    predictor = load_predictor(bundle.path, task=TASK, dtype=dtype)
    assert predictor.network.dtype == dtype
    predictor.predict([predictor.prepare(TASK.simulate(1, 5)[0].record)])
    assert predictor.used()[f"objects_{dtype}"] == 1


def test_half_precision_is_not_used_where_an_answer_is_another_one(
    bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    strict = dataclasses.replace(TASK, options={**TASK.options, "precision": {"probability": 0.0}})
    with caplog.at_level(logging.WARNING, "nightcat"):
        predictor = load_predictor(bundle.path, task=strict, dtype="bf16")
    assert predictor.network.dtype == "fp32"
    assert "task toy runs in fp32, not in bf16: of 16 simulated objects other answers in p_bright of" in caplog.text
    batch = [predictor.prepare(example.record) for example in TASK.simulate(4, 5)]
    assert predictor.predict(batch) == load_predictor(bundle.path, task=TASK).predict(batch)
    assert "objects_bf16" not in predictor.used()


def test_auto_is_what_is_fast_on_the_device(bundle: Bundle, small: None) -> None:
    assert load_predictor(bundle.path, task=TASK, dtype="auto").network.dtype == "fp32"
    assert load_predictor(bundle.path, task=TASK, dtype="auto", device=SimulatedDevice()).network.dtype == "bf16"


@pytest.mark.parametrize(
    ("whole", "half", "odd"),
    [
        ({"p_a": 0.500, "t": 100.0, "t_err": 5.0, "s": "x", "u": 2.0}, {}, set()),
        ({"p_a": 0.500, "t": 100.0, "t_err": 5.0, "s": "x", "u": 2.0}, {"p_a": 0.52}, {"p_a"}),
        ({"p_a": 0.500, "t": 100.0, "t_err": 5.0, "s": "x", "u": 2.0}, {"p_a": 0.509, "t": 100.4, "u": 2.01}, set()),
        ({"p_a": 0.500, "t": 100.0, "t_err": 5.0, "s": "x", "u": 2.0}, {"t": 100.6}, {"t"}),
        ({"p_a": 0.500, "t": 100.0, "t_err": None, "s": "x", "u": 2.0}, {"t": 100.6}, set()),
        ({"p_a": 0.500, "t": 100.0, "t_err": 5.0, "s": "x", "u": 2.0}, {"s": "y", "u": 2.03}, {"s", "u"}),
        ({"p_a": 0.500, "t": 100.0, "t_err": 5.0, "s": "x", "u": None}, {"u": 2.0, "p_a": None}, {"u", "p_a"}),
        ({"p_a": 0.500, "t": 100.0, "t_err": 5.0, "s": "x", "u": 2.0}, {"u": float("nan")}, {"u"}),
    ],
)
def test_what_counts_as_another_answer(whole: Row, half: Row, odd: set[str]) -> None:
    columns = [Column(name, STRING if name == "s" else FLOAT32, "", "x", "X") for name in whole]
    found = disagreements(columns, [whole], [{**whole, **half}], Tolerance())
    assert set(found) == odd


def test_probes_are_the_same_each_time_and_enough() -> None:
    one, two = probes(TASK), probes(TASK)
    assert len(one) == precision.PROBES
    np.testing.assert_array_equal([p["flux"] for p in one], [p["flux"] for p in two])
    with pytest.raises(ValueError, match="task toy simulates no 3 objects"):
        probes(dataclasses.replace(TASK, simulate=lambda n, seed: []), 3)


def test_fp32_needs_no_guard() -> None:
    def never(dtype: str) -> Any:
        raise AssertionError(dtype)

    assert guarded(TASK, "fp32", never) == "fp32"


# placement


def test_workers_are_dealt_over_the_gpus_in_turn() -> None:
    assert [deal(worker, 4) for worker in range(3, 11)] == [3, 0, 1, 2, 3, 0, 1, 2]
    assert [worker_number({"WORKER_ID": name}) for name in ("worker_12", "3-7", "sdk", "")] == [12, 7, 0, 0]
    assert worker_number({}) == 0
    assert gpus("cpu") == gpus("cuda:1") == gpus("mps") == 1


@given(count=st.integers(1, 8), first=st.integers(0, 99), workers=st.integers(1, 64))
def test_no_gpu_has_two_workers_more_than_another(count: int, first: int, workers: int) -> None:
    dealt = [deal(first + i, count) for i in range(workers)]
    numbers = [dealt.count(gpu) for gpu in range(count)]
    assert max(numbers) - min(numbers) <= 1


def test_a_device_that_is_ready_is_taken_as_it_is() -> None:
    device = SimulatedDevice()
    assert open_device(device) is device
    assert isinstance(open_device("cpu"), Cpu)
    assert isinstance(open_device(torch.device("cpu")), Cpu)


def need(task: str, weights: int, working: int = 0) -> Need:
    return Need(task=task, weights=weights, working=working)


def test_models_share_the_memory_first_come_first_served() -> None:
    needs = [need("a", 30, 20), need("b", 40, 30), need("c", 10, 10)]
    assert fitting_together(needs, 200) == ["a", "b", "c"], "80 of weights and 30 of work are within 160"
    assert fitting_together(needs, 110) == ["a", "c"], "88 take a and c, not b"
    assert fitting_together(needs, 200, share=2) == ["a", "c"]
    assert fitting_together(needs, 200, share=20) == []
    assert fitting_together(needs, 200, context=72) == ["a", "c"], "88 are left of 160"
    assert fitting_together(needs, 0) == ["a", "b", "c"], "a device that does not tell has room"


def test_what_a_model_needs_is_measured_and_given_back(bundle: Bundle, small: None) -> None:
    device = SimulatedDevice()
    inputs = probes(TASK, 4)
    found = measure_need(TASK, bundle.networks(TASK), device, inputs)
    weights = sum(p.numel() * 4 for model in bundle.networks(TASK) for p in (*model.parameters(), *model.buffers()))
    assert found is not None
    assert found.weights >= weights > 0
    assert found.working == 2 * 2 * 8 * (8 * 4 + 8), "two batches of eight in flight, input and work of each"
    assert device.used == 0
    assert measure_need(TASK, bundle.networks(TASK), SimulatedDevice(memory=10), inputs) is None


class Shipped:
    """A bundle of the toy, whose task is in no registry."""

    def __init__(self, bundle: Bundle, name: str) -> None:
        self.bundle, self.name = bundle, name

    def task(self) -> Any:
        return dataclasses.replace(TASK, name=self.name)

    def networks(self, task: Any) -> Any:
        return self.bundle.networks(TASK)


def test_a_model_that_does_not_fit_goes_to_the_cpu_or_the_run_is_refused(
    bundle: Bundle, small: None, caplog: pytest.LogCaptureFixture
) -> None:
    two = [Shipped(bundle, "one"), Shipped(bundle, "two")]
    assert placed(two, SimulatedDevice(), "cuda:0", choose=False) == {"one": "cuda:0", "two": "cuda:0"}
    one = measure_need(TASK, bundle.networks(TASK), SimulatedDevice(), probes(TASK, 4))
    assert one is not None
    tight = int(1.5 * one.total / placement.FRACTION)
    with caplog.at_level(logging.WARNING, "nightcat"):
        assert placed(two, SimulatedDevice(memory=tight), "cuda:0", choose=True) == {"one": "cuda:0", "two": "cpu"}
    assert "of which 80% are shared by one, two in 1 worker processes: it runs on the CPU" in caplog.text
    with pytest.raises(finetune.predict.DeviceError, match="use fewer --workers or --tasks, or --device auto"):
        placed(two, SimulatedDevice(memory=tight), "cuda:0", choose=False)
    with pytest.raises(finetune.predict.DeviceError, match="task 'one' needs more than there is, even for one object"):
        placed(two, SimulatedDevice(memory=10), "cuda:0", choose=False)


def test_shipped_bundles_are_what_is_tried() -> None:
    assert {load_bundle(bundled(name)).info.task for name in SHIPPED} == set(tasks.names())
