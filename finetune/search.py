"""Hyper-parameters by ``optuna``: each trial is a training, judged by its validation loss; no test object is seen.

The first trial is what a training without a search would be, so that the best one is never worse on the validation
objects. A trial that does worse than the median of the others at the same step is stopped. The study is one file, so
that a search that was cut off goes on; each trial draws from a generator of its own, and so is the same in either case.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from finetune.bundle import Bundle, load_bundle
from finetune.commands import SPLIT, Say, find_bundle, find_task, plan_split, quiet, read_dataset, run_train
from finetune.dataset import RADIUS
from finetune.jsonfile import json_bytes, plain, write_json
from finetune.page import page, table
from finetune.search_space import Range, Space, parse_space
from finetune.split import Split
from finetune.task import Task
from finetune.train import Data, prepare_data, train_member, with_backbone
from finetune.training_options import OptionsError, TrainingOptions, make_options
from finetune.watched_trainer import TrainingError
from transforms.records import FileRef

STUDY, REPORT, BUNDLE = "study.log", "search", "bundle"
STARTUP = 5  #: Trials at random before the sampler models them, and before any is stopped.


def run_search(
    task: str | Task,
    labels: str | Sequence[Mapping[str, Any]],
    inputs: Sequence[str | FileRef],
    output: str | Path,
    *,
    trials: int = 30,
    space: Mapping[str, str] = MappingProxyType({}),
    options: Mapping[str, Any] = MappingProxyType({}),
    radius: float = RADIUS,
    label_columns: Mapping[str, str] = MappingProxyType({}),
    split: str = "",
    split_by: str = "group",
    command: str = "",
    say: Say = quiet,
    **training: Any,
) -> dict[str, Any]:
    """Search for the options of a training, then train with the best ones and judge that model on the test objects.

    Parameters
    ----------
    task : str or Task
        Name of a registered task, or a task.
    labels : str or sequence of mapping
        Label file, or its rows.
    inputs : sequence of str or FileRef
        Files with the labelled objects.
    output : str or Path
        Folder: ``study.log``, ``split.json``, ``search.json``, ``search.html`` and ``bundle``.
    trials : int
        How many there are to be, those of earlier calls included.
    space : mapping of str to str
        What is searched, as ``finetune.search_space.FORM`` says; rate, decay, dropout and batch where empty.
    options : mapping
        Of ``TrainingOptions``, the same in all trials but for what is searched.
    radius, label_columns, split, split_by, command, say
        As in ``run_train``.
    **training
        Further keywords of ``run_train``, for the last training.

    Returns
    -------
    dict
        ``trials`` (number, state, validation loss, options), ``best``, ``importance``, ``model`` and the evaluation
        of the model under ``metrics``.

    Raises
    ------
    OptionsError
        Where an option is at fault, or the folder holds a search of something else.
    LabelError, InputError, TrainingError, BundleError
        As ``run_train``.
    """
    task = find_task(task)
    if trials < 1:
        raise OptionsError([f"trials {trials!r} is not a whole number of at least 1"])
    start = load_bundle(find_bundle(options["start"])) if options.get("start") else None
    given = {**options, "start": str(start.path)} if start else dict(options)
    fixed = make_options(task, given)
    searched = parse_space(space, fixed, task)
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    dataset = read_dataset(task, labels, inputs, radius, label_columns, {}, {}, say)
    kept = folder / SPLIT
    if not kept.is_file():  # else it is that of the study that goes on
        plan_split(task, dataset.examples, fixed.seed, split, split_by, start, say).save(kept)
    plan = Split.load(kept)
    parts = plan.apply(dataset.examples)
    say("split: " + ", ".join(f"{len(part)} {name}" for name, part in parts.items()))
    study = _open_study(folder / STUDY, _identity(task, dataset.fingerprint, fixed, searched, plan, start))
    data = prepare_data(task, parts["train"], parts["validation"], fixed)
    task, fixed = with_backbone(task, data.build, fixed)
    _run(study, task, data, fixed, searched, trials, say)
    found = _told(study, searched)
    if found["best"] is None:
        raise TrainingError(f"none of {len(found['trials'])} trials of task {task.name} ended with a finite loss")
    write_json(folder / f"{REPORT}.json", found)
    best = {**given, **found["best"]["options"]}
    say(f"best of {len(found['trials'])} trials: number {found['best']['number']}, {_text(found['best']['options'])}")
    report = run_train(
        task, labels, inputs, folder / BUNDLE, options=best, radius=radius, label_columns=label_columns,
        split=str(kept), command=command, say=say, **training,
    )  # fmt: skip
    found = {**found, **report, "trials": found["trials"]}
    write_json(folder / f"{REPORT}.json", found)
    (folder / f"{REPORT}.html").write_text(_page(task, found), encoding="utf-8")
    return found


def _identity(
    task: Task, fingerprint: str, fixed: TrainingOptions, space: Space, plan: Split, start: Bundle | None
) -> dict[str, str]:
    """What must be the same for the losses of two trials to be compared, each as text that tells it apart."""
    elsewhere = ("checkpoints", "resume", "tensorboard", "start")
    said = {k: v for k, v in fixed.as_dict().items() if k not in elsewhere}
    return {
        "task": f"{task.name} {task.version}",
        "data": fingerprint,
        "start": start.digest if start else "",
        "options": json.dumps(plain(said), sort_keys=True),
        "space": ", ".join(f"{name}: {one}" for name, one in sorted(space.items())),
        "split": hashlib.sha256(json_bytes(plan.content())).hexdigest(),
    }


def _open_study(path: Path, identity: Mapping[str, Any]) -> Any:
    """Open or begin the study; trials that were cut off are marked as failed, and their numbers are not used again."""
    optuna = _optuna()
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(path)))
    pruner = optuna.pruners.MedianPruner(n_startup_trials=STARTUP, n_warmup_steps=1)
    study = optuna.create_study(
        study_name="nightcat", storage=storage, direction="minimize", load_if_exists=True, pruner=pruner
    )
    said = study.user_attrs.get("identity")
    if said is None:
        study.set_user_attr("identity", identity)
    elif said != identity:
        other = ", ".join(name for name in identity if said.get(name) != identity[name])
        raise OptionsError([f"{path} is a search with other {other}; name another --output"])
    for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    return study


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise OptionsError(["a search needs the package optuna: pip install 'nightcat[search]'"]) from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def _run(study: Any, task: Task, data: Data, fixed: TrainingOptions, space: Space, trials: int, say: Say) -> None:
    optuna = _optuna()
    counted = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    while (done := len(study.get_trials(deepcopy=False, states=counted))) < trials:
        number = len(study.get_trials(deepcopy=False))
        if number >= 2 * trials + STARTUP:
            raise TrainingError(f"{number - done} of {number} trials failed; see {STUDY}")
        study.sampler = optuna.samplers.TPESampler(
            seed=fixed.seed + 7919 * done, n_startup_trials=STARTUP, multivariate=True, warn_independent_sampling=False
        )
        if not done:
            study.enqueue_trial(_own(fixed, space))
        trial = study.ask()
        options = replace(fixed, **_suggested(trial, space), members=1, tensorboard="", checkpoints="", resume=False)
        try:
            loss = _trial(task, data, options, trial)
        except optuna.TrialPruned:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            say(f"trial {trial.number}: stopped, {_text(trial.params)}")
        except TrainingError as error:  # the loss is not finite: these options do not work
            trial.set_user_attr("reason", str(error))
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            say(f"trial {trial.number}: {error}")
        else:
            study.tell(trial, loss)
            say(f"trial {trial.number}: validation loss {loss:.5g}, {_text(trial.params)}")


def _own(fixed: TrainingOptions, space: Space) -> dict[str, Any]:
    """What a training without a search would use, as far as it lies in the space."""
    own = {}
    for name, one in space.items():
        value = getattr(fixed, name)
        if isinstance(one, Range):
            if value is not None and one.low <= value <= one.high:
                own[name] = value
        elif value in one.values:
            own[name] = value
    return own


def _suggested(trial: Any, space: Space) -> dict[str, Any]:
    found = {}
    for name, one in space.items():
        if not isinstance(one, Range):
            found[name] = trial.suggest_categorical(name, list(one.values))
        elif isinstance(one.low, int) and isinstance(one.high, int):
            found[name] = trial.suggest_int(name, one.low, one.high, log=one.log)
        else:
            found[name] = trial.suggest_float(name, one.low, one.high, log=one.log)
    return found


def _trial(task: Task, data: Data, options: TrainingOptions, trial: Any) -> float:
    """Train once, and give the best validation loss."""
    optuna = _optuna()
    told: list[int] = []

    def tell(step: int, loss: float) -> None:
        told.append(step)
        trial.report(loss, len(told))
        if trial.should_prune():
            raise optuna.TrialPruned

    _, history = train_member(task, data, options, tell=tell)
    losses = [entry["validation"] for entry in history if math.isfinite(entry["validation"])]
    if not losses:
        raise TrainingError("no validation loss was taken: a search needs evaluations and at least one step")
    return min(losses)


def _told(study: Any, space: Space) -> dict[str, Any]:
    optuna = _optuna()
    trials = [
        {"number": t.number, "state": t.state.name.lower(), "validation_loss": t.value, "options": dict(t.params)}
        for t in study.get_trials(deepcopy=False)
    ]
    ended = [t for t in trials if t["state"] == "complete"]
    importance: dict[str, float] = {}
    if len(ended) >= STARTUP and len({t["validation_loss"] for t in ended}) > 1:
        importance = {k: float(v) for k, v in optuna.importance.get_param_importances(study).items()}
    best = min(ended, key=lambda t: (t["validation_loss"], t["number"])) if ended else None
    first = next((t for t in ended if t["number"] == 0), None)
    return {"trials": trials, "best": best, "first": first, "importance": importance, "space": sorted(space)}


def _text(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in options.items())


def _rank(trial: Mapping[str, Any]) -> tuple[bool, float]:
    """The smallest loss first; trials that did not end last."""
    loss = trial["validation_loss"]
    return loss is None, loss or 0.0


def _page(task: Task, found: Mapping[str, Any]) -> str:
    names = found["space"]
    rows = [
        (t["number"], t["state"], t["validation_loss"], *(t["options"].get(name) for name in names))
        for t in sorted(found["trials"], key=_rank)
    ]
    first, best = found["first"], found["best"]
    own = f"; without a search it is {first['validation_loss']:.5g}" if first else ""
    figures, importance = found.get("metrics", {}), found["importance"].items()
    answers = ("learned", "baseline", "best")
    merits = [
        (name, *((figures.get(kind, {}).get(name) or [None])[0] for kind in answers))
        for name in figures.get("learned", {})
    ]
    sections = {
        "Trials": table(("trial", "state", "validation loss", *names), rows),
        "What mattered": table(("option", "share of the variance"), sorted(importance, key=lambda pair: -pair[1])),
        "The best one, trained and judged on the test objects": table(("figure", *answers), merits),
    }  # fmt: skip
    lead = (
        f"{len(rows)} trials. The smallest validation loss is {best['validation_loss']:.5g}, of trial {best['number']}"
        f"{own}. The test objects took no part in the choice."
    )
    return page(f"{task.name}: search for the options of a training", lead, sections)
