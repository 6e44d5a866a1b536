"""From files to references: what kind of file it is, and the parts of it that workers decode one by one."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import apache_beam as beam
from apache_beam.metrics.metric import Metrics

from transforms.attempt import Tallies, attempt, describe
from transforms.measure import STEPS
from transforms.readers import Source, identify
from transforms.records import FileRef, Item, Reject

REJECTS, COUNTS = "rejects", "counts"


def ingest(file: FileRef, options: Mapping[str, Any], records: Collection[type]) -> list[Item]:
    """List the parts of one file.

    Parameters
    ----------
    file : FileRef
        The file.
    options : mapping
        Options of the readers.
    records : collection of type
        Record classes that some task of this run takes; a file of another kind gives no items.

    Returns
    -------
    list of Item
        References; empty for a companion file and for a kind that no task of this run takes.

    Raises
    ------
    Unreadable, NoReader, OSError
        Where the file is damaged, of no known kind, or gone.
    """
    with Source(file, options) as source:
        kind = identify(source)
        if STEPS[kind.record][2] not in records:
            return []
        return list(kind.items(source))


def publish(tallies: Tallies) -> list[tuple[str, int]]:
    """Add the counts since the last call to Beam's counters, whose names are static, and hand them on.

    A runner shows its counters, but not all of them count right: Prism was seen to lose those of a bundle. So the sums
    of a night are closed by what the graph hands on, which is committed with its rows or not at all.

    Parameters
    ----------
    tallies : Tallies
        Emptied.

    Returns
    -------
    list of (str, int)
        ``"<stage>.<entered, done, rejected or out>"`` and count.
    """
    return count(
        {
            f"{stage}.{name}": getattr(tally, name)
            for stage, tally in tallies.drain().items()
            for name in ("entered", "done", "rejected", "out")
        }
    )


def count(numbers: Mapping[str, int]) -> list[tuple[str, int]]:
    """Add to the counters that an engine shows, and give the same numbers for the graph.

    Parameters
    ----------
    numbers : mapping of str to int
        By name of the counter.

    Returns
    -------
    list of (str, int)
        Those that are not zero.
    """
    found = [(name, number) for name, number in numbers.items() if number]
    for name, number in found:
        Metrics.counter("nightcat", name).inc(number)
    return found


class IngestFn(beam.DoFn):
    """``FileRef`` to ``Item``; refused files go to the tag ``rejects``, what was counted to ``counts``.

    Parameters
    ----------
    options : mapping
        Options of the readers.
    records : collection of type
        Record classes that some task takes.
    """

    def __init__(self, options: Mapping[str, Any], records: Collection[type]) -> None:
        self.options = dict(options)
        self.records = tuple(records)

    def process(self, file: FileRef) -> Iterator[Any]:
        """Yield the items of one file.

        Parameters
        ----------
        file : FileRef
            The file.

        Yields
        ------
        Item or TaggedOutput
            Items, or one reject; and counts.
        """
        tallies = Tallies()
        outputs = attempt("ingest", ingest, tallies, file, self.options, self.records, many=True, where=describe(file))
        for output in outputs:
            yield beam.pvalue.TaggedOutput(REJECTS, output) if isinstance(output, Reject) else output
        for pair in publish(tallies):
            yield beam.pvalue.TaggedOutput(COUNTS, pair)


@dataclass
class Ingest(beam.PTransform):
    """Files to items, spread over the workers.

    Parameters
    ----------
    options : mapping
        Options of the readers.
    records : tuple of type
        Record classes that some task takes.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    records: tuple[type, ...] = ()

    def expand(self, files: beam.PCollection) -> Any:
        """Attach the step.

        Parameters
        ----------
        files : PCollection of FileRef
            Input files.

        Returns
        -------
        DoOutputsTuple
            ``items`` (main), ``rejects`` and ``counts``.
        """
        spread = files | "SpreadFiles" >> beam.Reshuffle()
        step = beam.ParDo(IngestFn(self.options, self.records)).with_output_types(Item)
        return spread | "Identify" >> step.with_outputs(REJECTS, COUNTS, main="items")
