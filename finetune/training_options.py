"""All that a training depends on, checked at the door, every fault reported at once."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from finetune.losses import FORMS as LOSSES
from finetune.losses import parse_loss
from finetune.methods import parse_method

if TYPE_CHECKING:
    from finetune.task import Task

#: What ``Task.options`` may hold.
SECTIONS = ("build", "training", "restore", "initialise", "head", "backbone")
OPTIMIZERS = ("adamw", "sgd")
SCHEDULES = ("cosine", "linear", "constant_with_warmup")


class OptionsError(ValueError):
    """Everything that is wrong with the options, one sentence each.

    Parameters
    ----------
    faults : sequence of str
        Sentences that name the option, its value and what is allowed.
    """

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = tuple(faults)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingOptions:
    """Options of one training.

    Parameters
    ----------
    steps : int
        Optimiser steps; 0 leaves the model as ``build`` made it.
    batch_size : int
        Examples of one forward pass.
    accumulation : int
        Forward passes of one optimiser step.
    method : str
        How much of the model is trained: ``"full"``, ``"head"``, ``"layers:K"`` (the last K blocks and the head),
        ``"lora"``, ``"lora:RANK"`` or ``"ia3"`` (adapters, by ``peft``).
    loss : str
        Of a classifier: ``"cross_entropy"``, ``"focal"`` or ``"focal:GAMMA"``; empty for the task's own.
    label_smoothing : float
        Share of a uniform distribution in the prediction; for ``loss``.
    class_weights : str
        ``"balanced"``: each class counts by one over its number of objects; empty for none. For ``loss``.
    optimizer : str
        ``"adamw"`` or ``"sgd"``.
    momentum : float
        Of SGD, with Nesterov's correction where it is not 0.
    dropout : float or None
        Share that every dropout of the model sets to zero; None leaves them as ``build`` made them.
    learning_rate : float
        Peak rate of the optimiser.
    lr_decay : float
        Factor of the rate from one block of the model to the one below it; 1 for the same rate everywhere.
    lr_factors : mapping of str to float
        Regular expression on parameter names to a factor of the rate; the first that matches counts. So upper layers,
        lower layers and head each have their own.
    freeze : tuple of str
        Regular expressions on parameter names that are not trained; statistics of batch norms among them stand still.
    weight_decay : float
        For parameters of two or more axes.
    warmup : float
        Fraction of the steps over which the rate rises.
    schedule : str
        ``"cosine"``, ``"linear"`` or ``"constant_with_warmup"``, by steps.
    clip : float
        Largest norm of the gradient; 0 for no limit.
    ema : float
        Decay of the running mean of the weights that is judged and kept; 0 for none.
    evaluations : int
        How often the loss on the validation objects is taken; the best state is kept. 0 keeps the last.
    patience : int
        Evaluations without a better loss before the training stops; 0 for never.
    balance : tuple of str
        ``"origin"`` or names of labels: each combination of their values is drawn equally often.
    members : int
        Models trained from different seeds, whose outputs are averaged.
    seed : int
        Of all that is random.
    device : str
        ``"cpu"``, ``"cuda"``, ``"mps"`` or ``"auto"``.
    bf16 : bool
        Matrix products in bfloat16.
    storage : str
        ``"fp16"`` or ``"fp32"``: form of the weight matrices in the bundle.
    checkpoints : str
        Working folder for states from which a training can go on; empty for none. They are the Trainer's own, and
        never enter a bundle.
    resume : bool
        Go on from the last state in ``checkpoints``.
    tensorboard : str
        Folder of TensorBoard's files; empty for none.
    start : str
        Folder of a bundle of the same task whose weights the training starts from; empty for those of ``build``.
    backbone : str
        Model of ``transformers`` in place of the task's own backbone: a folder, an installed package that carries
        weights, or a name on the hub; empty for the task's own. Its rate is a tenth of the others' where no
        ``lr_factors`` matches it.
    augment : tuple of str
        What other telescopes, worse nights or greater distances would make of the training objects: names of telescopes
        and of single augmentations, each ``NAME``, ``NAME=STRENGTH``, ``NAME:PROBABILITY`` or both, as a list or with
        commas between (``docs/augmentation.md``). Validation and test objects stay as they are.
    augment_copies : int
        Augmented copies of each training object, beside the object itself.
    """

    steps: int = 1000
    batch_size: int = 32
    accumulation: int = 1
    method: str = "full"
    loss: str = ""
    label_smoothing: float = 0.0
    class_weights: str = ""
    optimizer: str = "adamw"
    momentum: float = 0.9
    dropout: float | None = None
    learning_rate: float = 1e-3
    lr_decay: float = 1.0
    lr_factors: Mapping[str, float] = field(default_factory=dict)
    freeze: tuple[str, ...] = ()
    weight_decay: float = 0.01
    warmup: float = 0.05
    schedule: str = "cosine"
    clip: float = 1.0
    ema: float = 0.0
    evaluations: int = 10
    patience: int = 0
    balance: tuple[str, ...] = ()
    members: int = 1
    seed: int = 0
    device: str = "cpu"
    bf16: bool = False
    storage: str = "fp16"
    checkpoints: str = ""
    resume: bool = False
    tensorboard: str = ""
    start: str = ""
    backbone: str = ""
    augment: tuple[str, ...] = ()
    augment_copies: int = 4

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for the bundle.

        Returns
        -------
        dict
            Every option.
        """
        return asdict(self)


def read_settings(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Read training options as a command line gives them.

    Parameters
    ----------
    pairs : iterable of tuple of str
        Name and value.

    Returns
    -------
    dict of str to object
        A value that is JSON (a number, true, a list, an object) is what it says; any other is text.
    """
    found: dict[str, Any] = {}
    for name, value in pairs:
        try:
            found[name] = json.loads(value)
        except json.JSONDecodeError:
            found[name] = value
    return found


def make_options(task: Task, given: Mapping[str, Any] | None = None) -> TrainingOptions:
    """Merge what the user gave over the task's defaults over ours, and check everything.

    Parameters
    ----------
    task : Task
        ``task.options["training"]`` holds its defaults.
    given : mapping, optional
        Options of the user; None means not given.

    Returns
    -------
    TrainingOptions
        Checked.

    Raises
    ------
    OptionsError
        With every fault.
    """
    faults = [
        f"task {task.name}: options has an unknown section {name!r}; allowed are {', '.join(SECTIONS)}"
        for name in sorted(set(task.options) - set(SECTIONS))
    ]
    values = {**task.options.get("training", {}), **{k: v for k, v in (given or {}).items() if v is not None}}
    known = {f.name for f in fields(TrainingOptions)}
    faults += [
        f"unknown training option {name!r}; allowed are {', '.join(sorted(known))}"
        for name in sorted(set(values) - known)
    ]
    values = {k: v for k, v in values.items() if k in known}
    for name in ("freeze", "balance"):
        if name in values:
            values[name] = (values[name],) if isinstance(values[name], str) else tuple(values[name])
    if "augment" in values:
        given_names = values["augment"]
        values["augment"] = tuple(filter(None, given_names.split(","))) if isinstance(given_names, str) else given_names
        if isinstance(values["augment"], list):
            values["augment"] = tuple(values["augment"])
    options = TrainingOptions(**values)
    faults += check_options(options) + _check_loss(options, task) + _check_augment(options, task)
    if faults:
        raise OptionsError(faults)
    return options


def _check_loss(options: TrainingOptions, task: Task) -> list[str]:
    faults = []
    if options.class_weights not in ("", "balanced"):
        faults.append(f"class_weights {options.class_weights!r} is not one of balanced, or empty")
    if not options.loss:
        given = [name for name in ("label_smoothing", "class_weights") if getattr(options, name)]
        return faults + [f"{name} needs a loss: one of {LOSSES}" for name in given]
    if not task.classes:
        faults.append(f"loss {options.loss!r} is one of a classifier, and task {task.name} has no classes")
    try:
        parse_loss(options.loss)
    except ValueError as error:
        faults.append(str(error))
    return faults


def _check_augment(options: TrainingOptions, task: Task) -> list[str]:
    if not isinstance(options.augment, Sequence) or not all(isinstance(name, str) for name in options.augment):
        return [f"augment {options.augment!r} is not a list of names"]
    if not options.augment:
        return []
    from finetune.augment.plan import AugmentError, parse_plan

    try:
        parse_plan(options.augment, task.record)
    except AugmentError as error:
        return [str(error)]
    return []


def check_options(options: TrainingOptions) -> list[str]:
    """What is wrong with the values.

    Parameters
    ----------
    options : TrainingOptions
        Any.

    Returns
    -------
    list of str
        Sentences; none where all is well.
    """
    faults: list[str] = []

    def number(name: str, low: float, high: float, kind: type | tuple[type, ...] = (int, float)) -> None:
        value: Any = getattr(options, name)
        odd = isinstance(value, bool) or not isinstance(value, kind)
        if odd or not low <= value <= high:
            word = "whole number" if kind is int else "number"
            limit = f"from {low:g} to {high:g}" if high < 1e9 else f"of at least {low:g}"
            faults.append(f"{name} {value!r} is not a {word} {limit}")

    def choice(name: str, allowed: Sequence[Any]) -> None:
        if getattr(options, name) not in allowed:
            faults.append(f"{name} {getattr(options, name)!r} is not one of {', '.join(map(str, allowed))}")

    for name, low in (("steps", 0), ("batch_size", 1), ("accumulation", 1), ("evaluations", 0), ("patience", 0)):
        number(name, low, 1e9, int)
    number("members", 1, 16, int)
    number("augment_copies", 1, 64, int)
    number("seed", 0, 2**31 - 1, int)
    number("learning_rate", 0, 10)
    number("lr_decay", 0, 1)
    number("weight_decay", 0, 10)
    number("warmup", 0, 1)
    number("label_smoothing", 0, 0.999)
    number("momentum", 0, 0.999)
    if options.dropout is not None:
        number("dropout", 0, 0.999)
    choice("optimizer", OPTIMIZERS)
    number("clip", 0, 1e9)
    number("ema", 0, 0.99999)
    choice("schedule", SCHEDULES)
    choice("storage", ("fp16", "fp32"))
    choice("device", ("cpu", "cuda", "mps", "auto"))
    try:
        parse_method(options.method)
    except ValueError as error:
        faults.append(str(error))
    for pattern in (*options.freeze, *options.lr_factors):
        try:
            re.compile(pattern)
        except re.error as error:
            faults.append(f"{pattern!r} is not a regular expression: {error}")
    for pattern, factor in options.lr_factors.items():
        if not isinstance(factor, int | float) or factor < 0:
            faults.append(f"lr_factors: {factor!r} for {pattern!r} is not a number of at least 0")
    if options.start and options.backbone:
        faults.append(
            f"start {options.start!r} and backbone {options.backbone!r} exclude each other: a model to start from has "
            "its backbone already"
        )
    if options.resume and not options.checkpoints:
        faults.append("resume needs checkpoints, the folder with the states of the earlier training")
    if options.tensorboard and find_spec("tensorboard") is None:
        faults.append(f"tensorboard {options.tensorboard!r} was asked for, but tensorboard is not installed")
    return faults
