"""Which model each task of a run uses: resolved once, at the door, and named in every row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.options import RunConfig
from transforms.predictor import Loader


@dataclass(frozen=True, slots=True)
class Model:
    """The model of one task.

    Parameters
    ----------
    task : str
        The task.
    path : str
        Folder of the bundle.
    digest : str
        First 16 digits of the bundle's digest.
    record : type
        Record class that the task takes.
    device : str
        Where it runs.
    loader : callable
        Makes the Predictor; picklable.
    classes : tuple of str
        That a classifier knows; they may be more than its task has.
    """

    task: str
    path: str
    digest: str
    record: type
    device: str
    loader: Loader
    classes: tuple[str, ...] = ()


class ModelError(ValueError):
    """A model cannot be used; the message says which and why."""


def in_production(config: RunConfig) -> RunConfig:
    """Take the models in production, for tasks of which the user named none.

    Parameters
    ----------
    config : RunConfig
        Its ``registry`` may be empty.

    Returns
    -------
    RunConfig
        With their folders among ``bundles``; a task without a model in production keeps the one that ships.

    Raises
    ------
    ModelError
        Where the registry or a model in it cannot be read.
    """
    if not config.registry:
        return config
    from finetune.bundle import BundleError
    from finetune.registry import Registry, RegistryError

    found = dict(config.bundles)
    try:
        registry = Registry(config.registry)
        for task in config.tasks:
            if task not in found and registry.state(task).production:
                found[task] = str(registry.bundle(task).path)
    except (BundleError, RegistryError, OSError) as error:
        raise ModelError(f"--registry {config.registry}: {error}") from error
    return replace(config, bundles=found)


def resolve_models(
    tasks: Sequence[str],
    bundles: Mapping[str, str],
    device: str,
    dtype: str,
    threads: int,
    embeddings: bool = False,
) -> tuple[Model, ...]:
    """Find and check the bundle of every task.

    Parameters
    ----------
    tasks : sequence of str
        Names.
    bundles : mapping of str to str
        Folders that the user named.
    device, dtype : str
        Where and in which precision it runs.
    threads : int
        Torch threads.
    embeddings : bool
        Whether the embedding of each object is wanted.

    Returns
    -------
    tuple of Model
        In the order of the tasks.

    Raises
    ------
    ModelError
        Where a bundle is missing, damaged or of another task, or the device is not there.
    """
    from finetune import tasks as registry
    from finetune.bundle import BundleError, bundled, load_bundle
    from finetune.predict import DeviceError, loader, resolve_device

    try:
        where = str(resolve_device(device))
    except DeviceError as error:
        raise ModelError(f"--device: {error}") from error
    models = []
    for name in tasks:
        try:
            path = Path(bundles.get(name) or bundled(name))
            bundle = load_bundle(path)
        except (BundleError, OSError) as error:
            raise ModelError(f"the model of task {name!r} cannot be used: {error}") from error
        if bundle.info.task != name:
            raise ModelError(f"--bundle {name}={path}: this bundle is of task {bundle.info.task!r}")
        load = loader(path, device=where, dtype=dtype, threads=threads, embeddings=embeddings)
        record = registry.get(name).record
        models.append(Model(name, str(path), bundle.digest[:16], record, where, load, tuple(bundle.info.classes)))
    return tuple(models)
