"""Masked self-supervised pretraining on unlabelled files: what the command line calls. Nothing here prints or exits."""

from __future__ import annotations

import importlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any

from safetensors.torch import load_file
from transformers import set_seed

from finetune import tasks
from finetune.backbone_source import PROCESSOR
from finetune.bundle_files import new_folder, sha256
from finetune.inputs import list_files
from finetune.jsonfile import json_bytes, write_json
from finetune.masked import Objective
from finetune.pretrain_trainer import MaskedTrainer
from finetune.pretrained import FORMAT, INFO, MODULES, Pretrained, PretrainedError, load_pretrained
from finetune.task import Task
from finetune.training_options import OptionsError, TrainingOptions, check_options
from finetune.unlabelled import SIDES, Unlabelled, prepare_files
from finetune.watched_trainer import TrainingError
from finetune.weights import hushed, save_weights
from transforms.records import FileRef
from transforms.store import Store

PLAN = "plan.json"
#: Options of a training that mean nothing where there is no label, no task and no bundle.
FOREIGN = (
    "method", "loss", "label_smoothing", "class_weights", "balance", "members", "start", "lr_decay", "storage",
)  # fmt: skip
HELD_OUT = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class PretrainOptions:
    """All that a pretraining depends on, beside its files.

    Parameters
    ----------
    training : TrainingOptions
        Checked.
    build : mapping
        Options of ``Objective.build``.
    mask : float
        Share that is hidden.
    held_out : float
        Share of the files that is never trained on.
    hide : str
        What is hidden: a name of ``Objective.holes``.
    start : str
        Backbone whose weights, those of its decoder too, the training starts from; empty for random ones.
    """

    training: TrainingOptions
    build: Mapping[str, Any]
    mask: float
    held_out: float
    hide: str
    start: str = ""


def find_objective(modality: str) -> Objective:
    """Import the objective of a modality.

    Parameters
    ----------
    modality : str
        One of ``MODULES``.

    Returns
    -------
    Objective
        Of its module.

    Raises
    ------
    OptionsError
        For an unknown one.
    """
    if modality not in MODULES:
        raise OptionsError([f"modality {modality!r} is not one of {', '.join(MODULES)}"])
    found: Objective = importlib.import_module(MODULES[modality]).OBJECTIVE
    return found


def make_pretrain_options(objective: Objective, given: Mapping[str, Any]) -> PretrainOptions:
    """Merge what the user gave over the defaults, and check everything.

    Parameters
    ----------
    objective : Objective
        Gives the defaults.
    given : mapping
        Training options, options of ``build``, ``mask``, ``held_out``, ``hide`` and ``start``.

    Returns
    -------
    PretrainOptions
        Checked.

    Raises
    ------
    OptionsError
        With every fault.
    """
    known = {f.name for f in fields(TrainingOptions)} - set(FOREIGN)
    allowed = known | set(objective.build_defaults) | {"mask", "held_out", "hide", "start"}
    faults = [
        f"unknown option {name!r} of a pretraining on {objective.modality}; allowed are {', '.join(sorted(allowed))}"
        for name in sorted(set(given) - allowed)
    ]
    values = {**objective.training, **{k: v for k, v in given.items() if k in known and v is not None}}
    if isinstance(values.get("freeze"), str | list):
        values["freeze"] = (values["freeze"],) if isinstance(values["freeze"], str) else tuple(values["freeze"])
    training = TrainingOptions(**values)
    faults += check_options(training)
    if training.evaluations == 0:
        faults.append("evaluations 0: a pretraining needs at least one, which is also when its state is kept")
    hide, start = given.get("hide", next(iter(objective.holes))), str(given.get("start") or "")
    if hide not in objective.holes:
        faults.append(f"hide {hide!r} is not one of {', '.join(objective.holes)}")
    given, more = _as_at_the_start(objective, given, start)
    faults += more
    build = {name: given.get(name, default) for name, default in objective.build_defaults.items()}
    for name, default in objective.build_defaults.items():
        value, whole = build[name], isinstance(default, int)
        fits = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
        if not fits or not (1 <= value <= 65536 if whole else 0 <= value < 1):
            faults.append(f"{name} {value!r} is not a {'whole number from 1' if whole else 'number from 0 to below 1'}")
    shares = {"mask": given.get("mask", objective.mask), "held_out": given.get("held_out", HELD_OUT)}
    for name, value in shares.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
            faults.append(f"{name} {value!r} is not a number between 0 and 1")
    if not faults:
        width, heads = build["hidden_size"], build["num_attention_heads"]
        if width % heads:
            faults.append(f"hidden_size {width} is not a multiple of num_attention_heads {heads}")
    if faults:
        raise OptionsError(faults)
    return PretrainOptions(training=training, build=build, hide=str(hide), start=start, **shares)


def _as_at_the_start(objective: Objective, given: Mapping[str, Any], start: str) -> tuple[Mapping[str, Any], list[str]]:
    """Options with the sizes of the backbone that is started from, and what is wrong with it."""
    if not start:
        return given, []
    try:
        found = load_pretrained(start)
    except PretrainedError as error:
        return given, [f"start: {error}"]
    if found.info["modality"] != objective.modality:
        return given, [f"start {start} is pretrained on {found.info['modality']}, not on {objective.modality}"]
    told = found.info["options"]
    own = {name: told[name] for name in objective.build_defaults if isinstance(objective.build_defaults[name], int)}
    faults = [
        f"{name} {given[name]!r} is not that of {start}, {value}"
        for name, value in own.items()
        if given.get(name, value) != value
    ]
    share = given.get("held_out", told["held_out"])
    if isinstance(share, int | float) and share > told["held_out"]:
        faults.append(
            f"held_out {share!r} is more than {told['held_out']} of {start}: it was trained on what would be held out"
        )
    return {**given, **own, "held_out": share}, faults


def run_pretrain(
    modality: str,
    inputs: Sequence[str | FileRef],
    output: str | Path,
    *,
    options: Mapping[str, Any] = MappingProxyType({}),
    command: str = "",
    reader_options: Mapping[str, Any] = MappingProxyType({}),
    measure_options: Mapping[str, Any] = MappingProxyType({}),
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Pretrain a backbone on unlabelled files.

    Parameters
    ----------
    modality : str
        ``"spectra"``, ``"light_curves"`` or ``"stamps"``.
    inputs : sequence of str or FileRef
        Files, folders, globs.
    output : str or Path
        Folder of the backbone.
    options : mapping
        Of ``make_pretrain_options``; with ``resume``, an earlier run into the same ``checkpoints`` is gone on with.
        Where ``checkpoints`` is empty, a folder beside the output is used, and removed in the end.
    command : str
        How it was called, for the record.
    reader_options, measure_options : mapping
        Options of the readers and of the classical steps.
    say : callable
        Told what goes on, a sentence at a time.

    Returns
    -------
    dict
        What ``nightcat_pretrained.json`` says.

    Raises
    ------
    OptionsError, InputError, PretrainedError, TrainingError
        Where the options, the files, the output or the training are at fault.
    """
    objective = find_objective(modality)
    task = tasks.get(objective.task)
    target = Path(output)
    work = Path(str(options.get("checkpoints") or "") or target.parent / f".{target.name}.work")
    chosen = make_pretrain_options(objective, {**options, "checkpoints": str(work)})
    _check_free(target)
    files = list_files(inputs)
    if not files:
        raise PretrainedError(f"no file to read in {', '.join(str(one) for one in inputs) or 'the input'}")
    states = _open_work(work, objective, chosen, files)
    with Store(str(work)).held("lock", str(work)):
        data = prepare_files(
            files, task, objective, work / "prepared", share=chosen.held_out, seed=chosen.training.seed,
            reader_options=reader_options, measure_options=measure_options, say=say,
        )  # fmt: skip
        counts = _counted(data, len(files), say)
        _check_enough(data, objective, chosen.held_out)
        model, learnt = _train(replace(objective, hide=objective.holes[chosen.hide]), task, data, chosen, states, say)
        info = {
            "modality": modality,
            "task": task.name,
            "task_version": task.version,
            "package_version": version("nightcat"),
            "created_by": command,
            "seed": chosen.training.seed,
            "shared": list(objective.shared),
            "sizes": {name: chosen.build[name] for name in objective.sizes},
            "options": _told(chosen),
            "data": {"fingerprint": data.fingerprint(), "counts": counts},
            **learnt,
        }
        found = _write(target, model, data, info, objective.processor)
    say(f"saved {found.path}, digest {found.digest[:16]}")
    if not options.get("checkpoints"):
        shutil.rmtree(work)
    return {**found.info, "digest": found.digest, "path": str(found.path)}


def _train(
    objective: Objective,
    task: Task,
    data: Unlabelled,
    chosen: PretrainOptions,
    states: Path,
    say: Callable[[str], None],
) -> tuple[Any, dict[str, Any]]:
    """The trained model, and what it came to."""
    set_seed(chosen.training.seed)
    model = objective.build(chosen.mask, **chosen.build)
    if chosen.start:
        model.load_state_dict(load_file(load_pretrained(chosen.start).path / "model.safetensors"))
    if chosen.training.tensorboard:
        os.environ["TENSORBOARD_LOGGING_DIR"] = chosen.training.tensorboard
    trainer = MaskedTrainer(task, objective, model, data, chosen.training, chosen.mask, str(states), say)
    with hushed():
        history = trainer.fit()
    figures = trainer.figures()
    say("masked error on held-out records: " + ", ".join(f"{name} {value:.4f}" for name, value in figures.items()))
    count = sum(parameter.numel() for parameter in model.parameters())
    return model, {"history": history, "masked_error": figures, "n_parameters": count}


def _write(
    target: Path, model: Any, data: Unlabelled, info: Mapping[str, Any], processor: Mapping[str, Any]
) -> Pretrained:
    with new_folder(target) as folder:
        save_weights(model.cpu(), folder, "fp32")
        if processor:
            write_json(folder / PROCESSOR, processor)
        write_json(folder / "files.json", {"files": data.files, "refused": data.refused})
        digests = {path.name: sha256(path) for path in sorted(folder.iterdir())}
        write_json(folder / INFO, {"format": FORMAT, **info, "files": digests})
    return load_pretrained(target)


def _told(chosen: PretrainOptions) -> dict[str, Any]:
    """Options as the record has them: without folders, and without what has no meaning here."""
    silent = {*FOREIGN, "resume", "checkpoints", "tensorboard"}
    training = {name: value for name, value in asdict(chosen.training).items() if name not in silent}
    start = {"start": load_pretrained(chosen.start).digest} if chosen.start else {}
    shares = {"mask": chosen.mask, "held_out": chosen.held_out, "hide": chosen.hide}
    return {**training, **chosen.build, **shares, **start}


def _check_free(target: Path) -> None:
    if target.exists() and not (target / INFO).is_file() and (not target.is_dir() or any(target.iterdir())):
        raise PretrainedError(f"{target} exists and is no pretrained backbone; it is left as it is")


def _open_work(work: Path, objective: Objective, chosen: PretrainOptions, files: Sequence[FileRef]) -> Path:
    """Folder of the states, once it is sure that what lies there is of the same pretraining."""
    ignored = ("resume", "checkpoints", "tensorboard", "device", "evaluations", "patience")
    options = {k: v for k, v in asdict(chosen.training).items() if k not in ignored}
    data = {
        "modality": objective.modality, "held_out": chosen.held_out, "package_version": version("nightcat"),
        "digests": sorted(file.digest for file in files), "urls": sorted(file.url for file in files),
        "seed": chosen.training.seed,
    }  # fmt: skip
    model = {**options, **chosen.build, "mask": chosen.mask, "hide": chosen.hide, "start": chosen.start}
    plan = json.loads(json_bytes({"data": data, "model": model}))
    states = work / "states"
    if (work / PLAN).is_file():
        earlier = json.loads((work / PLAN).read_text(encoding="utf-8"))
        differ = [name for name, value in plan["data"].items() if earlier["data"].get(name) != value]
        if differ:
            raise PretrainedError(
                f"{work} holds inputs that were prepared for another pretraining ({', '.join(differ)} differ); "
                "name another folder, or remove it"
            )
        started = any(states.glob("checkpoint-*"))
        changed = [name for name, value in plan["model"].items() if earlier["model"].get(name) != value]
        if started and not chosen.training.resume:
            raise PretrainedError(f"{work} holds an unfinished pretraining: --resume goes on with it, or remove it")
        if started and changed:
            raise PretrainedError(f"{work} holds a pretraining with other options: {', '.join(changed)} differ")
    elif work.exists() and any(work.iterdir()):
        raise PretrainedError(f"{work} holds something else; it is left as it is")
    Store(str(work)).write(PLAN, json_bytes(plan))
    return states


def _counted(data: Unlabelled, files: int, say: Callable[[str], None]) -> dict[str, int]:
    counts = {
        "files": files,
        "files_without_record": sum(not one["train"] + one["held"] + one["refused"] for one in data.files.values()),
        "train": data.count("train"),
        "held_out": data.count("held"),
        "refused": len(data.refused),
    }
    say(", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items()))
    for one in data.refused[:5]:
        say(f"refused {one['source']}: {one['error']}: {one['reason']}")
    return counts


def _check_enough(data: Unlabelled, objective: Objective, share: float) -> None:
    train, held = (data.count(side) for side in SIDES)
    if train and held:
        return
    first = f"; the first was refused: {data.refused[0]['reason']}" if data.refused else ""
    if train or held:
        what = "files" if objective.whole_files else "objects"
        raise TrainingError(
            f"{train + held} records of {objective.modality} are too few to hold {share:.0%} of their {what} out, and "
            f"to train on the others: {train} would be trained on and {held} held out{first}"
        )
    raise TrainingError(f"{len(data.files)} files hold no record for a pretraining on {objective.modality}{first}")
