"""A pretrained backbone on disk, and how a task's model takes its weights over.

::

    nightcat_pretrained.json       what it is, how it was made, SHA-256 of the other files
    config.json, model.safetensors what transformers writes
    files.json                     every file that was gone through, with digest and counts, and what was refused
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.bundle_files import sha256

if TYPE_CHECKING:
    import torch

INFO = "nightcat_pretrained.json"
FORMAT = 1  #: Raised when the layout of the folder changes.
MODULES = {name: f"finetune.masked_{name}" for name in ("light_curves", "spectra", "stamps")}


class PretrainedError(ValueError):
    """A pretrained backbone is not there, is damaged, or does not fit the model."""


@dataclass(frozen=True, slots=True)
class Pretrained:
    """A backbone whose files have been checked.

    Parameters
    ----------
    path : Path
        Its folder.
    info : mapping
        Content of ``nightcat_pretrained.json``.
    digest : str
        SHA-256 of that file, which holds those of all others.
    """

    path: Path
    info: Mapping[str, Any]
    digest: str


def is_pretrained(folder: str | Path) -> bool:
    """Tell whether a folder claims to be a backbone of ours.

    Parameters
    ----------
    folder : str or Path
        Any.

    Returns
    -------
    bool
        True where it holds ``nightcat_pretrained.json``.
    """
    return (Path(folder) / INFO).is_file()


def load_pretrained(folder: str | Path) -> Pretrained:
    """Read what a backbone is, and check the digest of every file.

    Parameters
    ----------
    folder : str or Path
        Of ``nightcat pretrain``.

    Returns
    -------
    Pretrained
        Whose weights are not read yet.

    Raises
    ------
    PretrainedError
        Naming what is missing or damaged.
    """
    path = Path(folder)
    if not is_pretrained(path):
        raise PretrainedError(f"{path} is no pretrained backbone: it has no {INFO}")
    try:
        info = json.loads((path / INFO).read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise PretrainedError(f"{path / INFO} is damaged: {error}") from error
    if not isinstance(info, dict) or info.get("format") != FORMAT:
        raise PretrainedError(f"{path / INFO} is not of format {FORMAT}")
    if info.get("modality") not in MODULES:
        raise PretrainedError(f"{path}: modality {info.get('modality')!r} is not one of {', '.join(MODULES)}")
    for name, stated in sorted(info["files"].items()):
        file = path / name
        if not file.is_file():
            raise PretrainedError(f"{path}: {name} is missing")
        if (found := sha256(file)) != stated:
            raise PretrainedError(f"{path}: {name} is damaged: SHA-256 {found[:16]}.. instead of {stated[:16]}..")
    return Pretrained(path, info, sha256(path / INFO))


def build_options(folder: str | Path, build: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a task's ``build`` that make its model as wide and as deep as a backbone.

    Parameters
    ----------
    folder : str or Path
        Of the backbone.
    build : mapping
        The task's own.

    Returns
    -------
    dict
        ``build`` with the sizes of the backbone.

    Raises
    ------
    PretrainedError
        Where the backbone is not there or damaged.
    """
    return {**build, **load_pretrained(folder).info["sizes"]}


def fill(model: torch.nn.Module, folder: str | Path) -> list[str]:
    """Copy embedding and encoder of a backbone into a task's model, into every member of an ensemble.

    Parameters
    ----------
    model : Module
        From the task's ``build`` with ``build_options``; changed in place. Its head stays as it is.
    folder : str or Path
        Of the backbone.

    Returns
    -------
    list of str
        Names of the weights that were set.

    Raises
    ------
    PretrainedError
        Where the backbone is not there or damaged, is of another modality, or of other sizes.
    """
    import torch
    from safetensors.torch import load_file

    found = load_pretrained(folder)
    shared = tuple(found.info["shared"])
    weights = {k: v for k, v in load_file(found.path / "model.safetensors").items() if k.startswith(shared)}
    state = model.state_dict()
    places = _places(sorted(weights), list(state))
    what = f"{found.path}, pretrained on {found.info['modality']},"
    if not places:
        raise PretrainedError(
            f"{what} does not fit {type(model).__name__}: no part of that model holds all of its {len(weights)} "
            f"weights, such as {sorted(weights)[0]!r}; it is a model for something else, or has fewer layers"
        )
    filled = []
    with torch.no_grad():
        for place in places:
            for name, value in weights.items():
                own = state[place + name]
                if own.shape != value.shape:
                    raise PretrainedError(
                        f"{what} does not fit {type(model).__name__}: {place + name} has shape {tuple(own.shape)}, "
                        f"the backbone's {tuple(value.shape)}"
                    )
            _same_depth(found, place, shared, weights, state, type(model).__name__)
            filled += [place + name for name in weights]
        for place in places:
            for name, value in weights.items():
                state[place + name].copy_(value)
    return filled


def _places(names: list[str], state: list[str]) -> list[str]:
    """Prefixes under which a model holds all of some names."""
    known = set(state)
    candidates = [name.removesuffix(names[0]) for name in state if name == names[0] or name.endswith("." + names[0])]
    return [place for place in candidates if all(place + name in known for name in names)]


def _same_depth(
    found: Pretrained, place: str, shared: tuple[str, ...], weights: Mapping[str, Any], state: Mapping[str, Any],
    model: str,
) -> None:  # fmt: skip
    """A deeper model would hold layers that have learnt nothing between those that have."""
    inside = tuple(place + prefix for prefix in shared)
    extra = [name for name in state if name.startswith(inside) and name.removeprefix(place) not in weights]
    if extra:
        raise PretrainedError(
            f"{found.path} does not fit {model}: that has weights which the backbone lacks, such as {extra[0]!r}; "
            "build it with the sizes of the backbone"
        )
