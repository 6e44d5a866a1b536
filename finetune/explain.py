"""Explain answers of a model on some objects, and check the explanations: what the command line calls."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from finetune.attribution import (
    METHODS,
    Function,
    answers_at,
    integrated_gradients,
    make_function,
    rollout,
    shuffled,
)
from finetune.bundle import check_version, load_bundle
from finetune.commands import Say, find_bundle, quiet
from finetune.devices import resolve_device
from finetune.explanation import Explanation, Places
from finetune.faithfulness import Groups, deletion, similarity
from finetune.network import Network, to_tensor
from finetune.object_sample import Key, chosen_records, place, sample_records
from finetune.predict import learned_rows
from finetune.task import Prepared, Row, Task
from finetune.training_options import OptionsError
from transforms.attempt import Tallies, attempt, describe
from transforms.records import FileRef, Identity, Reject

N = 20
_LOOK_AT = 3  #: Objects that are tried for each one that is wanted: some have no answer to explain.


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Target:
    """One explained answer of one object.

    Parameters
    ----------
    name, unit : str
        Column or class, and the unit of the numbers below.
    value, nothing : float
        Answer of the network, and its answer to the neutral input.
    attribution : mapping of str to ndarray
        By array: of each group.
    incomplete : float or None
        Sum of the attributions less the difference of the two answers; None for a method that does not add up.
    curves : mapping of str to ndarray
        From ``faithfulness.deletion``.
    shuffled : (float, float)
        Rank correlation with the map of a model with shuffled weights, with and without signs.
    """

    name: str
    unit: str
    value: float
    nothing: float
    attribution: Mapping[str, np.ndarray]
    incomplete: float | None
    curves: Mapping[str, np.ndarray]
    shuffled: tuple[float, float]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Explained:
    """One explained object.

    Parameters
    ----------
    object_id : str
        Its identifier.
    place : tuple of str, str and int
        Source, HDU and row.
    prepared : Prepared
        Input of the network.
    measured : mapping
        What the classical steps measured.
    answer : dict
        The learned row.
    places : mapping of str to Places
        By array.
    targets : tuple of Target
        What is explained.
    """

    object_id: str
    place: Key
    prepared: Prepared
    measured: Mapping[str, Any]
    answer: Row
    places: Mapping[str, Places]
    targets: tuple[Target, ...]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Explainer:
    """A model and all that it takes to explain its answers.

    Parameters
    ----------
    task : Task
        With ``explain``.
    models : sequence of Module
        Members.
    method : str
        One of ``METHODS``.
    target : str
        Column or class; empty for all columns of a regression, or the class that wins.
    steps : int
        Of integrated gradients; 0 for the task's own.
    device : torch.device
        Where the models run.
    seed : int
        Of the random orders and the shuffled weights.

    Raises
    ------
    OptionsError
        For a task, method or target that cannot be explained.
    """

    task: Task
    models: Sequence[Any]
    method: str = METHODS[0]
    target: str = ""
    steps: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    seed: int = 0
    _network: list[Network] = field(default_factory=list)
    _functions: dict[str, tuple[Function, Sequence[Any]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        how = self.explanation
        faults = []
        if self.method not in METHODS:
            faults.append(f"method {self.method!r} is not one of {', '.join(METHODS)}")
        if self.target and self.target not in how.targets:
            faults.append(f"target {self.target!r} of {self.task.name} is not one of {', '.join(how.targets)}")
        if self.method == "rollout" and any(array.token is None for array in how.arrays):
            faults.append(f"the task {self.task.name} does not tell which token its inputs enter: no rollout")
        if self.steps < 0:
            faults.append(f"steps {self.steps!r} is not a whole number above 0")
        if faults:
            raise OptionsError(faults)
        models = [model.to(self.device).eval().requires_grad_(False) for model in self.models]
        empty = shuffled(models, self.seed)
        self._functions.update(model=(make_function(models, how), models), shuffled=(make_function(empty, how), empty))
        self._network.append(Network(models, self.device))

    @property
    def explanation(self) -> Explanation:
        """How the task is explained."""
        if self.task.explain is None:
            raise OptionsError([f"the task {self.task.name} does not tell how its answers are explained"])
        return self.task.explain

    def explain(self, record: Identity, prepared: Prepared, answer: Row) -> Explained:
        """Explain the answer for one object.

        Parameters
        ----------
        record : Identity
            The object.
        prepared : Prepared
            What the network is given.
        answer : dict
            The learned row.

        Returns
        -------
        Explained
            With checks; it depends on no other object.
        """
        how = self.explanation
        inputs = self._network[0].inputs([prepared])
        neutral = {
            array.name: to_tensor(np.asarray(array.neutral(prepared), np.float32))[None].to(self.device)
            for array in how.arrays
        }
        function, _ = self._functions["model"]
        inputs = {name: v.float() if name in neutral else v for name, v in inputs.items()}
        ends = answers_at(function, {k: torch.cat([v, neutral.get(k, v)]) for k, v in inputs.items()}, how.chunk)
        places = {array.name: array.places(prepared) for array in how.arrays}
        chosen = self._targets(ends[0])
        maps = {kind: self._maps(kind, inputs, neutral, prepared, places, chosen) for kind in self._functions}
        groups = _as_list(inputs, neutral, places)
        rng = np.random.default_rng([self.seed, zlib.crc32(repr(place(record)).encode())])
        targets = []
        for number, index in enumerate(chosen):
            mine, sums = maps["model"]
            whole, nothing = float(ends[0, index]), float(ends[1, index])
            joined = [np.concatenate([m[name][number] for name in places]) for m, _ in maps.values()]
            towards = joined[0] * (1.0 if self.method == "rollout" or whole >= nothing else -1.0)
            targets.append(
                Target(
                    name=how.targets[index], unit=how.units[index], value=whole, nothing=nothing,
                    attribution={name: mine[name][number] for name in places},
                    incomplete=None if self.method == "rollout" else float(sums[number] - (whole - nothing)),
                    curves=deletion(function, groups, towards, index, (whole, nothing), how.chunk, rng),
                    shuffled=similarity(*joined),
                )
            )  # fmt: skip
        return Explained(
            object_id=record.object_id, place=place(record), prepared=prepared, measured=dict(record.measured),
            answer=answer, places=places, targets=tuple(targets),
        )  # fmt: skip

    def _targets(self, values: np.ndarray) -> list[int]:
        if self.target:
            return [self.explanation.targets.index(self.target)]
        return [int(values.argmax())] if self.task.classes else list(range(len(self.explanation.targets)))

    def _maps(
        self, kind: str, inputs: Mapping[str, torch.Tensor], neutral: Mapping[str, torch.Tensor], prepared: Prepared,
        places: Mapping[str, Places], chosen: Sequence[int],
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:  # fmt: skip
        """By array, the attributions of the groups, shape (targets, groups); and their sums over all elements."""
        how, (function, models) = self.explanation, self._functions[kind]
        if self.method == "rollout":
            share = rollout(models, how, inputs)
            one = _spread(share, {array.name: array.token(prepared) for array in how.arrays if array.token}, places)
            return {name: np.repeat(v[None], len(chosen), axis=0) for name, v in one.items()}, np.ones(len(chosen))
        steps = self.steps or how.steps
        if kind == "shuffled":  # its ranks need no such care
            steps = -(-steps // 4)
        found = integrated_gradients(
            function, inputs, neutral, chosen, steps=steps, chunk=how.chunk, bend=how.bend
        )  # fmt: skip
        grouped = {
            name: np.stack([_by_group(one, places[name].group, len(places[name].part)) for one in each])
            for name, each in found.items()
        }
        return grouped, np.sum([each.reshape(len(chosen), -1).sum(1) for each in found.values()], axis=0)


def _by_group(values: np.ndarray, group: np.ndarray, count: int) -> np.ndarray:
    there = group >= 0
    return np.bincount(group[there], values[there], minlength=count)


def _spread(share: np.ndarray, tokens: Mapping[str, np.ndarray], places: Mapping[str, Places]) -> dict[str, np.ndarray]:
    """A token's share, spread evenly over the groups that enter it."""
    of = {}
    for name, where in places.items():
        there = where.group >= 0
        of[name] = np.zeros(len(where.part), int)
        of[name][where.group[there]] = tokens[name][there]
    members = np.bincount(np.concatenate(list(of.values())), minlength=share.size)
    return {name: share[token] / np.maximum(members[token], 1) for name, token in of.items()}


def _as_list(
    inputs: Mapping[str, torch.Tensor], neutral: Mapping[str, torch.Tensor], places: Mapping[str, Places]
) -> Groups:
    index, count = {}, 0
    for name, where in places.items():
        index[name] = np.where(where.group >= 0, where.group + count, -1)
        count += len(where.part)
    return Groups(inputs=inputs, neutral=neutral, index=index, count=count)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Explanations:
    """What came of it.

    Parameters
    ----------
    task : Task
        The task.
    digest : str
        Of the model, 16 digits.
    method : str
        One of ``METHODS``.
    objects : tuple of Explained
        In the order of their places.
    report : dict
        From ``explain_report.make_report``.
    """

    task: Task
    digest: str
    method: str
    objects: tuple[Explained, ...]
    report: dict[str, Any]


def run_explain(
    bundle: str | Path,
    inputs: Sequence[FileRef],
    *,
    n: int = N,
    seed: int = 0,
    target: str = "",
    method: str = METHODS[0],
    steps: int = 0,
    device: str = "cpu",
    wanted: set[Key] | None = None,
    reader_options: Mapping[str, Any] = MappingProxyType({}),
    measure_options: Mapping[str, Any] = MappingProxyType({}),
    task: Task | None = None,
    say: Say = quiet,
) -> Explanations:
    """Explain the answers of a model for some objects of files.

    Parameters
    ----------
    bundle : str or Path
        Folder of the model, or the name of a task for the one that ships.
    inputs : sequence of FileRef
        Files.
    n : int
        How many objects, drawn by chance.
    seed : int
        Of all that is random.
    target : str
        Column or class to explain; empty for all columns of a regression, or for the class that wins.
    method : str
        ``"integrated_gradients"`` or ``"rollout"``.
    steps : int
        Points of the way from the neutral input; 0 for the task's own.
    device : str
        Where the models run.
    wanted : set of tuple, optional
        Places of the objects; then nothing is drawn.
    reader_options, measure_options : mapping
        Options of the readers and of the classical steps.
    task : Task, optional
        A task that is not in the registry.
    say : callable
        Told what goes on.

    Returns
    -------
    Explanations
        Objects and report.

    Raises
    ------
    BundleError, OptionsError
        Where the model, the options or the files are at fault.
    """
    from finetune.explain_report import make_report

    checked = load_bundle(find_bundle(bundle))
    task = check_version(task, checked) if task is not None else checked.task()
    if not n > 0:
        raise OptionsError([f"n {n!r} is not a whole number above 0"])
    explainer = Explainer(
        task=task, models=checked.models(task), method=method, target=target, steps=steps,
        device=resolve_device(device), seed=seed,
    )  # fmt: skip
    options = {"reader_options": reader_options, "measure_options": measure_options}
    found = (
        sample_records(inputs, task.record, n, seed, most=_LOOK_AT * n, **options)
        if wanted is None
        else chosen_records(inputs, task.record, wanted, **options)
    )
    answer = learned_rows(task, explainer.models, checked.info.calibration, device=device)
    counts: Counter[str] = Counter()
    objects: list[Explained] = []
    for record, prepared in _prepared(task, found, counts, checked.info.calibration, say):
        (row,) = answer.predict([prepared], task.batch_size)
        if all(row.get(name) is None for name in task.label_columns):
            counts["without_an_answer"] += 1
            continue
        objects.append(explainer.explain(record, prepared, row))
        say(f"explained {len(objects)}: {record.object_id or record.source}")
        if wanted is None and len(objects) == n:
            break
    if not objects:
        raise OptionsError([f"no object to explain: {dict(counts) or 'no file holds a ' + task.record.__name__}"])
    objects.sort(key=lambda one: one.place)
    report = make_report(task, objects, method=method, steps=steps or explainer.explanation.steps, seed=seed)
    report["counts"] = {"explained": len(objects), **counts}
    report["model"] = {"task": task.name, "path": checked.path.name, "digest": checked.digest[:16]}
    return Explanations(
        task=task, digest=checked.digest[:16], method=method, objects=tuple(objects), report=report
    )  # fmt: skip


def _prepared(
    task: Task,
    found: Iterable[Identity | Reject],
    counts: Counter[str],
    calibration: Mapping[str, Any],
    say: Say,
) -> Iterable[tuple[Identity, Prepared]]:
    """Records with the network's input, adapted to a survey where the model is."""
    tallies = Tallies()
    for record in found:
        done = (
            [record]
            if isinstance(record, Reject)
            else list(attempt("prepare", task.prepare, tallies, record, where=describe(record)))
        )
        for prepared in done:
            if isinstance(prepared, Reject):
                counts["rejected"] += 1
                say(f"rejected {prepared.source}: {prepared.error}: {prepared.reason}")
            elif not isinstance(record, Reject):
                adapted = "survey" in calibration and task.adjust is not None
                yield record, task.adjust(prepared, calibration["survey"]) if adapted and task.adjust else prepared
