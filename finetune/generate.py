"""Generation of what was not observed: what the command line calls. Nothing here prints or exits."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from finetune import generated_table as table
from finetune import tasks
from finetune.dataset import stream_records
from finetune.generation import (
    FEWEST,
    Judged,
    find_generation,
    load_generator,
    load_model,
    object_numbers,
    summary,
    write_generation,
)
from finetune.generation_options import METHODS, make_wanted
from finetune.inputs import list_files
from finetune.object_sample import sample_with_files
from finetune.pretrain import find_objective
from finetune.pretrained import Pretrained, load_pretrained
from finetune.task import Prepared
from finetune.training_options import OptionsError
from finetune.unlabelled import is_held
from finetune.weights import hushed
from transforms.attempt import Tallies, Unusable, attempt, describe, reject
from transforms.flags import bits
from transforms.records import FileRef, Identity, Reject

TRAIN, HELD = 600, 100  #: Objects at most that the classical answers learn from, and that judge.
Say = Callable[[str], None]


def run_fit(
    backbone: str | Path,
    inputs: Sequence[str | FileRef],
    *,
    seed: int = 0,
    command: str = "",
    reader_options: Mapping[str, Any] = MappingProxyType({}),
    measure_options: Mapping[str, Any] = MappingProxyType({}),
    say: Say = lambda text: None,
) -> dict[str, Any]:
    """Learn what generation needs beside the backbone, and judge it on objects that the backbone was not trained on.

    Parameters
    ----------
    backbone : str or Path
        Folder of ``nightcat pretrain``; ``generation.json`` and ``generation.safetensors`` are put into it.
    inputs : sequence of str or FileRef
        The files that it was pretrained on: those of its objects that it held out judge, the others are what the
        classical answers learn from.
    seed : int
        Of what is held back.
    command : str
        How it was called, for the record.
    reader_options, measure_options : mapping
        Options of the readers and of the classical steps.
    say : callable
        Told what goes on.

    Returns
    -------
    dict
        What ``generation.json`` says.

    Raises
    ------
    PretrainedError, InputError, OptionsError
        Where the backbone, the files or their number are at fault.
    """
    found = load_pretrained(backbone)
    how = find_generation(found.info["modality"])
    train, held = _sides(found, inputs, seed, reader_options, measure_options)
    groups = object_numbers([record for record, _ in held])
    objects = len(set(groups))
    say(f"{len(train)} objects to learn from, {objects} to judge by")
    if objects < FEWEST or len(train) < FEWEST:
        raise OptionsError([
            f"{len(train)} objects of the training side and {objects} that were held out are too few: {FEWEST} of "
            "each are needed, of the files that the backbone was pretrained on"
        ])  # fmt: skip
    knowledge = how.learn(train)
    with hushed():
        model = load_model(found)
    judged: list[Judged] = []
    for number, (group, (record, prepared)) in enumerate(zip(groups, held, strict=True)):
        rng = np.random.default_rng([seed, number])
        judged += how.judge(record, prepared, model, knowledge, rng, group)
    kinds = summary(judged)
    if not kinds:
        raise OptionsError([
            f"something could be held back of fewer than {FEWEST} objects: the others have one band, too few visits, "
            "or too short a range"
        ])  # fmt: skip
    for kind, told in kinds.items():
        text = ", ".join(f"{m} {told[m]['rms']:.4f} (68 % cover {told[m]['coverage_68']})" for m in METHODS)
        say(f"{kind} held back of {told['objects']} objects: rms, {how.unit}: {text}; best: {told['best']}")
    counts = {"train": len(train), "held_out": objects}
    info = {
        "modality": found.info["modality"], "unit": how.unit, "kinds": kinds, "counts": counts, "seed": seed,
        "created_by": command, "package_version": version("nightcat"),
    }  # fmt: skip
    digest = write_generation(found, info, how.arrays(knowledge))
    return {**info, "digest": digest, "path": str(found.path)}


def _sides(
    backbone: Pretrained, inputs: Sequence[str | FileRef], seed: int, reader: Mapping[str, Any],
    measure: Mapping[str, Any],
) -> tuple[list[tuple[Identity, Prepared]], list[tuple[Identity, Prepared]]]:  # fmt: skip
    """Objects of the training side, and held out, as the pretraining dealt them, drawn by chance from all files."""
    objective = find_objective(backbone.info["modality"])
    task = tasks.get(objective.task)
    share = float(backbone.info["options"]["held_out"])
    sides: dict[bool, list[tuple[Identity, Prepared]]] = {True: [], False: []}
    wanted = math.ceil(1.2 * max(TRAIN / max(1 - share, 0.01), HELD / max(share, 0.01)))  # so that both get theirs
    drawn = sample_with_files(
        list_files(inputs), task.record, wanted, seed, most=sys.maxsize, reader_options=reader, measure_options=measure
    )
    for file, found in drawn:
        for record, prepared in _prepared([found], task):
            if isinstance(record, Reject) or prepared is None or not objective.usable(prepared):
                continue
            side = sides[is_held(objective, file, record, share)]
            if len(side) < (HELD if side is sides[True] else TRAIN):
                side.append((record, prepared))
        if len(sides[False]) >= TRAIN and len(sides[True]) >= HELD:
            break
    return sides[False], sides[True]


def _prepared(records: Iterable[Identity | Reject], task: Any) -> Iterator[tuple[Identity | Reject, Prepared | None]]:
    """Records with the models' input; what a model has made a part of is refused: it is no observation."""
    tallies = Tallies()
    for record in records:
        if isinstance(record, Reject):
            yield record, None
            continue
        if record.flags & bits("GENERATED"):
            yield reject("prepare", Unusable("a part of it was generated, and not observed"), **describe(record)), None
            continue
        for prepared in attempt("prepare", task.prepare, tallies, record, where=describe(record)):
            yield (prepared, None) if isinstance(prepared, Reject) else (record, prepared)


def run_generate(
    backbone: str | Path,
    inputs: Sequence[str | FileRef],
    output: str | Path,
    *,
    band: str = "",
    cadence: str = "",
    wavelengths: str = "",
    method: str = "best",
    observed: bool = False,
    command: str = "",
    reader_options: Mapping[str, Any] = MappingProxyType({}),
    measure_options: Mapping[str, Any] = MappingProxyType({}),
    say: Say = lambda text: None,
) -> dict[str, Any]:
    """Generate what was not observed, and write it to a file of its own.

    Parameters
    ----------
    backbone : str or Path
        Folder of a backbone for which ``run_fit`` was called.
    inputs : sequence of str or FileRef
        Files with the objects.
    output : str or Path
        A file (``.ecsv``; ``.parquet`` of light curves), or a folder for one ECSV file for each object. It must not
        be there.
    band, cadence, wavelengths, method, observed
        As for ``make_wanted``.
    command : str
        How it was called, for the record.
    reader_options, measure_options : mapping
        Options of the readers and of the classical steps.
    say : callable
        Told what goes on.

    Returns
    -------
    dict
        ``path``, ``objects``, ``rows``, ``refused`` (object and reason of each), ``methods`` (objects by method),
        ``model_digest``, ``coverage_68`` of what answered, by kind of hole.

    Raises
    ------
    OptionsError, PretrainedError, InputError
        Where the options, the backbone, the files or the output are at fault.
    """
    with hushed():
        generator = load_generator(backbone)
    modality = generator.backbone.info["modality"]
    wanted = make_wanted(
        modality, band=band, cadence=cadence, wavelengths=wavelengths, method=method, observed=observed
    )
    target = Path(output)
    table.check_output(target, modality)
    task, how = tasks.get(find_objective(modality).task), find_generation(modality)
    parts: list[table.Part] = []
    refused: list[dict[str, str]] = []
    for file in list_files(inputs):
        for record, prepared in _prepared(stream_records(file, task.record, reader_options, measure_options), task):
            try:
                if isinstance(record, Reject) or prepared is None:
                    raise Unusable(getattr(record, "reason", "could not be prepared"))
                parts.append(how.generate(generator, record, prepared, wanted))
            except Unusable as error:
                refused.append({"source": record.source, "object_id": record.object_id, "reason": str(error)})
    for one in refused[:5]:
        say(f"left out {one['object_id'] or one['source']}: {one['reason']}")
    if not parts:
        first = f"; the first was left out: {refused[0]['reason']}" if refused else ""
        raise OptionsError([f"nothing could be generated of {', '.join(str(one) for one in inputs)}{first}"])
    meta = {
        "generated_by": f"nightcat {version('nightcat')}", "command": command, "model_digest": generator.digest,
        "backbone_digest": generator.backbone.digest,
        "warning": "rows with generated = True are the answer of a model, not an observation",
    }  # fmt: skip
    table.write_parts(target, parts, meta)
    kinds = sorted({(part.kind, part.method) for part in parts})
    return {
        "path": str(target), "objects": len(parts), "rows": sum(int(p.columns["generated"].sum()) for p in parts),
        "refused": refused, "model_digest": generator.digest[: table.DIGITS],
        "methods": {f"{k}: {m}": sum((p.kind, p.method) == (k, m) for p in parts) for k, m in kinds},
        "coverage_68": {f"{k}: {m}": generator.info["kinds"][k][m]["coverage_68"] for k, m in kinds},
    }  # fmt: skip
