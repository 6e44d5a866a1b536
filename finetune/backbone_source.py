"""Where a backbone comes from: a folder, an installed package that carries weights, or the hub; and what it is."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch

from finetune.backbone_model import (
    BackboneError,
    ForeignBackbone,
    TextBackbone,
    load_model,
    model_class,
    plain_config,
    pool,
)
from finetune.bundle_files import sha256
from finetune.pretrained import PretrainedError, build_options, fill, is_pretrained, load_pretrained

if TYPE_CHECKING:
    from finetune.task import Task

CONFIG, PROCESSOR, WEIGHTS = "config.json", "preprocessor_config.json", "*.safetensors"
#: What a task can take, in words.
KINDS = {
    "text": "a text encoder (BERT, MiniLM, ModernBERT, RoBERTa, DistilBERT ..., by its inputs_embeds)",
    "image": "an image model (ViT, DINOv2, ConvNextV2, Swin, timm ..., by its pixel_values)",
}
#: A masked autoencoder hides most of an image even at inference; its encoder is a plain one.
_READ_AS = {"vit_mae": "vit"}
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.\-]*(/[\w.\-]+)?")
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  #: Mean and std where a model does not say.


class Backbone(Protocol):
    """A backbone that was found and fits the task."""

    def build_options(self, build: Mapping[str, Any]) -> dict[str, Any]:
        """Options of ``Task.build`` for a model with this backbone.

        Parameters
        ----------
        build : mapping
            Those of the task.

        Returns
        -------
        dict
            With what the backbone needs to be made again.
        """

    def fill(self, model: Any) -> None:
        """Give a new model the backbone's weights.

        Parameters
        ----------
        model : transformers.PreTrainedModel
            Made with ``build_options``; changed in place.
        """

    def record(self) -> dict[str, Any]:
        """What to remember of it.

        Returns
        -------
        dict
            ``name``, ``model_type`` and ``sha256``, the digests of its weights by file.
        """


def open_backbone(name: str, task: Task) -> Backbone:
    """Find a backbone and see that it fits a task; its weights are not read yet.

    Parameters
    ----------
    name : str
        A folder as ``save_pretrained`` writes it, an installed package that holds such a folder, a name on the hub, a
        folder of our own pretraining, or the package of the task's own backbone.
    task : Task
        Says under ``options["backbone"]`` what it takes.

    Returns
    -------
    Backbone
        Checked.

    Raises
    ------
    BackboneError
        Naming the backbone, what it is, and what the task takes.
    """
    takes = task.options.get("backbone")
    if takes is None:
        raise BackboneError(f"backbone {name!r}: task {task.name} takes none")
    if name == takes.get("own"):
        return _TasksOwn(name)
    folder = find_folder(name)
    if is_pretrained(folder):
        _check_own(name, folder, task)
        if takes["takes"] != "image":  # a pretrained image model is one like any other
            return _OwnBackbone(name, folder)
    wanted = f"task {task.name} takes {KINDS[takes['takes']]}"
    config = read_config(name, folder, wanted)
    fault = misfit(config, takes["takes"])
    if fault:
        raise BackboneError(f"backbone {name!r} of type {config.model_type!r} {fault}; {wanted}")
    if not list(folder.glob(WEIGHTS)):
        raise BackboneError(f"backbone {name!r} of type {config.model_type!r} has no weights: no {WEIGHTS} in {folder}")
    return _Foreign(name, folder, config, takes)


def find_folder(name: str) -> Path:
    """The folder that a name means.

    Parameters
    ----------
    name : str
        As in ``open_backbone``.

    Returns
    -------
    Path
        On this machine; what is on the hub is copied into its cache first.

    Raises
    ------
    BackboneError
        Where there is none.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if path.exists() or not _HUB_NAME.fullmatch(name):
        what = "a file" if path.exists() else "not there"
        raise BackboneError(f"backbone {name!r} is {what}; it is a folder, an installed package, or a name on the hub")
    return _in_package(name) or _on_hub(name)


def _in_package(name: str) -> Path | None:
    """The folder with weights in an installed package; the package is not imported."""
    if "/" in name:
        return None
    try:
        files = distribution(name).files or []
    except PackageNotFoundError:
        return None
    configs = [Path(str(one.locate())).parent for one in files if one.name == CONFIG]
    folders = sorted(folder for folder in configs if list(folder.glob(WEIGHTS)))
    if len(folders) != 1:
        raise BackboneError(f"package {name!r} holds {len(folders) or 'no'} folders with {CONFIG} beside {WEIGHTS}")
    return folders[0]


def _on_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download

    from finetune.weights import hushed

    try:
        with hushed():
            return Path(snapshot_download(name, allow_patterns=["config.json", PROCESSOR, "model*.safetensors*"]))
    except Exception as error:  # the network has many ways to fail
        reason = " ".join(str(error).split())[:200]
        raise BackboneError(
            f"backbone {name!r} is neither a folder nor an installed package, and the hub does not give it: {reason}"
        ) from error


def read_config(name: str, folder: Path, wanted: str) -> Any:
    """Read the configuration of a model.

    Parameters
    ----------
    name : str
        For messages.
    folder : Path
        Where it lies.
    wanted : str
        What the task takes, for messages.

    Returns
    -------
    transformers.PretrainedConfig
        Of the model; no code that came with it is run.

    Raises
    ------
    BackboneError
        Where there is none, or transformers does not know it.
    """
    from transformers import CONFIG_MAPPING, AutoConfig

    if not (folder / CONFIG).is_file():
        raise BackboneError(f"backbone {name!r} is a folder without {CONFIG}; {wanted}")
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # whatever a damaged or unknown configuration raises
        reason = " ".join(str(error).split())[:200]
        raise BackboneError(f"backbone {name!r}: {folder / CONFIG} is not understood: {reason}; {wanted}") from error
    if config.model_type in _READ_AS:
        plain = {**config.to_dict(), "model_type": _READ_AS[config.model_type]}
        config = CONFIG_MAPPING[plain["model_type"]].from_dict(plain)
    return config


def misfit(config: Any, kind: str) -> str:
    """Why a model is not of a kind.

    Parameters
    ----------
    config : transformers.PretrainedConfig
        Of the model.
    kind : str
        ``"text"`` or ``"image"``.

    Returns
    -------
    str
        The end of a sentence; empty where it fits.
    """
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    )

    try:
        made = model_class(config)
    except BackboneError as error:
        return f"does not fit: {error}"
    inputs = set(inspect.signature(made.forward).parameters)  # type: ignore[attr-defined]
    if {"pixel_values", "input_ids"} <= inputs:
        return "takes text and images together"
    if "pixel_values" in inputs:
        return "" if kind == "image" else "is an image model"
    if kind == "image":
        return "is a text model" if "input_ids" in inputs else f"takes {made.main_input_name}"
    if getattr(config, "is_encoder_decoder", False):
        return "is an encoder with a decoder"
    generates, masks = (
        config.model_type in names for names in (MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, MODEL_FOR_MASKED_LM_MAPPING_NAMES)
    )
    if getattr(config, "is_decoder", False) or (generates and not masks):
        return "is a generator: a token does not see those after it"
    if not {"inputs_embeds", "attention_mask"} <= inputs:
        return f"takes {made.main_input_name} and no inputs_embeds"
    return ""


@dataclass(slots=True)
class _Foreign:
    """A model of transformers, read once."""

    name: str
    folder: Path
    config: Any
    takes: Mapping[str, Any]
    _model: Any = None
    _pooler: bool = False

    def build_options(self, build: Mapping[str, Any]) -> dict[str, Any]:
        model = self._loaded()
        plan: dict[str, Any] = {"config": plain_config(self.config), "pooler": self._pooler}
        if self.takes["takes"] == "image":
            plan["image"] = image_input(self.folder, self.config)
            plan["image"]["width"] = self._width(model, plan["image"])
        else:
            self._read(model, plan)
        return {**build, "backbone": plan}

    def fill(self, model: Any) -> None:
        slots = [module for module in model.modules() if isinstance(module, ForeignBackbone)]
        if not slots:
            raise BackboneError(f"backbone {self.name!r}: the model has no place for it")
        weights = self._loaded().state_dict()
        for slot in slots:
            slot.take(weights)

    def record(self) -> dict[str, Any]:
        files = sorted(self.folder.glob(WEIGHTS))
        return {
            "name": self.name,
            "model_type": self.config.model_type,
            "sha256": {path.name: sha256(path) for path in files},
        }

    def _loaded(self) -> Any:
        if self._model is None:
            try:
                self._model, self._pooler = load_model(self.folder, self.config)
            except BackboneError as error:
                raise BackboneError(f"backbone {self.name!r} of type {self.config.model_type!r}: {error}") from error
        return self._model

    def _read(self, model: Any, plan: Mapping[str, Any]) -> None:
        """See that it reads as many tokens as the task has."""
        tokens = self.takes.get("tokens", 1)
        try:
            with torch.inference_mode():
                TextBackbone(plan, 1, model)(torch.zeros(2, tokens, 1), torch.ones(2, tokens))
        except Exception as error:  # whatever a foreign model raises
            reason = " ".join(str(error).split())[:200]
            raise BackboneError(
                f"backbone {self.name!r} of type {self.config.model_type!r} does not read {tokens} tokens: {reason}"
            ) from error

    def _width(self, model: Any, image: Mapping[str, Any]) -> int:
        """Features of a blank image: width, and the proof that the model takes images of that shape."""
        side = image["size"] or 160
        try:
            with torch.inference_mode():
                return pool(model, model(pixel_values=torch.zeros(1, image["channels"], side, side))).shape[1]
        except Exception as error:  # whatever a foreign model raises
            reason = " ".join(str(error).split())[:200]
            raise BackboneError(
                f"backbone {self.name!r} of type {self.config.model_type!r} does not take an image of "
                f"{image['channels']} x {side} x {side}: {reason}"
            ) from error


@dataclass(slots=True)
class _TasksOwn:
    """The package that the task's own backbone comes from: ``build`` reads it by itself."""

    name: str

    def build_options(self, build: Mapping[str, Any]) -> dict[str, Any]:
        return dict(build)

    def fill(self, model: Any) -> None:
        """Nothing is left to do."""

    def record(self) -> dict[str, Any]:
        files = [Path(str(one.locate())) for one in distribution(self.name).files or [] if one.suffix == ".pth"]
        return {"name": self.name, "model_type": "", "sha256": {path.name: sha256(path) for path in sorted(files)}}


@dataclass(slots=True)
class _OwnBackbone:
    """A folder that our own pretraining wrote: ``finetune.pretrained`` knows how it fits."""

    name: str
    folder: Path

    def build_options(self, build: Mapping[str, Any]) -> dict[str, Any]:
        return build_options(self.folder, build)

    def fill(self, model: Any) -> None:
        fill(model, self.folder)

    def record(self) -> dict[str, Any]:
        config = json.loads((self.folder / CONFIG).read_text(encoding="utf-8"))
        files = sorted(self.folder.glob(WEIGHTS))
        digests = {path.name: sha256(path) for path in files}
        return {"name": self.name, "model_type": config.get("model_type", ""), "sha256": digests}


def _check_own(name: str, folder: Path, task: Task) -> None:
    """A backbone of our own pretraining must be whole, and must have seen the records that the task is made of."""
    from finetune import tasks

    try:
        info = load_pretrained(folder).info
    except PretrainedError as error:
        raise BackboneError(f"backbone {name!r}: {error}") from error
    record = tasks.get(info["task"]).record
    if record is not task.record:
        raise BackboneError(
            f"backbone {name!r} was pretrained on {info['modality']} ({record.__name__}); task {task.name} is made of "
            f"{task.record.__name__} records"
        )


def image_input(folder: Path, config: Any) -> dict[str, Any]:
    """How a model wants its images.

    Parameters
    ----------
    folder : Path
        May hold ``preprocessor_config.json``.
    config : transformers.PretrainedConfig
        Tells the rest; for timm, what timm knows of the architecture.

    Returns
    -------
    dict
        ``channels``, ``size`` (pixels or None), ``mean`` and ``std`` for each channel, of values 0 to 1.
    """
    timm = _timm_input(config) if config.model_type == "timm_wrapper" else {}
    processor = folder / PROCESSOR
    said = json.loads(processor.read_text(encoding="utf-8")) if processor.is_file() else {}
    shape = timm.get("input_size")
    channels = int(shape[0] if shape else getattr(config, "num_channels", 3))
    size = _side(said.get("crop_size")) if said.get("do_center_crop") else None
    size = size or _side(said.get("size")) or (shape and int(shape[-1])) or _side(getattr(config, "image_size", None))
    mean = said.get("image_mean") or timm.get("mean") or _IMAGENET[0]
    std = said.get("image_std") or timm.get("std") or _IMAGENET[1]
    return {"channels": channels, "size": size, "mean": _each(mean, channels), "std": _each(std, channels)}


def _timm_input(config: Any) -> dict[str, Any]:
    """What the folder says, else what timm says of the architecture."""
    import timm

    stated = getattr(config, "pretrained_cfg", None) or {}
    known = timm.get_pretrained_cfg(config.architecture, allow_unregistered=True)
    found = {**(known.to_dict() if known is not None else {}), **stated}
    channels = (config.model_args or {}).get("in_chans")
    if channels and found.get("input_size"):
        found["input_size"] = (channels, *found["input_size"][1:])
    return found


def _side(size: Any) -> int | None:
    """Side of a square image from the ways in which processors and configurations say it."""
    if isinstance(size, Mapping):
        size = size.get("shortest_edge") or size.get("height")
    if isinstance(size, list | tuple):
        size = size[0]
    return int(size) if size else None


def _each(values: Any, channels: int) -> list[float]:
    """One number for each channel; the mean of them where they are of another number."""
    numbers = [float(value) for value in (values if isinstance(values, list | tuple) else [values])]
    return numbers if len(numbers) == channels else [sum(numbers) / len(numbers)] * channels
