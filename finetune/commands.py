"""Train and evaluate from files and a label table: what the command lines call. Nothing here prints or exits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from finetune import tasks
from finetune.audit import audit, warnings
from finetune.breakdown import find_axes
from finetune.bundle import Bundle, Info, bundled, check_version, load_bundle
from finetune.bundle_writing import save_bundle
from finetune.card import model_card
from finetune.class_sets import set_prefixes
from finetune.dataset import MERGED, RADIUS, Dataset, load_dataset
from finetune.embedding_space import EMBEDDING, EmbeddingSpace
from finetune.evaluate import ANSWERS, DRAWS, against
from finetune.evaluation_page import check_plots, details, draw_place, write_page
from finetune.inputs import list_files
from finetune.judge import answers, figures_of, judge, untrained_rows
from finetune.label_noise import find_suspects, out_of_fold, suspects_csv, suspects_report
from finetune.labels import read_labels
from finetune.predict import load_predictor
from finetune.split import Split, inherit, make_split
from finetune.task import Example, Row, Task
from finetune.train import prepare_all, start_options, train_task
from finetune.training_options import OptionsError, TrainingOptions, make_options
from transforms.records import FileRef

SPLIT = "split.json"
Say = Callable[[str], None]


def quiet(text: str) -> None:
    """Say nothing.

    Parameters
    ----------
    text : str
        Ignored.
    """


def run_train(
    task: str | Task,
    labels: str | Sequence[Mapping[str, Any]],
    inputs: Sequence[str | FileRef],
    output: str | Path,
    *,
    options: Mapping[str, Any] = MappingProxyType({}),
    radius: float = RADIUS,
    label_columns: Mapping[str, str] = MappingProxyType({}),
    split: str = "",
    split_by: str = "group",
    notes: Mapping[str, Sequence[str]] = MappingProxyType({}),
    command: str = "",
    reader_options: Mapping[str, Any] = MappingProxyType({}),
    measure_options: Mapping[str, Any] = MappingProxyType({}),
    draws: int = DRAWS,
    page: str | Path = "",
    suspects: str | Path = "",
    say: Say = quiet,
) -> dict[str, Any]:
    """Fine-tune the model of a task on labelled files, judge it on objects that it has not seen, and save it.

    Parameters
    ----------
    task : str or Task
        Name of a registered task, or a task.
    labels : str or sequence of mapping
        Label file, path or URL; or its rows, as ``read_labels`` gives them.
    inputs : sequence of str or FileRef
        Files with the labelled objects.
    output : str or Path
        Folder of the new bundle.
    options : mapping
        Of ``TrainingOptions``; None means the task's own.
    radius : float
        Of a match by position, arcsec.
    label_columns : mapping of str to str
        Our name of a label column to the one in the file, where they differ.
    split : str
        File of an earlier split (``split.json`` of a bundle) to use again; a new one is made where empty.
    split_by : str
        ``"group"`` or ``"sky:k"``.
    notes : mapping of str to sequence of str
        Sentences for the model card: ``intended_use``, ``data`` (with licences), ``limits``.
    command : str
        How it was called, for the record.
    reader_options, measure_options : mapping
        Options of the readers and of the classical steps.
    draws : int
        Of the bootstrap.
    page : str or Path
        Folder for a page with plots, and the evaluation as JSON; empty for none.
    suspects : str or Path
        File for the labels of training and validation objects that are probably wrong, by the baseline fitted on other
        objects; empty for none, as it takes five fits.
    say : callable
        Told what goes on, a sentence at a time.

    Returns
    -------
    dict
        The evaluation on the test objects.

    Raises
    ------
    OptionsError
        With every fault of the options.
    BackboneError
        Where the backbone is not there, or of the wrong kind.
    LabelError, InputError, LeakError, TrainingError, BundleError
        Where the labels, the files, the split, the training or the output are at fault.
    """
    task = find_task(task)
    start = load_bundle(find_bundle(options["start"])) if options.get("start") else None
    if start is not None and len(start.info.classes) > len(task.classes):
        task = check_version(task, start)  # classes that were added to it are kept
    chosen = make_options(task, {**options, "start": str(start.path)} if start else options)
    if chosen.backbone:
        start_options(task, chosen)  # a fault of it is told before any work
    dataset = read_dataset(task, labels, inputs, radius, label_columns, reader_options, measure_options, say)
    plan = plan_split(task, dataset.examples, chosen.seed, split, split_by, start, say)
    parts = plan.apply(dataset.examples)
    say("split: " + ", ".join(f"{len(part)} {name}" for name, part in parts.items()))
    trained = train_task(task, parts["train"], parts["validation"], chosen)
    if "augmented" in trained.counts:
        _say_copies(trained.counts["augmented"], say)
    kept, rows, vectors = _answers(task, trained.predictor(chosen.device, embeddings=bool(page)), parts["test"])
    report = judge(task, rows, kept, draws)
    if kept:
        before = untrained_rows(trained, parts["train"], kept)
        report["untrained"] = figures_of(task, before, kept)
        report["audit"] = audit(task, rows, before, kept, find_axes(task, rows, kept))
        _warn(report["audit"], say)
    data = {"fingerprint": dataset.fingerprint, "counts": dict(dataset.counts), "notes": dict(notes), **trained.counts}
    if suspects:
        report["suspect_labels"] = _suspects_of_training(
            task, [*parts["train"], *parts["validation"]], chosen, suspects, say
        )
    if trained.backbone:
        data["backbone"] = dict(trained.backbone)
    if start is not None:
        data["start"] = {"digest": start.digest, "created_by": start.info.created_by}
    info = Info(
        task=task.name, task_version=task.version, package_version=version("nightcat"), created_by=command,
        seed=chosen.seed, data=data, build=trained.build, calibration=trained.calibration, rule=trained.rule,
        training={"options": trained.options.as_dict(), "history": trained.history}, metrics=report,
        classes=task.classes,
    )  # fmt: skip
    bundle = save_bundle(
        output, info=info, models=trained.models, baseline=trained.baseline, storage=chosen.storage,
        space=trained.space, extra={SPLIT: plan.content()},
    )  # fmt: skip
    say(f"saved {bundle.path}, digest {bundle.digest[:16]}")
    report = finish(report, bundle, dataset)
    return _on_page(page, task, report, rows, kept, say, trained.space, vectors)


def _say_copies(found: Mapping[str, Any], say: Say) -> None:
    changed = ", ".join(f"{name} changed {n}" for name, n in found["changed"].items())
    replaced = f"; {found['replaced']} could not be prepared" if found["replaced"] else ""
    say(f"augmented copies of training objects: {found['copies']}; {changed}{replaced}")


def _warn(report: Mapping[str, Any], say: Say) -> None:
    for sentence in warnings(report):
        say(f"falls behind: {sentence}")


def plan_split(
    task: Task,
    examples: Sequence[Example],
    seed: int,
    split: str = "",
    by: str = "group",
    start: Bundle | None = None,
    say: Say = quiet,
) -> Split:
    """Deal labelled objects to training, validation and test.

    Parameters
    ----------
    task : Task
        Its classes are dealt evenly.
    examples : sequence of Example
        The objects.
    seed : int
        Of the deal.
    split : str
        File of an earlier split to use again; empty for a new one.
    by : str
        ``"group"`` or ``"sky:k"``.
    start : Bundle or None
        Model that the training starts from: what it has seen never becomes a test object.
    say : callable
        Told where that cannot be known.

    Returns
    -------
    Split
        The plan.

    Raises
    ------
    LeakError
        Where the objects are too few to deal.
    """
    stratify = task.label_columns[0] if task.classes else ""
    plan = Split.load(split) if split else make_split(examples, seed=seed, by=by, stratify=stratify)
    if start is None:
        return plan
    path = start.path / SPLIT
    if not path.is_file():
        say(f"{start.path.name} does not tell which objects it was trained on: test objects may be among them")
        return plan
    return inherit(plan, Split.load(path), examples)


def run_evaluate(
    bundle: str | Path,
    labels: str | Sequence[Mapping[str, Any]],
    inputs: Sequence[str | FileRef],
    *,
    other: str | Path = "",
    radius: float = RADIUS,
    label_columns: Mapping[str, str] = MappingProxyType({}),
    seen: bool = False,
    device: str = "cpu",
    dtype: str = "fp32",
    reader_options: Mapping[str, Any] = MappingProxyType({}),
    measure_options: Mapping[str, Any] = MappingProxyType({}),
    draws: int = DRAWS,
    task: Task | None = None,
    page: str | Path = "",
    suspects: str | Path = "",
    say: Say = quiet,
) -> dict[str, Any]:
    """Judge a model on labelled files, beside its baseline and, where asked, another model.

    Parameters
    ----------
    bundle : str or Path
        Folder of the model, or the name of a task for the one that ships.
    labels : str or sequence of mapping
        Label file; or its rows, as ``read_labels`` gives them.
    inputs : sequence of str or FileRef
        Files with the labelled objects.
    other : str or Path
        Folder of a model to compare with; empty for none.
    radius : float
        Of a match by position, arcsec.
    label_columns : mapping of str to str
        Our name of a label column to the one in the file, where they differ.
    seen : bool
        Judge on objects that the model was trained or tuned on, too. They are left out otherwise, and counted.
    device, dtype : str
        Where and in which precision the models run.
    reader_options, measure_options : mapping
        Options of the readers and of the classical steps.
    draws : int
        Of the bootstrap.
    task : Task, optional
        A task that is not in the registry.
    page : str or Path
        As in ``run_train``.
    suspects : str or Path
        File for the labels of the judged objects that are probably wrong; empty for none. The report has them anyway.
    say : callable
        Told what goes on.

    Returns
    -------
    dict
        The evaluation.

    Raises
    ------
    BundleError, LabelError, InputError
        Where the model, the labels or the files are at fault.
    """
    checked = load_bundle(find_bundle(bundle))
    task = check_version(task, checked) if task is not None else checked.task()
    dataset = read_dataset(task, labels, inputs, radius, label_columns, reader_options, measure_options, say)
    models = [] if seen else [checked, *([load_bundle(find_bundle(other))] if other else [])]
    fresh = unseen(dataset.examples, models)
    left_out = len(dataset.examples) - len(fresh)
    if left_out:
        say(f"{left_out} objects are left out: the model was trained or tuned on their groups")
    predictor = load_predictor(checked.path, device=device, dtype=dtype, task=task, embeddings=bool(page))
    kept, rows, vectors = _answers(task, predictor, fresh)
    report = judge(task, rows, kept, draws)
    report["left_out_as_seen"] = left_out
    others: list[Row] | None = None
    if other and kept:
        rival = load_predictor(find_bundle(other), device=device, dtype=dtype, task=task)
        _, others = answers(task, rival, fresh)
        report["against"] = {"digest": rival.digest, **against(task, rows, others, kept, draws=draws)}
    if kept:
        believed = "learned" if set_prefixes(task) == ("",) else "best"  # where the best answer has no probabilities
        report["suspect_labels"] = _suspects(task, rows, kept, believed, suspects, say)
        report["audit"] = audit(task, rows, others, kept, find_axes(task, rows, kept))
        _warn(report["audit"], say)
    report = finish(report, checked, dataset)
    return _on_page(page, task, report, rows, kept, say, checked.space(), vectors)


def _answers(
    task: Task, predictor: Any, examples: Sequence[Example]
) -> tuple[list[Example], list[Row], list[np.ndarray | None]]:
    """Objects, their rows, and apart from them the embeddings: they are no figure that is judged."""
    kept, rows = answers(task, predictor, examples)
    vectors = [row.get(EMBEDDING) for row in rows]
    return kept, [{**row, EMBEDDING: None} if EMBEDDING in row else row for row in rows], vectors


def _suspects(
    task: Task, rows: Sequence[Row], kept: Sequence[Example], answer: str, path: str | Path, say: Say
) -> dict[str, Any]:
    """Suspect labels for a report, and all of them in a file where one is asked for."""
    found = find_suspects(task, rows, kept, ANSWERS[answer])
    if path:
        Path(path).write_text(suspects_csv(found), encoding="utf-8")
        say(f"{len(found)} of {len(kept)} labels are suspect: wrote {path}")
    return suspects_report(found, len(kept), answer)


def _suspects_of_training(
    task: Task, examples: Sequence[Example], options: TrainingOptions, path: str | Path, say: Say
) -> dict[str, Any]:
    """The same of what a training learns from, by baselines that have not learnt from the object."""
    kept, prepared, _ = prepare_all(task, examples)
    return _suspects(task, *out_of_fold(task, kept, prepared, seed=options.seed)[::-1], "baseline", path, say)


def _on_page(
    folder: str | Path, task: Task, report: dict[str, Any], rows: Sequence[Row], kept: Sequence[Example], say: Say,
    space: EmbeddingSpace | None, vectors: Sequence[np.ndarray | None],
) -> dict[str, Any]:  # fmt: skip
    """Write the page of an evaluation, if one is asked for; where nothing could be judged, there is none."""
    if not folder:
        return report
    if not kept:
        say(f"no page in {folder}: no object could be judged")
        return report
    axes = find_axes(task, rows, kept)
    report = {**report, **details(task, rows, kept, axes)}
    title = f"{report['model']['task']}: model {report['model']['digest']}"
    check_plots()
    place = draw_place(task, space, vectors, rows, kept) if space is not None else ""
    say(f"wrote {write_page(folder, task, report, rows, kept, axes, title, place)}")
    return report


def find_task(task: str | Task) -> Task:
    """Import a task by name.

    Parameters
    ----------
    task : str or Task
        Name, or the task itself.

    Returns
    -------
    Task
        The task.

    Raises
    ------
    OptionsError
        For an unknown name.
    """
    if isinstance(task, Task):
        return task
    try:
        return tasks.get(task)
    except KeyError as error:
        raise OptionsError([str(error.args[0])]) from error


def find_bundle(name: str | Path) -> Path:
    """Folder of a model.

    Parameters
    ----------
    name : str or Path
        A folder, or the name of a task for the model that ships.

    Returns
    -------
    Path
        For ``load_bundle``.
    """
    path = Path(name)
    return bundled(str(name)) if not path.exists() and str(name) in tasks.names() else path


def read_dataset(
    task: Task,
    labels: str | Sequence[Mapping[str, Any]],
    inputs: Sequence[str | FileRef],
    radius: float,
    label_columns: Mapping[str, str],
    reader_options: Mapping[str, Any],
    measure_options: Mapping[str, Any],
    say: Say,
) -> Dataset:
    """Read labels and files, and say what did not match.

    Parameters
    ----------
    task : Task
        Names record class and label columns.
    labels : str or sequence of mapping
        Label file; or its rows, as ``read_labels`` gives them.
    inputs : sequence of str or FileRef
        Files.
    radius : float
        Of a match by position, arcsec.
    label_columns : mapping of str to str
        Our name of a label column to the one in the file, where they differ.
    reader_options, measure_options : mapping
        Options of the readers and of the classical steps.
    say : callable
        Told the counts.

    Returns
    -------
    Dataset
        Labelled examples.
    """
    if not radius > 0:
        raise OptionsError([f"radius {radius!r} is not a number of arcsec above 0"])
    rows = read_labels(labels, task.label_columns, label_columns) if isinstance(labels, str) else labels
    dataset = load_dataset(
        task, rows, list_files(inputs), radius=radius, reader_options=reader_options, measure_options=measure_options
    )
    counts = {name: count for name, count in dataset.counts.items() if count or name != MERGED}
    say(", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items()))
    for reject in dataset.rejects[:5]:
        say(f"rejected {reject.source}: {reject.error}: {reject.reason}")
    return dataset


def seen_groups(bundle: Bundle) -> set[str]:
    """Groups that a model was trained or tuned on.

    Parameters
    ----------
    bundle : Bundle
        The model.

    Returns
    -------
    set of str
        Of its ``split.json``; empty where it has none.
    """
    path = bundle.path / SPLIT
    return {g for g, part in Split.load(path).parts.items() if part != "test"} if path.is_file() else set()


def unseen(examples: Sequence[Example], bundles: Iterable[Bundle]) -> list[Example]:
    """Objects that may judge all of some models.

    Parameters
    ----------
    examples : sequence of Example
        Any.
    bundles : iterable of Bundle
        The models.

    Returns
    -------
    list of Example
        Those of groups that none of them was trained or tuned on.
    """
    seen = {group for bundle in bundles for group in seen_groups(bundle)}
    return [example for example in examples if example.group not in seen]


def run_card(bundle: str | Path, evaluations: Mapping[str, Mapping[str, Any]], output: str | Path) -> Path:
    """Write the model card of a bundle.

    Parameters
    ----------
    bundle : str or Path
        Folder of the model, or the name of a task; what it says of its own test objects comes first.
    evaluations : mapping of str to mapping
        Further evaluations by title, from ``run_evaluate``.
    output : str or Path
        Markdown file to write.

    Returns
    -------
    Path
        The file.
    """
    checked = load_bundle(find_bundle(bundle))
    path = Path(output)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(model_card(checked.task(), checked.info, checked.digest, evaluations), encoding="utf-8")
    return path


def finish(report: dict[str, Any], bundle: Bundle, dataset: Dataset) -> dict[str, Any]:
    """Complete an evaluation by what it was made from.

    Parameters
    ----------
    report : dict
        From ``evaluate``.
    bundle : Bundle
        The model.
    dataset : Dataset
        The data.

    Returns
    -------
    dict
        With ``model`` and ``data``.
    """
    model = {"task": bundle.info.task, "path": bundle.path.name, "digest": bundle.digest[:16]}
    data = {"fingerprint": dataset.fingerprint, **dataset.counts}
    return {**report, "model": model, "data": data}
