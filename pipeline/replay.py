"""What a replay does again: the files that had rejects, with the tasks, models and options of their night."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace

from pipeline.hats import CatalogError
from pipeline.ledger import Ledger
from pipeline.models import Model
from pipeline.options import RunConfig
from pipeline.sources import DUPLICATE, Inputs, find_files, fingerprint
from pipeline.spool import GONE
from transforms.locations import file_system
from transforms.records import FileRef, Reject


def rejected_inputs(output: str, night: str | None) -> dict[str, Inputs]:
    """Files that had rejects in their last attempt, by night, for a replay.

    Parameters
    ----------
    output : str
        The catalog.
    night : str or None
        Only this night.

    Returns
    -------
    dict of str to Inputs
        Each file once, with the digest that it has now, and every file of a folder that can be listed now; a file that
        is gone is a reject again.
    """
    found: dict[str, dict[str, FileRef]] = {}
    refused: dict[str, list[Reject]] = {}
    for row in Ledger(output).rejects(night):
        if row["error"] in (DUPLICATE, GONE, "FileNameError"):  # none of them can end otherwise
            continue
        files = found.setdefault(row["night"], {})
        if not _is_folder(row["url"]):
            files[row["url"]] = FileRef(url=row["url"], source=row["source"])
            continue
        below = find_files([row["url"]])
        prefix = row["source"].rstrip("/")
        files.update((f.url, replace(f, source=f"{prefix}/{f.source}".removeprefix("./"))) for f in below.files)
        refused.setdefault(row["night"], []).extend(below.rejects)
    return {
        name: fingerprint(Inputs(tuple(sorted(files.values(), key=lambda f: f.source)), tuple(refused.get(name, ()))))
        for name, files in sorted(found.items())
    }


def _is_folder(url: str) -> bool:
    try:
        fs, path = file_system(url)
        return bool(fs.isdir(path))
    except OSError:  # an archive that is gone: the file is a reject again
        return False


def replay_configs(output: str, night: str | None, checksums: bool | None) -> dict[str, RunConfig]:
    """What a replay of each night runs with: tasks, models and options of the night's last run.

    Parameters
    ----------
    output : str
        The catalog.
    night : str or None
        Only this night.
    checksums : bool or None
        Of the FITS files; None: as the last run had it.

    Returns
    -------
    dict of str to RunConfig
        By night.
    """
    configs = {}
    for run in Ledger(output).runs(night):
        said = dict(run.manifest.get("options", {}))
        if checksums is not None:
            said["checksums"] = checksums
        known = {f.name for f in fields(RunConfig)}
        configs[run.night] = RunConfig(
            inputs=("replay",),
            output=output,
            tasks=tuple(sorted(run.manifest["models"])),
            bundles=run.manifest.get("bundles", {}),
            force=True,
            **{name: value for name, value in said.items() if name in known},
        )
    return configs


def check_models(output: str, night: str, models: Sequence[Model]) -> None:
    """Refuse a replay with other models than the night was made with: its rows would be of two kinds.

    Parameters
    ----------
    output : str
        The catalog.
    night : str
        The night.
    models : sequence of Model
        That the replay would use.

    Raises
    ------
    CatalogError
        Naming each task whose model is another one now.
    """
    made = Ledger(output).runs(night)[-1].manifest["models"]
    faults = [
        f"night {night} was made with the model {made[m.task]} of {m.task}, but {m.path} is {m.digest} now: "
        "run the night again with nightcat run, or put the old model back"
        for m in models
        if made.get(m.task, m.digest) != m.digest
    ]
    if faults:
        raise CatalogError(faults)
