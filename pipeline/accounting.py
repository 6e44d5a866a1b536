"""In = out + rejected, for every stage, by the counters and by the rows in the files; a fault names the stage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from transforms.attempt import STAGES, Tally

#: ``(stage, what it counts, next stage)``: what one hands on, the next one takes in.
CHAIN = (
    ("ingest", "out", "open"),
    ("open", "out", "read"),
    ("read", "out", "measure"),
    ("prepare", "out", "infer"),
)


@dataclass(slots=True)
class Accounts:
    """Counts of every stage of one run.

    Parameters
    ----------
    stages : dict of str to Tally
        By name of the stage; every stage is there.
    """

    stages: dict[str, Tally] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.stages = {name: self.stages.get(name, Tally()) for name in STAGES}

    def add(self, stage: str, *, entered: int = 0, done: int = 0, rejected: int = 0, out: int = 0) -> None:
        """Add what was counted outside of the graph, such as inputs that could not be opened.

        Parameters
        ----------
        stage : str
            One of ``STAGES``.
        entered, done, rejected, out : int
            As in ``Tally``.
        """
        tally = self.stages[stage]
        tally.entered += entered
        tally.done += done
        tally.rejected += rejected
        tally.out += out

    def plain(self) -> dict[str, dict[str, int]]:
        """The counts as plain values.

        Returns
        -------
        dict of str to dict
            For the manifest.
        """
        return {
            name: {"entered": t.entered, "done": t.done, "rejected": t.rejected, "out": t.out}
            for name, t in self.stages.items()
        }


def from_counters(counters: Mapping[str, int]) -> Accounts:
    """Make accounts of the graph's counters.

    Parameters
    ----------
    counters : mapping of str to int
        ``"<stage>.<entered, done, rejected or out>"`` to count; others are left out.

    Returns
    -------
    Accounts
        Zero where a stage has no counter.

    Raises
    ------
    ValueError
        For a stage that is not known.
    """
    accounts = Accounts()
    for name, value in counters.items():
        stage, _, what = name.partition(".")
        if what not in ("entered", "done", "rejected", "out"):
            continue
        if stage not in accounts.stages:
            raise ValueError(f"counter {name!r} is of no known stage; there are {', '.join(STAGES)}")
        accounts.add(stage, **{what: value})
    return accounts


def from_plain(stages: Mapping[str, Mapping[str, int]]) -> Accounts:
    """Read the accounts of a manifest.

    Parameters
    ----------
    stages : mapping of str to mapping
        From ``Accounts.plain``.

    Returns
    -------
    Accounts
        The same.
    """
    return Accounts({name: Tally(**counts) for name, counts in stages.items()})


def check(accounts: Accounts, rows: int, rejects: int, *, tasks: tuple[int, int] = (1, 1), items: int = 0) -> list[str]:
    """Say where sums do not close.

    Parameters
    ----------
    accounts : Accounts
        Counts of the run.
    rows, rejects : int
        Rows of this run in the files: of the tables (margins not counted), and of the rejects.
    tasks : tuple of int
        Least and greatest number of tasks that take one kind of record: each is prepared once for each of them.
    items : int
        Parts of files that entered after the ingest (a replay).

    Returns
    -------
    list of str
        Sentences that name the stage; empty where all closes.
    """
    faults = list(_stages(accounts.stages))
    stages = accounts.stages

    def equal(left: int, what: str, right: int, other: str) -> None:
        if left != right:
            faults.append(f"{what} is {left}, but {other} is {right}")

    for stage, _, follower in CHAIN:
        extra = items if stage == "ingest" else 0
        equal(
            stages[stage].out + extra,
            f"what stage {stage!r} gave" + (f" with {extra} parts of a replay" if extra else ""),
            stages[follower].entered,
            f"what stage {follower!r} took in",
        )
    low, high = (stages["measure"].out * factor for factor in tasks)
    if not low <= stages["prepare"].entered <= high:
        faults.append(
            f"what stage 'prepare' took in is {stages['prepare'].entered}, but stage 'measure' gave "
            f"{stages['measure'].out} for {tasks[0]} to {tasks[1]} tasks each"
        )
    equal(stages["infer"].out, "what stage 'infer' gave", rows, "the number of rows in the files")
    refused = sum(tally.rejected for tally in stages.values())
    equal(refused, "what all stages refused", rejects, "the number of rows in the rejects")
    return faults


def _stages(stages: Mapping[str, Tally]) -> Iterable[str]:
    for name, t in stages.items():
        if t.entered != t.done + t.rejected:
            yield f"stage {name!r} took in {t.entered}, but finished {t.done} and refused {t.rejected}"
        if min(t.entered, t.done, t.rejected, t.out) < 0:
            yield f"stage {name!r} has a count below zero"
        if name in ("read", "prepare", "infer") and t.out != t.done:
            yield f"stage {name!r} finished {t.done}, but gave {t.out}"
