"""A class taught by a handful of examples: no training, a model with a digest of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from finetune.bundle import Bundle
from finetune.bundle_writing import derive_bundle
from finetune.commands import Say, quiet
from finetune.embedding_space import EMBEDDING
from finetune.predict import load_predictor
from finetune.task import Example, Task
from finetune.train import predict_rows, prepare_all
from finetune.training_options import OptionsError

LONGEST = 64  #: Letters of the name of a class.


def run_teach(
    bundle: Bundle,
    name: str,
    vectors: np.ndarray,
    examples: Sequence[str],
    output: str | Path,
    *,
    command: str = "",
    say: Say = quiet,
) -> dict[str, Any]:
    """Teach a model a class.

    Parameters
    ----------
    bundle : Bundle
        The model that gave the embeddings.
    name : str
        Of the class.
    vectors : ndarray, shape (n, width)
        Embeddings of the examples.
    examples : sequence of str
        Their identifiers.
    output : str or Path
        Folder of the model that knows the class.
    command : str
        How it was called, for the record.
    say : callable
        Told what goes on.

    Returns
    -------
    dict
        ``model`` (task, path, digest), ``class``, ``examples``, ``radius``, ``training_objects_inside`` (their share).

    Raises
    ------
    OptionsError
        Where the name is one of the task's classes or no name, the model has no embedding space, or the examples do
        not make a class.
    BundleError
        Where the output is at fault.
    """
    task = bundle.task()
    if name in task.classes:
        raise OptionsError([f"--class {name!r} is a class of {task.name} already"])
    if not name.strip() or len(name) > LONGEST:
        raise OptionsError([f"--class {name!r} is not a name of 1 to {LONGEST} letters"])
    space = bundle.space()
    if space is None:
        raise OptionsError([f"{bundle.path} does not know where its training objects lie; train it again"])
    try:
        taught = space.teach(name, vectors, examples)
    except ValueError as error:
        raise OptionsError([str(error)]) from error
    new = derive_bundle(bundle, output, space=taught, created_by=f"{bundle.info.created_by}; {command}")
    lesson = taught.taught[-1]
    inside = float((taught.distances(lesson, taught.references) < 1).mean())
    say(f"saved {new.path}, digest {new.digest[:16]}")
    return {
        "model": {"task": task.name, "path": str(new.path), "digest": new.digest[:16]},
        "class": name,
        "examples": list(lesson.examples),
        "radius": lesson.radius,
        "training_objects_inside": inside,
    }


def embed(bundle: Bundle, task: Task, examples: Sequence[Example]) -> tuple[list[Example], np.ndarray]:
    """Embeddings of objects.

    Parameters
    ----------
    bundle : Bundle
        The model.
    task : Task
        Its task.
    examples : sequence of Example
        Objects.

    Returns
    -------
    kept, vectors : list of Example, ndarray of float32, shape (n, width)
        Those that the model says something about.
    """
    predictor = load_predictor(bundle.path, embeddings=True, task=task)
    kept, prepared, _ = prepare_all(task, examples)
    found = [row[EMBEDDING] for row in predict_rows(predictor, prepared, predictor.batch_size)]
    known = [i for i, vector in enumerate(found) if vector is not None]
    return [kept[i] for i in known], np.array([found[i] for i in known], np.float32)


def teach_again(
    task: Task, bundle: Bundle, examples: Sequence[Example], output: str | Path, *, say: Say = quiet
) -> Bundle:
    """Teach a model that was trained anew the classes that the one before it was taught: its embedding is another.

    Parameters
    ----------
    task : Task
        Of the model.
    bundle : Bundle
        The model.
    examples : sequence of Example
        Labelled objects of these classes.
    output : str or Path
        Folder of the model that knows them.
    say : callable
        Told which classes cannot be taught.

    Returns
    -------
    Bundle
        A copy that knows the classes whose examples have enough in common in it.
    """
    label, space = task.label_columns[0], bundle.space()
    for name in sorted({str(one.labels[label]) for one in examples}):
        kept, vectors = embed(bundle, task, [one for one in examples if one.labels[label] == name])
        ids = list(dict.fromkeys(one.record.object_id or one.group for one in kept))
        try:
            space = space.teach(name, vectors, ids) if space is not None else None
        except ValueError as error:
            say(f"{error}; the new model does not know it")
    return derive_bundle(bundle, output, space=space)
