"""Weights of a ``PreTrainedModel`` to and from a folder in transformers' own form, matrices in half precision."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from finetune.bundle import BundleError

FILE = "model.safetensors"
CONFIG = "config.json"


def stored(tensor: torch.Tensor, storage: str) -> torch.Tensor:
    """The form in which one tensor is stored.

    Parameters
    ----------
    tensor : Tensor
        Parameter or buffer.
    storage : str
        ``"fp16"`` or ``"fp32"``.

    Returns
    -------
    Tensor
        In fp16 where asked for, a floating-point tensor of two or more axes and finite in fp16. Vectors stay as they
        are: a running variance of 1e-8 would become zero, and they weigh nothing.
    """
    if storage == "fp16" and tensor.is_floating_point() and tensor.ndim >= 2:
        half = tensor.half()
        if bool(torch.isfinite(half).all()):
            return half
    return tensor


def round_weights(model: torch.nn.Module, storage: str) -> None:
    """Give a model the weights that it will have when it is read back, before it is calibrated.

    Parameters
    ----------
    model : Module
        Changed in place; stays in its own precision.
    storage : str
        ``"fp16"`` or ``"fp32"``.
    """
    with torch.no_grad():
        for tensor in model.state_dict().values():  # not the buffers that are never stored
            tensor.copy_(stored(tensor, storage))


def save_weights(model: Any, folder: Path, storage: str) -> None:
    """Write a model by ``save_pretrained`` and check that it reads back.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Left as it is.
    folder : Path
        To make.
    storage : str
        ``"fp16"`` or ``"fp32"``.

    Raises
    ------
    BundleError
        Where what was written does not restore the model.
    """
    if storage not in ("fp16", "fp32"):
        raise BundleError(f"storage {storage!r} is not one of fp16, fp32")
    state = {name: stored(tensor, storage).cpu().contiguous() for name, tensor in model.state_dict().items()}
    with hushed():
        model.save_pretrained(folder, state_dict=dict(state), save_original_format=False)  # names as the code has them
    written = _read(folder)
    for name, tensor in written.items():
        if name not in state or not torch.equal(tensor, state[name]):
            raise BundleError(f"{folder.name}: weight {name!r} was changed by save_pretrained")
    _check_keys(model, written, folder)


def load_weights(build: Callable[..., Any], options: Mapping[str, Any], folder: Path) -> Any:
    """Build a model and fill in its weights.

    Parameters
    ----------
    build : callable
        ``Task.build``.
    options : mapping
        Its options.
    folder : Path
        With ``model.safetensors``.

    Returns
    -------
    transformers.PreTrainedModel
        In evaluation mode, in fp32.

    Raises
    ------
    BundleError
        Where names or shapes do not fit.
    """
    return _filled(lambda: build(**options), folder)


def load_network(network: Callable[[Any], torch.nn.Module], folder: Path) -> torch.nn.Module:
    """Make the network of a model for inference alone, and fill in its weights; transformers is not imported.

    Parameters
    ----------
    network : callable
        ``Task.network``.
    folder : Path
        With ``config.json`` and ``model.safetensors``.

    Returns
    -------
    Module
        In evaluation mode, in fp32.

    Raises
    ------
    BundleError
        Where the configuration, names or shapes do not fit.
    """
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        return _filled(lambda: network(SimpleNamespace(**config)), folder)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        if isinstance(error, BundleError):
            raise
        raise BundleError(f"{folder / CONFIG} does not describe the network: {error}") from error


def _filled(make: Callable[[], Any], folder: Path) -> Any:
    with torch.random.fork_rng(devices=[]):  # the random start is overwritten; it must not shift anybody's seed
        model = make()
    written = _read(folder)
    _check_keys(model, written, folder)
    try:
        model.load_state_dict(written, strict=False)
    except RuntimeError as error:
        raise BundleError(f"{folder / FILE} does not fit the model: {' '.join(str(error).split())[:300]}") from error
    return model.float().eval()


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    """No progress bar and no notice of transformers for files of a few megabytes.

    Yields
    ------
    None
        While it lasts.
    """
    from transformers.utils import logging

    shown, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()


def _read(folder: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(folder / FILE)
    except (OSError, SafetensorError) as error:
        raise BundleError(f"{folder / FILE} cannot be read: {error}") from error


def _check_keys(model: torch.nn.Module, written: Mapping[str, torch.Tensor], folder: Path) -> None:
    """Every weight must be there; one that shares its memory with a written one (tied weights) is."""
    state = model.state_dict()
    there = {tensor.data_ptr() for name, tensor in state.items() if name in written}
    missing = [name for name in state if name not in written and state[name].data_ptr() not in there]
    extra = [name for name in written if name not in state]
    for word, names in (("lacks", missing), ("has unknown", extra)):
        if names:
            raise BundleError(f"{folder / FILE} {word} weights {', '.join(names[:3])} ({len(names)} in all)")
