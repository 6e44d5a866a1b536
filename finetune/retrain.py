"""The periodic job: decide whether to train again, do it from production, and let the gate decide on the result.

Everything is kept below the snapshot of the data. Killed anywhere and run again, it goes on with that snapshot: from
the last whole checkpoint, with the candidate that is there, or with the decision that was taken.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fsspec
from safetensors import SafetensorError

from finetune.added_classes import FEWEST, Classes, judge_added, labelled, not_learnt, plan_classes
from finetune.bundle import Bundle, BundleError, bundled, check_version, load_bundle
from finetune.bundle_files import INFO
from finetune.commands import SPLIT, Say, find_task, quiet, read_dataset, run_evaluate, run_train
from finetune.dataset import content_digest, read_once
from finetune.evaluate import DRAWS
from finetune.gate import Limits
from finetune.inputs import InputError
from finetune.jsonfile import json_bytes
from finetune.labels import LabelError
from finetune.near_duplicates import mark_twins
from finetune.registry import DIGITS, Registry
from finetune.registry_commands import TEST, run_promote
from finetune.retrain_report import readable
from finetune.snapshot import (
    LABELS,
    REPORT,
    SNAPSHOTS,
    Material,
    SnapshotError,
    check_snapshot,
    digest_of,
    label_groups,
    label_sources,
    label_text,
    read_report,
    snapshots,
    write_snapshot,
)
from finetune.split import LeakError, Split, inherit, make_split
from finetune.task import Example, Task
from finetune.teach import teach_again
from finetune.training_options import OptionsError
from finetune.watched_trainer import TrainingError
from transforms.records import FileRef
from transforms.store import Busy, Store

LOCK, HOLDER = "retrain.lock", "retrain.json"
CANDIDATE, CHECKPOINTS, TRAIN, FROZEN, PLAN = "candidate", "checkpoints", "train.csv", "frozen.csv", "plan.json"
TAUGHT, TRAINED = (
    "taught.csv",
    "trained",
)  #: Objects of classes that stay taught, and a model that is to be taught them.
#: The first retraining freezes its test part for all decisions to come.
FIRST_SHARES = {"train": 0.6, "validation": 0.15, "test": 0.25}
#: What no second try with the same data would mend: the snapshot is closed with a report.
HOPELESS = (TrainingError, LabelError, OptionsError, LeakError, InputError)


class RetrainError(ValueError):
    """The retraining cannot go on; production is as it was, and the message says what to do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """When to train again.

    Parameters
    ----------
    min_labels : int
        New labelled objects that are enough.
    max_age : float or None
        Days that a model may be in production; None for any.
    floors : mapping of str to float
        Lowest recall by class, for the gate.
    limits : Limits
        Of the gate.
    draws : int
        Of the bootstrap.
    class_labels : int
        Labelled objects with which a taught class becomes a full one.
    """

    min_labels: int = 100
    max_age: float | None = None
    floors: Mapping[str, float] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    draws: int = DRAWS
    class_labels: int = FEWEST


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """Whether to train again.

    Parameters
    ----------
    wanted : bool
        It is.
    reasons : tuple of str
        Why, or why not.
    snapshot : str
        Digest of the data.
    classes : Classes
        The task with the classes that the new model will have.
    """

    wanted: bool
    reasons: tuple[str, ...]
    snapshot: str
    classes: Classes


def run_retrain(
    task: str | Task,
    material: Material,
    registry: str,
    policy: Policy = Policy(),
    *,
    dry_run: bool = False,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    say: Say = quiet,
) -> dict[str, Any]:
    """Train again if there is a reason to, and promote the result if it holds.

    Parameters
    ----------
    task : str or Task
        What to train.
    material : Material
        Labels, files, alarms and options.
    registry : str
        Folder of the registry, on a local disk.
    policy : Policy
        When to train again.
    dry_run : bool
        Decide, and do nothing.
    now : callable
        The time.
    say : callable
        Told what goes on.

    Returns
    -------
    dict
        ``task``, ``outcome`` (``nothing to do``, ``would retrain``, ``promoted``, ``refused`` or ``failed``),
        ``reasons``, ``snapshot``, ``waiting`` (classes that stay taught, and why) and, where something was trained,
        ``candidate``, ``gate``, ``held_out``, ``added`` (classes that became full ones), ``taught`` (those taught
        again) and ``path`` of the snapshot.

    Raises
    ------
    Busy
        Where another retraining goes on; the message says who holds it.
    RetrainError, SnapshotError, OSError
        Where it cannot go on now; the next run goes on from there.
    """
    task = find_task(task)
    held = Registry(registry)
    if not held.store.local:
        raise RetrainError(f"--registry {registry}: a retraining needs a folder on a disk of this machine; mount it")
    root = Path(held.store.path(f"{task.name}/{SNAPSHOTS}"))
    with _alone(held.store, task.name, registry):
        _sweep(root)
        start = production_model(held, task)
        if start is not None and len(start.info.classes) > len(task.classes):
            task = check_version(task, start)  # with the classes that were added before
        unfinished = [folder for folder in snapshots(root) if read_report(folder) is None]
        for folder in unfinished:
            going = None if dry_run else _resume(held, task, folder, start, policy, say)
            if going is not None:
                return going
        decision = decide(task, material, held, start, policy, now())
        task = decision.classes.task
        report: dict[str, Any] = {"task": task.name, "reasons": list(decision.reasons), "snapshot": decision.snapshot}
        report["waiting"] = dict(decision.classes.waiting)
        if not decision.wanted or dry_run:
            return report | {"outcome": "would retrain" if decision.wanted else "nothing to do"}
        say(f"retraining {task.name}: {'; '.join(decision.reasons)}")
        folder = root / decision.snapshot
        config = {
            "task": task.name, "version": task.version, "start": start.digest if start else "",
            "options": dict(material.options), "alarms": list(material.alarms), "counts": dict(material.counts),
            "reasons": list(decision.reasons), "classes": list(task.classes), "added": list(decision.classes.added),
            "waiting": dict(decision.classes.waiting),
        }  # fmt: skip
        write_snapshot(folder, material, config, task.label_columns)
        return _carry_out(held, task, folder, start, policy, say)


def _sweep(root: Path) -> None:
    """Remove folders that were being written when their writer was killed."""
    for folder in [*root.glob(".*"), *root.glob("*/.*")]:
        if folder.is_dir():
            shutil.rmtree(folder)


def decide(
    task: Task, material: Material, registry: Registry, start: Bundle | None, policy: Policy, now: datetime
) -> Decision:
    """Is there a reason to train again?

    Parameters
    ----------
    task : Task
        The task.
    material : Material
        What there is to learn from.
    registry : Registry
        Models and earlier snapshots.
    start : Bundle or None
        The model that answers now.
    policy : Policy
        When to train again.
    now : datetime
        With time zone.

    Returns
    -------
    Decision
        With its reasons.
    """
    root = Path(registry.store.path(f"{task.name}/{SNAPSHOTS}"))
    classes = plan_classes(task, start, material, policy.class_labels)
    digest = digest_of(material, task.name, task.version, start.digest if start else "", tuple(classes.added))
    done = read_report(root / digest)
    if done is not None:
        same = (f"the same data was decided on before: {done['outcome']}",)
        return Decision(wanted=False, snapshot=digest, reasons=same, classes=classes)
    known, acted = _known(root, start)
    new = material.groups() - known
    fresh = [alarm for alarm in material.alarms if alarm not in acted]
    age = _age(registry, task.name, now)
    reasons: list[str] = []
    no: list[str] = []
    (reasons if len(new) >= policy.min_labels else no).append(
        f"{len(new)} objects with new labels, {policy.min_labels} are enough"
    )
    for name in classes.added:
        found = len(labelled(task, material, name) - known)
        if found >= policy.class_labels:
            reasons.append(f"class {name!r} has {found} labelled objects, {policy.class_labels} are enough to learn it")
    if fresh:
        reasons.append(f"{len(fresh)} drift alarms: {'; '.join(fresh[:3])}{' ...' if len(fresh) > 3 else ''}")
    else:
        no.append("no new drift alarm")
    if policy.max_age is not None and age is not None:
        old = age >= policy.max_age
        (reasons if old else no).append(f"in production for {age:.1f} days, {policy.max_age:g} are allowed")
    if not material.rows:
        nothing = ("no label matches a row of the catalog",)
        return Decision(wanted=False, snapshot=digest, reasons=nothing, classes=classes)
    return Decision(wanted=bool(reasons), reasons=tuple(reasons or no), snapshot=digest, classes=classes)


def production_model(registry: Registry, task: Task) -> Bundle | None:
    """The model that answers now.

    Parameters
    ----------
    registry : Registry
        Where production is looked up.
    task : Task
        The task.

    Returns
    -------
    Bundle or None
        In production, else the one that ships; None where there is neither.
    """
    if registry.state(task.name).production:
        return registry.bundle(task.name)
    try:
        return load_bundle(bundled(task.name))
    except BundleError:
        return None


def _known(root: Path, start: Bundle | None) -> tuple[set[str], set[str]]:
    """Groups that were trained on or decided on, and alarms that were acted on."""
    known: set[str] = set()
    acted: set[str] = set()
    if start is not None and (start.path / SPLIT).is_file():
        known |= set(Split.load(start.path / SPLIT).parts)
    for folder in snapshots(root):
        try:
            _, config = check_snapshot(folder)
            report = read_report(folder)
        except SnapshotError:
            continue  # one that is damaged tells nothing
        if report is None or report["outcome"] not in ("promoted", "refused"):
            continue
        acted |= set(config.get("alarms", ()))
        known |= label_groups(folder / LABELS)
    return known, acted


def _age(registry: Registry, task: str, now: datetime) -> float | None:
    state = registry.state(task)
    times = [event["time"] for event in state.events if event["digest"] == state.production and state.production]
    times = times[-1:]
    return (now - datetime.fromisoformat(times[0])).total_seconds() / 86400 if times else None


def _resume(
    registry: Registry, task: Task, folder: Path, start: Bundle | None, policy: Policy, say: Say
) -> dict[str, Any] | None:
    """Go on with a snapshot that was cut off; None where another model came into production since."""
    _, config = check_snapshot(folder)
    digest = start.digest if start else ""
    candidate = _candidate(folder)
    ours = candidate is not None and digest == candidate.digest
    if config["start"] != digest and not ours:
        _close(folder, {"task": task.name, "outcome": "abandoned", "snapshot": folder.name,
                        "reasons": [f"another model ({digest[:DIGITS]}) came into production meanwhile"]})  # fmt: skip
        say(f"snapshot {folder.name} is abandoned: another model came into production")
        return None
    say(f"going on with snapshot {folder.name}")
    known = tuple(config.get("classes", task.classes))
    if known != task.classes and task.with_classes is not None:
        task = task.with_classes(known)
    return _carry_out(registry, task, folder, _former(registry, task, config["start"]), policy, say)


def _former(registry: Registry, task: Task, digest: str) -> Bundle | None:
    """The model that a snapshot starts from; it may be in production no longer."""
    if digest[:DIGITS] in registry.digests(task.name):
        return registry.bundle(task.name, digest)
    return load_bundle(bundled(task.name)) if digest else None


def _carry_out(
    registry: Registry, task: Task, folder: Path, start: Bundle | None, policy: Policy, say: Say
) -> dict[str, Any]:
    files, config = check_snapshot(folder)
    report: dict[str, Any] = {"task": task.name, "snapshot": folder.name, "path": str(folder)}
    report |= {"reasons": config["reasons"], "alarms": config["alarms"], "counts": config["counts"]}
    report["start"] = config["start"][:DIGITS]
    report["waiting"] = config.get("waiting", {})
    try:
        _check_files(files)
        with read_once(folder):
            _act(registry, task, folder, files, start, config, policy, report, say)
    except HOPELESS as error:
        report |= {"outcome": "failed", "error": f"{type(error).__name__}: {error}"}
    _close(folder, report)
    return report


def _act(
    registry: Registry, task: Task, folder: Path, files: Sequence[FileRef], start: Bundle | None,
    config: Mapping[str, Any], policy: Policy, report: dict[str, Any], say: Say,
) -> None:  # fmt: skip
    """Train, judge and promote; what came of it is added to the report."""
    candidate = _candidate(folder)
    if candidate is None:
        _plan(registry, task, folder, files, start, report["waiting"], say)
        candidate = _train(task, folder, files, start, config["options"], policy, say)
    report["candidate"] = candidate.digest[:DIGITS]
    report["trained"] = {name: candidate.info.data.get(name) for name in ("train", "validation", "refused")}
    if config.get("added"):
        report["added"] = judge_added(
            task, config["added"], _unseen(task, folder, files, candidate), candidate, start, say=say
        )
    if report["waiting"]:
        report["taught"] = _taught(candidate, report["waiting"])
    faults = not_learnt(report.get("added", {}))
    gate = _decided(registry, task.name, candidate) or _judge(
        registry, task, folder, files, candidate, policy, faults, say
    )
    report |= {"gate": gate, "outcome": "refused" if gate["refused"] else "promoted"}
    report["held_out"] = _held_out(task, folder, files, candidate, start, policy, say)


def _check_files(files: Sequence[FileRef]) -> None:
    """The files of a snapshot must still be there as they were."""
    faults = []
    for file in files:
        try:
            with fsspec.open(file.url, "rb") as stream:
                same = hashlib.file_digest(stream, "sha256").hexdigest() == file.digest
            if not same:
                faults.append(f"{file.url} was changed")
        except FileNotFoundError:
            faults.append(f"{file.url} is gone")
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise InputError(f"files of the snapshot are not what they were: {'; '.join(faults[:3])}{more}")


def _dataset(task: Task, labels: Path, files: Sequence[FileRef], say: Say) -> list[Example]:
    return list(read_dataset(task, str(labels), files, 1.0, {}, {}, {}, say).examples)


def _plan(
    registry: Registry, task: Task, folder: Path, files: Sequence[FileRef], start: Bundle | None,
    waiting: Mapping[str, str], say: Say,
) -> None:  # fmt: skip
    """Say which objects train, tune and judge; what the registry has frozen does none of it."""
    if (folder / PLAN).is_file():
        return
    everything = _dataset(task, folder / LABELS, files, say)
    store = Store(str(folder))
    examples = [one for one in everything if one.labels.get(task.label_columns[0]) not in waiting]
    if len(examples) < len(everything):
        aside = [one for one in everything if one.labels.get(task.label_columns[0]) in waiting]
        store.write(TAUGHT, label_text(_rows(aside), task.label_columns).encode())
        say(f"{len(aside)} objects are of classes that stay taught")
    every = len(examples)
    frozen = _frozen(registry, task, say)
    shares = FIRST_SHARES if frozen is None else None
    if frozen is not None:
        together, _ = mark_twins([*frozen, *examples])
        frozen, examples = together[: len(frozen)], together[len(frozen) :]
        marks = {mark for example in frozen for mark in _marks(example)}
        examples = [example for example in examples if marks.isdisjoint(_marks(example))]
        say(f"{every - len(examples)} objects are left out: they are frozen for the test")
    if not examples:
        raise LabelError("all labelled objects are frozen for the test: none is left to learn from")
    stratify = task.label_columns[0] if task.classes else ""
    plan = make_split(examples, shares=shares, stratify=stratify)
    if start is not None and (start.path / SPLIT).is_file():
        plan = inherit(plan, Split.load(start.path / SPLIT), examples)
    store.write(TRAIN, label_text(_rows(examples), task.label_columns).encode())
    if frozen is None:
        test = plan.apply(examples)["test"]
        store.write(FROZEN, label_text(_rows(test), task.label_columns).encode())
    store.write(PLAN, json_bytes(plan.content()))


def _frozen(registry: Registry, task: Task, say: Say) -> list[Example] | None:
    """Test objects of the earlier decisions; None before the first."""
    try:
        known = json.loads(registry.store.read(f"{task.name}/{TEST}"))
    except FileNotFoundError:
        return None
    dataset = read_dataset(task, known["labels"], known["inputs"], known["radius"], known["columns"], {}, {}, say)
    return list(dataset.examples)


def _marks(example: Example) -> set[str]:
    own = {f"group {example.group}", f"data {content_digest(example.record)}"}
    own |= {f"near-duplicates {example.twins}"} if example.twins else set()
    return own | {f"object {example.record.object_id}"} if example.record.object_id else own


def _rows(examples: Sequence[Example]) -> list[dict[str, Any]]:
    return [
        {
            "source": e.record.source, "hdu": e.record.hdu, "row": e.record.row, "group": e.group, "origin": e.origin,
            **e.labels,
        }
        for e in examples
    ]  # fmt: skip


def _train(
    task: Task, folder: Path, files: Sequence[FileRef], start: Bundle | None, options: Mapping[str, Any],
    policy: Policy, say: Say,
) -> Bundle:  # fmt: skip
    given = {**options, "checkpoints": str(folder / CHECKPOINTS), "resume": True}
    if start is not None:
        given["start"] = str(start.path)
    later = (folder / TAUGHT).is_file()
    made = folder / (TRAINED if later else CANDIDATE)
    try:
        if not (made / INFO).is_file():
            run_train(
                task, str(folder / TRAIN), files, made, options=given, split=str(folder / PLAN),
                command=f"nightcat retrain {task.name}, snapshot {folder.name}", draws=policy.draws, say=say,
            )  # fmt: skip
    except HOPELESS:
        raise
    except (RuntimeError, SafetensorError) as error:  # what torch and safetensors say of a disk that is full
        raise RetrainError(f"the training of snapshot {folder.name} stopped: {error}; run it again to go on") from error
    if later:
        teach_again(task, load_bundle(made), _dataset(task, folder / TAUGHT, files, quiet), folder / CANDIDATE, say=say)
    return load_bundle(folder / CANDIDATE)


def _unseen(task: Task, folder: Path, files: Sequence[FileRef], candidate: Bundle) -> list[Example]:
    """Objects of the files that hold any which the candidate was not trained on."""
    parts = Split.load(candidate.path / SPLIT).parts
    fresh = {group for group, part in parts.items() if part != "train"}
    sources = label_sources(folder / TRAIN, fresh)
    return _dataset(task, folder / TRAIN, [file for file in files if file.source in sources], quiet)


def _taught(candidate: Bundle, waiting: Mapping[str, str]) -> dict[str, int]:
    """Classes that the candidate knows by examples, and by how many; 0 where they have too little in common in it."""
    space = candidate.space()
    known = {one.name: len(one.examples) for one in space.taught} if space is not None else {}
    return {name: known.get(name, 0) for name in waiting}


def _candidate(folder: Path) -> Bundle | None:
    return load_bundle(folder / CANDIDATE) if (folder / CANDIDATE / INFO).is_file() else None


def _decided(registry: Registry, task: str, candidate: Bundle) -> dict[str, Any] | None:
    """The comparison behind a decision on this candidate that was taken before we were cut off."""
    for event in reversed(registry.state(task).events):
        if event["digest"] == candidate.digest[:DIGITS] and event["what"] in ("promoted", "refused"):
            gate: dict[str, Any] = json.loads(registry.store.read(f"{task}/{event['gate']}"))
            return gate
    return None


def _judge(
    registry: Registry, task: Task, folder: Path, files: Sequence[FileRef], candidate: Bundle, policy: Policy,
    faults: Sequence[str], say: Say,
) -> dict[str, Any]:  # fmt: skip
    first = (folder / FROZEN).is_file() and not registry.store.exists(f"{task.name}/{TEST}")
    return run_promote(
        candidate.path, registry.store.url, labels=str(folder / FROZEN) if first else "", inputs=files if first else (),
        floors=policy.floors, limits=policy.limits, draws=policy.draws, faults=faults, say=say,
    )  # fmt: skip


def _held_out(
    task: Task, folder: Path, files: Sequence[FileRef], candidate: Bundle, start: Bundle | None, policy: Policy,
    say: Say,
) -> dict[str, Any]:  # fmt: skip
    """Candidate and former production on new objects that neither has seen."""
    other = "" if start is None or start.digest == candidate.digest else str(start.path)
    return run_evaluate(
        candidate.path, str(folder / TRAIN), files, other=other, draws=policy.draws, task=task, say=say
    )  # fmt: skip


def _close(folder: Path, report: Mapping[str, Any]) -> None:
    """Write the report, last of all, and let go of what only the training needed."""
    store = Store(str(folder))
    store.write("report.md", readable(report).encode())
    store.write(REPORT, json_bytes(report))
    for name in (CHECKPOINTS, TRAINED):
        shutil.rmtree(folder / name, ignore_errors=True)


@contextmanager
def _alone(store: Store, task: str, registry: str) -> Iterator[None]:
    """One retraining of a task at a time; who comes second is told who holds it."""
    with ExitStack() as stack:
        try:
            stack.enter_context(store.held(f"{task}/{LOCK}", f"the retraining of {task!r}"))
        except Busy as error:
            try:
                holder = json.loads(store.read(f"{task}/{HOLDER}"))
                who = f"process {holder['pid']} on {holder['host']}, since {holder['since']}"
            except (OSError, ValueError, KeyError):
                who = "another process"
            raise Busy(f"{registry}: task {task!r} is being retrained by {who}; wait for it") from error
        own = {"host": socket.gethostname(), "pid": os.getpid(), "since": datetime.now(UTC).isoformat("T", "seconds")}
        store.write(f"{task}/{HOLDER}", json_bytes(own))
        yield
        store.remove(f"{task}/{HOLDER}")
