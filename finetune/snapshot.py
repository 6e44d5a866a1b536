"""What a retraining was made from, kept as it was: labels, files with their digests, configuration.

::

    <registry>/<task>/snapshots/<digest>/given/<name>     the label file as it was handed in
    <registry>/<task>/snapshots/<digest>/labels.csv       one line for each labelled row of the catalog
    <registry>/<task>/snapshots/<digest>/files.json       the input files of those rows
    <registry>/<task>/snapshots/<digest>/config.json      task, model that it starts from, options, alarms, reasons
    <registry>/<task>/snapshots/<digest>/snapshot.json    digests of these; what they say never changes
    <registry>/<task>/snapshots/<digest>/...              what the retraining makes of them; report.json is last
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from finetune.bundle_files import new_folder, sha256
from finetune.jsonfile import plain, write_json
from transforms.records import FileRef

SNAPSHOTS, REPORT = "snapshots", "report.json"
LABELS, FILES, CONFIG, SEAL, GIVEN = "labels.csv", "files.json", "config.json", "snapshot.json", "given"
DIGITS = 16
KEYS = ("source", "hdu", "row", "group", "origin")


class SnapshotError(ValueError):
    """A snapshot cannot be used; the message says what was changed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Material:
    """What a retraining is made from.

    Parameters
    ----------
    given : str
        Label file as it was handed in.
    rows : tuple of mapping
        Labels of rows of the catalog: ``source``, ``hdu``, ``row``, ``group``, ``origin`` and the task's labels.
    files : tuple of FileRef
        Input files of those rows, with digests.
    counts : mapping of str to int
        What matched and what did not.
    alarms : tuple of str
        What drifted: ``"kind column since night"``.
    options : mapping
        Of the training, as the user gave them; method, steps and others.
    add : tuple of str
        Classes that the user wants added to the task's, beside those that were taught.
    """

    given: str
    rows: tuple[Mapping[str, Any], ...]
    files: tuple[FileRef, ...]
    counts: Mapping[str, int] = field(default_factory=dict)
    alarms: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    add: tuple[str, ...] = ()

    def groups(self) -> set[str]:
        """Objects that have a label.

        Returns
        -------
        set of str
            Their groups.
        """
        return {str(row["group"]) for row in self.rows}


def digest_of(material: Material, task: str, version: int, start: str, added: Sequence[str] = ()) -> str:
    """Name of a snapshot: a pure function of data, options and the model that it starts from.

    Parameters
    ----------
    material : Material
        Labels, files and options count.
    task, version : str, int
        The task.
    start : str
        Digest of the model.
    added : sequence of str
        Classes that are added to it.

    Returns
    -------
    str
        16 hexadecimal digits.
    """
    rows = sorted(json.dumps(plain(row), sort_keys=True) for row in material.rows)
    files = sorted([file.source, file.digest] for file in material.files)
    content = [task, version, start, rows, files, plain(material.options), *([list(added)] if added else [])]
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


def write_snapshot(folder: Path, material: Material, config: Mapping[str, Any], columns: Sequence[str]) -> None:
    """Write a snapshot, all or nothing.

    Parameters
    ----------
    folder : Path
        To be made.
    material : Material
        What goes in.
    config : mapping
        What else it should tell.
    columns : sequence of str
        Names of the labels.
    """
    with new_folder(folder) as new:
        (new / GIVEN).mkdir()
        given = Path(material.given)
        (new / GIVEN / given.name).write_bytes(given.read_bytes())
        (new / LABELS).write_text(label_text(material.rows, columns), encoding="utf-8")
        write_json(new / FILES, [asdict(file) for file in material.files])
        write_json(new / CONFIG, config)
        names = [f"{GIVEN}/{given.name}", LABELS, FILES, CONFIG]
        write_json(new / SEAL, {name: sha256(new / name) for name in names})


def label_text(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Labels as CSV.

    Parameters
    ----------
    rows : sequence of mapping
        As in ``Material``.
    columns : sequence of str
        Names of the labels.

    Returns
    -------
    str
        With a header; what is missing is blank.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, [*KEYS, *columns], extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: "" if value is None else value for name, value in row.items()} for row in rows)
    return text.getvalue()


def label_groups(path: Path) -> set[str]:
    """Objects that a label file of ours names.

    Parameters
    ----------
    path : Path
        From ``label_text``.

    Returns
    -------
    set of str
        Their groups.
    """
    with path.open(encoding="utf-8", newline="") as stream:
        return {row["group"] for row in csv.DictReader(stream)}


def label_sources(path: Path, groups: Collection[str]) -> set[str]:
    """Files in which some objects of a label file of ours are.

    Parameters
    ----------
    path : Path
        From ``label_text``.
    groups : collection of str
        The objects.

    Returns
    -------
    set of str
        Their sources.
    """
    with path.open(encoding="utf-8", newline="") as stream:
        return {row["source"] for row in csv.DictReader(stream) if row["group"] in groups}


def check_snapshot(folder: Path) -> tuple[list[FileRef], dict[str, Any]]:
    """Make sure that a snapshot is as it was written.

    Parameters
    ----------
    folder : Path
        Of the snapshot.

    Returns
    -------
    files, config : list of FileRef, dict
        What it holds.

    Raises
    ------
    SnapshotError
        Naming the file that was changed, or is gone.
    """
    try:
        seal = json.loads((folder / SEAL).read_text(encoding="utf-8"))
        for name, digest in sorted(seal.items()):
            if sha256(folder / name) != digest:
                raise SnapshotError(f"snapshot {folder} is damaged: {name} is not what was written")
        files = [FileRef(**entry) for entry in json.loads((folder / FILES).read_text(encoding="utf-8"))]
        config: dict[str, Any] = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except SnapshotError:
        raise
    except FileNotFoundError as error:
        raise SnapshotError(f"snapshot {folder} is damaged: {Path(error.filename).name} is gone") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise SnapshotError(f"snapshot {folder} is damaged: {error}") from error
    return files, config


def read_report(folder: Path) -> dict[str, Any] | None:
    """Report of a retraining that came to its end.

    Parameters
    ----------
    folder : Path
        Of the snapshot.

    Returns
    -------
    dict or None
        None where it has not come to its end.
    """
    try:
        report: dict[str, Any] = json.loads((folder / REPORT).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise SnapshotError(f"{folder / REPORT} is damaged: {error}") from error
    return report


def snapshots(root: Path) -> list[Path]:
    """Snapshots of a task, the latest last.

    Parameters
    ----------
    root : Path
        ``<registry>/<task>/snapshots``.

    Returns
    -------
    list of Path
        Folders, in the order in which they were made.
    """
    found = [path for path in root.glob("*") if path.is_dir() and not path.name.startswith(".")]
    return sorted(
        found, key=lambda path: ((path / SEAL).stat().st_mtime_ns if (path / SEAL).exists() else 0, path.name)
    )
