"""Generation of what was not observed: what the command line calls. Nothing here prints or exits."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from finetune import generated_table as table
from finetune import tasks
from finetune.dataset import stream_records
from finetune.generation import (
    FEWEST,
    METHODS,
    Generator,
    Judged,
    find_generation,
    load_generator,
    load_model,
    object_numbers,
    summary,
    write_generation,
)
from finetune.inputs import list_files
from finetune.pretrain import find_objective
from finetune.pretrained import Pretrained, load_pretrained
from finetune.spectral_input import unit_flux
from finetune.task import Prepared
from finetune.training_options import OptionsError
from finetune.unlabelled import is_held
from finetune.weights import hushed
from transforms import bands as filters
from transforms.attempt import Tallies, Unusable, attempt, describe
from transforms.records import FileRef, Identity, LightCurve, Reject, Spectrum
from transforms.store import Store

TRAIN, HELD = 600, 100  #: Objects at most that the classical answers learn from, and that judge.
_CADENCE = re.compile(r"(?P<number>\d+(\.\d+)?)(?P<unit>d|h|min)?\Z")
_DAYS = {"d": 1.0, "h": 1 / 24, "min": 1 / 1440}
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """What is to be generated.

    Parameters
    ----------
    band : str
        Of light curves: a filter of the ugriz family that was not observed; empty for those that were.
    step, count : float, int
        Of light curves: days between moments, or moments over one period; both 0 for the moments of the visits.
    low, high : float
        Of spectra: Angstrom, vacuum, in the frame of the file.
    method : str
        ``"best"``, ``"learned"`` or ``"classical"``.
    observed : bool
        Write what was observed beside what was generated.
    """

    band: str = ""
    step: float = 0.0
    count: int = 0
    low: float = 0.0
    high: float = 0.0
    method: str = "best"
    observed: bool = False


def make_wanted(
    modality: str, *, band: str = "", cadence: str = "", wavelengths: str = "", method: str = "best",
    observed: bool = False,
) -> Wanted:  # fmt: skip
    """Check what is asked for.

    Parameters
    ----------
    modality : str
        Of the backbone.
    band : str
        Name of a filter.
    cadence : str
        ``"0.5d"``, ``"6h"``, ``"30min"``, or a number of moments over one period.
    wavelengths : str
        ``"LOW:HIGH"`` in Angstrom.
    method : str
        One of ``METHODS``, or ``"best"``.
    observed : bool
        As in ``Wanted``.

    Returns
    -------
    Wanted
        Checked.

    Raises
    ------
    OptionsError
        With every fault.
    """
    faults: list[str] = []
    if method not in (*METHODS, "best"):
        faults.append(f"method {method!r} is not one of best, {', '.join(METHODS)}")
    low = high = step = 0.0
    count = 0
    if modality == "spectra":
        faults += [
            f"{name} is of light curves, not of spectra" for name, v in (("band", band), ("cadence", cadence)) if v
        ]
        parts = wavelengths.split(":")
        try:
            low, high = (float(part) for part in parts)
        except ValueError:
            low = high = np.nan
        if not 0 < low < high:
            faults.append(f"range {wavelengths!r} is not LOW:HIGH in Angstrom, such as 3800:4500")
    else:
        if wavelengths:
            faults.append("range is of spectra, not of light curves")
        if not band and not cadence:
            faults.append("nothing is asked for: band, cadence, or both")
        if band and filters.sdss_like(band) not in filters.SLOTS:
            faults.append(f"band {band!r} is none of {', '.join(filters.SLOTS)}: the model has no other")
        if cadence:
            found = _CADENCE.match(cadence)
            value = float(found["number"]) if found else 0.0
            whole = bool(found) and not found["unit"]  # type: ignore[index]
            if not found or value <= 0 or (whole and (value != int(value) or not 2 <= value <= 100_000)):
                faults.append(f"cadence {cadence!r} is neither a time such as 0.5d, 6h, 30min nor a number of moments")
            elif whole:
                count = int(value)
            else:
                step = value * _DAYS[found["unit"]]
    if faults:
        raise OptionsError(faults)
    return Wanted(band=band, step=step, count=count, low=low, high=high, method=method, observed=observed)


def run_fit(
    backbone: str | Path,
    inputs: Sequence[str | FileRef],
    *,
    seed: int = 0,
    command: str = "",
    reader_options: Mapping[str, Any] = MappingProxyType({}),
    measure_options: Mapping[str, Any] = MappingProxyType({}),
    say: Say = lambda text: None,
) -> dict[str, Any]:
    """Learn what generation needs beside the backbone, and judge it on objects that the backbone was not trained on.

    Parameters
    ----------
    backbone : str or Path
        Folder of ``nightcat pretrain``; ``generation.json`` and ``generation.safetensors`` are put into it.
    inputs : sequence of str or FileRef
        The files that it was pretrained on: those of its objects that it held out judge, the others are what the
        classical answers learn from.
    seed : int
        Of what is held back.
    command : str
        How it was called, for the record.
    reader_options, measure_options : mapping
        Options of the readers and of the classical steps.
    say : callable
        Told what goes on.

    Returns
    -------
    dict
        What ``generation.json`` says.

    Raises
    ------
    PretrainedError, InputError, OptionsError
        Where the backbone, the files or their number are at fault.
    """
    found = load_pretrained(backbone)
    how = find_generation(found.info["modality"])
    train, held = _sides(found, inputs, seed, reader_options, measure_options)
    groups = object_numbers([record for record, _ in held])
    objects = len(set(groups))
    say(f"{len(train)} objects to learn from, {objects} to judge by")
    if objects < FEWEST or len(train) < FEWEST:
        raise OptionsError([
            f"{len(train)} objects of the training side and {objects} that were held out are too few: {FEWEST} of "
            "each are needed, of the files that the backbone was pretrained on"
        ])  # fmt: skip
    knowledge = how.learn(train)
    with hushed():
        model = load_model(found)
    judged: list[Judged] = []
    for number, (group, (record, prepared)) in enumerate(zip(groups, held, strict=True)):
        rng = np.random.default_rng([seed, number])
        judged += how.judge(record, prepared, model, knowledge, rng, group)
    kinds = summary(judged)
    if not kinds:
        raise OptionsError([
            f"something could be held back of fewer than {FEWEST} objects: the others have one band, too few visits, or "
            "too short a range"
        ])  # fmt: skip
    for kind, told in kinds.items():
        text = ", ".join(f"{m} {told[m]['rms']:.4f} (68 % cover {told[m]['coverage_68']})" for m in METHODS)
        say(f"{kind} held back of {told['objects']} objects: rms, {how.unit}: {text}; best: {told['best']}")
    counts = {"train": len(train), "held_out": objects}
    info = {
        "modality": found.info["modality"], "unit": how.unit, "kinds": kinds, "counts": counts, "seed": seed,
        "created_by": command, "package_version": version("nightcat"),
    }  # fmt: skip
    digest = write_generation(found, info, how.arrays(knowledge))
    return {**info, "digest": digest, "path": str(found.path)}


def _sides(
    backbone: Pretrained, inputs: Sequence[str | FileRef], seed: int, reader: Mapping[str, Any],
    measure: Mapping[str, Any],
) -> tuple[list[tuple[Identity, Prepared]], list[tuple[Identity, Prepared]]]:  # fmt: skip
    """Objects of the training side, and held out, as the pretraining dealt them; files in shuffled order."""
    objective = find_objective(backbone.info["modality"])
    task = tasks.get(objective.task)
    share = float(backbone.info["options"]["held_out"])
    files = list_files(inputs)
    sides: dict[bool, list[tuple[Identity, Prepared]]] = {True: [], False: []}
    for index in np.random.default_rng(seed).permutation(len(files)).tolist():
        if len(sides[False]) >= TRAIN and len(sides[True]) >= HELD:
            break
        for record, prepared in _records(files[index], task, reader, measure):
            if isinstance(record, Reject) or prepared is None or not objective.usable(prepared):
                continue
            side = sides[is_held(objective, files[index], record, share)]
            if len(side) < (HELD if side is sides[True] else TRAIN):
                side.append((record, prepared))
    return sides[False], sides[True]


def _records(
    file: FileRef, task: Any, reader: Mapping[str, Any], measure: Mapping[str, Any]
) -> Iterator[tuple[Identity | Reject, Prepared | None]]:
    tallies = Tallies()
    for record in stream_records(file, task.record, reader, measure):
        if isinstance(record, Reject):
            yield record, None
            continue
        for prepared in attempt("prepare", task.prepare, tallies, record, where=describe(record)):
            yield (prepared, None) if isinstance(prepared, Reject) else (record, prepared)


def run_generate(
    backbone: str | Path,
    inputs: Sequence[str | FileRef],
    output: str | Path,
    *,
    band: str = "",
    cadence: str = "",
    wavelengths: str = "",
    method: str = "best",
    observed: bool = False,
    command: str = "",
    reader_options: Mapping[str, Any] = MappingProxyType({}),
    measure_options: Mapping[str, Any] = MappingProxyType({}),
    say: Say = lambda text: None,
) -> dict[str, Any]:
    """Generate what was not observed, and write it to a file of its own.

    Parameters
    ----------
    backbone : str or Path
        Folder of a backbone for which ``run_fit`` was called.
    inputs : sequence of str or FileRef
        Files with the objects.
    output : str or Path
        A file (``.ecsv``; ``.parquet`` of light curves), or a folder for one ECSV file for each object. It must not
        be there.
    band, cadence, wavelengths, method, observed
        As for ``make_wanted``.
    command : str
        How it was called, for the record.
    reader_options, measure_options : mapping
        Options of the readers and of the classical steps.
    say : callable
        Told what goes on.

    Returns
    -------
    dict
        ``path``, ``objects``, ``rows``, ``refused`` (object and reason of each), ``methods`` (objects by method),
        ``model_digest``, ``coverage_68`` of what answered, by kind of hole.

    Raises
    ------
    OptionsError, PretrainedError, InputError
        Where the options, the backbone, the files or the output are at fault.
    """
    with hushed():
        generator = load_generator(backbone)
    modality = generator.backbone.info["modality"]
    wanted = make_wanted(
        modality, band=band, cadence=cadence, wavelengths=wavelengths, method=method, observed=observed
    )
    target = Path(output)
    _check_output(target, modality)
    task = tasks.get(find_objective(modality).task)
    write: Callable[[Generator, Any, Prepared, Wanted], _Part] = (
        _light_curve if modality == "light_curves" else _spectrum
    )
    parts: list[_Part] = []
    refused: list[dict[str, str]] = []
    for file in list_files(inputs):
        for record, prepared in _records(file, task, reader_options, measure_options):
            try:
                if isinstance(record, Reject) or prepared is None:
                    raise Unusable(getattr(record, "reason", "could not be prepared"))
                parts.append(write(generator, record, prepared, wanted))
            except Unusable as error:
                refused.append({"source": record.source, "object_id": record.object_id, "reason": str(error)})
    for one in refused[:5]:
        say(f"left out {one['object_id'] or one['source']}: {one['reason']}")
    if not parts:
        first = f"; the first was left out: {refused[0]['reason']}" if refused else ""
        raise OptionsError([f"nothing could be generated of {', '.join(str(one) for one in inputs)}{first}"])
    digest = generator.digest[:16]
    meta = {
        "generated_by": f"nightcat {version('nightcat')}", "command": command, "model_digest": generator.digest,
        "backbone_digest": generator.backbone.digest,
        "warning": "rows with generated = True are the answer of a model, not an observation",
    }  # fmt: skip
    _write(target, parts, meta)
    kinds = sorted({(part.kind, part.method) for part in parts})
    return {
        "path": str(target), "objects": len(parts), "rows": sum(int(p.columns["generated"].sum()) for p in parts),
        "refused": refused, "model_digest": digest,
        "methods": {f"{k}: {m}": sum((p.kind, p.method) == (k, m) for p in parts) for k, m in kinds},
        "coverage_68": {f"{k}: {m}": generator.info["kinds"][k][m]["coverage_68"] for k, m in kinds},
    }  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Part:
    """Rows of one object."""

    record: Identity
    kind: str
    method: str
    columns: dict[str, np.ndarray]
    units: dict[str, str]
    meta: dict[str, Any]


def _light_curve(generator: Generator, record: LightCurve, prepared: Prepared, wanted: Wanted) -> _Part:
    from finetune import generate_light_curves as curves
    from finetune.light_curve_question import dense, look

    curve = look(record)
    kind = "band" if wanted.band else "cadence"
    if wanted.band:
        times = dense(curve, wanted.step, wanted.count) if wanted.step or wanted.count else None
        question = curves.missing_band(curve, wanted.band, times)
    else:
        question = curves.denser(curve, wanted.step, wanted.count)
    method = _method(generator, kind, wanted)
    rows = curves.generate(curve, question, method, generator.model, generator.knowledge, generator.errors[kind])
    rows = _marked(rows, method, generator)
    if wanted.observed:
        points = curve.points
        own = {
            "mjd": points.time, "band": np.array(points.bands)[points.band], "flux": points.flux,
            "flux_err": points.flux_err,
        }  # fmt: skip
        rows = table.joined([_marked(own, "", generator), rows])
        order = np.lexsort([rows["band"], rows["mjd"]])
        rows = {name: values[order] for name, values in rows.items()}
    system = str(record.measured.get("time_system") or "")
    name, zero = ("bjd", 2400000.5) if system.startswith("b") else (("hmjd" if system.startswith("h") else "mjd"), 0.0)
    time = {name: rows.pop("mjd") + zero}
    units = {name: "d", "flux": record.unit, "flux_err": record.unit}
    return _Part(record, kind, method, {**_named(record, len(rows["flux"])), **time, **rows}, units, {})


def _spectrum(generator: Generator, record: Spectrum, prepared: Prepared, wanted: Wanted) -> _Part:
    from finetune import generate_spectra as spectra

    view, wave = spectra.wanted(record, prepared, wanted.low, wanted.high)
    method = _method(generator, view.kind, wanted)
    flux, told = spectra.answer(method, generator.model, generator.knowledge, view)
    scale = unit_flux(record)
    error = generator.errors[view.kind][method].error(told[view.asked])
    new = {"wavelength": wave[view.asked], "flux": scale * flux[view.asked], "flux_err": scale * error}
    rows = _marked(new, method, generator)
    if wanted.observed:
        rows = table.joined([_marked(_pixels(record, new["wavelength"]), "", generator), rows])
        order = np.argsort(rows["wavelength"], kind="stable")
        rows = {name: values[order] for name, values in rows.items()}
    unit = _unit(record.unit)
    units = {"wavelength": "Angstrom", "flux": unit, "flux_err": unit}
    meta = {"air": False, "frame": record.frame, "flux_unit": record.unit}
    return _Part(record, view.kind, method, {**_named(record, len(rows["flux"])), **rows}, units, meta)


def _pixels(record: Spectrum, new: np.ndarray) -> dict[str, np.ndarray]:
    """Good pixels with an error, those beside a generated bin left out."""
    error = np.full(len(record.flux), np.nan) if record.ivar is None else 1 / np.sqrt(np.maximum(record.ivar, 1e-300))
    step = np.median(np.diff(new)) if len(new) > 1 else 0.0
    place = np.searchsorted(new, record.wavelength)
    near = np.minimum(
        np.abs(record.wavelength - new[np.clip(place, 0, len(new) - 1)]),
        np.abs(record.wavelength - new[np.clip(place - 1, 0, len(new) - 1)]),
    )
    keep = ~record.mask & (near > 0.5 * step)
    return {
        "wavelength": record.wavelength[keep], "flux": record.flux[keep].astype(float), "flux_err": error[keep],
    }  # fmt: skip


def _unit(text: str) -> str:
    from astropy import units as u

    try:
        return str(u.Unit(text)) if text else ""
    except ValueError:
        return ""  # the metadata keep what the file said


def _method(generator: Generator, kind: str, wanted: Wanted) -> str:
    if kind not in generator.errors:
        raise Unusable(f"{kind} was judged by fewer than {FEWEST} objects when the backbone was fitted: no error to give")
    return generator.method(kind, wanted.method)


def _named(record: Identity, number: int) -> dict[str, np.ndarray]:
    place = {name: np.nan if (v := getattr(record, name)) is None else float(v) for name in ("ra", "dec")}
    return {
        "object_id": np.full(number, record.object_id), **{name: np.full(number, v) for name, v in place.items()},
    }  # fmt: skip


def _marked(rows: Mapping[str, np.ndarray], method: str, generator: Generator) -> dict[str, np.ndarray]:
    number = len(rows["flux"])
    digest = generator.digest[:16]
    return {
        **rows, "generated": np.full(number, bool(method)), "method": np.full(number, method, "<U9"),
        "model_digest": np.full(number, digest if method else "", "<U16"),
    }  # fmt: skip


def _check_output(target: Path, modality: str) -> None:
    faults = []
    if target.exists():
        faults.append(f"{target} exists; generated numbers never take the place of a file")
    if target.suffix and target.suffix not in table.SUFFIXES[modality]:
        faults.append(
            f"{target}: of {modality}, {' and '.join(table.SUFFIXES[modality])} files are written, or a folder"
        )
    if faults:
        raise OptionsError(faults)


def _write(target: Path, parts: Sequence[_Part], meta: Mapping[str, Any]) -> None:
    """One file of all objects, or a file for each."""
    if target.suffix:
        kinds = {(tuple(part.columns), tuple(part.units.items()), tuple(part.meta.items())) for part in parts}
        if len(kinds) > 1:
            raise OptionsError([f"{target}: the objects differ in units, times or frame; name a folder as output"])
        _check_names(parts)
        _put(target, table.joined([part.columns for part in parts]), parts[0], meta)
        return
    for number, part in enumerate(parts):
        stem = re.sub(r"[^\w.+-]+", "_", part.record.object_id or Path(part.record.source).name)
        _put(target / f"{number:05d}_{stem}.ecsv", part.columns, part, meta)


def _check_names(parts: Sequence[_Part]) -> None:
    names = [part.record.object_id for part in parts]
    twice = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
    if twice is not None:
        raise OptionsError([f"two objects are called {twice!r}, and could not be told apart; name a folder as output"])


def _put(path: Path, columns: Mapping[str, np.ndarray], part: _Part, meta: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = table.table_bytes(columns, part.units, {**meta, **part.meta}, path.suffix)
    Store(str(path.parent)).write(path.name, content)
