"""What a model runs on: one class for each kind of device, found by name and never silently replaced.

A batch goes through three calls: ``put`` begins its copy to the device, ``run`` begins the forward, ``fetch`` waits for
the answer. A CPU has done each when the call returns. CUDA works by itself: copies go from pinned memory on a stream of
their own, so that the copy of a batch overlaps the forward of the one before it; ``depth`` says how many batches may be
in flight at once. Tests give a device of their own with the same calls.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch

from transforms.attempt import is_out_of_memory

Tensors = Mapping[str, torch.Tensor]
Arrays = dict[str, np.ndarray]
ALLOWED = "auto, cpu, cuda, cuda:N, mps"


class DeviceError(ValueError):
    """The device that was asked for is not there, or is too small."""


class Device(Protocol):
    """Where models run, and how a batch gets there and back."""

    name: str  #: As ``resolve_device`` takes it.
    place: torch.device  #: Where tensors lie.
    accelerator: bool  #: Whether large batches pay, and memory is its own.
    depth: int  #: Batches that may be in flight at once.
    fast: str  #: Precision that ``"auto"`` tries here.
    context: int  #: Bytes that each process takes of it before its first tensor.

    def free(self) -> int:
        """Memory that is left.

        Returns
        -------
        int
            Bytes; 0 where it is not told.
        """

    def peak(self, call: Callable[[], Any]) -> int:
        """Memory that a call needs for a while.

        Parameters
        ----------
        call : callable
            Run once.

        Returns
        -------
        int
            Bytes at the highest, over those before; 0 where it is not told.
        """

    def put(self, tensors: Tensors) -> Any:
        """Begin to copy a batch to the device.

        Parameters
        ----------
        tensors : mapping of str to Tensor
            In the host's memory.

        Returns
        -------
        object
            For ``run``.
        """

    def run(self, call: Callable[[Tensors], Tensors], sent: Any) -> Any:
        """Begin a forward.

        Parameters
        ----------
        call : callable
            The forward.
        sent : object
            From ``put``.

        Returns
        -------
        object
            For ``fetch``.
        """

    def fetch(self, running: Any) -> tuple[Arrays, float]:
        """Wait for an answer.

        Parameters
        ----------
        running : object
            From ``run``.

        Returns
        -------
        tuple of dict of str to ndarray and float
            The answer, and seconds for which the device worked on it.
        """

    def out_of_memory(self, error: BaseException) -> bool:
        """Say whether an error means that its memory is full.

        Parameters
        ----------
        error : BaseException
            What was raised.

        Returns
        -------
        bool
            True where a smaller batch may fit.
        """

    def release(self) -> None:
        """Give back memory that is only kept for later."""


@dataclass(slots=True)
class Cpu:
    """The processor: each call has done its work when it returns."""

    name: str = "cpu"
    place: torch.device = field(default_factory=lambda: torch.device("cpu"))
    accelerator: bool = False
    depth: int = 1
    fast: str = "fp32"  # bfloat16 is slower on the processors that were measured, see docs/devices.md
    context: int = 0

    def free(self) -> int:
        """Not told: the host's memory is shared with everything else.

        Returns
        -------
        int
            0.
        """
        return 0

    def peak(self, call: Callable[[], Any]) -> int:
        """Run the call.

        Parameters
        ----------
        call : callable
            Run once.

        Returns
        -------
        int
            0: not told.
        """
        call()
        return 0

    def put(self, tensors: Tensors) -> Tensors:
        """Nothing is copied.

        Parameters
        ----------
        tensors : mapping of str to Tensor
            A batch.

        Returns
        -------
        mapping of str to Tensor
            The same.
        """
        return tensors

    def run(self, call: Callable[[Tensors], Tensors], sent: Tensors) -> tuple[Tensors, float]:
        """Run the forward to its end.

        Parameters
        ----------
        call : callable
            The forward.
        sent : mapping of str to Tensor
            A batch.

        Returns
        -------
        tuple of mapping and float
            Answer and seconds.
        """
        started = time.perf_counter()
        outputs = call(sent)
        return outputs, time.perf_counter() - started

    def fetch(self, running: tuple[Tensors, float]) -> tuple[Arrays, float]:
        """Take the answer.

        Parameters
        ----------
        running : tuple of mapping and float
            From ``run``.

        Returns
        -------
        tuple of dict of str to ndarray and float
            The same, as arrays.
        """
        return {name: value.cpu().numpy() for name, value in running[0].items()}, running[1]

    def out_of_memory(self, error: BaseException) -> bool:
        """Say whether an error means that its memory is full.

        Parameters
        ----------
        error : BaseException
            What was raised.

        Returns
        -------
        bool
            True for what Python and torch raise then.
        """
        return is_out_of_memory(error)

    def release(self) -> None:
        """Nothing is kept."""


class Mps(Cpu):
    """A GPU of Apple. Its memory is the host's, so there is nothing to pin; copies and forwards go in turn."""

    def __init__(self) -> None:
        super().__init__("mps", torch.device("mps"), accelerator=True)

    def free(self) -> int:
        """Memory that Metal recommends to use, less what is used.

        Returns
        -------
        int
            Bytes.
        """
        return max(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory(), 0)

    def peak(self, call: Callable[[], Any]) -> int:
        """Memory that the allocator took from the driver meanwhile.

        Parameters
        ----------
        call : callable
            Run once.

        Returns
        -------
        int
            Bytes.
        """
        torch.mps.empty_cache()
        before = torch.mps.driver_allocated_memory()
        call()
        torch.mps.synchronize()
        return max(torch.mps.driver_allocated_memory() - before, 0)

    def put(self, tensors: Tensors) -> Tensors:
        """Copy a batch.

        Parameters
        ----------
        tensors : mapping of str to Tensor
            In the host's memory.

        Returns
        -------
        mapping of str to Tensor
            On the device.
        """
        return {name: value.to(self.place) for name, value in tensors.items()}

    def run(self, call: Callable[[Tensors], Tensors], sent: Tensors) -> tuple[Tensors, float]:
        """Run the forward and wait for it, so that its seconds are known.

        Parameters
        ----------
        call : callable
            The forward.
        sent : mapping of str to Tensor
            A batch.

        Returns
        -------
        tuple of mapping and float
            Answer and seconds.
        """
        started = time.perf_counter()
        outputs = call(sent)
        torch.mps.synchronize()
        return outputs, time.perf_counter() - started

    def release(self) -> None:
        """Empty the allocator's cache."""
        torch.mps.empty_cache()


class Cuda:
    """One GPU: copies from pinned memory on a stream of their own, two batches in flight.

    Parameters
    ----------
    index : int
        Which.
    """

    accelerator = True
    context = 1 << 29  # not measured: a round number above what CUDA with its libraries usually takes

    def __init__(self, index: int) -> None:
        self.name = f"cuda:{index}"
        self.place = torch.device("cuda", index)
        self.depth = 2
        self.fast = "bf16" if torch.cuda.get_device_capability(self.place)[0] >= 8 else "fp16"
        self._copies = torch.cuda.Stream(self.place)

    def free(self) -> int:
        """What the driver has left, and what the allocator keeps for later.

        Returns
        -------
        int
            Bytes.
        """
        kept = torch.cuda.memory_reserved(self.place) - torch.cuda.memory_allocated(self.place)
        return torch.cuda.mem_get_info(self.place)[0] + kept

    def peak(self, call: Callable[[], Any]) -> int:
        """Memory of tensors at the highest, over that before.

        Parameters
        ----------
        call : callable
            Run once.

        Returns
        -------
        int
            Bytes.
        """
        torch.cuda.synchronize(self.place)
        torch.cuda.reset_peak_memory_stats(self.place)
        before = torch.cuda.memory_allocated(self.place)
        call()
        torch.cuda.synchronize(self.place)
        return torch.cuda.max_memory_allocated(self.place) - before

    def put(self, tensors: Tensors) -> tuple[Tensors, torch.cuda.Event]:
        """Begin to copy a batch, from pinned memory: from any other a copy waits for itself.

        Parameters
        ----------
        tensors : mapping of str to Tensor
            In the host's memory.

        Returns
        -------
        tuple of mapping and Event
            Tensors on the device, which are whole once the event has passed.
        """
        there = torch.cuda.Event()
        with torch.cuda.stream(self._copies):
            sent = {name: value.pin_memory().to(self.place, non_blocking=True) for name, value in tensors.items()}
            there.record(self._copies)
        return sent, there

    def run(
        self, call: Callable[[Tensors], Tensors], sent: tuple[Tensors, torch.cuda.Event]
    ) -> tuple[Arrays, torch.cuda.Event, torch.cuda.Event, torch.cuda.Event]:
        """Begin a forward, and the copy of its answer after it.

        Parameters
        ----------
        call : callable
            The forward.
        sent : tuple of mapping and Event
            From ``put``.

        Returns
        -------
        tuple
            Answer in pinned memory; events of the forward's start, of its end, and of the answer's arrival.
        """
        tensors, there = sent
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        arrived = torch.cuda.Event(blocking=True)  # the reader thread needs the processor more than a loop that waits
        with torch.cuda.device(self.place):
            stream = torch.cuda.current_stream(self.place)
            stream.wait_event(there)
            for value in tensors.values():
                value.record_stream(stream)  # made on the other stream: its memory must not be used again before
            begin.record(stream)
            outputs = call(tensors)
            end.record(stream)
            answer = {}
            for name, value in outputs.items():
                host = torch.empty(value.shape, dtype=value.dtype, pin_memory=True)
                answer[name] = host.copy_(value, non_blocking=True).numpy()
            arrived.record(stream)
        return answer, begin, end, arrived

    def fetch(self, running: tuple[Arrays, Any, Any, Any]) -> tuple[Arrays, float]:
        """Wait until the answer has arrived.

        Parameters
        ----------
        running : tuple
            From ``run``.

        Returns
        -------
        tuple of dict of str to ndarray and float
            The answer, and the forward's seconds by the device's own clock.
        """
        answer, begin, end, arrived = running
        arrived.synchronize()
        return answer, begin.elapsed_time(end) / 1e3

    def out_of_memory(self, error: BaseException) -> bool:
        """Say whether an error means that its memory is full.

        Parameters
        ----------
        error : BaseException
            What was raised.

        Returns
        -------
        bool
            True for what torch and the libraries of CUDA raise then.
        """
        return is_out_of_memory(error)

    def release(self) -> None:
        """Let what is in flight end, then empty the cache: its pieces may be of no use to a batch of another shape."""
        torch.cuda.synchronize(self.place)
        torch.cuda.empty_cache()


def resolve_device(name: str) -> torch.device:
    """Find the device that was asked for; another one is never taken in its place.

    Parameters
    ----------
    name : str
        ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``, or ``"auto"`` for the first of cuda, mps and cpu that is there.

    Returns
    -------
    torch.device
        The device.

    Raises
    ------
    DeviceError
        Where it is not there.
    """
    mps = torch.backends.mps.is_available()
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(f"device {name!r} is not one of {ALLOWED}") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise DeviceError(f"device {name!r} was asked for, but this machine has no usable CUDA device")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceError(f"device {name!r} was asked for, but there are only {torch.cuda.device_count()}")
    if device.type == "mps" and not mps:
        raise DeviceError(f"device {name!r} was asked for, but this machine has no usable MPS device")
    if device.type not in ("cpu", "cuda", "mps"):
        raise DeviceError(f"device {name!r} is not one of {ALLOWED}")
    return device


def open_device(device: str | torch.device | Device) -> Device:
    """Make ready what was asked for.

    Parameters
    ----------
    device : str, torch.device or Device
        A name as ``resolve_device`` takes it; ``"cuda"`` without a number is dealt to this worker process.

    Returns
    -------
    Device
        One that was made already is given back as it is.

    Raises
    ------
    DeviceError
        Where it is not there.
    """
    if not isinstance(device, str | torch.device):
        return device
    place = resolve_device(str(device))
    if place.type == "cuda":
        return Cuda(deal(worker_number(os.environ), torch.cuda.device_count()) if place.index is None else place.index)
    return Mps() if place.type == "mps" else Cpu()


def gpus(name: str) -> int:
    """Over how many devices worker processes are dealt.

    Parameters
    ----------
    name : str
        A device.

    Returns
    -------
    int
        All GPUs of this machine for ``"cuda"``; 1 for any other.
    """
    return max(torch.cuda.device_count(), 1) if name == "cuda" else 1


def worker_number(environment: Mapping[str, str]) -> int:
    """Number of this process among the workers of a run.

    Parameters
    ----------
    environment : mapping of str to str
        Its variables; Beam names a worker in ``WORKER_ID``, the workers of a run by consecutive numbers.

    Returns
    -------
    int
        0 for a process that is no worker.
    """
    digits = re.search(r"(\d+)\D*$", environment.get("WORKER_ID", ""))
    return int(digits[1]) if digits else 0


def deal(worker: int, count: int) -> int:
    """Deal worker processes over the GPUs of a machine, in turn.

    Parameters
    ----------
    worker : int
        Number of the worker.
    count : int
        GPUs.

    Returns
    -------
    int
        Number of the GPU: a run with n workers gives each of m GPUs n/m of them, rounded up or down.
    """
    return worker % count
