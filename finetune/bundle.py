"""A model on disk: safetensors and JSON, no pickle, every file under a digest.

::

    bundle.json                    what it is, how it was made, calibration, rule, figures, SHA-256 of the other files
    model/                         transformers' own form: config.json, model.safetensors (members 2.. in model_1/ ..)
    baseline.json, baseline.safetensors    the classical answer
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.numpy import load_file

from finetune import tasks
from finetune.bundle_files import INFO, digests, sha256
from finetune.embedding_space import EmbeddingSpace

if TYPE_CHECKING:
    from finetune.task import Baseline, Task

FORMAT = 1  #: Raised when the layout of the folder changes.
SPACE = "embedding_space"  #: Name of the files with the training objects in the embedding.


class BundleError(ValueError):
    """A bundle is not there, is damaged, or does not fit the code."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Info:
    """What ``bundle.json`` says of a model.

    Parameters
    ----------
    task : str
        Name of the task.
    task_version : int
        ``Task.version`` it was trained for.
    package_version : str
        Version of nightcat that made it.
    created_by : str
        The command that made it.
    seed : int
        Of the training.
    data : mapping
        Fingerprint, counts, origins and licences of the training data.
    build : mapping
        Options of ``Task.build``.
    training : mapping
        Options and history of the training.
    calibration : mapping
        What ``Task.calibrate`` learnt.
    rule : mapping
        What ``Task.fit_rule`` fixed.
    metrics : mapping
        Figures of merit on the held-out data.
    classes : tuple of str
        For a classifier.
    members : int
        Number of models whose outputs are averaged.
    """

    task: str
    task_version: int
    package_version: str
    created_by: str = ""
    seed: int = 0
    data: Mapping[str, Any] = field(default_factory=dict)
    build: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    calibration: Mapping[str, Any] = field(default_factory=dict)
    rule: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    members: int = 1


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle whose files have been checked.

    Parameters
    ----------
    path : Path
        Its folder.
    info : Info
        Content of ``bundle.json``.
    digest : str
        SHA-256 over the sorted names and digests of all its files.
    """

    path: Path
    info: Info
    digest: str

    def task(self) -> Task:
        """Import the task that the model is for.

        Returns
        -------
        Task
            The registered one, with the classes that the model knows.

        Raises
        ------
        BundleError
            Where there is no such task, or the columns changed their meaning since the training.
        """
        try:
            task = tasks.get(self.info.task)
        except KeyError as error:
            raise BundleError(f"{self.path}: {error.args[0]}") from error
        return check_version(task, self)

    def models(self, task: Task) -> list[Any]:
        """Build the member models and load their weights in fp32.

        Parameters
        ----------
        task : Task
            The task of the bundle.

        Returns
        -------
        list of transformers.PreTrainedModel
            In evaluation mode, on the CPU.
        """
        from finetune.weights import load_weights

        options = {**self.info.build, **task.options.get("restore", {})}
        return [load_weights(task.build, options, self.path / member_folder(i)) for i in range(self.info.members)]

    def networks(self, task: Task) -> list[Any]:
        """Make what answers in place of the member models: the same function, quicker to import.

        Parameters
        ----------
        task : Task
            The task of the bundle.

        Returns
        -------
        list of torch.nn.Module
            In evaluation mode, on the CPU; the models themselves where the task has no ``network``.
        """
        from finetune.weights import load_network

        if task.network is None:
            return self.models(task)
        return [load_network(task.network, self.path / member_folder(i)) for i in range(self.info.members)]

    def space(self) -> EmbeddingSpace | None:
        """Where the training objects lie in the embedding of the model.

        Returns
        -------
        EmbeddingSpace or None
            None where the bundle does not tell.
        """
        if not (self.path / f"{SPACE}.json").is_file():
            return None
        meta = json.loads((self.path / f"{SPACE}.json").read_text(encoding="utf-8"))
        return EmbeddingSpace.restore(load_file(self.path / f"{SPACE}.safetensors"), meta)

    def baseline(self, task: Task) -> Baseline:
        """Restore the classical answer.

        Parameters
        ----------
        task : Task
            The task of the bundle.

        Returns
        -------
        Baseline
            As it was fitted.
        """
        baseline = task.baseline()
        meta = json.loads((self.path / "baseline.json").read_text(encoding="utf-8"))
        baseline.restore(load_file(self.path / "baseline.safetensors"), meta)
        return baseline


def check_version(task: Task, bundle: Bundle) -> Task:
    """Return the task that a bundle was made for, with the classes that it knows.

    Parameters
    ----------
    task : Task
        Candidate.
    bundle : Bundle
        The model.

    Returns
    -------
    Task
        The same task; with more or fewer added classes where the bundle has those and the task takes them.

    Raises
    ------
    BundleError
        For another name, version or list of classes.
    """
    info = bundle.info
    known = tuple(info.classes)
    shared = min(len(known), len(task.classes))
    if known != task.classes and known[:shared] == task.classes[:shared] and task.with_classes is not None:
        with contextlib.suppress(ValueError):  # they do not begin with the task's own: told below
            task = task.with_classes(known)
    for name, ours, theirs in (
        ("task", task.name, info.task),
        ("task version", task.version, info.task_version),
        ("classes", tuple(task.classes), tuple(info.classes)),
    ):
        if ours != theirs:
            raise BundleError(f"{bundle.path} was made for {name} {theirs!r}, the code has {ours!r}; train it again")
    return task


def load_bundle(path: str | Path) -> Bundle:
    """Read ``bundle.json`` and check the digest of every file.

    Parameters
    ----------
    path : str or Path
        Folder of the bundle.

    Returns
    -------
    Bundle
        Whose models are loaded on demand.

    Raises
    ------
    BundleError
        Naming the file that is missing, damaged or unknown.
    """
    path = Path(path)
    if not (path / INFO).is_file():
        raise BundleError(f"{path} is no bundle: it has no {INFO}")
    try:
        content = json.loads((path / INFO).read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BundleError(f"{path / INFO} is damaged: {error}") from error
    if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
        raise BundleError(f"{path / INFO} is not of bundle format {FORMAT}")
    stated, found = content.pop("files", {}), digests(path)
    faults = [f"{name} is missing" for name in sorted(set(stated) - set(found))]
    faults += [f"{name} is not listed in {INFO}" for name in sorted(set(found) - set(stated))]
    faults += [
        f"{name} is damaged: SHA-256 {found[name][:16]}.. instead of {stated[name][:16]}.."
        for name in sorted(set(stated) & set(found))
        if stated[name] != found[name]
    ]
    unknown = sorted(set(content) ^ {f.name for f in fields(Info)})
    if unknown:
        faults.append(f"{INFO} lacks or has unknown entries: {', '.join(unknown)}")
    if faults:
        raise BundleError(f"{path}: {'; '.join(faults)}")
    content["classes"] = tuple(content["classes"])
    return Bundle(path, Info(**content), bundle_digest({**found, INFO: sha256(path / INFO)}))


def bundle_digest(digests: Mapping[str, str]) -> str:
    """One digest for a whole bundle.

    Parameters
    ----------
    digests : mapping of str to str
        SHA-256 by file name, relative to the folder.

    Returns
    -------
    str
        Hexadecimal SHA-256 over the sorted ``(name, digest)`` lines.
    """
    return hashlib.sha256("".join(f"{k} {v}\n" for k, v in sorted(digests.items())).encode()).hexdigest()


def bundled(task: str) -> Path:
    """Folder of the model of a task that ships with the package.

    Parameters
    ----------
    task : str
        Name of the task.

    Returns
    -------
    Path
        For ``load_bundle``.

    Raises
    ------
    BundleError
        Where none ships.
    """
    path = Path(str(files("finetune"))) / "bundles" / task
    if not (path / INFO).is_file():
        raise BundleError(f"no model ships for the task {task!r}: {path} has no {INFO}; train one and name it")
    return path


def member_folder(number: int) -> str:
    """Folder of a member model within a bundle.

    Parameters
    ----------
    number : int
        From 0.

    Returns
    -------
    str
        ``"model"``, ``"model_1"``, ...
    """
    return f"model_{number}" if number else "model"
