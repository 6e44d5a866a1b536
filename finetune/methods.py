"""How much of a model a fine-tuning changes: the head, the last blocks, adapters, or all of it.

Blocks are the numbered layers of whatever backbone the model has (``encoder.encoder.layer.3``, ``upper.blocks.2``,
``timm_model.layer4``), in the order in which the model holds them; the head is what the task says it is. What lies
after the last block (a final norm) goes with it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

#: The shortest name that ends in a number is a block; blocks within a block belong to it.
_BLOCK = re.compile(
    r"(?P<block>(?P<stack>(?:[^.]+\.)*?(?:(?:layers?|blocks?|stages?|h|albert_layer_groups)\.|layer))(?P<number>\d+))\."
)
#: A foreign model within ours: what follows its last block is within it, wherever it stands.
_BACKBONE = re.compile(r"(?:[^.]+\.)*?backbone(?=\.)")
_ADAPTED = (nn.Linear, nn.Conv2d)
RANK = 8
FORMS = "full, head, layers:K, lora, lora:RANK, ia3"


@dataclass(frozen=True, slots=True)
class Method:
    """A method, as parsed.

    Parameters
    ----------
    kind : str
        ``"full"``, ``"head"``, ``"layers"``, ``"lora"`` or ``"ia3"``.
    number : int
        Blocks or rank.
    """

    kind: str
    number: int = 0


def parse_method(text: str) -> Method:
    """Read the name of a method.

    Parameters
    ----------
    text : str
        One of ``FORMS``.

    Returns
    -------
    Method
        What it says.

    Raises
    ------
    ValueError
        For anything else.
    """
    kind, colon, number = text.partition(":")
    if kind in ("full", "head", "ia3", "lora") and not colon:
        return Method(kind, RANK if kind == "lora" else 0)
    if kind in ("layers", "lora") and re.fullmatch(r"[1-9][0-9]{0,3}", number):
        return Method(kind, int(number))
    raise ValueError(f"method {text!r} is not one of {FORMS}")


def blocks(model: nn.Module, head: Sequence[str] = ()) -> list[tuple[str, ...]]:
    """Names of the backbone's blocks.

    Parameters
    ----------
    model : Module
        Any.
    head : sequence of str
        Regular expressions on the names of the head's parameters, which are in no block.

    Returns
    -------
    list of tuple of str
        From the input to the output; members of an ensemble within the model (names that differ in a number alone)
        stand side by side.
    """
    found: dict[tuple[str, int], dict[str, None]] = {}
    for name in parameter_names(model):
        match = _BLOCK.match(name)
        if match and not _in_head(name, head):
            key = re.sub(r"\d+", "#", match["stack"]), int(match["number"])
            found.setdefault(key, {}).setdefault(match["block"])
    return [tuple(names) for names in found.values()]


def parameter_names(model: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters by the names that they have without adapters.

    Parameters
    ----------
    model : Module
        Any, or what ``peft`` has wrapped around it.

    Returns
    -------
    dict of str to Parameter
        In the order of the model.
    """
    return {name.removeprefix("base_model.model."): one for name, one in model.named_parameters()}


def apply_method(model: Any, method: Method, head: Sequence[str]) -> Any:
    """Mark what is trained, and put adapters in where the method wants them.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Changed in place.
    method : Method
        From ``parse_method``.
    head : sequence of str
        As in ``blocks``; always trained.

    Returns
    -------
    Module
        The model itself, or what ``peft`` wraps around it.

    Raises
    ------
    ValueError
        Where the task names no head, or the model has fewer blocks than are asked for.
    """
    if method.kind == "full":
        return model
    if not any(_in_head(name, head) for name, _ in model.named_parameters()):
        raise ValueError(f"method {method.kind!r} needs a head, and no parameter of the model matches {list(head)}")
    if method.kind in ("lora", "ia3"):
        return _with_adapters(model, method, head)
    trained = blocks(model, head)
    if method.kind == "head":
        _freeze(model, lambda name: _in_head(name, head))
        return model
    if method.number > len(trained):
        names = ", ".join(name for level in trained for name in level)
        raise ValueError(f"method layers:{method.number}: the model has {len(trained)} blocks: {names}")
    last = tuple(f"{name}." for level in trained[-method.number :] for name in level)
    after = _after(model, trained, head)
    _freeze(model, lambda name: _in_head(name, head) or name.startswith(last) or name in after)
    return model


def finish_method(model: Any) -> Any:
    """Fold adapters into the weights: what is stored is a model like any other.

    Parameters
    ----------
    model : Module
        From ``apply_method``, trained.

    Returns
    -------
    transformers.PreTrainedModel
        Every parameter trainable again.
    """
    if hasattr(model, "merge_and_unload"):
        model = model.merge_and_unload()
    return model.requires_grad_(True)


def trained_share(model: nn.Module) -> float:
    """Fraction of the parameters that a training changes.

    Parameters
    ----------
    model : Module
        From ``apply_method``.

    Returns
    -------
    float
        0 to 1.
    """
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return sum(size for size, on in sizes if on) / max(sum(size for size, _ in sizes), 1)


def depth_factors(model: nn.Module, decay: float, head: Sequence[str]) -> dict[str, float]:
    """Learning-rate factors that fall from the output to the input.

    Parameters
    ----------
    model : Module
        Any.
    decay : float
        Factor from one block to the one below it.
    head : sequence of str
        As in ``blocks``; factor 1, as for what lies after the last block.

    Returns
    -------
    dict of str to float
        Regular expression on names to factor; what comes before the first block has the smallest.
    """
    levels = blocks(model, head)
    if not levels:
        return {}
    factors = dict.fromkeys(head, 1.0)
    factors |= {f"^{re.escape(name)}$": 1.0 for name in sorted(_after(model, levels, head))}
    for depth, level in enumerate(reversed(levels), 1):
        factors |= {f"^{re.escape(name)}\\.": decay**depth for name in level}
    return {**factors, "": decay ** (len(levels) + 1)}


def _with_adapters(model: Any, method: Method, head: Sequence[str]) -> Any:
    try:
        import peft
    except ImportError as error:
        raise ValueError(f"method {method.kind!r} needs the package peft: pip install 'nightcat[peft]'") from error
    inside = tuple(f"{name}." for level in blocks(model, head) for name in level)
    targets = [
        name
        for name, module in model.named_modules()
        if name.startswith(inside) and isinstance(module, _ADAPTED) and getattr(module, "groups", 1) == 1
    ]
    if not targets:
        raise ValueError(f"method {method.kind!r}: the model has no block with a layer that takes an adapter")
    kept = _head_modules(model, head)
    if method.kind == "lora":
        config: Any = peft.LoraConfig(
            r=method.number, lora_alpha=2 * method.number, target_modules=targets, modules_to_save=kept
        )
    else:
        forward = [name for name in targets if re.search(r"intermediate|output\.dense|fc\d?$|mlp|ffn|pwconv", name)]
        config = peft.IA3Config(target_modules=targets, feedforward_modules=forward, modules_to_save=kept)
    return peft.get_peft_model(model, config)


def _head_modules(model: nn.Module, head: Sequence[str]) -> list[str]:
    """Modules that hold parameters of the head and of nothing else; peft keeps modules, and no single parameters."""
    names = [name for name, _ in model.named_parameters()]
    modules = {name.rpartition(".")[0] for name in names if _in_head(name, head)}
    whole = (one for one in modules if all(_in_head(name, head) for name in names if name.startswith(f"{one}.")))
    return sorted(one for one in whole if one)


def _after(model: nn.Module, levels: Sequence[tuple[str, ...]], head: Sequence[str]) -> set[str]:
    """Parameters that follow the last blocks in the parts of the model that hold them."""
    names = list(parameter_names(model))
    found: set[str] = set()
    for block in levels[-1] if levels else ():
        foreign = _BACKBONE.match(block)
        stack = _BLOCK.match(f"{block}.")["stack"]  # type: ignore[index]
        part = foreign[0] if foreign else stack.rstrip(".").rpartition(".")[0]
        inside = f"{part}." if part else ""
        last = max(index for index, name in enumerate(names) if name.startswith(f"{block}."))
        following = (name for name in names[last + 1 :] if name.startswith(inside))
        found |= {name for name in following if not _in_head(name, head)}
    return found


def _freeze(model: nn.Module, but: Any) -> None:
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(bool(but(name)))


def _in_head(name: str, head: Sequence[str]) -> bool:
    return any(re.search(pattern, name) for pattern in head)
