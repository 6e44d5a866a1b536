"""Foreign models of transformers inside of ours: a text encoder for tokens, an image model for views of a stamp.

What is needed to make such a model again (its whole configuration, and for images size and normalisation) is one JSON
object, the *plan*. It stands in our own ``config.json`` and in the options of ``build``, and the weights lie among
ours, so that a bundle needs neither the hub nor the folder that the backbone came from.
"""

from __future__ import annotations

import contextlib
import inspect
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.functional import interpolate

#: Entries of a configuration that describe where it came from or what its classifier said, and not the encoder.
_FOREIGN = ("_name_or_path", "architectures", "dtype", "id2label", "label2id", "label_names", "problem_type")


class BackboneError(ValueError):
    """A backbone cannot be had, or is of the wrong kind; the message names it."""


def model_class(config: Any) -> type[Any]:
    """The class that ``AutoModel`` would make.

    Parameters
    ----------
    config : transformers.PretrainedConfig
        Of the model.

    Returns
    -------
    type
        A ``PreTrainedModel``.

    Raises
    ------
    BackboneError
        Where transformers has none.
    """
    from transformers.models.auto.modeling_auto import MODEL_MAPPING

    try:
        found: Any = MODEL_MAPPING[type(config)]
    except KeyError as error:
        raise BackboneError(f"transformers has no model of type {config.model_type!r} to read features from") from error
    kind: type[Any] = found[0] if isinstance(found, tuple) else found
    return kind


def plain_config(config: Any) -> dict[str, Any]:
    """The whole configuration of a model as JSON values.

    Parameters
    ----------
    config : transformers.PretrainedConfig
        Of the model.

    Returns
    -------
    dict
        With ``model_type``, and with the defaults of today; without names of classes and of folders.
    """
    found = json.loads(config.to_json_string(use_diff=False))
    return {name: value for name, value in found.items() if name not in _FOREIGN}


def make_model(plan: Mapping[str, Any]) -> Any:
    """Make the model of a plan.

    Parameters
    ----------
    plan : mapping
        With ``config``, and ``pooler``: whether its own pooling layer was pretrained.

    Returns
    -------
    transformers.PreTrainedModel
        Random weights; a text encoder without its words.

    Raises
    ------
    BackboneError
        Where this version of transformers cannot make it.
    """
    from transformers import CONFIG_MAPPING

    stored = json.loads(json.dumps(dict(plan["config"])))
    try:
        config = CONFIG_MAPPING[stored["model_type"]].from_dict(stored)
        kind = model_class(config)
        return without_words(kind(config, **_pooling(kind, plan["pooler"])))
    except (KeyError, TypeError, ValueError, ImportError, RuntimeError) as error:
        if isinstance(error, BackboneError):
            raise
        reason = " ".join(str(error).split())[:300]
        raise BackboneError(f"a backbone of type {stored.get('model_type')!r} cannot be made: {reason}") from error


def load_model(folder: Path, config: Any, pooler: bool | None = None) -> tuple[Any, bool]:
    """Read a model with its weights, as ``make_model`` makes it.

    Parameters
    ----------
    folder : Path
        As ``save_pretrained`` writes it.
    config : transformers.PretrainedConfig
        Read from there.
    pooler : bool, optional
        Whether to read its own pooling layer; where None, it is read if the weights hold it.

    Returns
    -------
    model, pooler : transformers.PreTrainedModel, bool
        In evaluation mode, in fp32.

    Raises
    ------
    BackboneError
        Where weights are missing, damaged or of another shape.
    """
    kind = model_class(config)
    wanted = pooler is not False
    try:
        with _quietly():
            model, found = kind.from_pretrained(
                folder, config=config, dtype=torch.float32, output_loading_info=True, use_safetensors=True,
                local_files_only=True, **_pooling(kind, wanted),
            )  # fmt: skip
    except Exception as error:  # of transformers, safetensors or timm: each has its own
        reason = " ".join(str(error).split())[:300]
        raise BackboneError(f"the weights in {folder} cannot be read: {reason}") from error
    missing = sorted(found["missing_keys"])
    without_pooler = [name for name in missing if not name.startswith("pooler.")]
    words = {id(parameter) for parameter in _words(model)}
    lacking = [name for name in without_pooler if id(model.get_parameter_or_buffer(name)) not in words]
    if lacking:
        raise BackboneError(f"the weights in {folder} lack {', '.join(lacking[:3])} ({len(lacking)} in all)")
    if wanted and len(without_pooler) < len(missing):
        return load_model(folder, config, False)
    return without_words(model).eval(), wanted


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """No bar, and no report on weights that are not used: what is missing is an error of ours."""
    from transformers.utils import logging

    from finetune.weights import hushed

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with hushed():
            yield
    finally:
        logging.set_verbosity(before)


def without_words(model: Any) -> Any:
    """Take the words out of a text encoder: it is given embeddings, and they are most of a small one.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Changed in place.

    Returns
    -------
    transformers.PreTrainedModel
        The same.
    """
    words = _word_layer(model)
    if words is not None:
        model.set_input_embeddings(nn.Embedding(1, words.embedding_dim))
    return model


def _word_layer(model: Any) -> Any:
    if model.main_input_name != "input_ids":
        return None
    words = model.get_input_embeddings()
    return words if isinstance(words, nn.Embedding) else None


def _words(model: Any) -> list[nn.Parameter]:
    layer = _word_layer(model)
    return [] if layer is None else list(layer.parameters())


def _pooling(kind: type[Any], pooler: bool) -> dict[str, bool]:
    """Text is pooled by us; an image model's own pooling layer is used where it was pretrained."""
    if "add_pooling_layer" not in inspect.signature(kind.__init__).parameters:  # type: ignore[misc]
        return {}
    return {"add_pooling_layer": pooler and kind.main_input_name != "input_ids"}


class ForeignBackbone(nn.Module):
    """A foreign model within ours, as ``backbone``.

    Parameters
    ----------
    plan : mapping
        From ``finetune.backbone_source``.
    model : transformers.PreTrainedModel, optional
        What ``make_model`` made of it already.
    """

    backbone: Any

    def __init__(self, plan: Mapping[str, Any], model: Any = None) -> None:
        super().__init__()
        self.backbone = make_model(plan) if model is None else model

    def take(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Fill in pretrained weights.

        Parameters
        ----------
        weights : mapping of str to Tensor
            ``state_dict`` of what ``load_model`` gives.
        """
        nn.Module.load_state_dict(self.backbone, dict(weights))

    def train(self, mode: bool = True) -> ForeignBackbone:
        """Set the mode; batch norm stays in evaluation mode for good: a fine-tuning set is too small for statistics.

        Parameters
        ----------
        mode : bool
            Training or not.

        Returns
        -------
        ForeignBackbone
            Itself.
        """
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self


class TextBackbone(ForeignBackbone):
    """A foreign text encoder in the place of ``finetune.encoder.Encoder``: embeddings in, hidden states out.

    One linear map leads into its width and one back. Wavelength and time are in the tokens, so its own positions are
    switched off where it has an argument for them: every token gets its first position, learned or rotary, and a
    sequence of any length fits. What a model does by a token's index itself (relative attention, windows) stays.

    Parameters
    ----------
    plan : mapping
        From ``finetune.backbone_source``.
    width : int
        Of the tokens.
    model : transformers.PreTrainedModel, optional
        What ``make_model`` made of the plan already.
    """

    def __init__(self, plan: Mapping[str, Any], width: int, model: Any = None) -> None:
        super().__init__(plan, model)
        config = self.backbone.config
        words = self.backbone.get_input_embeddings()
        self.into = nn.Linear(width, words.embedding_dim)
        self.back = nn.Linear(config.hidden_size, width)
        free = "position_ids" in inspect.signature(self.backbone.forward).parameters
        self.first = _first_position(self.backbone) if free else None
        self.longest = None if free else getattr(config, "max_position_embeddings", None)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Encode.

        Parameters
        ----------
        x : Tensor, shape (batch, tokens, width)
            Embeddings.
        mask : Tensor, shape (batch, tokens), optional
            Nonzero for tokens that count.

        Returns
        -------
        Tensor, shape (batch, tokens, width)
            Hidden states of the last layer.

        Raises
        ------
        BackboneError
            Where the encoder has fewer positions than there are tokens, and cannot do without.
        """
        kind, tokens = self.backbone.config.model_type, x.shape[1]
        if self.longest is not None and tokens + 1 > self.longest:
            raise BackboneError(
                f"backbone of type {kind!r} has {self.longest} positions, and {tokens + 1} tokens are to be read"
            )
        seen = torch.ones(x.shape[:2], device=x.device) if mask is None else mask
        # A last token that never counts: transformers takes another path where a mask is all ones, and a row must not
        # depend on whether its mates are whole.
        seen = torch.nn.functional.pad(seen.long(), (0, 1))
        inside = torch.nn.functional.pad(self.into(x), (0, 0, 0, 1))
        places: dict[str, Any] = {}
        if self.first is not None:
            places = {"position_ids": torch.full(seen.shape, self.first, device=x.device)}
        hidden = self.backbone(inputs_embeds=inside, attention_mask=seen, return_dict=True, **places).last_hidden_state
        out: torch.Tensor = self.back(hidden[:, :tokens])
        return out


def _first_position(model: nn.Module) -> int:
    """The first position that was trained: some models (RoBERTa) count from behind the number of their padding."""
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            return 0 if module.padding_idx is None else module.padding_idx + 1
    return 0


class ImageBackbone(ForeignBackbone):
    """A foreign image model: views of a stamp to one vector each.

    Parameters
    ----------
    plan : mapping
        From ``finetune.backbone_source``, with ``image``: ``channels``, ``size`` (pixels; None: as they come),
        ``mean`` and ``std`` of each channel (of values 0 to 1), ``width`` of the pooled features.
    planes : int
        Planes of a view, in order of wavelength.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, plan: Mapping[str, Any], planes: int = 3) -> None:
        super().__init__(plan)
        image = plan["image"]
        self.size, self.width = image["size"], image["width"]
        self.bands = band_map(planes, image["channels"])
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(image[name]).view(1, -1, 1, 1), persistent=False)

    def forward(self, views: torch.Tensor) -> torch.Tensor:
        """Pool the features of some views.

        Parameters
        ----------
        views : Tensor, shape (n, planes, h, h)
            Display values 0 to 255.

        Returns
        -------
        Tensor, shape (n, width)
            Pooled features.
        """
        shown = self.bands(views.to(self.mean.dtype) / 255).float()  # bicubic has no half precision on a CPU
        if self.size is not None and tuple(shown.shape[-2:]) != (self.size, self.size):
            shown = interpolate(shown, (self.size, self.size), mode="bicubic", antialias=True).clamp(0, 1)
        return pool(self.backbone, self.backbone(pixel_values=(shown - self.mean) / self.std))


def pool(model: nn.Module, found: Any) -> torch.Tensor:
    """One vector for each image.

    Parameters
    ----------
    model : Module
        The image model.
    found : mapping
        What it said.

    Returns
    -------
    Tensor, shape (n, width)
        Its own pooled output where there is one, else its class token, else the mean over the image.
    """
    pooled = found.get("pooler_output")
    if pooled is not None:
        flat: torch.Tensor = pooled.flatten(1)
        return flat
    hidden: torch.Tensor = found["last_hidden_state"]
    if hidden.ndim == 4:
        return hidden.mean((2, 3))
    has_token = any(name.endswith("cls_token") for name, _ in model.named_parameters())
    return hidden[:, 0] if has_token else hidden.mean(1)


def band_map(planes: int, channels: int) -> nn.Module:
    """Planes of a view to the channels of a model, by a 1 x 1 convolution that is trained with the head.

    Parameters
    ----------
    planes, channels : int
        Numbers of both, each in order of wavelength.

    Returns
    -------
    Module
        Nothing where they are as many. It begins as the mean of neighbouring planes where channels are fewer, and
        interpolates between planes where they are more; weights of a channel sum to one.
    """
    if planes == channels:
        return nn.Identity()
    mapped = nn.Conv2d(planes, channels, 1)
    if channels < planes:
        weight = interpolate(torch.eye(planes)[None], channels, mode="area")[0].T
    else:
        weight = interpolate(torch.eye(planes)[None], channels, mode="linear", align_corners=True)[0].T
    with torch.no_grad():
        mapped.weight.copy_(weight[:, :, None, None])
        mapped.bias.zero_()  # type: ignore[union-attr]
    return mapped
