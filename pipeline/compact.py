"""Many runs of a night to one: a file for each pixel, as one run of all inputs would have written it.

A night that came in small parts (``nightcat watch``, or files that came late) holds a file of every part in each pixel,
and readers open them all. Rows move as they are: nothing is computed again. The new run has the name that one run of
the same inputs would have, since that is a pure function of them, and so its files are the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.accounting import Accounts
from pipeline.commit import commit, lock, recover
from pipeline.hats import CatalogError
from pipeline.ledger import Ledger
from pipeline.manifest import Run, make_run_id
from pipeline.plan import COPY
from pipeline.sources import Inputs
from pipeline.underway import check_free


@dataclass(frozen=True, kw_only=True, slots=True)
class Compacted:
    """What became of one night.

    Parameters
    ----------
    night, run_id : str
        Which night; the run that holds it now.
    runs, before, after : int
        Runs that were merged, and data files before and after.
    """

    night: str
    run_id: str
    runs: int
    before: int
    after: int


def compact(catalog: str, night: str | None = None, *, loose: bool = False) -> list[Compacted]:
    """Merge the runs of each night.

    Parameters
    ----------
    catalog : str
        Its root.
    night : str, optional
        Only this night.
    loose : bool
        Leave those alone that were merged before, so that a night that still grows is not written again and again.

    Returns
    -------
    list of Compacted
        Nights that held more than one run, in their order; all others are left alone.

    Raises
    ------
    CatalogError
        Where nothing was committed, or a night was made by several versions of a model or of the package: it would
        have to be run again.
    NightBusy
        Where a detached run of such a night is under way: it was planned against the runs that are there.
    OutputError
        No space, no permission; a commit that had begun is finished by the next command that writes.
    """
    with lock(catalog):
        recover(catalog)
        runs = Ledger(catalog).runs(night)
        if not runs:
            what = f"no run of night {night}" if night else "no run"
            raise CatalogError([f"{catalog!r}: {what} was committed to it"])
        if loose:
            runs = [run for run in runs if "merged" not in run.manifest]
        nights = {name: [run for run in runs if run.night == name] for name in sorted({run.night for run in runs})}
        several = {name: own for name, own in nights.items() if len(own) > 1}
        check_free(catalog, several)
        faults = [fault for name, own in several.items() for fault in _mixed(name, own)]
        if faults:
            raise CatalogError(faults)
        return [_merge(catalog, name, own) for name, own in several.items()]


def _mixed(night: str, runs: Sequence[Run]) -> list[str]:
    """Why the runs of a night cannot be one: their rows were not made alike."""
    return [
        f"night {night}: the rows of {task} were made by {len(found)} versions of the model, of its options or of "
        "nightcat; run the night again, with all of its files"
        for task in sorted({task for run in runs for task in run.versions})
        if len(found := {run.versions[task] for run in runs if task in run.versions}) > 1
    ]


def _merge(catalog: str, night: str, runs: Sequence[Run]) -> Compacted:
    ledger = Ledger(catalog)
    latest = {entry["url"]: entry for _, entry in ledger.inputs(runs)}
    reasons = {row["url"]: row["reason"] for row in ledger.rejects(night)}
    parts = [
        (entry["source"], reasons[entry["url"]] if _refused(entry, reasons) else entry["digest"])
        for entry in latest.values()
        if entry["digest"] or entry["url"] in reasons
    ]
    versions = {task: version for run in runs for task, version in run.versions.items()}
    run_id = make_run_id(night, parts, versions)
    stages = Accounts()
    for run in runs:
        told = (run.manifest.get("stages", {}), run.manifest.get("merged", {}).get("stages", {}))
        for stage, counts in (pair for one in told for pair in one.items()):
            stages.add(stage, **counts)
    said = dict(runs[-1].manifest)
    for name in ("run_id", "sequence", "counts", "tables", "files", "timing"):
        said.pop(name, None)
    fields: dict[str, Any] = {
        **said,
        "versions": versions,
        "models": {task: model for run in runs for task, model in run.manifest.get("models", {}).items()},
        "stages": Accounts().plain(),  # it has processed nothing itself
        "merged": {"runs": sorted(run.run_id for run in runs), "stages": stages.plain()},
        "inputs": sorted({place for run in runs for place in run.manifest.get("inputs", ())}),
        "supersedes": [run.run_id for run in runs],
        "replays": [],
        "listed": [],
    }
    before = sum(len(run.files) for run in runs)
    manifest = commit(catalog, run_id, [], fields, Inputs((), ()))
    return Compacted(night=night, run_id=run_id, runs=len(runs), before=before, after=len(manifest["files"]))


def _refused(entry: dict[str, Any], reasons: dict[str, str]) -> bool:
    """Whether an input was refused before it was read: a copy of another, or what could not be opened."""
    return entry["outcome"] == COPY or not entry["digest"]
