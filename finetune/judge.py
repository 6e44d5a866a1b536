"""Run a model on labelled examples and judge its rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from finetune.evaluate import DRAWS, evaluate
from finetune.predict import learned_rows
from finetune.task import Example, Prepared, Row, Task
from finetune.train import Trained, predict_rows, prepare_all, start_model


def answers(task: Task, predictor: Any, examples: Sequence[Example]) -> tuple[list[Example], list[Row]]:
    """Rows of a model for examples.

    Parameters
    ----------
    task : Task
        Gives ``prepare``.
    predictor : Predictor
        The model.
    examples : sequence of Example
        Objects.

    Returns
    -------
    kept, rows : list of Example, list of dict
        Those that could be prepared, and their rows, completed by the classical measurements.
    """
    kept, prepared, _ = prepare_all(task, examples)
    return kept, full_rows(task, predictor, kept, prepared)


def full_rows(task: Task, predictor: Any, kept: Sequence[Example], prepared: Sequence[Prepared]) -> list[Row]:
    """Rows of a model, completed by the classical measurements.

    Parameters
    ----------
    task : Task
        Gives the batch.
    predictor : Predictor
        The model.
    kept, prepared : sequence
        From ``prepare_all``.

    Returns
    -------
    list of dict
        One for each; a class of the task that the model does not know has the probability 0.
    """
    rows = predict_rows(predictor, prepared, task.batch_size)
    unknown = _unknown(task, getattr(predictor, "definition", task))
    return [{**dict(e.record.measured), **row, **unknown(row)} for e, row in zip(kept, rows, strict=True)]


def _unknown(task: Task, own: Task) -> Callable[[Row], Row]:
    """Probabilities of classes that a model does not know, so that it can be judged beside one that does: zero."""
    there = {column.name for column in task.all_columns()}
    missing = [name for name in task.classes if name not in own.classes]
    columns = [
        (f"{prefix}p_{name}", f"{prefix}p_max")
        for prefix in ("", "baseline_", "best_")
        for name in missing
        if f"{prefix}p_{name}" in there
    ]
    return lambda row: {name: None if row.get(most) is None else 0.0 for name, most in columns}


def judge(task: Task, rows: Sequence[Row], examples: Sequence[Example], draws: int = DRAWS) -> dict[str, Any]:
    """Evaluate rows, where there are any.

    Parameters
    ----------
    task : Task
        The task.
    rows : sequence of dict
        From ``answers``.
    examples : sequence of Example
        Whose labels are the truth.
    draws : int
        Of the bootstrap.

    Returns
    -------
    dict
        From ``evaluate``; ``n`` is 0 and nothing is claimed where there is nothing to judge on.
    """
    return evaluate(task, rows, examples, draws=draws) if rows else {"n": 0, "groups": 0}


def untrained_rows(trained: Trained, train: Sequence[Example], test: Sequence[Example]) -> list[Row]:
    """The learned answer of the model that the training started from, on the same test objects.

    Parameters
    ----------
    trained : Trained
        What came of it.
    train, test : sequence of Example
        Training objects, and test objects that can be prepared.

    Returns
    -------
    list of dict
        One for each test object, before the training; only the learned columns.
    """
    task = trained.task
    kept, prepared, _ = prepare_all(task, train)
    model = start_model(task, trained.build, kept, prepared, trained.fitted, trained.options)
    _, inputs, _ = prepare_all(task, test)
    return predict_rows(learned_rows(task, [model], {}, device=trained.options.device), inputs, task.batch_size)


def figures_of(task: Task, rows: Sequence[Row], examples: Sequence[Example]) -> dict[str, float]:
    """Figures of merit of the learned answer.

    Parameters
    ----------
    task : Task
        The task.
    rows, examples : sequence
        One for each object.

    Returns
    -------
    dict of str to float
        Those that are numbers.
    """
    figures = task.metrics(rows, [example.labels for example in examples], "")
    return {name: value for name, value in figures.items() if value == value}
