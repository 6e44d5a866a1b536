"""Which model each task of a run uses: resolved once, at the door, and named in every row."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.options import RunConfig
from transforms.predictor import Loader, Predictor

_LOG = logging.getLogger("nightcat")


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
    *,
    registry: str = "",
    remote: bool = False,
    processes: int = 1,
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
    registry : str
        Where a worker on another machine may fetch a model that it lacks; empty for nowhere.
    remote : bool
        Whether the workers are on other machines: only they can tell whether the device is there.
    processes : int
        Worker processes that share this machine's devices.

    Returns
    -------
    tuple of Model
        In the order of the tasks.

    Raises
    ------
    ModelError
        Where a bundle is missing, damaged or of another task, or the device is not there or is too small.
    """
    from finetune import tasks as known
    from finetune.devices import DeviceError, open_device, resolve_device

    try:
        where = device if remote else str(resolve_device(device))
        found = _bundles(tasks, bundles)
        places = dict.fromkeys(tasks, where)
        if not remote and where != "cpu":
            places = placed(list(found.values()), open_device(where), where, device == "auto", processes)
    except DeviceError as error:
        raise ModelError(f"--device: {error}") from error
    models = []
    for name, bundle in found.items():
        digest, record, path = bundle.digest[:16], known.get(name).record, str(bundle.path)
        load = partial(
            load_anywhere, name, digest, path, registry, device=places[name], dtype=dtype, threads=threads,
            embeddings=embeddings,
        )  # fmt: skip
        models.append(Model(name, path, digest, record, places[name], load, tuple(bundle.info.classes)))
    return tuple(models)


def _bundles(tasks: Sequence[str], bundles: Mapping[str, str]) -> dict[str, Any]:
    from finetune.bundle import BundleError, bundled, load_bundle

    found = {}
    for name in tasks:
        try:
            path = Path(bundles.get(name) or bundled(name))
            bundle = load_bundle(path)
        except (BundleError, OSError) as error:
            raise ModelError(f"the model of task {name!r} cannot be used: {error}") from error
        if bundle.info.task != name:
            raise ModelError(f"--bundle {name}={path}: this bundle is of task {bundle.info.task!r}")
        found[name] = bundle
    return found


def placed(bundles: Sequence[Any], device: Any, where: str, choose: bool, processes: int = 1) -> dict[str, str]:
    """Decide, once for all workers, which models an accelerator is given.

    Parameters
    ----------
    bundles : sequence of Bundle
        One for each task, the first come first.
    device : finetune.devices.Device
        Each model is loaded on it and run once, to see what it needs.
    where : str
        Name that the workers are told.
    choose : bool
        Whether the user left the choice to us.
    processes : int
        Worker processes of this machine; they are dealt over its GPUs, which are taken to be alike.

    Returns
    -------
    dict of str to str
        Device by task: ``where``, or the CPU for a model that does not fit beside those before it.

    Raises
    ------
    DeviceError
        Where a model does not fit and the user has named the device.
    """
    from finetune.devices import DeviceError, gpus
    from finetune.placement import FRACTION, fitting_together, measure_need
    from finetune.precision import probes

    free = device.free()
    share = -(-processes // gpus(where))
    tasks = [bundle.task() for bundle in bundles]
    pairs = zip(tasks, bundles, strict=True)
    measured = {task.name: measure_need(task, bundle.networks(task), device, probes(task, 4)) for task, bundle in pairs}
    needs = [need for need in measured.values() if need is not None]
    fitting = fitting_together(needs, free, share, device.context)
    for name, need in measured.items():
        if name in fitting:
            continue
        much = f"{need.total / 1e6:.0f} MB" if need else "more than there is, even for one object"
        said = (
            f"the model of task {name!r} needs {much}, and {device.name} has {free / 1e6:.0f} MB free, of which "
            f"{FRACTION:.0%} are shared by {', '.join(measured)} in {share} worker processes"
        )
        if not choose:
            raise DeviceError(f"{said}: use fewer --workers or --tasks, or --device auto, which takes the CPU for it")
        _LOG.warning("%s: it runs on the CPU", said)
    return {name: where if name in fitting else "cpu" for name in measured}


def load_anywhere(task: str, digest: str, path: str, registry: str, **options: Any) -> Predictor:
    """Load the model that a run was given, on whatever machine this is.

    Parameters
    ----------
    task, digest : str
        The task, and the first 16 digits of the model's digest.
    path : str
        Where the model lies on the machine that drives the run.
    registry : str
        Folder or URL of a registry that may hold it; empty for none.
    **options
        Of ``finetune.predict.load_predictor``.

    Returns
    -------
    Predictor
        Of the folder, or of the model that ships with this machine's package, or of the registry: of the first that
        has the digest.

    Raises
    ------
    ModelError
        Where none of them has it: another model is never taken in its place.
    """
    from finetune.predict import loader

    for place in _places(task, digest, path, registry):
        predictor: Predictor = loader(place, **options)()
        if predictor.digest[:16] == digest:
            return predictor
    where = f"the registry {registry!r}" if registry else "there is no --registry to fetch it from"
    raise ModelError(
        f"the model {digest} of task {task!r} is not on the machine of a worker: {path!r} is not there or is another "
        f"one, the one that ships is another one, and {where}"
    )


def _places(task: str, digest: str, path: str, registry: str) -> Iterator[str]:
    from finetune.bundle import BundleError, bundled
    from finetune.registry import Registry, RegistryError

    if Path(path).is_dir():
        yield path
    with suppress(BundleError):
        if (own := str(bundled(task))) != path:
            yield own
    if registry:
        with suppress(RegistryError):
            yield str(Registry(registry).bundle(task, digest).path)
