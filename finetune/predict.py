"""Bundle to Predictor: what the survey's inference step calls.

Batches have one fixed shape: a short one is padded by repeating its first input. So an answer depends neither on its
batch mates nor on its place. Where the device ran out of memory the shape is halved, and the last bits may change;
float32 columns are rounded to six digits, which hides nearly all of that, but not a number on the edge of a digit.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from finetune.bundle import BundleError, check_version, load_bundle
from finetune.class_sets import KEY, Sets
from finetune.embedding_space import EmbeddingSpace
from finetune.network import DeviceError, Network, resolve_device
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
    space: EmbeddingSpace | None = None,
    embeddings: bool = False,
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
    space : EmbeddingSpace or None
        Where the training objects lie in the embedding.
    embeddings : bool
        Give the embedding of each object, too.
    digest : str
        Of the bundle.
    device, dtype : str
        Where and in which precision the models run.

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
    learned = learned_rows(task, models, calibration, space=space, embeddings=embeddings, device=device, dtype=dtype)
    combined = Combined(task, learned, classical_rows(task, baseline), rule)
    rows: Rows = Typed(Finite(Sets(combined, task, calibration.get(KEY, {})), "MODEL_FAILED"))
    if "survey" in calibration:
        if task.adjust is None:
            raise BundleError(
                f"the model was adapted to a survey, which the task {task.name!r} does not know how to use"
            )
        rows = Adapted(rows, task.adjust, calibration["survey"])
    return TaskPredictor(task, rows, digest)


def learned_rows(
    task: Task,
    models: Sequence[torch.nn.Module],
    calibration: Mapping[str, Any],
    *,
    space: EmbeddingSpace | None = None,
    embeddings: bool = False,
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
    network = Network(models, resolve_device(device), dtype)
    return Typed(Finite(Learned(task, network, calibration, space, embeddings), "MODEL_FAILED"))


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
    path: str | Path,
    *,
    device: str = "cpu",
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
    device : str
        ``"cpu"``, ``"cuda"``, ``"cuda:N"``, ``"mps"`` or ``"auto"``.
    dtype : str
        ``"fp32"`` or ``"bf16"``.
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
