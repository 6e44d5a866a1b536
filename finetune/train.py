"""Fine-tune the model of a task: prepare, fit the baseline, train, calibrate, fix the rule."""

from __future__ import annotations

import json
import os
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import set_seed

from finetune.augment.copies import Copies, make_copies
from finetune.augment.plan import AugmentError
from finetune.backbone_source import open_backbone
from finetune.bundle import check_version, load_bundle
from finetune.class_sets import FEWEST, KEY, fit_floors, set_prefixes
from finetune.devices import resolve_device
from finetune.embedding_space import REFERENCES, EmbeddingSpace, fit_space
from finetune.grow import grow_model
from finetune.jsonfile import plain
from finetune.losses import make_class_loss
from finetune.methods import apply_method, finish_method, parse_method
from finetune.network import Network, run_network
from finetune.predict import TaskPredictor, classical_rows, learned_rows, make_predictor
from finetune.sampling import balance_weights
from finetune.task import Baseline, Example, Prepared, Row, Task
from finetune.trainer import SurveyTrainer, Tell
from finetune.training_options import TrainingOptions
from finetune.watched_trainer import TrainingError
from finetune.weights import round_weights
from finetune.wrappers import typed
from transforms.attempt import Tallies, attempt, describe
from transforms.records import Reject

FOLDS = 5  #: Of the validation objects, for the sets of classes.
#: What is pretrained learns more slowly than what is new: beside it, or as an adapter within it.
BACKBONE_RATE = {r"(^|\.)backbone\.(?!.*\.(lora_|ia3_))": 0.1}


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """All parts of a bundle, in memory.

    Parameters
    ----------
    task : Task
        What it is for.
    models : list of transformers.PreTrainedModel
        Members, with the weights as they will be stored, on the CPU.
    baseline : Baseline
        Fitted on the training objects, then saved and restored: a baseline may store itself in less precision.
    fitted : Baseline
        As it was before, with all that only the training needs.
    build : mapping
        Options of ``Task.build``.
    calibration, rule : mapping
        Learnt on the validation objects.
    options : TrainingOptions
        Of the training.
    history : list of list of dict
        For each member, the losses by step.
    space : EmbeddingSpace or None
        Where the training objects lie in the embedding; None where they are too few to tell.
    counts : mapping
        Objects used and refused.
    backbone : mapping
        What is remembered of the backbone that was named; empty where none was.
    """

    task: Task
    models: list[Any]
    baseline: Baseline
    fitted: Baseline
    build: Mapping[str, Any]
    calibration: Mapping[str, Any]
    rule: Mapping[str, Any]
    options: TrainingOptions
    history: list[list[dict[str, float]]]
    space: EmbeddingSpace | None = None
    counts: Mapping[str, Any] = field(default_factory=dict)
    backbone: Mapping[str, Any] = field(default_factory=dict)

    def predictor(self, device: str = "cpu", embeddings: bool = False) -> TaskPredictor:
        """The model as the survey would run it.

        Parameters
        ----------
        device : str
            Where.
        embeddings : bool
            Give the embedding of each object, too.

        Returns
        -------
        TaskPredictor
            Of the parts in memory.
        """
        return make_predictor(
            self.task, self.models, self.baseline, calibration=self.calibration, rule=self.rule, space=self.space,
            embeddings=embeddings, device=device,
        )  # fmt: skip


def prepare_all(task: Task, examples: Sequence[Example]) -> tuple[list[Example], list[Prepared], list[Reject]]:
    """Prepare each example once.

    Parameters
    ----------
    task : Task
        Gives ``prepare``.
    examples : sequence of Example
        With measured records.

    Returns
    -------
    kept, prepared, rejects : list of Example, list of Prepared, list of Reject
        Those that could be prepared, what came of them, and why the others could not.
    """
    kept: list[Example] = []
    prepared: list[Prepared] = []
    rejects: list[Reject] = []
    tallies = Tallies()
    for example in examples:
        for result in attempt("prepare", task.prepare, tallies, example.record, where=describe(example.record)):
            if isinstance(result, Reject):
                rejects.append(result)
            else:
                kept.append(example)
                prepared.append(result)
    return kept, prepared, rejects


@dataclass(frozen=True, kw_only=True, slots=True)
class Data:
    """What all trainings on the same objects share.

    Parameters
    ----------
    train, validation : list of Example
        Objects that could be prepared.
    prepared, held : list of Prepared
        What came of them.
    refused : int
        How many could not.
    fitted : Baseline
        Fitted on the training objects.
    build : mapping
        Keywords of ``build`` for the model that a training starts from.
    copies : Copies
        Augmented copies of the training objects. The network alone learns from them: the baseline, the statistics that
        ``initialise`` sets and the place of the training objects in the embedding are those of the objects themselves.
    """

    train: list[Example]
    validation: list[Example]
    prepared: list[Prepared]
    held: list[Prepared]
    refused: int
    fitted: Baseline
    build: Mapping[str, Any]
    copies: Copies


def prepare_data(task: Task, train: Sequence[Example], validation: Sequence[Example], options: TrainingOptions) -> Data:
    """Prepare all objects and fit the baseline, once for any number of trainings.

    Parameters
    ----------
    task : Task
        What to train.
    train, validation : sequence of Example
        Training and validation objects, measured.
    options : TrainingOptions
        Gives seed, start and augmentation.

    Returns
    -------
    Data
        For ``train_member``.

    Raises
    ------
    TrainingError
        Where nothing is left to train on, or to choose by, or where an augmentation changes not a single object.
    """
    kept, prepared, refused = prepare_all(task, train)
    chosen, held, refused_held = prepare_all(task, validation)
    for name, left, rejects in (("training", kept, refused), ("validation", chosen, refused_held)):
        if not left:
            reason = f"; the first was refused: {rejects[0].reason}" if rejects else ""
            raise TrainingError(f"task {task.name} has no {name} objects{reason}")
    fitted = task.baseline()
    fitted.fit(kept, prepared, seed=options.seed)
    try:
        copies = make_copies(task, kept, prepared, options.augment, options.augment_copies, options.seed)
    except AugmentError as error:
        raise TrainingError(f"task {task.name}: {error}") from error
    return Data(
        train=kept, validation=chosen, prepared=prepared, held=held, refused=len(refused) + len(refused_held),
        fitted=fitted, build=start_options(task, options), copies=copies,
    )  # fmt: skip


def train_task(
    task: Task, train: Sequence[Example], validation: Sequence[Example], options: TrainingOptions
) -> Trained:
    """Train a task on labelled examples.

    Parameters
    ----------
    task : Task
        What to train.
    train : sequence of Example
        Training objects, measured.
    validation : sequence of Example
        Chooses the state that is kept, and fixes calibration and rule; never judges the result.
    options : TrainingOptions
        Checked, from ``make_options``.

    Returns
    -------
    Trained
        Parts of the bundle.

    Raises
    ------
    TrainingError
        Where nothing is left to train on, or the loss is not finite.
    """
    data = prepare_data(task, train, validation, options)
    task, options = with_backbone(task, data.build, options)
    baseline = as_stored(task, data.fitted)
    models, history = [], []
    for member in range(options.members):
        model, losses = train_member(task, data, options, member)
        models.append(model)
        history.append(losses)
    calibration, rule = fit_on_validation(task, models, baseline, data.validation, data.held, options.device)
    space = fit_place(task, models, data.prepared, data.held, options)
    counts = {
        "train": len(data.train),
        "validation": len(data.validation),
        "refused": data.refused,
        "origins": dict(sorted(Counter(e.origin for e in data.train).items())),
    }
    if options.augment:
        counts["augmented"] = {
            "copies": len(data.copies.examples), "replaced": data.copies.replaced, "changed": data.copies.changed,
        }  # fmt: skip
    return Trained(
        task=task, models=[m.cpu() for m in models], baseline=baseline, fitted=data.fitted, build=data.build,
        calibration=calibration, rule=rule, options=options, history=history, space=space, counts=counts,
        backbone=start_backbone(task, options),
    )  # fmt: skip


def as_stored(task: Task, fitted: Baseline) -> Baseline:
    """Give a baseline the state that it will have when it is read back.

    Parameters
    ----------
    task : Task
        The task.
    fitted : Baseline
        Left as it is.

    Returns
    -------
    Baseline
        A new one, restored from the state of ``fitted`` by way of JSON.
    """
    arrays, meta = fitted.state()
    baseline = task.baseline()
    baseline.restore({k: v.copy() for k, v in arrays.items()}, json.loads(json.dumps(plain(meta))))
    return baseline


def start_options(task: Task, options: TrainingOptions) -> dict[str, Any]:
    """Keywords of ``build`` for the model that the training starts from.

    Parameters
    ----------
    task : Task
        The task.
    options : TrainingOptions
        Its ``start`` may name a bundle, or its ``backbone`` a foreign model.

    Returns
    -------
    dict
        Those of the bundle, or the task's own, with what the backbone needs to be made.

    Raises
    ------
    BackboneError
        Where the backbone is not there, or of the wrong kind.
    """
    if options.start:
        return dict(load_bundle(options.start).info.build)
    build = dict(task.options.get("build", {}))
    return open_backbone(options.backbone, task).build_options(build) if options.backbone else build


def start_backbone(task: Task, options: TrainingOptions) -> dict[str, Any]:
    """What is to be remembered of the backbone of a training.

    Parameters
    ----------
    task : Task
        The task.
    options : TrainingOptions
        Names it, or the bundle that was made from it.

    Returns
    -------
    dict
        Name, type and digests of the weights; empty for the task's own.
    """
    if options.start:
        return dict(load_bundle(options.start).info.data.get("backbone", {}))
    return open_backbone(options.backbone, task).record() if options.backbone else {}


def with_backbone(task: Task, build: Mapping[str, Any], options: TrainingOptions) -> tuple[Task, TrainingOptions]:
    """Fit a task and the options of its training to a foreign backbone.

    Parameters
    ----------
    task : Task
        The task.
    build : mapping
        From ``start_options``.
    options : TrainingOptions
        As they were given.

    Returns
    -------
    task, options : Task, TrainingOptions
        With the head of a model with a foreign backbone, and its smaller rate; unchanged where there is none.
    """
    if not build.get("backbone"):
        return task, options
    task = replace(task, options={**task.options, "head": task.options["backbone"]["head"]})
    return task, replace(options, lr_factors={**options.lr_factors, **BACKBONE_RATE})


def start_model(
    task: Task,
    build: Mapping[str, Any],
    examples: Sequence[Example],
    prepared: Sequence[Prepared],
    baseline: Baseline,
    options: TrainingOptions,
    member: int = 0,
) -> Any:
    """Make the model that a training starts from.

    Parameters
    ----------
    task : Task
        The task.
    build : mapping
        From ``start_options``.
    examples, prepared : sequence
        Training objects, for ``initialise``.
    baseline : Baseline
        Fitted on them.
    options : TrainingOptions
        Gives seed, ``start`` and ``backbone``.
    member : int
        Number of the member.

    Returns
    -------
    transformers.PreTrainedModel
        New, with the weights of its backbone, or with those of the bundle that ``start`` names; where the task has
        classes that the bundle does not know, the head has grown by them.
    """
    set_seed(options.seed + member)
    if options.start:
        bundle = load_bundle(options.start)
        own = check_version(task, bundle)
        members = bundle.models(own)
        model = members[member % len(members)]
        if own.classes == task.classes:
            return model
        return grow_model(model, task.build(**{**build, **task.options.get("restore", {})}))
    model = task.build(**build)
    if options.backbone:
        open_backbone(options.backbone, task).fill(model)
    initialise = task.options.get("initialise")
    if initialise is not None:
        initialise(model, examples, prepared, baseline)
    return model


def train_member(
    task: Task, data: Data, options: TrainingOptions, member: int = 0, tell: Tell | None = None
) -> tuple[Any, list[dict[str, float]]]:
    """Train one model.

    Parameters
    ----------
    task : Task
        What to train.
    data : Data
        From ``prepare_data``.
    options : TrainingOptions
        Checked.
    member : int
        Number of the model, for its seed.
    tell : callable, optional
        ``tell(step, loss)``: told each validation loss; what it raises ends the training.

    Returns
    -------
    model, history : transformers.PreTrainedModel, list of dict
        The best state, with the weights as they will be stored; the losses by step.

    Raises
    ------
    TrainingError
        Where the method does not fit the model, or the loss is not finite.
    """
    seed = options.seed + member
    head = task.options.get("head", ())
    model = start_model(task, data.build, data.train, data.prepared, data.fitted, options, member)
    try:
        model = apply_method(model, parse_method(options.method), head)
    except ValueError as error:
        raise TrainingError(f"task {task.name}: {error}") from error

    def pairs(examples: Sequence[Example], arrays: Sequence[Prepared]) -> list[tuple[Prepared, Any]]:
        return [(one, task.encode(example.labels)) for example, one in zip(examples, arrays, strict=True)]

    seen = [*data.train, *data.copies.examples]
    learning, checking = pairs(seen, [*data.prepared, *data.copies.prepared]), pairs(data.validation, data.held)
    if options.loss:
        targets = [target for _, target in learning]
        try:
            chosen = make_class_loss(
                options.loss, options.label_smoothing, bool(options.class_weights), targets, len(task.classes)
            )
        except ValueError as error:
            raise TrainingError(f"task {task.name}: {error}") from error
        task = replace(task, loss=chosen)
    with tempfile.TemporaryDirectory(prefix="nightcat-train-") as scratch:
        folder = str(Path(options.checkpoints) / f"member_{member}") if options.checkpoints else scratch
        if options.tensorboard:
            os.environ["TENSORBOARD_LOGGING_DIR"] = str(Path(options.tensorboard) / f"member_{member}")
        weights = balance_weights(seen, options.balance)
        trainer = SurveyTrainer(task, model, learning, checking, options, seed, folder, weights, tell)
        history = trainer.fit()
    model = finish_method(model)
    round_weights(model, options.storage)
    return model, history


def fit_on_validation(
    task: Task,
    models: Sequence[torch.nn.Module],
    baseline: Baseline,
    examples: Sequence[Example],
    prepared: Sequence[Prepared],
    device: str,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Calibrate the model, then fix the rule that chooses between it and the baseline.

    Parameters
    ----------
    task : Task
        The task.
    models : sequence of Module
        Trained members, with the weights as they will be stored.
    baseline : Baseline
        Fitted.
    examples, prepared : sequence
        Validation objects.
    device : str
        Where the models run.

    Returns
    -------
    calibration, rule : dict
        For the bundle.
    """
    outputs = run_network(Network(models, resolve_device(device)), prepared, task.batch_size)
    targets = [task.encode(example.labels) for example in examples]
    calibration = task.calibrate(outputs, prepared, targets)
    learned = predict_rows(learned_rows(task, models, calibration, device=device), prepared, task.batch_size)
    classical = predict_rows(classical_rows(task, baseline), prepared, task.batch_size)
    sets = fit_sets(task, outputs, classical, examples, prepared)
    if sets:
        calibration = {**calibration, KEY: sets}
    return calibration, task.fit_rule(learned, classical, [example.labels for example in examples])


def fit_sets(
    task: Task,
    outputs: Mapping[str, np.ndarray],
    classical: Sequence[Row],
    examples: Sequence[Example],
    prepared: Sequence[Prepared],
) -> dict[str, Any]:
    """Fit the floors of the sets of classes, on probabilities whose calibration and rule did not see the object.

    Parameters
    ----------
    task : Task
        The task.
    outputs : mapping of str to ndarray
        Of the network, on validation objects.
    classical : sequence of dict
        Rows of the baseline.
    examples, prepared : sequence
        Validation objects.

    Returns
    -------
    dict
        By prefix of the answer, from ``fit_floors``; empty where the task has no sets or the objects are too few.
    """
    prefixes = set_prefixes(task)
    if not prefixes or len(examples) < FEWEST:
        return {}
    labels = [example.labels for example in examples]
    names, place = np.unique([example.group for example in examples], return_inverse=True)
    fold = (np.random.default_rng(0).permutation(len(names)) % FOLDS)[place]
    rows: list[Row] = [{} for _ in examples]
    for number in np.unique(fold):
        rest, held = np.flatnonzero(fold != number).tolist(), np.flatnonzero(fold == number).tolist()
        if not rest:
            return {}
        calibration = task.calibrate(
            {name: value[rest] for name, value in outputs.items()},
            [prepared[i] for i in rest], [task.encode(labels[i]) for i in rest],
        )  # fmt: skip

        def decoded(index: list[int], calibration: Mapping[str, Any] = calibration) -> list[Row]:
            part = {name: value[index] for name, value in outputs.items()}
            return [typed(row, task.columns) for row in task.decode(part, [prepared[i] for i in index], calibration)]

        rule = task.fit_rule(decoded(rest), [classical[i] for i in rest], [labels[i] for i in rest])
        for i, row in zip(held, decoded(held), strict=True):
            rows[i] = {**row, **task.choose(row, classical[i], rule)}
    label = task.label_columns[0]
    target = np.array([task.classes.index(one[label]) if one.get(label) in task.classes else -1 for one in labels])
    found = {
        prefix: fit_floors(
            np.array([[row[f"{prefix}p_{name}"] for name in task.classes] for row in rows], np.float64),
            target, task.classes,
        )
        for prefix in prefixes
    }  # fmt: skip
    return {prefix: floors for prefix, floors in found.items() if floors}


def fit_place(
    task: Task,
    models: Sequence[torch.nn.Module],
    train: Sequence[Prepared],
    validation: Sequence[Prepared],
    options: TrainingOptions,
) -> EmbeddingSpace | None:
    """Learn where the training objects lie in the embedding.

    Parameters
    ----------
    task : Task
        The task.
    models : sequence of Module
        Trained members, with the weights as they will be stored.
    train, validation : sequence of Prepared
        Objects; of the training objects a draw that is large enough.
    options : TrainingOptions
        Gives seed and device.

    Returns
    -------
    EmbeddingSpace or None
        None where the objects are too few, or the model has no embedding.
    """
    network = Network(models, resolve_device(options.device))
    draw = np.sort(np.random.default_rng(options.seed).permutation(len(train))[: 2 * REFERENCES])
    inside = run_network(network, [train[i] for i in draw], task.batch_size).get("embedding")
    if inside is None:
        return None
    held = run_network(network, validation, task.batch_size)["embedding"]
    return fit_space(inside, held, options.seed)


def predict_rows(predictor: Any, prepared: Sequence[Prepared], size: int) -> list[Row]:
    """Rows for many prepared records, in fixed batches.

    Parameters
    ----------
    predictor : Rows or Predictor
        Anything with ``predict(batch, size)``.
    prepared : sequence of Prepared
        Inputs.
    size : int
        Fixed batch.

    Returns
    -------
    list of dict
        One for each.
    """
    return [row for i in range(0, len(prepared), size) for row in predictor.predict(prepared[i : i + size], size)]
