"""What a science task is: one file in ``finetune/tasks`` gives all of this, and everything else derives from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from finetune.class_sets import set_columns
from finetune.embedding_space import COLUMNS as PLACE
from transforms.columns import Column
from transforms.records import Identity

if TYPE_CHECKING:
    from finetune.explanation import Explanation

#: What ``prepare`` gives for one record: arrays of fixed shape, so that records stack into batches.
Prepared = Mapping[str, np.ndarray]
#: Labels of one object, by column name; a missing label is absent or None.
Labels = Mapping[str, Any]
#: One row of a table, by column name; None is a null.
Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """One labelled record.

    Parameters
    ----------
    record : Identity
        A record of the task's kind, with the classical measurements already in ``measured``.
    labels : mapping
        Its labels.
    group : str
        Objects with the same group (star, cluster, field, donor) never lie on both sides of a split.
    origin : str
        Data set or survey, for results by origin and for balance.
    twins : str
        Name of the set of near-duplicates that it belongs to, which never lies on both sides either; empty for none.
    """

    record: Identity
    labels: Labels
    group: str
    origin: str = ""
    twins: str = ""


class Baseline(Protocol):
    """The cheap classical answer that the model must beat; it ships in the same bundle and fills the same row."""

    def fit(self, examples: Sequence[Example], prepared: Sequence[Prepared], *, seed: int) -> None:
        """Learn from labelled examples.

        Parameters
        ----------
        examples : sequence of Example
            Training objects.
        prepared : sequence of Prepared
            What ``Task.prepare`` gave for each.
        seed : int
            For all that is random.
        """

    def predict(self, prepared: Sequence[Prepared]) -> list[Row]:
        """Answer for a batch.

        Parameters
        ----------
        prepared : sequence of Prepared
            Inputs.

        Returns
        -------
        list of dict
            For each input the task's ``baseline_columns``.
        """

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """What has been learnt.

        Returns
        -------
        arrays, meta : dict of str to ndarray, dict
            For safetensors and for JSON; no pickles. A tree ensemble goes as its text dump in ``meta``.
        """

    def restore(self, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
        """Take up a saved state.

        Parameters
        ----------
        arrays : mapping of str to ndarray
            From ``state``.
        meta : mapping
            From ``state``.
        """


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """One science task.

    Parameters
    ----------
    name : str
        Name of the task, of its module and of its table.
    version : int
        Raised when the meaning of a column changes.
    description : str
        One sentence.
    record : type
        The record class it works on: Cutout, Spectrum or LightCurve.
    prepare : callable
        ``prepare(record) -> Prepared``: pure and deterministic; the same function in training and in the survey.
        Never raises for poor data: it gives arrays with a mask that says so. Raises ``Unusable`` only where the
        record makes no sense at all.
    build : callable
        ``build(**options) -> transformers.PreTrainedModel``; its ``forward(**batch)`` takes the stacked arrays of
        ``prepare`` as tensors and returns a dict of tensors, first axis the batch; one of them is ``embedding``,
        shape (batch, width): what the head reads, for similarity, novelty, drift and taught classes.
    loss : callable
        ``loss(outputs, targets) -> scalar tensor``; targets are tensors from ``encode``, NaN (or -100) where missing.
    encode : callable
        ``encode(labels) -> dict of str to ndarray``: one example's labels as targets.
    decode : callable
        ``decode(outputs, prepared, calibration) -> list of Row``: the raw outputs (numpy, float32, batch first) and
        the prepared inputs of one batch to exactly ``columns``, plus the key ``"flags"`` (bits to be or-ed in).
        An output that is not finite becomes None and MODEL_FAILED.
    calibrate : callable
        ``calibrate(outputs, prepared, targets) -> dict``: JSON-able calibration learnt on validation data, such as a
        temperature or error factors by class; ``{}`` is what ``decode`` gets for an uncalibrated model.
    columns : tuple of Column
        What ``decode`` gives.
    baseline : callable
        ``baseline() -> Baseline``: a new, unfitted one.
    baseline_columns : tuple of Column
        What the baseline gives (named ``baseline_*`` or by method).
    choose : callable
        ``choose(learned, classical, rule) -> Row``: the catalog's best answer, columns ``best_columns``, by a rule
        that ``fit_rule`` fixed on validation data.
    fit_rule : callable
        ``fit_rule(learned, classical, labels) -> dict``: the JSON-able rule.
    best_columns : tuple of Column
        What ``choose`` gives (``best_*`` and ``best_method``).
    metrics : callable
        ``metrics(rows, labels, prefix) -> dict of str to float``: figures of merit, prefix ``""``, ``"baseline_"`` or
        ``"best_"`` selects the columns that are judged.
    merit : tuple of str
        Names among ``metrics`` by which two models are compared, the first of them first; a minus sign in front says
        that lower is better.
    simulate : callable
        ``simulate(n, seed) -> list of Example``: simulated examples with known truth, **raw** records (before the
        classical steps).
    network : callable or None
        ``network(config) -> torch.nn.Module``: the same function and weight names as ``build``'s model, made from the
        fields of its stored ``config.json`` without importing transformers, which takes seconds; for inference alone.
    augment : callable or None
        ``augment(prepared, targets, rng) -> (prepared, targets)``: training only, a batch of stacked arrays.
    adapt : callable or None
        ``adapt(prepared, baseline) -> dict``: what all objects of one survey have in common, learnt without a label;
        JSON-able. Raises ``ValueError`` where they are too few or of several instruments.
    adjust : callable or None
        ``adjust(prepared, survey) -> Prepared``: one object's input with that taken out; unchanged where the object is
        of another instrument.
    explain : Explanation or None
        What its answers are attributed to, and what an input looks like in which nothing is seen; ``nightcat explain``.
    label_columns : tuple of str
        Columns that a label file must hold, beside ``object_id`` or ``source``.
    classes : tuple of str
        For a classifier, in the order of its outputs.
    with_classes : callable or None
        ``with_classes(classes) -> Task``: the same task with further classes after its own; raises ``ValueError``
        where the first ones are not its own. A class that was taught becomes a full one by it (``nightcat retrain``);
        a bundle names the classes that it was trained for, and gets the task that has them.
    batch_size : int
        Fixed batch of inference; short batches are padded.
    options : mapping
        Sections: ``"build"`` (keywords of ``build``), ``"training"`` (defaults of ``TrainingOptions``), ``"restore"``
        (keywords laid over ``build``'s when a bundle's weights will be filled in, such as ``pretrained=False``),
        ``"head"`` (regular expressions on the names of the parameters that are trained whatever the method),
        ``"backbone"`` (where ``build`` takes a foreign one: what it ``"takes"``, ``"text"`` or ``"image"``, how many
        ``"tokens"`` a text encoder reads at most, the package of the task's ``"own"``, and the ``"head"`` of a model
        with a foreign one, which holds all that is new beside the backbone) and ``"initialise"``:
        ``initialise(model, examples, prepared, baseline)``, called on the new model once the baseline is fitted, to set
        buffers such as means, or the base of a residual.
    reference : str
        Method's source: author, year, doi.
    """

    name: str
    version: int
    description: str
    record: type
    prepare: Callable[[Any], Prepared]
    build: Callable[..., Any]
    loss: Callable[[Mapping[str, Any], Mapping[str, Any]], Any]
    encode: Callable[[Labels], dict[str, np.ndarray]]
    decode: Callable[[Mapping[str, np.ndarray], Sequence[Prepared], Mapping[str, Any]], list[Row]]
    calibrate: Callable[[Mapping[str, np.ndarray], Sequence[Prepared], Sequence[Mapping[str, np.ndarray]]], dict]
    columns: tuple[Column, ...]
    baseline: Callable[[], Baseline]
    baseline_columns: tuple[Column, ...]
    choose: Callable[[Row, Row, Mapping[str, Any]], Row]
    fit_rule: Callable[[Sequence[Row], Sequence[Row], Sequence[Labels]], dict]
    best_columns: tuple[Column, ...]
    metrics: Callable[[Sequence[Row], Sequence[Labels], str], dict[str, float]]
    simulate: Callable[[int, int], list[Example]]
    merit: tuple[str, ...] = ()
    network: Callable[[Any], Any] | None = None
    augment: Callable[..., Any] | None = None
    adapt: Callable[[Sequence[Prepared], Any], dict[str, Any]] | None = None
    adjust: Callable[[Prepared, Mapping[str, Any]], Prepared] | None = None
    explain: Explanation | None = None
    label_columns: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    with_classes: Callable[[tuple[str, ...]], Task] | None = None
    batch_size: int = 8
    options: Mapping[str, Any] = field(default_factory=dict)
    reference: str = ""

    def added(self, classes: Sequence[str]) -> tuple[str, ...]:
        """Classes of a model that come after the task's own.

        Parameters
        ----------
        classes : sequence of str
            That the model knows.

        Returns
        -------
        tuple of str
            Empty where they are the task's own.

        Raises
        ------
        ValueError
            Where the first of them are not the task's own.
        """
        known = tuple(classes)
        if known[: len(self.classes)] != self.classes:
            raise ValueError(f"classes {', '.join(known)} do not begin with {', '.join(self.classes)}")
        return known[len(self.classes) :]

    def all_columns(self) -> tuple[Column, ...]:
        """Columns of the learned, the classical and the best answer, in catalog order.

        Returns
        -------
        tuple of Column
            ``best_columns + columns + baseline_columns``, sets of classes (classifiers), and where the object lies
            among the training objects.
        """
        return (*self.best_columns, *self.columns, *self.baseline_columns, *set_columns(self), *PLACE)
