"""Write a bundle: a new one from trained models, or a copy that says something else."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import save_file

from finetune.bundle import FORMAT, SPACE, Bundle, BundleError, Info, load_bundle, member_folder
from finetune.bundle_files import INFO, digests, new_folder
from finetune.jsonfile import write_json

if TYPE_CHECKING:
    from finetune.embedding_space import EmbeddingSpace
    from finetune.task import Baseline


def save_bundle(
    path: str | Path,
    *,
    info: Info,
    models: Sequence[Any],
    baseline: Baseline,
    storage: str = "fp16",
    space: EmbeddingSpace | None = None,
    extra: Mapping[str, Any] = MappingProxyType({}),
) -> Bundle:
    """Write a bundle: into a hidden folder beside it, renamed when it is whole.

    Parameters
    ----------
    path : str or Path
        Folder to make; an earlier bundle there is replaced, anything else is not.
    info : Info
        What it is; ``members`` is set from ``models``.
    models : sequence of transformers.PreTrainedModel
        One, or several whose outputs are averaged.
    baseline : Baseline
        The fitted classical answer.
    storage : str
        ``"fp16"`` or ``"fp32"`` for weight matrices; vectors (norms, biases, statistics) always stay fp32.
    space : EmbeddingSpace or None
        Where the training objects lie in the embedding.
    extra : mapping of str to object
        Further JSON files by name, such as ``split.json``.

    Returns
    -------
    Bundle
        Read back and checked.

    Raises
    ------
    BundleError
        Where the folder holds something else.
    ValueError
        Where a value has no JSON form.
    """
    from finetune.weights import save_weights

    path = free_folder(Path(path))
    with new_folder(path) as folder:
        for number, model in enumerate(models):
            save_weights(model, folder / member_folder(number), storage)
        arrays, meta = baseline.state()
        save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, folder / "baseline.safetensors")
        write_json(folder / "baseline.json", meta)
        if space is not None:
            _write_space(folder, space)
        for name, value in extra.items():
            write_json(folder / name, value)
        _write_info(folder, replace(info, members=len(models)))
    return load_bundle(path)


def derive_bundle(bundle: Bundle, path: str | Path, space: EmbeddingSpace | None = None, **changes: Any) -> Bundle:
    """Write a copy of a bundle that says something else in ``bundle.json``; weights and baseline stay.

    Parameters
    ----------
    bundle : Bundle
        The model to copy.
    path : str or Path
        Folder to make; an earlier bundle there is replaced, anything else is not.
    space : EmbeddingSpace or None
        In place of the one that it has; None leaves that as it is.
    **changes
        Fields of ``Info``.

    Returns
    -------
    Bundle
        Read back and checked; it has a digest of its own.

    Raises
    ------
    BundleError
        Where the folder holds something else.
    """
    path = free_folder(Path(path))
    with new_folder(path) as folder:
        shutil.copytree(bundle.path, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(INFO, ".*"))
        if space is not None:
            _write_space(folder, space)
        _write_info(folder, replace(bundle.info, **changes))
    return load_bundle(path)


def _write_space(folder: Path, space: EmbeddingSpace) -> None:
    arrays, meta = space.state()
    save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, folder / f"{SPACE}.safetensors")
    write_json(folder / f"{SPACE}.json", meta)


def free_folder(path: Path) -> Path:
    """Make sure that a bundle may be written to a folder.

    Parameters
    ----------
    path : Path
        The folder.

    Returns
    -------
    Path
        The same.

    Raises
    ------
    BundleError
        Where it holds something that is no bundle.
    """
    if path.exists() and not (path / INFO).is_file() and (not path.is_dir() or any(path.iterdir())):
        raise BundleError(f"{path} exists and is no bundle; it is left as it is")
    return path


def _write_info(folder: Path, info: Info) -> None:
    write_json(folder / INFO, {"format": FORMAT, **asdict(info), "files": digests(folder)})
