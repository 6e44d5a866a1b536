"""Whatever the shape, the memory and the objects: each is answered once, in order, as it is alone, or is named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.batches import Batches, Meter
from finetune.devices import Cpu
from tests.simulated_device import SimulatedDevice


def load(objects: Any) -> dict[str, torch.Tensor]:
    """An object is its own size in memory."""
    return {"x": torch.tensor(objects)}


def square(tensors: Any) -> dict[str, torch.Tensor]:
    return {"y": tensors["x"] ** 2}


def sized(memory: int, **options: Any) -> SimulatedDevice:
    return SimulatedDevice(memory=memory, need=lambda tensors: int(tensors["x"].sum()), **options)


@settings(max_examples=300, deadline=None)
@given(
    objects=st.lists(st.integers(1, 40), min_size=1, max_size=40),
    size=st.integers(1, 16),
    memory=st.integers(1, 400),
    depth=st.integers(1, 3),
    overlap=st.booleans(),
)
def test_each_object_is_answered_once_in_order_or_does_not_fit(
    objects: list[int], size: int, memory: int, depth: int, overlap: bool
) -> None:
    device = sized(memory, depth=depth)
    batches = Batches(device, overlap=overlap)
    outputs, fitted = batches.run(objects, size, load, square)
    assert fitted == [i for i, one in enumerate(objects) if 2 * one <= memory], "an object takes its size twice"
    assert [int(y) for y in outputs.get("y", [])] == [objects[i] ** 2 for i in fitted]
    counts = batches.meter.drain()
    assert counts.get("objects", 0) == len(fitted)
    assert counts.get("unfit", 0) == len(objects) - len(fitted)
    assert counts.get("slots", 0) >= len(fitted)
    del outputs
    assert device.used == 0, "memory was kept"


@settings(max_examples=50, deadline=None)
@given(count=st.integers(1, 40), size=st.integers(1, 16), memory=st.integers(2, 40))
def test_a_shape_that_fits_is_learnt_and_kept(count: int, size: int, memory: int) -> None:
    device = sized(memory, depth=1)
    batches = Batches(device)
    batches.run([1] * count, size, load, square)
    learnt = batches.shape(size)
    assert 2 * learnt <= memory
    assert learnt == size or 2 * (2 * learnt + 1) > memory, "halved more often than was needed"
    batches.meter.drain()
    batches.run([1] * count, size, load, square)
    assert "halved" not in batches.meter.drain()


def test_one_object_that_is_too_large_does_not_slow_the_others() -> None:
    batches = Batches(sized(32))
    _, fitted = batches.run([1] * 5 + [17] + [1] * 10, 8, load, square)
    assert fitted == [*range(5), *range(6, 16)]
    assert batches.shape(8) == 8
    assert batches.overlap


def test_the_memory_of_what_failed_is_given_back_before_the_next_try() -> None:
    device = sized(40, depth=2)
    Batches(device).run([10] * 8, 4, load, square)
    assert {used for event, used in device.events if event == "release"} == {0}


def test_another_error_is_not_taken_for_a_lack_of_memory() -> None:
    def broken(tensors: Any) -> Any:
        raise RuntimeError("index out of range")

    with pytest.raises(RuntimeError, match="index out of range"):
        Batches(SimulatedDevice()).run([1], 1, load, broken)


def test_torch_on_the_processor_says_so_in_its_own_words() -> None:
    def greedy(tensors: Any) -> Any:
        if len(tensors["x"]) > 2:
            torch.empty(1 << 60)
        return square(tensors)

    batches = Batches(Cpu())
    outputs, fitted = batches.run([1, 2, 3, 4, 5], 4, load, greedy)
    assert outputs["y"].tolist() == [1, 4, 9, 16, 25]
    assert (fitted, batches.limit) == ([0, 1, 2, 3, 4], 2)


def test_the_copy_of_a_batch_overlaps_the_forward_before_it() -> None:
    device = SimulatedDevice(copy_s=1.0, forward_s=2.0)
    Batches(device).run([1] * 12, 4, load, square)
    assert device.events == [
        ("put", 0), ("run", 0), ("put", 1), ("run", 1), ("fetch", 0), ("put", 2), ("run", 2), ("fetch", 1),
        ("fetch", 2),
    ]  # fmt: skip
    assert device.clock == 1 + 3 * 2, "only the first copy is waited for"
    device = SimulatedDevice(copy_s=1.0, forward_s=2.0)
    Batches(device, overlap=False).run([1] * 12, 4, load, square)
    assert device.clock == 3 * (1 + 2)


@given(
    copy=st.integers(0, 5), forward=st.integers(0, 5), parts=st.integers(1, 8), depth=st.integers(1, 3)
)  # fmt: skip
def test_overlap_never_takes_longer(copy: int, forward: int, parts: int, depth: int) -> None:
    clocks = []
    for overlap in (False, True):
        device = SimulatedDevice(copy_s=copy, forward_s=forward, depth=depth)
        Batches(device, overlap=overlap).run([1] * parts, 1, load, square)
        clocks.append(device.clock)
    assert clocks[0] == parts * (copy + forward)
    assert clocks[1] == (clocks[0] if depth == 1 else copy + forward + (parts - 1) * max(copy, forward))


def test_a_meter_counts_and_begins_again() -> None:
    batches = Batches(SimulatedDevice(forward_s=0.5), Meter())
    batches.run([1] * 10, 4, load, square)
    assert batches.meter.drain() == {"batches": 3, "busy_us": 1_500_000, "objects": 10, "slots": 12}
    assert batches.meter.drain() == {}


def test_a_processor_answers_each_part_before_the_next() -> None:
    outputs, fitted = Batches(Cpu()).run([3, 1, 2], 2, load, square)
    np.testing.assert_array_equal(outputs["y"], [9, 1, 4])
    assert fitted == [0, 1, 2]
