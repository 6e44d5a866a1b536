"""What a survey would cost on rented machines: the time that runs of a catalog took, and the user's own prices."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.ledger import Ledger

HOUR, GIGABYTE = 3600.0, 1e9
STARTUP = 300.0  #: Seconds that a machine is paid for before it works, where the prices do not say.
_MACHINE: Mapping[str, Any] = {"per_hour": None, "processes": 1, "speed": 1.0, "startup_seconds": STARTUP}


class CostError(ValueError):
    """What is wrong with the prices or the sample, one sentence each.

    Parameters
    ----------
    faults : sequence of str
        Sentences that name the file, the key and its value.
    """

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = tuple(faults)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """What the runs of a catalog took.

    Parameters
    ----------
    runs, objects : int
        Runs with a time, and objects in them.
    fixed : float
        Process seconds of a run without an object.
    each : float
        Process seconds of an object.
    stored : float
        Bytes of the catalog for an object.
    """

    runs: int
    objects: int
    fixed: float
    each: float
    stored: float


def measure(catalog: str) -> Sample:
    """Read what the runs of a catalog took.

    Parameters
    ----------
    catalog : str
        Its root.

    Returns
    -------
    Sample
        Where runs of several sizes are there, a line is fitted to them by least squares, weighted by one over the time;
        else the whole time is laid on the objects, which is too much rather than too little.

    Raises
    ------
    CostError
        Where no run has a time and an object.
    """
    points, stored = [], 0.0
    for run in Ledger(catalog).runs():
        timing, rows = run.manifest.get("timing"), run.manifest["counts"]["fresh"]["rows"]
        if timing and rows:
            points.append((rows, timing["seconds"] * timing["processes"]))
            stored += sum(file.size for file in run.files)
    if not points:
        raise CostError([f"{catalog!r} holds no run with a time: run a sample night into it first"])
    rows, seconds = (np.array(column, float) for column in zip(*points, strict=True))
    fixed, each = 0.0, float(seconds.sum() / rows.sum())
    if rows.max() > 1.5 * rows.min():
        line = np.stack([np.ones_like(rows), rows], axis=1) / seconds[:, None]
        found = np.linalg.lstsq(line, np.ones_like(rows), rcond=None)[0]
        if (found > 0).all():
            fixed, each = map(float, found)
    return Sample(runs=len(points), objects=int(rows.sum()), fixed=fixed, each=each, stored=stored / float(rows.sum()))


def read_prices(path: str) -> dict[str, Any]:
    """Read a file of prices.

    Parameters
    ----------
    path : str
        TOML: ``currency``; for each machine a table ``[machines.NAME]`` with ``per_hour``, ``processes`` that work on
        it at once, ``speed`` of one against one of the sample, ``startup_seconds``; ``[storage] per_gb_month``.

    Returns
    -------
    dict
        ``currency``, ``machines``, ``per_gb_month``.

    Raises
    ------
    CostError
        With every fault.
    """
    try:
        content = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CostError([f"--prices {path!r} cannot be read: {error}"]) from error
    given = content.get("machines")
    faults = [] if isinstance(given, dict) and given else [f"{path}: there is no table [machines.NAME]"]
    machines = {}
    for name, own in (given if isinstance(given, dict) else {}).items():
        table = own if isinstance(own, dict) else {}
        faults += [
            f"{path}: machines.{name}: unknown key {key!r}; allowed are {', '.join(_MACHINE)}"
            for key in sorted(set(table) - set(_MACHINE))
        ]
        values: dict[str, Any] = {key: table.get(key, default) for key, default in _MACHINE.items()}
        faults += [
            f"{path}: machines.{name}.{key} {value!r} is not a number {'of at least 0' if zero else 'above 0'}"
            for key, value in values.items()
            for zero in [key in ("startup_seconds", "per_hour")]
            if not _number(value) or value < 0 or (value == 0 and not zero)
        ]
        machines[str(name)] = values
    storage = content.get("storage", {})
    monthly: Any = storage.get("per_gb_month", 0.0) if isinstance(storage, dict) else storage
    if not _number(monthly) or monthly < 0:
        faults.append(f"{path}: storage.per_gb_month {monthly!r} is not a number of at least 0")
    if faults:
        raise CostError(faults)
    return {"currency": str(content.get("currency", "")), "machines": machines, "per_gb_month": monthly}


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def estimate(sample: Sample, prices: Mapping[str, Any], objects: int, machines: int) -> list[dict[str, Any]]:
    """What a night costs on each kind of machine.

    Parameters
    ----------
    sample : Sample
        From ``measure``.
    prices : mapping
        From ``read_prices``.
    objects : int
        Of a night.
    machines : int
        Machines at once.

    Returns
    -------
    list of dict
        ``machine``, ``machine_hours`` (start-up included), ``hours`` of wall time, ``cost`` of the night,
        ``cost_year`` of 365 nights, and ``storage_month`` for what a night adds; the cheapest first. It is assumed
        that processes do not slow each other down, and that the night is shared evenly.
    """
    rows = []
    for name, one in prices["machines"].items():
        rate = one["processes"] * one["speed"]
        work = (sample.fixed * machines * one["processes"] + sample.each * objects) / rate
        total = (work + machines * one["startup_seconds"]) / HOUR
        cost = total * one["per_hour"]
        rows.append(
            {
                "machine": name, "machine_hours": total, "hours": total / machines, "cost": cost,
                "cost_year": 365 * cost, "storage_month": sample.stored * objects / GIGABYTE * prices["per_gb_month"],
            }
        )  # fmt: skip
    return sorted(rows, key=lambda row: (row["cost"], row["machine"]))
