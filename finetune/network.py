"""The network as a function of a fixed-size batch, on a device that is never silently replaced."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from finetune.task import Prepared

DTYPES = ("fp32", "bf16")


class DeviceError(ValueError):
    """The device that was asked for is not there."""


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
        raise DeviceError(f"device {name!r} is not one of auto, cpu, cuda, cuda:N, mps") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise DeviceError(f"device {name!r} was asked for, but this machine has no usable CUDA device")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceError(f"device {name!r} was asked for, but there are only {torch.cuda.device_count()}")
    if device.type == "mps" and not mps:
        raise DeviceError(f"device {name!r} was asked for, but this machine has no usable MPS device")
    if device.type not in ("cpu", "cuda", "mps"):
        raise DeviceError(f"device {name!r} is not one of auto, cpu, cuda, cuda:N, mps")
    return device


def to_tensor(array: np.ndarray) -> torch.Tensor:
    """Make a tensor in the type that models take.

    Parameters
    ----------
    array : ndarray
        Numbers or booleans.

    Returns
    -------
    Tensor
        float32, int64 or bool; a copy.
    """
    kind = array.dtype.kind
    if kind not in "fiub":
        raise TypeError(f"an array of type {array.dtype} cannot enter a model")
    return torch.from_numpy(np.array(array, dtype={"f": np.float32, "b": np.bool_}.get(kind, np.int64), order="C"))


def stack(batch: Sequence[Prepared], names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """Stack prepared records, first axis the batch.

    Parameters
    ----------
    batch : sequence of Prepared
        At least one; all with arrays of the same shapes.
    names : sequence of str, optional
        Which arrays; all of the first record's where None.

    Returns
    -------
    dict of str to ndarray
        Stacked.
    """
    return {name: np.stack([prepared[name] for prepared in batch]) for name in (names or sorted(batch[0]))}


def accepted(model: torch.nn.Module, names: Sequence[str]) -> list[str]:
    """Which prepared arrays the model's ``forward`` takes; the others are for ``decode`` and the baseline.

    Parameters
    ----------
    model : Module
        The model.
    names : sequence of str
        Names of the prepared arrays.

    Returns
    -------
    list of str
        Sorted; all of them where ``forward`` takes any keyword.
    """
    inner = getattr(model, "get_base_model", lambda: model)()  # a wrapper of peft takes any keyword and hands it on
    parameters = inspect.signature(inner.forward).parameters.values()
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters):
        return sorted(names)
    known = {p.name for p in parameters}
    return sorted(name for name in names if name in known)


@dataclass(slots=True)
class Network:
    """The member models as one function of a batch: their outputs are averaged.

    Parameters
    ----------
    models : sequence of Module
        They are set to evaluation mode; where a model has a method ``for_inference``, what that returns is run.
    device : torch.device
        Where they run.
    dtype : str
        ``"fp32"``, or ``"bf16"`` for matrix products in bfloat16 (autocast: weights, and the encodings of wavelength
        and time, stay in fp32).
    """

    models: Sequence[torch.nn.Module]
    device: torch.device
    dtype: str = "fp32"
    _names: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype {self.dtype!r} is not one of {', '.join(DTYPES)}")
        quick = [getattr(model, "for_inference", lambda model=model: model)() for model in self.models]
        self.models = [model.to(self.device).eval() for model in quick]

    def __call__(self, batch: Sequence[Prepared], size: int) -> dict[str, np.ndarray]:
        """Run a batch, padded to ``size``.

        Parameters
        ----------
        batch : sequence of Prepared
            One to ``size`` inputs.
        size : int
            Shape that the models see.

        Returns
        -------
        dict of str to ndarray
            float32, as many rows as ``batch``.
        """
        if not 0 < len(batch) <= size:
            raise ValueError(f"a batch of {len(batch)} does not fit a shape of {size}")
        inputs = self.inputs([*batch, *[batch[0]] * (size - len(batch))])
        with torch.inference_mode(), self._precision():
            mean = mean_answer(self.models, inputs)
        return {name: tensor[: len(batch)].cpu().numpy() for name, tensor in mean.items()}

    def inputs(self, batch: Sequence[Prepared]) -> dict[str, torch.Tensor]:
        """What the models are given.

        Parameters
        ----------
        batch : sequence of Prepared
            At least one.

        Returns
        -------
        dict of str to Tensor
            The arrays that they take, stacked, on the device.
        """
        self._names = self._names or accepted(self.models[0], sorted(batch[0]))
        return {name: to_tensor(value).to(self.device) for name, value in stack(batch, self._names).items()}

    @contextlib.contextmanager
    def _precision(self) -> Iterator[None]:
        """Fixed kernels, no TF32 in the convolutions, bf16 only where asked for."""
        half = torch.autocast(self.device.type, torch.bfloat16) if self.dtype == "bf16" else contextlib.nullcontext()
        with half, torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            yield


def mean_answer(models: Iterable[torch.nn.Module], inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The mean of the members' outputs.

    Parameters
    ----------
    models : iterable of Module
        At least one.
    inputs : mapping of str to Tensor
        A batch.

    Returns
    -------
    dict of str to Tensor
        float32.
    """
    answers = [_tensors(model(**inputs)) for model in models]
    return {k: torch.stack([a[k] for a in answers]).mean(0) if answers[1:] else v for k, v in answers[0].items()}


def _tensors(outputs: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    return {name: value.float() for name, value in outputs.items() if isinstance(value, torch.Tensor)}


def run_network(network: Network, prepared: Sequence[Prepared], size: int) -> dict[str, np.ndarray]:
    """Raw outputs for many records, batch by batch.

    Parameters
    ----------
    network : Network
        The model.
    prepared : sequence of Prepared
        At least one record.
    size : int
        Fixed batch.

    Returns
    -------
    dict of str to ndarray
        First axis: the records.
    """
    parts = [network(prepared[i : i + size], size) for i in range(0, len(prepared), size)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
