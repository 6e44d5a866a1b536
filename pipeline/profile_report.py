"""What was measured of a night, as numbers and as a sentence that says what to do about it."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from pipeline.profile_points import FORWARD, IMPORTS, STAGES, WAIT_FILES, WAIT_MODEL, WAIT_READER, WAITS
from pipeline.profiling import Batches, Recorder, Spent, ThreadTimes
from pipeline.sampling import Sampler

MAIN, READER, HELPERS = "main", "reader", "helpers"
#: Not part of them: they do not grow with the night.
_START = (IMPORTS, "models", "listing", "ledger", "commit")


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One stage of one kind of thread.

    Parameters
    ----------
    thread, stage : str
        Which.
    seconds, cpu : float
        Of its threads in it, without the stages within.
    share : float
        Seconds over those of the whole run.
    calls : int
        How often it was begun.
    peak : int
        Most memory of the process that was seen during the stage, bytes.
    added : float
        How much of it came in the stage; over all threads these sum to what the process has grown by.
    disk : int
        Bytes that it had to wait for from a disk.
    """

    thread: str
    stage: str
    seconds: float
    cpu: float
    share: float
    calls: int
    peak: int
    added: float
    disk: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Profile:
    """All that was measured.

    Parameters
    ----------
    seconds, cpu : float
        Of the run: wall time, and processor time of all threads.
    unseen : float
        Processor time of threads that were in no stage.
    sampling : float
        The part of ``unseen`` that looking at the threads took.
    peak : int
        Most memory of the process, bytes.
    lines : tuple of Line
        By kind of thread, then in the order of a night.
    batches : mapping of str to Batches
        By task.
    depth : float or None
        Prepared records that were waiting when the model took one, in the mean.
    """

    seconds: float
    cpu: float
    unseen: float
    sampling: float
    peak: int
    lines: tuple[Line, ...]
    batches: Mapping[str, Batches]
    depth: float | None

    def spent(self, stage: str, thread: str | None = None) -> float:
        """Seconds of a stage.

        Parameters
        ----------
        stage : str
            Its name.
        thread : str or None
            Kind of thread; None for all.

        Returns
        -------
        float
            0 where it was never entered.
        """
        return sum(line.seconds for line in self.lines if line.stage == stage and thread in (None, line.thread))

    def of(self, thread: str) -> float:
        """Seconds of all stages of a kind of thread.

        Parameters
        ----------
        thread : str
            Which kind.

        Returns
        -------
        float
            Their sum.
        """
        return sum(line.seconds for line in self.lines if line.thread == thread)

    def with_sums(self) -> list[Line]:
        """All lines, and below those of each kind of thread their sum.

        Returns
        -------
        list of Line
            The sum's stage is ``"all"``.
        """
        out: list[Line] = []
        for thread in dict.fromkeys(line.thread for line in self.lines):
            lines = [line for line in self.lines if line.thread == thread]
            sums = {
                name: sum(getattr(line, name) for line in lines)
                for name in ("seconds", "cpu", "share", "added", "disk")
            }
            peak = max(line.peak for line in lines)
            out += [*lines, Line(thread=thread, stage="all", calls=0, peak=peak, **sums)]
        return out

    def plain(self) -> dict[str, Any]:
        """As JSON has it.

        Returns
        -------
        dict
            Numbers and texts.
        """
        return asdict(self) | {"advice": advice(self)}


def kind_of(thread: str) -> str:
    """The kind of a thread.

    Parameters
    ----------
    thread : str
        Its name.

    Returns
    -------
    str
        ``"main"`` for the one that runs the graph, models included, ``"reader"`` for those that read ahead of the
        models, ``"helpers"`` for all others.
    """
    if thread == threading.main_thread().name:
        return MAIN
    return READER if thread == "nightcat-reader" else HELPERS


def summarise(recorder: Recorder, sampler: Sampler, cpu: float) -> Profile:
    """Bring what was measured together.

    Parameters
    ----------
    recorder : Recorder
        All of its stages have ended.
    sampler : Sampler
        Has ended.
    cpu : float
        Processor time of the process while they ran.

    Returns
    -------
    Profile
        The main thread's stages sum to its ``seconds``.
    """
    sums: dict[tuple[str, str], Spent] = {}
    for times in recorder.threads:
        _add(sums, times)
    seconds = sum(spent.wall for (kind, _), spent in sums.items() if kind == MAIN)
    order = list(STAGES)
    keys = sorted(sums, key=lambda key: ((MAIN, READER, HELPERS).index(key[0]), order.index(key[1])))
    return Profile(
        seconds=seconds,
        cpu=cpu,
        unseen=cpu - sum(spent.cpu for spent in sums.values()),
        sampling=sampler.cost,
        peak=sampler.peak,
        lines=tuple(_line(*key, sums[key], seconds) for key in keys),
        batches=dict(sorted(recorder.batches.items())),
        depth=_mean(recorder.depths),
    )


def _add(sums: dict[tuple[str, str], Spent], times: ThreadTimes) -> None:
    for stage, spent in times.stages.items():
        total = sums.setdefault((kind_of(times.name), stage), Spent())
        for field in fields(Spent):
            one, other = getattr(total, field.name), getattr(spent, field.name)
            setattr(total, field.name, max(one, other) if field.name == "peak" else one + other)


def _line(thread: str, stage: str, spent: Spent, seconds: float) -> Line:
    return Line(
        thread=thread,
        stage=stage,
        seconds=spent.wall,
        cpu=spent.cpu,
        share=spent.wall / seconds if seconds else 0.0,
        calls=spent.calls,
        peak=spent.peak,
        added=spent.added,
        disk=spent.disk,
    )


def _mean(values: Sequence[int]) -> float | None:
    return sum(values) / len(values) if values else None


def remarks(profile: Profile) -> list[str]:
    """What the table does not show.

    Parameters
    ----------
    profile : Profile
        Of a run.

    Returns
    -------
    list of str
        Sentences: who waited for whom, how full batches and queue were, memory, and what the measuring took.
    """
    waited = profile.spent(WAIT_READER), profile.spent(WAIT_MODEL)
    out = [f"the model waited {waited[0]:.2f} s for the reader, the reader {waited[1]:.2f} s for the model"]
    working = [line for line in profile.lines if line.stage not in WAITS]
    if busy := sum(line.seconds for line in working):
        share = 100 * sum(line.cpu for line in working) / busy
        out.append(
            f"while they worked, the threads had a processor for {share:.0f} % of the time; else they waited for other "
            "processes, the disk, the model's device or Python's lock"
        )
    for task, noted in profile.batches.items():
        mean = noted.objects / noted.batches
        out.append(f"{task}: {noted.batches} batches of {mean:.1f} objects in the mean, with {noted.size} places")
    if profile.depth is not None:
        out.append(f"when the model took a record, {profile.depth:.1f} were waiting in the mean")
    if profile.peak:
        out.append(f"the process held {profile.peak / 1e6:.0f} MB at most")
    out.append(
        f"{profile.cpu:.2f} s of processor time, {profile.unseen:.2f} s of them in threads of no stage "
        f"({profile.sampling:.2f} s to look at the others)"
    )
    return out


def advice(profile: Profile) -> str:
    """Where the time goes, and what would change it.

    Parameters
    ----------
    profile : Profile
        Of a run.

    Returns
    -------
    str
        One or two sentences.
    """
    if not profile.batches:
        return "no model has answered: where all was done before, --force does it again"
    start = sum(profile.spent(stage, MAIN) for stage in _START)
    if start > 0.5 * profile.seconds:
        return (
            f"{100 * start / profile.seconds:.0f} % of the time is the start and the commit, which hardly grow with "
            "the night: profile more files to see what limits a whole night"
        )
    reader, waited, held = profile.of(READER), profile.spent(WAIT_READER), profile.spent(WAIT_MODEL)
    if waited >= held:
        longest = _longest(profile, READER, (WAIT_FILES, WAIT_MODEL))
        return (
            f"the reader limits: the model waited for it, and most of its {reader:.1f} s went into {longest}. More "
            "processes (--workers) help, another device for the model does not"
        )
    longest = _longest(profile, MAIN, (WAIT_READER, *_START))
    device = "a GPU (--device) or more processes (--workers)" if longest == FORWARD else "more processes (--workers)"
    return (
        f"the thread of the model limits: the reader waited for it, and most of it is {longest}. What helps: {device}"
    )


def _longest(profile: Profile, thread: str, without: Iterable[str]) -> str:
    skip = set(without)
    lines = [line for line in profile.lines if line.thread == thread and line.stage not in skip]
    return max(lines, key=lambda line: line.seconds).stage
