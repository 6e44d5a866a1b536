"""The network as a function of a fixed-size batch, on a device that is never silently replaced."""

from __future__ import annotations

import contextlib
import copy
import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from finetune.batches import Batches
from finetune.devices import Device, open_device
from finetune.task import Prepared

HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}
DTYPES = ("fp32", *HALF)


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


class Network:
    """The member models as one function of a batch: their outputs are averaged.

    Parameters
    ----------
    models : sequence of Module
        They are set to evaluation mode; where a model has a method ``for_inference``, what that returns is run.
    device : str, torch.device or Device
        Where they run.
    dtype : str
        ``"fp32"``, or ``"bf16"`` or ``"fp16"`` for matrix products in that precision (autocast: weights, and the
        encodings of wavelength and time, stay in fp32).
    """

    def __init__(
        self, models: Sequence[torch.nn.Module], device: str | torch.device | Device, dtype: str = "fp32"
    ) -> None:
        _check_dtype(dtype)
        self.device = open_device(device)
        self.dtype = dtype
        self.batches = Batches(self.device)
        self._names: list[str] = []
        quick = [getattr(model, "for_inference", lambda model=model: model)() for model in models]
        self.models = [model.to(self.device.place).eval() for model in quick]

    def in_precision(self, dtype: str) -> Network:
        """The same models in another precision.

        Parameters
        ----------
        dtype : str
            ``"fp32"``, ``"bf16"`` or ``"fp16"``.

        Returns
        -------
        Network
            It shares the models, and what was learnt and counted.
        """
        _check_dtype(dtype)
        other = copy.copy(self)
        other.dtype = dtype
        return other

    def __call__(self, batch: Sequence[Prepared], size: int) -> dict[str, np.ndarray]:
        """Run a batch, padded to ``size``.

        Parameters
        ----------
        batch : sequence of Prepared
            One to ``size`` inputs.
        size : int
            Shape that the models see, unless the device has no memory for it.

        Returns
        -------
        dict of str to ndarray
            float32, as many rows as ``batch``.

        Raises
        ------
        MemoryError
            Where an input does not fit into the device's memory even alone.
        """
        if not 0 < len(batch) <= size:
            raise ValueError(f"a batch of {len(batch)} does not fit a shape of {size}")
        outputs, fitted = self.fitting(batch, size)
        if len(fitted) < len(batch):
            raise MemoryError(
                f"{len(batch) - len(fitted)} of {len(batch)} inputs do not fit into the memory of {self.device.name}, "
                "not even alone"
            )
        return outputs

    def fitting(self, batch: Sequence[Prepared], size: int) -> tuple[dict[str, np.ndarray], list[int]]:
        """Run any number of inputs, and leave out those that do not fit into the device's memory even alone.

        Parameters
        ----------
        batch : sequence of Prepared
            At least one input.
        size : int
            Shape that the models see, unless the device has no memory for it.

        Returns
        -------
        outputs : dict of str to ndarray
            float32, a row for each that fits; empty where none does.
        fitted : list of int
            Which of the inputs the rows belong to.
        """
        outputs, fitted = self.batches.run(batch, size, self.load, self.forward)
        self.batches.meter.add(**{f"objects_{self.dtype}": len(fitted)})
        return outputs, fitted

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
        return {name: tensor.to(self.device.place) for name, tensor in self.load(batch).items()}

    def values(self, prepared: Prepared) -> int:
        """How many numbers of one input enter the models: pixels, or channels of tokens.

        Parameters
        ----------
        prepared : Prepared
            An input.

        Returns
        -------
        int
            At least 1.
        """
        return max(sum(tensor.numel() for tensor in self.load([prepared]).values()), 1)

    def weight_bytes(self) -> int:
        """Memory of the models' weights.

        Returns
        -------
        int
            Bytes.
        """
        tensors = [tensor for model in self.models for tensor in (*model.parameters(), *model.buffers())]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def load(self, batch: Sequence[Prepared]) -> dict[str, torch.Tensor]:
        """What the models are given, in the host's memory.

        Parameters
        ----------
        batch : sequence of Prepared
            At least one.

        Returns
        -------
        dict of str to Tensor
            The arrays that they take, stacked.
        """
        self._names = self._names or accepted(self.models[0], sorted(batch[0]))
        return {name: to_tensor(value) for name, value in stack(batch, self._names).items()}

    def forward(self, inputs: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        """The models alone.

        Parameters
        ----------
        inputs : mapping of str to Tensor
            From ``load``, on the device.

        Returns
        -------
        mapping of str to Tensor
            Mean of the members' outputs, float32, on the device.
        """
        with torch.inference_mode(), self._precision():
            return mean_answer(self.models, inputs)

    @contextlib.contextmanager
    def _precision(self) -> Iterator[None]:
        """Fixed kernels, no TF32 in the convolutions, half precision only where asked for."""
        kind = HALF.get(self.dtype)
        half = torch.autocast(self.device.place.type, kind) if kind else contextlib.nullcontext()
        with half, torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            yield


def _check_dtype(dtype: str) -> None:
    if dtype not in DTYPES:
        raise ValueError(f"dtype {dtype!r} is not one of {', '.join(DTYPES)}")


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
    outputs, fitted = network.fitting(prepared, size)
    if len(fitted) < len(prepared):
        raise MemoryError(f"{len(prepared) - len(fitted)} inputs do not fit into the memory of {network.device.name}")
    return outputs
