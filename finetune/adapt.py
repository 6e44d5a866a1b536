"""Adapt a model to an instrument, without labels, from files: what the command line calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from finetune import tasks
from finetune.bundle import check_version, load_bundle
from finetune.bundle_writing import derive_bundle
from finetune.commands import Say, find_bundle, quiet
from finetune.dataset import read_records
from finetune.inputs import list_files
from finetune.task import Task
from finetune.training_options import OptionsError
from transforms.records import FileRef, Reject


def run_adapt(
    bundle: str | Path,
    inputs: Sequence[str | FileRef],
    output: str | Path,
    *,
    command: str = "",
    reader_options: Mapping[str, Any] = MappingProxyType({}),
    measure_options: Mapping[str, Any] = MappingProxyType({}),
    task: Task | None = None,
    say: Say = quiet,
) -> dict[str, Any]:
    """Adapt a model to a survey by what all of its objects have in common; no label is used.

    Parameters
    ----------
    bundle : str or Path
        Folder of the model, or the name of a task for the one that ships.
    inputs : sequence of str or FileRef
        Files of one instrument; some tens of objects.
    output : str or Path
        Folder of the adapted model.
    command : str
        How it was called, for the record.
    reader_options, measure_options : mapping
        Options of the readers and of the classical steps.
    task : Task, optional
        A task that is not in the registry.
    say : callable
        Told what goes on.

    Returns
    -------
    dict
        ``model`` (task, path, digest), ``objects``, ``rejects`` and what was learnt under ``survey``.

    Raises
    ------
    OptionsError
        Where models of the task do not adapt, or the objects are too few or of several instruments.
    BundleError, InputError
        Where the model, the output or the files are at fault.
    """
    checked = load_bundle(find_bundle(bundle))
    task = check_version(task, checked) if task is not None else checked.task()
    if task.adapt is None:
        able = ", ".join(name for name in tasks.names() if tasks.get(name).adapt) or "none"
        raise OptionsError([f"models of {task.name} do not adapt to a survey without labels; those that do: {able}"])
    records, refused = [], 0
    for _, found in read_records(list_files(inputs), task.record, reader_options, measure_options):
        for record in found:
            if isinstance(record, Reject):
                refused += 1
                say(f"rejected {record.source}: {record.error}: {record.reason}")
            else:
                records.append(record)
    say(f"{len(records)} objects, {refused} refused")
    try:
        survey = task.adapt([task.prepare(record) for record in records], checked.baseline(task))
    except ValueError as error:
        raise OptionsError([str(error)]) from error
    adapted = derive_bundle(
        checked, output, created_by=f"{checked.info.created_by}; {command}",
        calibration={**checked.info.calibration, "survey": survey},
    )  # fmt: skip
    say(f"saved {adapted.path}, digest {adapted.digest[:16]}")
    model = {"task": task.name, "path": str(adapted.path), "digest": adapted.digest[:16]}
    return {"model": model, "objects": len(records), "rejects": refused, "survey": survey}
