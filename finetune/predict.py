"""Bundle to Predictor: what the survey's inference step calls.

Batches have one fixed shape: a short one is padded by repeating its first input. So an answer depends neither on its
batch mates nor on its place. On an accelerator the shape is larger than on a CPU, and where a device has no memory for
it, it is halved (``finetune.batches``): then the last bits may change; float32 columns are rounded to six digits, which
hides nearly all of that, but not a number on the edge of a digit.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from finetune.bundle import BundleError, check_version, load_bundle
from finetune.class_sets import KEY, Sets
from finetune.devices import Device, DeviceError, resolve_device
from finetune.embedding_space import EmbeddingSpace
from finetune.network import Network
from finetune.placement import shape_for, warm_up
from finetune.precision import DTYPES, guarded, probes
from finetune.task import Baseline, Prepared, Row, Task
from finetune.wrappers import Adapted, Classical, Combined, Finite, Learned, Rows, Typed

__all__ = [
    "DeviceError",
    "TaskPredictor",
    "classical_rows",
    "learned_rows",
    "load_predictor",
    "loader",
    "make_predictor",
    "preload",
    "resolve_device",
]

SHAPES_A_BATCH = 4  #: Parts of a batch where copies overlap forwards: the first copy and the last forward do not.
_KEPT: dict[tuple[Any, ...], TaskPredictor] = {}


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
    network : Network or None
        The models within ``rows``, whose work is counted.
    shape : int
        What the models see at once; 0 for the task's own. On an accelerator a batch is several of them, so that copies
        overlap.
    """

    def __init__(
        self, task: Task, rows: Rows, digest: str = "", *, network: Network | None = None, shape: int = 0
    ) -> None:
        self.definition = task
        self.rows = rows
        self.task = task.name
        self.record = task.record
        self.network = network
        self.shape = shape or task.batch_size
        self.batch_size = self.shape * (SHAPES_A_BATCH if network and network.device.depth > 1 else 1)
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
            Shape that the models see, padded; the usual one where None.

        Returns
        -------
        list of dict
            All columns of the task plus ``"flags"``, in order.
        """
        if len(batch) > self.batch_size:
            raise ValueError(f"a batch of {len(batch)} does not fit a shape of {self.batch_size}")
        return self.rows.predict(batch, min(size or self.shape, self.shape)) if batch else []

    def used(self) -> dict[str, int]:
        """What the device has done since the last call.

        Returns
        -------
        dict of str to int
            As ``finetune.batches.Meter`` counts it.
        """
        return self.network.batches.meter.drain() if self.network else {}


def make_predictor(
    task: Task,
    models: Sequence[torch.nn.Module],
    baseline: Baseline,
    *,
    calibration: Mapping[str, Any],
    rule: Mapping[str, Any],
    space: EmbeddingSpace | None = None,
    embeddings: bool = False,
    digest: str = "",
    device: str | Device = "cpu",
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
    space : EmbeddingSpace or None
        Where the training objects lie in the embedding.
    embeddings : bool
        Give the embedding of each object, too.
    digest : str
        Of the bundle.
    device, dtype : str
        Where and in which precision the models run, as in ``load_predictor``.

    Returns
    -------
    TaskPredictor
        Ready. The two answers are typed and rounded before the best one is chosen, so that a last bit cannot turn
        the choice.

    Raises
    ------
    BundleError
        Where the model was adapted to a survey, and the task has no ``adjust``.
    """
    network, shape = _ready(task, models, calibration, device, dtype)
    learned = _learned(task, network, calibration, space, embeddings)
    combined = Combined(task, learned, classical_rows(task, baseline), rule)
    rows: Rows = Typed(Finite(Sets(combined, task, calibration.get(KEY, {})), "MODEL_FAILED"))
    if "survey" in calibration:
        if task.adjust is None:
            raise BundleError(
                f"the model was adapted to a survey, which the task {task.name!r} does not know how to use"
            )
        rows = Adapted(rows, task.adjust, calibration["survey"])
    return TaskPredictor(task, rows, digest, network=network, shape=shape)


def _ready(
    task: Task, models: Sequence[torch.nn.Module], calibration: Mapping[str, Any], device: str | Device, dtype: str
) -> tuple[Network, int]:
    """The network on its device in a precision that its answers allow, and the shape that it is given."""
    if dtype not in DTYPES:
        raise ValueError(f"dtype {dtype!r} is not one of {', '.join(DTYPES)}")
    network, shape = Network(models, device), task.batch_size
    wanted = network.device.fast if dtype == "auto" else dtype
    if wanted == "fp32" and not network.device.accelerator:
        return network, shape
    inputs = probes(task)
    shape = shape_for(task, network, inputs[0])

    def answers(precision: str) -> list[Row]:
        return _learned(task, network.in_precision(precision), calibration).predict(inputs, shape)

    network = network.in_precision(guarded(task, wanted, answers))
    if network.device.accelerator:
        warm_up(task, network, inputs, shape)
    network.batches.meter.drain()
    return network, shape


def learned_rows(
    task: Task,
    models: Sequence[torch.nn.Module],
    calibration: Mapping[str, Any],
    *,
    space: EmbeddingSpace | None = None,
    embeddings: bool = False,
    device: str | Device = "cpu",
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
    space : EmbeddingSpace or None
        Where the training objects lie in the embedding.
    embeddings : bool
        Give the embedding of each object, too.
    device, dtype : str
        Where and in which precision the models run.

    Returns
    -------
    Rows
        Gives ``task.columns`` and the object's place; a number that is not finite is None, under MODEL_FAILED.
    """
    return _learned(task, Network(models, device, dtype), calibration, space, embeddings)


def _learned(
    task: Task,
    network: Network,
    calibration: Mapping[str, Any],
    space: EmbeddingSpace | None = None,
    embeddings: bool = False,
) -> Rows:
    return Typed(Finite(Learned(task, network.fitting, calibration, space, embeddings), "MODEL_FAILED"))


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
    return Typed(Finite(Classical(baseline, task.baseline_columns, task.batch_size), "MEASURE_FAILED"))


def load_predictor(
    path: str | Path,
    *,
    device: str | Device = "cpu",
    dtype: str = "fp32",
    threads: int | None = None,
    embeddings: bool = False,
    task: Task | None = None,
) -> TaskPredictor:
    """Load a bundle for inference.

    Parameters
    ----------
    path : str or Path
        Folder of the bundle.
    device : str or Device
        ``"cpu"``, ``"cuda"`` (dealt to this worker), ``"cuda:N"``, ``"mps"`` or ``"auto"``.
    dtype : str
        ``"fp32"``, ``"bf16"``, ``"fp16"``, or ``"auto"`` for what is fast on the device; fp32 is used where the answers
        to simulated objects are other ones.
    threads : int, optional
        Threads of torch in this process; left alone where None.
    embeddings : bool
        Give the embedding of each object, too.
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
        bundle.networks(task),
        bundle.baseline(task),
        calibration=bundle.info.calibration,
        rule=bundle.info.rule,
        space=bundle.space(),
        embeddings=embeddings,
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
    return functools.partial(_kept_or_loaded, str(path), **options)


def preload(path: str | Path, **options: Any) -> None:
    """Load a model that the functions of ``loader`` give from then on, in this process and those forked from it.

    Parameters
    ----------
    path : str or Path
        Folder of the bundle.
    **options
        Of ``load_predictor``.

    Raises
    ------
    BundleError, DeviceError
        As ``load_predictor``.
    """
    _KEPT[_key(path, options)] = load_predictor(path, **options)


def _kept_or_loaded(path: str, **options: Any) -> TaskPredictor:
    return _KEPT.get(_key(path, options)) or load_predictor(path, **options)


def _key(path: str | Path, options: Mapping[str, Any]) -> tuple[Any, ...]:
    return str(path), *sorted(options.items())
