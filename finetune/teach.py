"""A class taught by a handful of examples: no training, a model with a digest of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from finetune.bundle import Bundle
from finetune.bundle_writing import derive_bundle
from finetune.commands import Say, quiet
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
