"""Bundle to Predictor: what the survey's inference step calls.

Batches have one fixed shape: a short one is padded by repeating its first input. So an answer depends neither on its
batch mates nor on its place. Where the device ran out of memory the shape is halved, and the last bits may change;
float32 columns are rounded to six digits, which hides nearly all of that, but not a number on the edge of a digit.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from finetune.bundle import check_version, load_bundle
from finetune.task import Baseline, Prepared, Row, Task
from finetune.wrappers import Classical, Combined, Finite, Learned, Rows, Typed

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
    parameters = inspect.signature(model.forward).parameters.values()
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
        In evaluation mode.
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
        self.models = [model.to(self.device).eval() for model in self.models]

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
        self._names = self._names or accepted(self.models[0], sorted(batch[0]))
        padded = [*batch, *[batch[0]] * (size - len(batch))]
        inputs = {k: to_tensor(v).to(self.device) for k, v in stack(padded, self._names).items()}
        with torch.inference_mode(), self._precision():
            answers = [_tensors(model(**inputs)) for model in self.models]
        mean = {k: torch.stack([a[k] for a in answers]).mean(0) if answers[1:] else v for k, v in answers[0].items()}
        return {name: tensor[: len(batch)].cpu().numpy() for name, tensor in mean.items()}

    @contextlib.contextmanager
    def _precision(self) -> Iterator[None]:
        """Fixed kernels, no TF32 in the convolutions, bf16 only where asked for."""
        half = torch.autocast(self.device.type, torch.bfloat16) if self.dtype == "bf16" else contextlib.nullcontext()
        with half, torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            yield


def _tensors(outputs: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    return {name: value.float() for name, value in outputs.items() if isinstance(value, torch.Tensor)}


class TaskPredictor:
    """``transforms.predictor.Predictor`` of a task.

    Parameters
    ----------
    task : Task
        The task; the attribute ``task`` is its name, as the protocol wants it.
    rows : Rows
        The chain of wrappers, the network innermost.
    digest : str
        SHA-256 of the bundle; its first 16 digits are kept.
    """

    def __init__(self, task: Task, rows: Rows, digest: str = "") -> None:
        self.definition = task
        self.rows = rows
        self.task = task.name
        self.record = task.record
        self.batch_size = task.batch_size
        self.digest = digest[:16]
        self.columns = rows.columns

    def prepare(self, record: Any) -> Prepared:
        """Turn a record into arrays of fixed shape.

        Parameters
        ----------
        record : Identity
            Of class ``record``.

        Returns
        -------
        mapping of str to ndarray
            Input of ``predict``.
        """
        return self.definition.prepare(record)

    def predict(self, batch: Sequence[Prepared], size: int | None = None) -> list[Row]:
        """Answer for up to ``size`` inputs.

        Parameters
        ----------
        batch : sequence of Prepared
            From ``prepare``.
        size : int, optional
            Shape that the batch is padded to; ``batch_size`` where None.

        Returns
        -------
        list of dict
            All columns of the task plus ``"flags"``, in order.
        """
        return self.rows.predict(batch, size or self.batch_size) if batch else []


def make_predictor(
    task: Task,
    models: Sequence[torch.nn.Module],
    baseline: Baseline,
    *,
    calibration: Mapping[str, Any],
    rule: Mapping[str, Any],
    digest: str = "",
    device: str = "cpu",
    dtype: str = "fp32",
) -> TaskPredictor:
    """Put the layers around a model in memory.

    Parameters
    ----------
    task : Task
        The task.
    models : sequence of Module
        Members, whose outputs are averaged.
    baseline : Baseline
        Fitted.
    calibration, rule : mapping
        Learnt on validation data.
    digest : str
        Of the bundle.
    device, dtype : str
        Where and in which precision the models run.

    Returns
    -------
    TaskPredictor
        Ready. The two answers are typed and rounded before the best one is chosen, so that a last bit cannot turn
        the choice.
    """
    learned = learned_rows(task, models, calibration, device=device, dtype=dtype)
    rows = Typed(Finite(Combined(task, learned, classical_rows(task, baseline), rule), "MODEL_FAILED"))
    return TaskPredictor(task, rows, digest)


def learned_rows(
    task: Task,
    models: Sequence[torch.nn.Module],
    calibration: Mapping[str, Any],
    *,
    device: str = "cpu",
    dtype: str = "fp32",
) -> Rows:
    """The learned answer alone, clean and typed.

    Parameters
    ----------
    task : Task
        The task.
    models : sequence of Module
        Members.
    calibration : mapping
        Learnt on validation data.
    device, dtype : str
        Where and in which precision the models run.

    Returns
    -------
    Rows
        Gives ``task.columns``; a number that is not finite is None, under MODEL_FAILED.
    """
    network = Network(models, resolve_device(device), dtype)
    return Typed(Finite(Learned(task, network, calibration), "MODEL_FAILED"))


def classical_rows(task: Task, baseline: Baseline) -> Rows:
    """The classical answer alone, clean and typed.

    Parameters
    ----------
    task : Task
        The task.
    baseline : Baseline
        Fitted.

    Returns
    -------
    Rows
        Gives ``task.baseline_columns``; a number that is not finite is None, under MEASURE_FAILED.
    """
    return Typed(Finite(Classical(baseline, task.baseline_columns), "MEASURE_FAILED"))


def load_predictor(
    path: str | Path, *, device: str = "cpu", dtype: str = "fp32", threads: int | None = None, task: Task | None = None
) -> TaskPredictor:
    """Load a bundle for inference.

    Parameters
    ----------
    path : str or Path
        Folder of the bundle.
    device : str
        ``"cpu"``, ``"cuda"``, ``"cuda:N"``, ``"mps"`` or ``"auto"``.
    dtype : str
        ``"fp32"`` or ``"bf16"``.
    threads : int, optional
        Threads of torch in this process; left alone where None.
    task : Task, optional
        A task that is not in the registry.

    Returns
    -------
    TaskPredictor
        Ready.

    Raises
    ------
    BundleError
        Where the bundle is damaged or was made for other code.
    DeviceError
        Where the device is not there.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    bundle = load_bundle(path)
    task = check_version(task, bundle) if task is not None else bundle.task()
    return make_predictor(
        task,
        bundle.models(task),
        bundle.baseline(task),
        calibration=bundle.info.calibration,
        rule=bundle.info.rule,
        digest=bundle.digest,
        device=device,
        dtype=dtype,
    )


def loader(path: str | Path, **options: Any) -> Callable[[], TaskPredictor]:
    """A picklable function without arguments that loads the model, as the inference step wants it.

    Parameters
    ----------
    path : str or Path
        Folder of the bundle.
    **options
        Of ``load_predictor``.

    Returns
    -------
    callable
        ``load() -> TaskPredictor``.
    """
    return functools.partial(load_predictor, str(path), **options)
