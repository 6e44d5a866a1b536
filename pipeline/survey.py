"""The one composition of the pipeline: it reads like the paragraph that describes it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import apache_beam as beam

from pipeline.models import Model
from pipeline.progress import Heartbeat
from pipeline.sinks import StagedFile, StageTables
from pipeline.tables import table_columns
from pipeline.underway import COUNTED, LISTED
from transforms.infer import Infer
from transforms.ingest import Ingest
from transforms.records import FileRef, Item, Reject
from transforms.store import Store


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All that the graph of one night is made from.

    Parameters
    ----------
    files : tuple of FileRef
        Whole files to ingest.
    items : tuple of Item
        Parts of files to read again (a replay); they enter after the ingest.
    rejects : tuple of Reject
        Inputs that could not even be opened.
    models : tuple of Model
        One for each task.
    reader_options, measure_options : mapping
        For the readers and the classical steps.
    night, run_id, version : str
        Constants of every row.
    staging : str
        Where files are staged; its ``staged.json`` lists them.
    order : int
        HEALPix order of the catalog.
    heartbeat : str
        Local folder of the heartbeats, empty for none.
    hints : mapping of str to str
        Beam's resource hints of the inference step.
    """

    files: tuple[FileRef, ...]
    items: tuple[Item, ...] = ()
    rejects: tuple[Reject, ...] = ()
    models: tuple[Model, ...]
    reader_options: Mapping[str, Any] = field(default_factory=dict)
    measure_options: Mapping[str, Any] = field(default_factory=dict)
    night: str
    run_id: str
    version: str
    staging: str
    order: int
    heartbeat: str = ""
    hints: Mapping[str, str] = field(default_factory=dict)


def survey(pipeline: beam.Pipeline, plan: Plan) -> None:
    """Files to items to rows to staged tables; whatever is refused on the way becomes a row of the rejects.

    Parameters
    ----------
    pipeline : beam.Pipeline
        The graph is added to it.
    plan : Plan
        What to process.
    """
    records = tuple({model.record for model in plan.models})
    constants = {"night": plan.night, "package_version": plan.version}
    files = pipeline | "Files" >> beam.Create(list(plan.files)).with_output_types(FileRef)
    ingested = files | "Ingest" >> Ingest(plan.reader_options, records)
    again = pipeline | "Items" >> beam.Create(list(plan.items)).with_output_types(Item)
    items = (ingested.items, again) | "AllItems" >> beam.Flatten()
    inferred = items | "Infer" >> Infer(
        tuple(model.loader for model in plan.models),
        plan.reader_options,
        plan.measure_options,
        constants,
        Heartbeat(plan.heartbeat),
        plan.hints,
    )
    unopened = pipeline | "Unopened" >> beam.Create(list(plan.rejects))
    rejects = (unopened, ingested.rejects, inferred.rejects) | "AllRejects" >> beam.Flatten()
    tables = {model.task: table_columns(model.task, model.classes) for model in plan.models if model.classes}
    staged = {"rows": inferred.rows, "rejects": rejects} | "Stage" >> StageTables(
        plan.staging, plan.run_id, plan.order, plan.night, plan.version, tables
    )
    staged | "List" >> beam.combiners.ToList() | "Note" >> beam.Map(note_staged, plan.staging)
    sums = [_summed(ingested.counts, "Ingested"), _summed(inferred.counts, "Inferred")]
    counts = sums | "AllCounts" >> beam.Flatten() | "ListCounts" >> beam.combiners.ToList()
    counts | "NoteCounts" >> beam.Map(note_counts, plan.staging)


def _summed(counts: beam.PCollection, which: str) -> beam.PCollection:
    """Few numbers of many, before they leave the step that made them."""
    typed = counts | f"{which}Counts" >> beam.Map(_pair).with_output_types(tuple[str, int])
    return typed | f"{which}Sums" >> beam.CombinePerKey(sum)


def _pair(pair: tuple[str, int]) -> tuple[str, int]:
    return pair


def note_counts(counts: Sequence[tuple[str, int]], staging: str) -> None:
    """Write what the stages have counted, by which the driver closes the sums.

    Parameters
    ----------
    counts : sequence of (str, int)
        In any order.
    staging : str
        Folder of this run.
    """
    total: Counter[str] = Counter()
    for name, count in counts:
        total[name] += count
    Store(staging).write(COUNTED, json.dumps(dict(sorted(total.items()))).encode())


def note_staged(staged: Sequence[StagedFile], staging: str) -> None:
    """Write the list of staged files, from which the driver commits.

    Parameters
    ----------
    staged : sequence of StagedFile
        In any order.
    staging : str
        Folder of this run.
    """
    entries = sorted((asdict(file) for file in staged), key=lambda entry: entry["path"])
    Store(staging).write(LISTED, json.dumps(entries).encode())
