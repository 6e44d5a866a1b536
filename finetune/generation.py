"""What makes a backbone generate: the classical answer beside it, errors from what was held back, and which is better.

::

    generation.json         digests, errors of each method for each kind of hole, how both were judged, which is better
    generation.safetensors  what the classical answers know of the training objects

Both lie in the backbone's folder, and are bound to it by its digest.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from finetune.bundle_files import sha256
from finetune.error_model import ErrorModel, fit_errors
from finetune.generated_table import Part
from finetune.generation_options import METHODS, Wanted
from finetune.jsonfile import json_bytes
from finetune.pretrained import Pretrained, PretrainedError, load_pretrained
from finetune.task import Prepared
from finetune.weights import load_weights
from transforms.attempt import Unusable
from transforms.records import Identity
from transforms.store import Store

INFO, ARRAYS = "generation.json", "generation.safetensors"
FORMAT = 1
FEWEST = 8  #: Objects that have to judge a kind of hole.
MODULES = {name: f"finetune.generate_{name}" for name in ("light_curves", "spectra")}
#: Why the stamps' model is not asked.
STAMPS = (
    "a backbone of stamps cannot be asked for a band: it knows display levels of three channels, stretched for each "
    "stamp, so that what it says has no flux, no unit and no error"
)


@dataclass(frozen=True, slots=True)
class Judged:
    """Answers of one method to what was held back of one object.

    Parameters
    ----------
    kind : str
        Of the hole.
    method : str
        One of ``METHODS``.
    residual, noise : ndarray, shape (n,)
        What was held back less the answer, and one sigma of the former.
    features : ndarray, shape (n, n_feature)
        For ``fit_errors``.
    group : int
        Number of the object.
    """

    kind: str
    method: str
    residual: np.ndarray
    noise: np.ndarray
    features: np.ndarray
    group: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Generation:
    """How a modality generates.

    Parameters
    ----------
    unit : str
        Of the residuals.
    learn : callable
        ``learn(pairs) -> knowledge``: what the classical answers know, from records and what ``prepare`` gave.
    arrays, restore : callable
        ``arrays(knowledge) -> dict of str to ndarray``, and back.
    judge : callable
        ``judge(record, prepared, model, knowledge, rng, group)`` yields ``Judged`` for every hole that is held back.
    generate : callable
        ``generate(generator, record, prepared, wanted) -> Part``; it raises ``Unusable`` for an object of which that
        cannot be said.
    """

    unit: str
    learn: Callable[[Sequence[tuple[Any, Prepared]]], Any]
    arrays: Callable[[Any], dict[str, np.ndarray]]
    restore: Callable[[Mapping[str, np.ndarray]], Any]
    judge: Callable[[Any, Prepared, Any, Any, np.random.Generator, int], Iterator[Judged]]
    generate: Callable[[Generator, Any, Prepared, Wanted], Part]


@dataclass(frozen=True, slots=True)
class Generator:
    """A backbone that can be asked.

    Parameters
    ----------
    backbone : Pretrained
        Checked.
    info : mapping
        Content of ``generation.json``.
    digest : str
        SHA-256 of that file, which holds those of all others.
    model : transformers.PreTrainedModel
        In evaluation mode.
    knowledge : object
        Of the classical answers.
    errors : mapping of str to mapping of str to ErrorModel
        By kind of hole and method.
    """

    backbone: Pretrained
    info: Mapping[str, Any]
    digest: str
    model: Any
    knowledge: Any
    errors: Mapping[str, Mapping[str, ErrorModel]]

    def method(self, kind: str, wanted: str) -> str:
        """The method that answers.

        Parameters
        ----------
        kind : str
            Of the hole.
        wanted : str
            One of ``METHODS``, or ``"best"``: what had the smaller error where it was judged.

        Returns
        -------
        str
            One of ``METHODS``.

        Raises
        ------
        Unusable
            Where too few objects judged such a hole.
        """
        if kind not in self.errors:
            raise Unusable(
                f"{kind} was judged by fewer than {FEWEST} objects when the backbone was fitted: no error can be given"
            )
        return str(self.info["kinds"][kind]["best"]) if wanted == "best" else wanted


def find_generation(modality: str) -> Generation:
    """Import how a modality generates.

    Parameters
    ----------
    modality : str
        Of a backbone.

    Returns
    -------
    Generation
        Of its module.

    Raises
    ------
    PretrainedError
        For one that cannot.
    """
    if modality not in MODULES:
        raise PretrainedError(STAMPS if modality == "stamps" else f"a backbone of {modality} cannot generate")
    found: Generation = importlib.import_module(MODULES[modality]).GENERATION
    return found


def load_model(backbone: Pretrained) -> Any:
    """The whole masked model of a backbone.

    Parameters
    ----------
    backbone : Pretrained
        Checked.

    Returns
    -------
    transformers.PreTrainedModel
        In evaluation mode.
    """
    from finetune.pretrain import find_objective

    objective = find_objective(backbone.info["modality"])
    options = backbone.info["options"]
    build = {name: options[name] for name in objective.build_defaults}
    return load_weights(objective.build, {"mask": options["mask"], **build}, backbone.path).eval()


def summary(found: Sequence[Judged]) -> dict[str, Any]:
    """Fit the errors, and judge both methods, by kind of hole.

    Parameters
    ----------
    found : sequence of Judged
        Of objects that the backbone was not trained on.

    Returns
    -------
    dict
        For each kind that ``FEWEST`` objects judge: ``best``, ``objects``, and for each method ``errors`` (of all
        objects), ``rms`` (mean over objects), and ``coverage_68`` and ``coverage_95``, of objects that the errors were
        not fitted on (in two halves).
    """
    kinds: dict[str, Any] = {}
    for kind in sorted({one.kind for one in found}):
        objects = len({one.group for one in found if one.kind == kind})
        if objects < FEWEST:
            continue
        told: dict[str, Any] = {}
        for method in METHODS:
            mine = [one for one in found if one.kind == kind and one.method == method]
            residual, noise, features, group = _joined(mine)
            told[method] = {
                "rms": round(_rms(mine), 5),
                **_coverage(residual, noise, features, group),
                "errors": fit_errors(residual, noise, features, group).content(),
            }
        told["best"] = min(METHODS, key=lambda method: told[method]["rms"])
        kinds[kind] = {**told, "objects": objects}
    return kinds


def object_numbers(records: Sequence[Identity]) -> list[int]:
    """Number the objects that records are of, so that two records of one do not judge as two.

    Parameters
    ----------
    records : sequence of Identity
        Any.

    Returns
    -------
    list of int
        One for each record, from 0; a record without an identifier is an object of its own.
    """
    numbers: dict[str | int, int] = {}
    return [numbers.setdefault(one.object_id or place, len(numbers)) for place, one in enumerate(records)]


def _rms(found: Sequence[Judged]) -> float:
    """Mean over objects, whatever the number of answers to each."""
    each: dict[int, list[float]] = {}
    for one in found:
        each.setdefault(one.group, []).append(float(np.sqrt(np.mean(one.residual**2))))
    return float(np.mean([np.mean(values) for values in each.values()]))


def _joined(found: Sequence[Judged]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    groups = np.concatenate([np.full(len(one.residual), one.group) for one in found])
    group = np.unique(groups, return_inverse=True)[1]
    residual, noise, features = (
        np.concatenate([getattr(one, name) for one in found]) for name in ("residual", "noise", "features")
    )
    return residual, noise, features, group


def _coverage(residual: np.ndarray, noise: np.ndarray, features: np.ndarray, group: np.ndarray) -> dict[str, float]:
    """Share of one half within errors that were fitted on the other, every object counted alike."""
    inside: dict[str, list[float]] = {"coverage_68": [], "coverage_95": []}
    for half in (0, 1):
        other = group % 2 == half
        _, numbers = np.unique(group[~other], return_inverse=True)
        model = fit_errors(residual[~other], noise[~other], features[~other], numbers)
        off = np.abs(residual[other]) / np.hypot(model.error(features[other]), noise[other])
        for one in np.unique(group[other]):
            for name, limit in (("coverage_68", 1.0), ("coverage_95", 1.96)):
                inside[name].append(float(np.mean(off[group[other] == one] <= limit)))
    return {name: round(float(np.mean(shares)), 4) for name, shares in inside.items()}


def write_generation(backbone: Pretrained, info: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> str:
    """Put what was learnt beside a backbone's weights, in place of what lay there.

    Parameters
    ----------
    backbone : Pretrained
        Not changed itself.
    info : mapping
        What ``generation.json`` is to say, beside digests.
    arrays : mapping of str to ndarray
        Of the classical answers.

    Returns
    -------
    str
        SHA-256 of ``generation.json``.
    """
    store = Store(str(backbone.path))
    store.write(ARRAYS, save({name: np.ascontiguousarray(value) for name, value in sorted(arrays.items())}))
    digests = {"backbone": backbone.digest, "arrays": sha256(backbone.path / ARRAYS)}
    store.write(INFO, json_bytes({"format": FORMAT, **digests, **info}))
    return sha256(backbone.path / INFO)


def load_generator(folder: str | Path) -> Generator:
    """Read a backbone that can be asked.

    Parameters
    ----------
    folder : str or Path
        Of the backbone.

    Returns
    -------
    Generator
        All of it.

    Raises
    ------
    PretrainedError
        Where the backbone is not there or damaged, is of a kind that cannot generate, or was not judged yet.
    """
    backbone = load_pretrained(folder)
    how = find_generation(backbone.info["modality"])
    path = backbone.path / INFO
    if not path.is_file():
        raise PretrainedError(
            f"{backbone.path} was not judged yet: `nightcat generate {backbone.path} --fit --input FILES`, with the "
            "files that it was pretrained on, learns errors and the classical answers"
        )
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
        blob = (backbone.path / ARRAYS).read_bytes()
        if info.get("format") != FORMAT:
            raise PretrainedError(f"{path} is not of format {FORMAT}")
        if info["backbone"] != backbone.digest:
            raise PretrainedError(f"{path} belongs to another backbone; fit again")
        if sha256(backbone.path / ARRAYS) != info["arrays"]:
            raise PretrainedError(f"{backbone.path / ARRAYS} is damaged: its SHA-256 is not the stated one")
        errors = {
            kind: {method: ErrorModel.of(told[method]["errors"]) for method in METHODS}
            for kind, told in info["kinds"].items()
        }
        knowledge = how.restore(load(blob))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        if isinstance(error, PretrainedError):
            raise
        raise PretrainedError(f"{path} is damaged: {type(error).__name__}: {error}") from error
    return Generator(backbone, info, sha256(path), load_model(backbone), knowledge, errors)
