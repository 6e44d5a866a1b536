"""The one place that catches what science raises: every input ends as done or as rejected, and is counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from transforms.records import FileRef, Identity, Item, Reject

STAGES = ("ingest", "open", "read", "measure", "prepare", "infer")
#: How torch says so in an error of no class of its own: on the host, on MPS and by CUDA's driver, by its libraries.
_NO_MEMORY = ("DefaultCPUAllocator: can't allocate memory", "out of memory", "_STATUS_ALLOC_FAILED")


class Unreadable(ValueError):
    """The bytes are not what they claim to be, or hold nothing that a reader knows."""


class Unusable(ValueError):
    """The input was read but lacks what the step needs; the message names the thing and its value."""


class NoReader(ValueError):
    """The file is whole, but no reader of ours takes its kind."""


@dataclass(slots=True)
class Tally:
    """Counts of one stage. ``entered == done + rejected`` must hold; ``out`` is what the done ones became.

    Parameters
    ----------
    entered, done, rejected, out : int
        Inputs taken, inputs finished, inputs refused, outputs produced.
    """

    entered: int = 0
    done: int = 0
    rejected: int = 0
    out: int = 0


@dataclass(slots=True)
class Tallies:
    """The counts of all stages in one process, by stage name.

    Parameters
    ----------
    stages : dict of str to Tally
        One for each stage that was entered.
    """

    stages: dict[str, Tally] = field(default_factory=dict)

    def __getitem__(self, stage: str) -> Tally:
        return self.stages.setdefault(stage, Tally())

    def drain(self) -> dict[str, Tally]:
        """Return the counts so far and start again from zero.

        Returns
        -------
        dict of str to Tally
            Counts since the last call.
        """
        out, self.stages = self.stages, {}
        return out


def describe(element: Any) -> dict[str, Any]:
    """Say where an element came from, for its row among the rejects.

    Parameters
    ----------
    element : FileRef, Item, Identity or any
        The element that failed.

    Returns
    -------
    dict
        The location fields of ``Reject`` that are known.
    """
    if isinstance(element, FileRef):
        return {"source": element.source, "digest": element.digest, "url": element.url}
    if isinstance(element, Item):
        return {**describe(element.file), "hdu": element.hdu}
    if isinstance(element, Identity):
        return {"source": element.source, "hdu": element.hdu, "row": element.row, "object_id": element.object_id}
    return {"source": ""}


def reject(stage: str, error: BaseException, **where: Any) -> Reject:
    """Make the reject row of an error.

    Parameters
    ----------
    stage : str
        One of ``STAGES``.
    error : BaseException
        What was raised.
    **where
        Location fields of ``Reject``.

    Returns
    -------
    Reject
        With a reason that is never empty and holds no line breaks.
    """
    text = " ".join(str(error).split()) or f"{type(error).__name__} without a message"
    return Reject(stage=stage, error=type(error).__name__, reason=text[:500], **{"source": "", **where})


def is_ours(error: BaseException) -> bool:
    """Say whether an error means that this package or its installation is broken, whatever the input is.

    Parameters
    ----------
    error : BaseException
        What a step raised.

    Returns
    -------
    bool
        True for a module or a name that does not exist and for Python code that does not parse. Pillow and
        ``ast.literal_eval`` raise SyntaxError for bad data, but without a file of Python code.
    """
    if isinstance(error, SyntaxError):
        return (error.filename or "").endswith(".py")
    return isinstance(error, ImportError | NameError)


def attempt(
    stage: str, func: Callable[..., Any], tallies: Tallies, *args: Any, many: bool = False, where: dict[str, Any]
) -> Iterator[Any]:
    """Run one step on one input; yield what it gives, or one ``Reject``.

    Parameters
    ----------
    stage : str
        Name under which it is counted.
    func : callable
        The step, called as ``func(*args)``.
    tallies : Tallies
        Counts, updated in place.
    *args
        Handed to ``func``.
    many : bool
        True where ``func`` returns an iterable of outputs, False where it returns one.
    where : dict
        Location fields of a ``Reject``.

    Yields
    ------
    object
        Outputs, or one ``Reject``. What a failing generator gave before it failed has been passed on already, and
        is counted in ``out``; the input itself is counted as rejected.

    Raises
    ------
    ImportError, NameError, SyntaxError
        A fault of ours, which must end the run: as a reject, the input would count as done.
    """
    tally = tallies[stage]
    tally.entered += 1
    try:
        if many:
            for output in func(*args):
                tally.out += 1
                yield output
        else:
            output = func(*args)
            tally.out += 1
            yield output
    except Exception as error:  # the only one around science: whatever is wrong with one input must not end the night
        if is_ours(error):
            raise
        tally.rejected += 1
        yield reject(stage, error, **where)
    else:
        tally.done += 1


def attempt_batch(
    stage: str,
    func: Callable[[Sequence[Any], int], Sequence[Any]],
    tallies: Tallies,
    batch: Sequence[Any],
    size: int,
    where: Callable[[int], dict[str, Any]],
) -> list[Any]:
    """Run one step on a batch; where it fails, find the record that is to blame and keep its batch mates.

    Parameters
    ----------
    stage : str
        Name under which each record is counted.
    func : callable
        ``func(part, size) -> outputs``, as many as ``part`` has records; ``size`` is the shape the part is padded to.
    tallies : Tallies
        Counts, updated in place.
    batch : sequence
        Up to ``size`` records.
    size : int
        Fixed batch size.
    where : callable
        ``where(index) -> dict``: location fields of the ``Reject`` of one record of the batch.

    Returns
    -------
    list
        For each record its output or a ``Reject``, in order.

    Raises
    ------
    ImportError, NameError, SyntaxError
        A fault of ours, as in ``attempt``.

    Notes
    -----
    On out-of-memory the padded size itself is halved and the halves are run, since a smaller part of the same padded
    size would need the same memory. Any other error bisects the batch at the same padded size, so that the answers
    of the innocent do not change.
    """
    outputs: list[Any] = []

    def run(part: Sequence[Any], first: int, shape: int) -> None:
        try:
            outputs.extend(func(part, shape))
        except Exception as error:
            if is_ours(error):
                raise
            if shape > 1 and is_out_of_memory(error):
                half = shape // 2
                for start in range(0, len(part), half):
                    run(part[start : start + half], first + start, half)
            elif len(part) > 1:
                half = len(part) // 2
                run(part[:half], first, shape)
                run(part[half:], first + half, shape)
            else:
                outputs.append(reject(stage, error, **where(first)))

    run(batch, 0, size)
    tally = tallies[stage]
    refused = sum(isinstance(output, Reject) for output in outputs)
    tally.entered += len(batch)
    tally.rejected += refused
    tally.done += len(batch) - refused
    tally.out += len(batch) - refused
    return outputs


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that the device or the host ran out of memory.

    Parameters
    ----------
    error : BaseException
        What was raised; torch's class is known by its name, so that torch need not be imported here.

    Returns
    -------
    bool
        True for ``MemoryError``, ``torch.OutOfMemoryError``, and the plain RuntimeError that torch raises where the
        host, Metal or a library of CUDA has no more to give.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY)
