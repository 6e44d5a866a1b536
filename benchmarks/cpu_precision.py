"""Whether int8, bfloat16 or torch.compile pay on a CPU, for the models that ship.

    python -m benchmarks.cpu_precision

CPU seconds of a batch, the kinds in turn; how many times faster than fp32: of the least seconds of each, which other
work on the machine disturbs least, and the median over the rounds of the ratio within a round.
Answers are judged as ``finetune.precision`` does: of simulated objects, those with another answer in some column. int8 is
torch's dynamic quantisation of the dense layers (convolutions have none).
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch

from finetune import tasks
from finetune.bundle import bundled, load_bundle
from finetune.network import Network
from finetune.precision import Tolerance, disagreements, probes
from finetune.wrappers import Finite, Learned, Typed

HEAD = (
    "| model | kind | speed over fp32: least, median | objects with another answer | seconds to prepare |",
    "|---|---|---|---|---:|",
)


def quantised(models: list[torch.nn.Module]) -> list[torch.nn.Module]:
    """Dense layers in int8."""
    return [torch.ao.quantization.quantize_dynamic(copy.deepcopy(m), {torch.nn.Linear}, torch.qint8) for m in models]


def kinds(models: list[torch.nn.Module], compiled: bool) -> dict[str, Callable[[], Network]]:
    """How each kind of network is made."""
    made: dict[str, Callable[[], Network]] = {
        "fp32": lambda: Network(models, "cpu"),
        "bf16": lambda: Network(models, "cpu", "bf16"),
        "int8": lambda: Network(quantised(models), "cpu"),
    }
    if compiled:
        made["compile"] = lambda: _compiled(models)
    return made


def _compiled(models: list[torch.nn.Module]) -> Network:
    network = Network(models, "cpu")
    network.models = [torch.compile(model) for model in network.models]
    network._names = []
    return network


def measure(name: str, rounds: int, compiled: bool) -> list[str]:
    """Rows of one model."""
    task, bundle = tasks.get(name), load_bundle(bundled(name))
    models, inputs = bundle.networks(task), probes(task)
    batch = [inputs[i % len(inputs)] for i in range(task.batch_size)]
    names = Network(models, "cpu")
    names.load(batch[:1])
    networks: dict[str, Network] = {}
    prepared: dict[str, float] = {}
    for kind, make in kinds(models, compiled).items():
        started = time.perf_counter()
        networks[kind] = make()
        networks[kind]._names = names._names  # a compiled model takes any keyword
        networks[kind](batch, task.batch_size)
        prepared[kind] = time.perf_counter() - started
    rows = {kind: _rows(task, network, bundle.info.calibration, inputs) for kind, network in networks.items()}
    times: dict[str, list[float]] = {kind: [] for kind in networks}
    for _ in range(rounds):
        for kind, network in networks.items():
            started = time.process_time()
            network(batch, task.batch_size)
            times[kind].append(time.process_time() - started)
    out = []
    for kind in list(networks)[1:]:
        ratios = [a / b for a, b in zip(times["fp32"], times[kind], strict=True)]
        odd = disagreements(task.columns, rows["fp32"], rows[kind], Tolerance())
        said = f"{max(odd.values())} of {len(inputs)} ({max(odd, key=lambda k: odd[k])})" if odd else "none"
        ratio = f"{min(times['fp32']) / min(times[kind]):.2f}, {statistics.median(ratios):.2f}"
        out.append(f"| `{name}` | {kind} | {ratio} | {said} | {prepared[kind]:.1f} |")
    return out


def _rows(task: Any, network: Network, calibration: Mapping[str, Any], inputs: list[Any]) -> Any:
    return Typed(Finite(Learned(task, network.fitting, calibration), "MODEL_FAILED")).predict(inputs, task.batch_size)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cpu_precision", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--tasks", nargs="+", default=list(tasks.names()), choices=list(tasks.names()))
    parser.add_argument("--compile", action="store_true", help="torch.compile, too, which takes minutes")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    print("\n".join(HEAD))
    for name in options.tasks:
        print("\n".join(measure(name, options.rounds, options.compile)), flush=True)


if __name__ == "__main__":
    main()
