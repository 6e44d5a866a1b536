"""What a GPU is kept busy with: one command, one table.

    python -m benchmarks.gpu                # on the GPU that is there
    python -m benchmarks.gpu --tiny         # anywhere, in seconds: shows that it runs, its figures mean nothing

For each model and batch size, objects a second of the bare forward (inputs on the device already), and what is left of
it from arrays in the host's memory to arrays there (stacked, pinned, copied, answered, fetched), with copies that
overlap forwards and without; the device's idle share meanwhile, by its own clock; and for our own models from prepared
objects to typed rows, decoding and classical answer included. ``answers`` is the largest difference from the processor
in fp32, over the largest value. Rounds are interleaved; each figure is a median over them. Weights of the ViT are
random: its speed does not depend on them.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch

from finetune import tasks
from finetune.batches import Batches
from finetune.bundle import bundled, load_bundle
from finetune.devices import Device, open_device
from finetune.network import HALF, Network
from finetune.precision import probes
from finetune.predict import load_predictor

HEAD = (
    "| model | precision | batch | bare, objects/s | arrays/bare | without overlap | idle | idle without | rows/bare | answers |",
    "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|",
)
NO_GPU = "No GPU is at hand: these figures are of the processor and say nothing about one."


class Case(NamedTuple):
    """A model with something to answer; ``rows`` goes the whole way, where there is one."""

    name: str
    network: Network
    objects: list[Mapping[str, np.ndarray]]
    exact: Callable[[], dict[str, np.ndarray]]
    rows: Callable[[list[Any]], Any] | None = None


class Images(torch.nn.Module):
    """A ViT of transformers as a model of ours."""

    def __init__(self, tiny: bool) -> None:
        from transformers import ViTConfig, ViTModel

        super().__init__()
        small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
                 "image_size": 32}  # fmt: skip
        self.vit = ViTModel(ViTConfig(**(small if tiny else {})), add_pooling_layer=False)

    def forward(self, pixel_values: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"embedding": self.vit(pixel_values=pixel_values).last_hidden_state[:, 0]}


def vit(device: Device, dtype: str, tiny: bool) -> Case:
    torch.manual_seed(0)
    model, side = Images(tiny).eval(), 32 if tiny else 224
    rng = np.random.default_rng(0)
    objects = [{"pixel_values": rng.normal(size=(3, side, side)).astype(np.float32)} for _ in range(8)]
    exact = Network([model], "cpu").fitting(objects, 8)[0]  # before it moves
    name = "ViT, tiny" if tiny else "ViT-B/16, 224 x 224"
    return Case(name, Network([model], device, dtype), objects, lambda: exact)


def shipped(name: str, device: Device, dtype: str) -> Case:
    task = tasks.get(name)
    predictor = load_predictor(bundled(name), device=device, dtype=dtype)
    assert predictor.network is not None
    objects = probes(task, 8)

    def rows(batch: list[Any]) -> Any:
        return [
            predictor.predict(batch[i : i + predictor.batch_size]) for i in range(0, len(batch), predictor.batch_size)
        ]

    def exact() -> dict[str, np.ndarray]:
        return Network(load_bundle(bundled(name)).networks(task), "cpu").fitting(objects, task.batch_size)[0]

    return Case(name, predictor.network, objects, exact, rows)


def many(case: Case, number: int) -> list[Any]:
    return [case.objects[i % len(case.objects)] for i in range(number)]


def bare(case: Case, size: int, parts: int) -> float:
    """Seconds of the forwards alone."""
    inputs = case.network.inputs(many(case, size))
    started = time.perf_counter()
    for _ in range(parts):
        outputs = case.network.forward(inputs)
    for value in outputs.values():
        value.cpu()  # waits for all of them
    return time.perf_counter() - started


def arrays(case: Case, size: int, parts: int, overlap: bool) -> tuple[float, float]:
    """Seconds from arrays to arrays, and the share of them in which no forward ran."""
    case.network.batches = Batches(case.network.device, overlap=overlap)
    batch = many(case, size * parts)
    started = time.perf_counter()
    case.network.fitting(batch, size)
    seconds = time.perf_counter() - started
    busy = case.network.batches.meter.drain()["busy_us"] / 1e6
    return seconds, max(1 - busy / seconds, 0.0)


def line(case: Case, size: int, parts: int, rounds: int) -> str:
    """One row of the table."""
    bare(case, size, 2), arrays(case, size, 2, True)  # warms up, and is not counted
    times: dict[str, list[float]] = {}
    for _ in range(rounds):
        alone = bare(case, size, parts)
        times.setdefault("rate", []).append(size * parts / alone)
        for which, overlap in (("", True), (" without", False)):
            seconds, idle = arrays(case, size, parts, overlap)
            times.setdefault(f"ratio{which}", []).append(alone / seconds)
            times.setdefault(f"idle{which}", []).append(idle)
        if case.rows is not None:
            batch, started = many(case, size * parts), time.perf_counter()
            case.rows(batch)
            times.setdefault("rows", []).append(alone / (time.perf_counter() - started))
    middle = {name: statistics.median(values) for name, values in times.items()}
    rows = f"{middle['rows']:.2f}" if "rows" in middle else ""
    return (
        f"| {case.name} | {case.network.dtype} | {size} | {middle['rate']:.0f} | {middle['ratio']:.2f} | "
        f"{middle['ratio without']:.2f} | {middle['idle']:.2f} | {middle['idle without']:.2f} | {rows} | "
        f"{apart(case):.1e} |"
    )


def apart(case: Case) -> float:
    """Largest difference from the processor in fp32, over the largest value."""
    case.network.batches = Batches(case.network.device)
    found, wanted = case.network.fitting(case.objects, len(case.objects))[0], case.exact()
    return max(
        float(np.nanmax(np.abs(found[name] - value)) / max(np.nanmax(np.abs(value)), 1e-12))
        for name, value in wanted.items()
    )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    parser.add_argument("--dtypes", nargs="+", default=["fp32", "auto"], choices=["fp32", *HALF, "auto"])
    parser.add_argument("--sizes", type=int, nargs="+", default=[8, 64, 256], help="batch sizes")
    parser.add_argument("--parts", type=int, default=16, help="batches of a timing")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds")
    parser.add_argument("--models", nargs="+", default=["vit", *tasks.names()], choices=["vit", *tasks.names()])
    parser.add_argument("--tiny", action="store_true", help="a tiny ViT and one small model, a few batches of 4")
    options = parser.parse_args(arguments)
    device = open_device(options.device)
    if options.tiny:
        options.sizes, options.parts, options.rounds = [4], 2, 1
        options.models = ["vit", "variable_star"]
    if not device.accelerator:
        print(NO_GPU)
        if not options.tiny:
            print("python -m benchmarks.gpu --tiny shows that the command runs.")
            return 2
    about = torch.cuda.get_device_name(device.place) if device.place.type == "cuda" else device.name
    print(f"{about}, torch {torch.__version__}, {options.rounds} rounds of {options.parts} batches\n", flush=True)
    print("\n".join(HEAD))
    for model in options.models:
        for dtype in dict.fromkeys(device.fast if dtype == "auto" else dtype for dtype in options.dtypes):
            case = vit(device, dtype, options.tiny) if model == "vit" else shipped(model, device, dtype)
            for size in options.sizes:
                print(line(case, size, options.parts, options.rounds), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
