"""What the command lines call about models in production. Nothing here prints or exits."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from finetune import tasks
from finetune.bundle import Bundle, BundleError, bundled, load_bundle
from finetune.commands import Say, find_bundle, quiet, read_dataset, unseen
from finetune.dataset import RADIUS
from finetune.evaluate import DRAWS
from finetune.gate import Limits, judge_candidate
from finetune.jsonfile import json_bytes
from finetune.predict import load_predictor
from finetune.registry import DIGITS, Registry, RegistryError
from finetune.teach import run_teach
from transforms.records import FileRef

TEST = "test.json"


def list_models(registry: str) -> list[dict[str, Any]]:
    """What answers for each task, and what could.

    Parameters
    ----------
    registry : str
        Folder or URL; empty for the models that ship alone.

    Returns
    -------
    list of dict
        For each task ``task``, ``shipped``, ``production``, ``candidate``, ``previous`` and ``events``.
    """
    held = Registry(registry) if registry else None
    known = sorted({*tasks.names(), *(held.tasks() if held else ())})
    return [_model(name, held) for name in known]


def teach_production(
    registry: str,
    bundle: Bundle,
    name: str,
    vectors: np.ndarray,
    examples: Sequence[str],
    *,
    command: str = "",
    say: Say = quiet,
) -> dict[str, Any]:
    """Teach the model in production a class, and put what comes of it in its place.

    No gate is asked: weights, calibration and rule are the same, and so is every answer but the taught class.

    Parameters
    ----------
    registry : str
        Folder or URL.
    bundle : Bundle
        The model that gave the embeddings; where none is in production yet, it goes there.
    name : str
        Of the class.
    vectors : ndarray, shape (n, width)
        Embeddings of the examples.
    examples : sequence of str
        Their identifiers.
    command : str
        How it was called, for the record.
    say : callable
        Told what goes on.

    Returns
    -------
    dict
        As ``finetune.teach.run_teach`` gives it.

    Raises
    ------
    RegistryError
        Where another model is in production than the one that gave the embeddings.
    OptionsError, BundleError
        As ``run_teach``.
    """
    held, task = Registry(registry), bundle.info.task
    production = held.state(task).production
    if production not in ("", bundle.digest[:DIGITS]):
        raise RegistryError(
            f"{registry}: {production} is in production, but the embeddings are of {bundle.digest[:DIGITS]}: "
            "run the night again with the registry, or name --output"
        )
    with tempfile.TemporaryDirectory(prefix="nightcat-teach-") as folder:
        found = run_teach(bundle, name, vectors, examples, Path(folder) / "taught", command=command, say=quiet)
        taught = load_bundle(Path(folder) / "taught")
        held.add(taught)
        held.promote(task, taught.digest[:DIGITS], {"taught": name, "examples": list(examples), "refused": []})
    found["model"]["path"] = str(held.bundle(task).path)
    say(f"{task}: {found['model']['digest']} is in production")
    return found


def _model(task: str, registry: Registry | None) -> dict[str, Any]:
    try:
        shipped = load_bundle(bundled(task)).digest[:DIGITS]
    except BundleError:
        shipped = ""
    found: dict[str, Any] = {"task": task, "shipped": shipped}
    if registry is not None:
        state = registry.state(task)
        found |= {
            "production": state.production,
            "candidate": state.candidate,
            "previous": list(state.previous),
            "events": [dict(event) for event in state.events],
        }
    return found


def run_promote(
    bundle: str | Path,
    registry: str,
    *,
    labels: str = "",
    inputs: Sequence[str | FileRef] = (),
    floors: Mapping[str, float] = MappingProxyType({}),
    radius: float = RADIUS,
    label_columns: Mapping[str, str] = MappingProxyType({}),
    reader_options: Mapping[str, Any] = MappingProxyType({}),
    measure_options: Mapping[str, Any] = MappingProxyType({}),
    limits: Limits | None = None,
    draws: int = DRAWS,
    faults: Sequence[str] = (),
    say: Say = quiet,
) -> dict[str, Any]:
    """Put a model into production, if it holds against the one that is there on the frozen test objects.

    Parameters
    ----------
    bundle : str or Path
        Folder of the candidate, the name of a task for the model that ships, or the digest of a model of the registry.
    registry : str
        Folder or URL.
    labels : str
        Label file of the test objects; those that the registry remembers where empty.
    inputs : sequence of str or FileRef
        Files with the test objects.
    floors : mapping of str to float
        Lowest recall by class.
    radius : float
        Of a match by position, arcsec.
    label_columns : mapping of str to str
        Our name of a label column to the one in the file, where they differ.
    reader_options, measure_options : mapping
        Options of the readers and of the classical steps.
    limits : Limits, optional
        What a candidate has to hold, in place of the defaults; its floors are overruled by ``floors``.
    draws : int
        Of the bootstrap.
    faults : sequence of str
        Reasons to refuse it that were found elsewhere.
    say : callable
        Told what goes on.

    Returns
    -------
    dict
        The comparison, with ``promoted`` and ``task``.

    Raises
    ------
    RegistryError, BundleError, LabelError, InputError
        Where the registry, the model, the labels or the files are at fault; production stays as it is.
    """
    held = Registry(registry)
    candidate = load_bundle(find_candidate(bundle, held))
    task = candidate.task()
    known = _known_test(held, task.name)
    if not labels:
        if known is None:
            raise RegistryError(
                f"{registry}: no test objects of task {task.name!r} are known yet; give --labels and --input"
            )
        labels, inputs, radius, label_columns = (known[name] for name in ("labels", "inputs", "radius", "columns"))
    dataset = read_dataset(task, labels, inputs, radius, label_columns, reader_options, measure_options, say)
    if known is not None and known["fingerprint"] != dataset.fingerprint:
        raise RegistryError(
            f"{registry}: the test objects of task {task.name!r} are not those of the earlier decisions (fingerprint "
            f"{dataset.fingerprint[:16]}, before {known['fingerprint'][:16]}); a frozen test does not change. To begin "
            f"anew, remove {held.store.path(f'{task.name}/{TEST}')}"
        )
    state = held.state(task.name)
    production = held.bundle(task.name) if state.production else _shipped(task.name, candidate.digest)
    fresh = unseen(dataset.examples, [candidate] if production is None else [candidate, production])
    if len(fresh) < len(dataset.examples):
        say(
            f"{len(dataset.examples) - len(fresh)} objects are left out: one of the models was trained or tuned on them"
        )
    rival = load_predictor(production.path) if production is not None else None
    gate = judge_candidate(
        task, load_predictor(candidate.path), rival, fresh, _limits(limits, floors), draws=draws
    )  # fmt: skip
    gate["refused"] = [*gate["refused"], *faults]
    held.add(candidate)
    if known is None:
        content = {
            "labels": labels,
            "inputs": [getattr(one, "url", one) for one in inputs],
            "radius": radius,
            "columns": dict(label_columns),
            "fingerprint": dataset.fingerprint,
        }
        held.store.write(f"{task.name}/{TEST}", json_bytes(content))
    if gate["refused"]:
        held.refuse(task.name, candidate.digest, gate)
    else:
        held.promote(task.name, candidate.digest, gate)
    return {"task": task.name, "promoted": not gate["refused"], "digest": candidate.digest[:DIGITS], **gate}


def run_rollback(task: str, registry: str) -> dict[str, Any]:
    """Put the model that was in production before back.

    Parameters
    ----------
    task : str
        Name of the task.
    registry : str
        Folder or URL.

    Returns
    -------
    dict
        As one of ``list_models``.

    Raises
    ------
    RegistryError
        Where there is none to go back to.
    """
    held = Registry(registry)
    if task not in held.tasks():
        raise RegistryError(f"{registry}: no models of task {task!r}; it holds {', '.join(held.tasks()) or 'none'}")
    held.rollback(task)
    return _model(task, held)


def find_candidate(bundle: str | Path, registry: Registry) -> Path:
    """Folder of a model that may stand in the registry already.

    Parameters
    ----------
    bundle : str or Path
        A folder, the name of a task, or the first digits of a digest in the registry.
    registry : Registry
        Where a digest is looked up.

    Returns
    -------
    Path
        For ``load_bundle``.

    Raises
    ------
    RegistryError
        For a digest that several models share.
    """
    path = find_bundle(bundle)
    if path.exists():
        return path
    hits = [
        (task, digest)
        for task in registry.tasks()
        for digest in registry.digests(task)
        if digest.startswith(str(bundle)) and len(str(bundle)) >= 4
    ]
    if len(hits) > 1:
        raise RegistryError(f"{bundle!r} is the beginning of several digests: {', '.join(d for _, d in hits)}")
    return registry.bundle(*hits[0]).path if hits else path


def _known_test(registry: Registry, task: str) -> dict[str, Any] | None:
    try:
        known: dict[str, Any] = json.loads(registry.store.read(f"{task}/{TEST}"))
    except FileNotFoundError:
        return None
    return known


def _shipped(task: str, but: str) -> Any:
    """The model that ships answers until another is promoted; none where it is the candidate itself."""
    try:
        found = load_bundle(bundled(task))
    except BundleError:
        return None
    return None if found.digest == but else found


def _limits(limits: Limits | None, floors: Mapping[str, float]) -> Limits:
    base = limits or Limits()
    return replace(base, floors={**base.floors, **floors})
