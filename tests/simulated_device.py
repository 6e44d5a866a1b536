"""A device that is not there: it has a memory of its own, a copy engine and a compute engine, and a clock.

Forwards run on the processor, so that answers are real; what is simulated is when things happen and what does not fit.
Memory is taken by objects that give it back when nobody holds them any more, as tensors do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch


def total_bytes(tensors: Any) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


class Block:
    def __init__(self, device: SimulatedDevice, size: int) -> None:
        self.device, self.size = device, 0
        if device.used + size > device.memory:
            raise torch.OutOfMemoryError(f"{size} bytes on top of {device.used} of {device.memory}")
        self.size = size
        device.used += size
        device.most = max(device.most, device.used)

    def __del__(self) -> None:
        self.device.used -= self.size


@dataclass(eq=False)
class SimulatedDevice:
    memory: int = 1 << 40
    copy_s: float = 0.0
    forward_s: float = 0.0
    depth: int = 2
    need: Callable[[Any], int] = total_bytes  #: Of a batch; its forward takes as much once more.
    accelerator: bool = True
    fast: str = "bf16"
    context: int = 0
    name: str = "simulated"
    place: torch.device = field(default_factory=lambda: torch.device("cpu"))
    used: int = 0
    most: int = 0
    clock: float = 0.0
    copied: float = 0.0
    computed: float = 0.0
    events: list[tuple[str, int]] = field(default_factory=list)
    began: int = 0

    def free(self) -> int:
        return self.memory - self.used

    def peak(self, call: Callable[[], Any]) -> int:
        before = self.most = self.used
        call()
        return self.most - before

    def put(self, tensors: Any) -> Any:
        block = Block(self, self.need(tensors))
        number, self.began = self.began, self.began + 1
        self.events.append(("put", number))
        self.copied = max(self.clock, self.copied) + self.copy_s
        return number, tensors, block, self.copied

    def run(self, call: Callable[[Any], Any], sent: Any) -> Any:
        number, tensors, block, there = sent
        working = Block(self, self.need(tensors))
        self.events.append(("run", number))
        self.computed = max(self.clock, there, self.computed) + self.forward_s
        return number, call(tensors), (block, working), self.computed

    def fetch(self, running: Any) -> Any:
        number, outputs, _, end = running
        self.events.append(("fetch", number))
        self.clock = max(self.clock, end)
        return {name: np.asarray(value) for name, value in outputs.items()}, self.forward_s

    def out_of_memory(self, error: BaseException) -> bool:
        return isinstance(error, torch.OutOfMemoryError)

    def release(self) -> None:
        self.events.append(("release", self.used))
