"""A model as one file that runs without this package: ``torch.export``, checked against the model itself."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from finetune.bundle import Bundle, check_version, load_bundle
from finetune.network import Network, mean_answer
from finetune.task import Prepared, Task

SUFFIX = ".pt2"
NOTES = "nightcat.json"  #: What travels in the file beside the program.
TOLERANCE = 1e-4  #: Largest difference of an output, as a fraction of its largest value.


class ExportError(ValueError):
    """A model cannot be exported, or what was exported answers differently."""


class _Members(torch.nn.Module):
    """The members of a model as one module."""

    def __init__(self, models: Sequence[torch.nn.Module]) -> None:
        super().__init__()
        self.models = torch.nn.ModuleList(models)

    def forward(self, **inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        return mean_answer(self.models, inputs)


def run_export(bundle: str | Path, output: str | Path, *, task: Task | None = None) -> dict[str, Any]:
    """Write the network of a model as a program of ``torch.export``, and see that it answers as the model does.

    Parameters
    ----------
    bundle : str or Path
        Folder of the model.
    output : str or Path
        File to write, ``*.pt2``; replaced as a whole.
    task : Task, optional
        A task that is not in the registry.

    Returns
    -------
    dict
        ``path``, ``task``, ``digest``, ``batch_size``, ``inputs`` and ``outputs`` (shape and type by name), and
        ``difference``, the largest one between program and model on other objects than it was traced with, as a
        fraction of the output's largest value. All but the path travel in the file, with the calibration. Input is
        what ``Task.prepare`` gives, stacked; output is not calibrated.

    Raises
    ------
    ExportError
        Where torch cannot follow the model, or the answers differ.
    BundleError, OSError
        Where the bundle is at fault, or the file cannot be written.
    """
    path = Path(output)
    if path.suffix != SUFFIX:
        raise ExportError(f"{str(output)!r} does not end in {SUFFIX}")
    checked = load_bundle(bundle)
    task = check_version(task, checked) if task is not None else checked.task()
    network = Network(checked.networks(task), torch.device("cpu"))
    first, other = _batches(task)
    inputs = network.inputs(first)
    network(first, len(first))  # frozen stages that are loaded at their first use must be there before the tracing
    try:
        with torch.no_grad():
            # as they were trained: what ``for_inference`` makes of some is packed for this machine
            program = torch.export.export(_Members(checked.networks(task)).eval(), (), inputs)
    except Exception as error:  # torch raises many kinds where it cannot follow a model
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ExportError(f"torch.export cannot follow the model of task {task.name}: {lines[0]}") from error
    with torch.inference_mode():
        outputs = {name: value.numpy() for name, value in program.module()(**inputs).items()}
    notes = {**_about(task, checked), "inputs": _shapes(inputs), "outputs": _shapes(outputs)}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp{SUFFIX}")
    try:
        torch.export.save(program, temporary, extra_files={NOTES: json.dumps(notes)})
        difference = _difference(temporary, network, other)
        if not difference <= TOLERANCE:
            raise ExportError(f"the exported program of task {task.name} differs from the model by {difference:.2g}")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return {"path": str(path), **notes, "difference": difference}


def _batches(task: Task) -> tuple[list[Prepared], list[Prepared]]:
    """Two batches of simulated objects, measured and prepared as in the survey."""
    from transforms.measure import measure

    prepared: list[Prepared] = []
    for seed in range(20):
        for example in task.simulate(task.batch_size, seed):
            prepared += [task.prepare(record) for record in measure(example.record, {})]
        if len(prepared) >= 2 * task.batch_size:
            return prepared[: task.batch_size], prepared[task.batch_size : 2 * task.batch_size]
    raise ExportError(f"task {task.name} simulates no {2 * task.batch_size} objects to check the program with")


def _difference(path: Path, network: Network, batch: Sequence[Prepared]) -> float:
    program = torch.export.load(path).module()
    with torch.inference_mode():
        found = {name: value.numpy() for name, value in program(**network.inputs(batch)).items()}
    wanted = network(batch, len(batch))
    return max((_apart(found[name], value) for name, value in wanted.items()), key=lambda one: (one != one, one))


def _apart(found: np.ndarray, wanted: np.ndarray) -> float:
    """Largest difference as a fraction of the largest value; NaN where only one of them is NaN."""
    same = np.isnan(found) & np.isnan(wanted)
    scale = float(np.nanmax(np.abs(wanted), initial=1e-12))
    return float(np.where(same, 0.0, np.abs(found - wanted)).max(initial=0.0) / scale)


def _about(task: Task, bundle: Bundle) -> dict[str, Any]:
    return {
        "task": task.name,
        "digest": bundle.digest,
        "batch_size": task.batch_size,
        "classes": list(task.classes),
        "calibration": dict(bundle.info.calibration),
    }


def _shapes(arrays: Any) -> dict[str, list[Any]]:
    return {name: [list(value.shape), str(value.dtype).removeprefix("torch.")] for name, value in arrays.items()}
