"""How large a batch an accelerator is given, and which models fit into its memory together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from finetune.devices import Device
from finetune.network import Network
from finetune.task import Prepared, Task

VALUES = 1 << 24  #: Budget of a batch: numbers that enter the models, 109 stamps of three colours and 224 x 224 pixels.
LARGEST = 512  #: Objects of a batch at most, however small they are.
FRACTION = 0.8  #: Of the free memory that models may take: the allocator's pieces never fit without gaps.


@dataclass(frozen=True, kw_only=True, slots=True)
class Need:
    """Memory that the model of a task takes.

    Parameters
    ----------
    task : str
        The task.
    weights : int
        Bytes of its weights.
    working : int
        Bytes that a warm-up took beside them, with as many batches in flight as in the survey.
    """

    task: str
    weights: int
    working: int

    @property
    def total(self) -> int:
        """Both together."""
        return self.weights + self.working


def shape_for(task: Task, network: Network, prepared: Prepared) -> int:
    """Objects that the models see at once.

    Parameters
    ----------
    task : Task
        Gives the shape on a CPU, where answers are promised to the last bit.
    network : Network
        Gives the device, and how many numbers of an object enter.
    prepared : Prepared
        One input: all of a task have one shape.

    Returns
    -------
    int
        On an accelerator the power of two that keeps within ``VALUES`` and ``LARGEST``.
    """
    if not network.device.accelerator:
        return task.batch_size
    room = max(min(VALUES // network.values(prepared), LARGEST), 1)
    return 1 << (room.bit_length() - 1)


def warm_up(task: Task, network: Network, inputs: Sequence[Prepared], shape: int) -> Need:
    """Run full batches once: kernels are there, a shape that does not fit is known, and the memory is measured.

    Parameters
    ----------
    task : Task
        The task.
    network : Network
        On its device; nothing is counted of the warm-up.
    inputs : sequence of Prepared
        At least one.
    shape : int
        From ``shape_for``.

    Returns
    -------
    Need
        What was measured; only the weights where the device does not tell its memory.
    """
    number = shape * network.device.depth
    batch = [inputs[i % len(inputs)] for i in range(number)]
    working = network.device.peak(lambda: network.fitting(batch, shape))
    network.batches.meter.drain()
    return Need(task=task.name, weights=network.weight_bytes(), working=working)


def fitting_together(needs: Sequence[Need], free: int, share: int = 1, context: int = 0) -> list[str]:
    """Which models a device is given.

    Parameters
    ----------
    needs : sequence of Need
        In the order of the tasks: the first come first.
    free : int
        Bytes that the device has left; 0 where it does not tell, and all fit.
    share : int
        Processes that load the models on this device, each for itself.
    context : int
        Bytes that each of them takes before its first tensor.

    Returns
    -------
    list of str
        Tasks, in order. Weights of all of them are there at once; working memory is that of the largest, as a process
        runs one model at a time.
    """
    budget = FRACTION * free / max(share, 1) - context
    found: list[str] = []
    weights = working = 0
    for need in needs:
        if not free or weights + need.weights + max(working, need.working) <= budget:
            weights, working = weights + need.weights, max(working, need.working)
            found.append(need.task)
    return found


def measure_need(
    task: Task, models: Sequence[torch.nn.Module], device: Device, inputs: Sequence[Prepared]
) -> Need | None:
    """Load a model on a device, run it once, and let it go.

    Parameters
    ----------
    task : Task
        The task.
    models : sequence of Module
        Its members.
    device : Device
        Where.
    inputs : sequence of Prepared
        At least one.

    Returns
    -------
    Need or None
        None where not even its weights fit, or not one object.
    """
    try:
        network = Network(models, device)
    except Exception as error:
        if not device.out_of_memory(error):
            raise
        return None
    shape = shape_for(task, network, inputs[0])
    need = warm_up(task, network, inputs, shape)
    _, fitted = network.fitting(inputs[:1], shape)
    del network
    device.release()
    return need if fitted else None
