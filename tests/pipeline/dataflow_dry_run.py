"""Translate the graph of a night for Dataflow without an account, and print what the service would be given, as JSON.

It runs in an environment of its own (``make dataflow``): the Google libraries are large, and Beam imports them wherever
it finds them.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import apache_beam as beam
from apache_beam.options.pipeline_options import StandardOptions, WorkerOptions

from pipeline import engine
from pipeline.cli import build_parser
from pipeline.cli.run import config_of
from pipeline.engines import engine_faults
from pipeline.models import resolve_models
from pipeline.options import RunConfig
from pipeline.survey import Plan
from transforms.records import FileRef

IMAGE = "eu.gcr.io/survey-project/nightcat:0.1.0"


#: What the launcher of the template hands over, in its own form.
LAUNCHED = (
    "--input=gs://survey-bucket/night", "--output=gs://survey-bucket/cat", "--night=2026-11-24",
    "--tasks=stellar_parameters,variable_star", "--accelerator=type:nvidia-l4;count:1;install-nvidia-driver",
    "--min_ram=8GB", "--workers=5", "--registry=", "--runner=DataflowRunner", "--project=survey-project",
    "--region=europe-west1", "--job_name=nightcat-2026-11-24", "--temp_location=gs://survey-bucket/tmp",
    "--dry_run=True", "--no_auth",
)  # fmt: skip


def plain() -> RunConfig:
    return RunConfig(
        engine="dataflow", runner="DataflowRunner", inputs=("gs://survey-bucket/night",), output="gs://survey-bucket/cat",
        accelerator="type:nvidia-l4;count:1;install-nvidia-driver", min_ram="8GB",
        beam_options=(
            "--project=survey-project", "--region=europe-west1", "--temp_location=gs://survey-bucket/tmp",
            f"--sdk_container_image={IMAGE}", "--dry_run=True", "--no_auth",
        ),
    )  # fmt: skip


def launched() -> RunConfig:
    """The configuration of a launch of the template, as the command line makes it."""
    words = load_launch().arguments(LAUNCHED, IMAGE)
    cut = words.index("--")
    options = build_parser().parse_args(words[:cut])
    options.beam_options = words[cut + 1 :]
    return config_of(options)


def load_launch() -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "deploy" / "dataflow" / "launch.py"
    spec = importlib.util.spec_from_file_location("launch", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def submitted(config: RunConfig, plan: Plan) -> beam.Pipeline:
    """Submit as a detached run does, and keep hold of the graph."""
    kept: list[beam.Pipeline] = []
    real = engine._pipeline
    engine._pipeline = lambda *told: kept.append(real(*told)) or kept[0]
    try:
        assert engine.submit_graph(config, plan) == "", "a dry run has no job"
    finally:
        engine._pipeline = real
    return kept[0]


def main() -> None:
    config = launched() if sys.argv[1:] == ["template"] else plain()
    models = resolve_models(("stellar_parameters", "variable_star"), {}, config.where(), "fp32", 1, remote=True)
    plan = Plan(
        files=(FileRef(url="gs://survey-bucket/night/a.fits", source="a.fits"),), models=models, night="2026-11-24",
        run_id="r", version="0", staging="gs://survey-bucket/cat/.staging/r", order=3, hints=config.hints(),
    )  # fmt: skip
    pipeline = submitted(config, plan)
    options = pipeline.options
    proto = pipeline.runner.proto_pipeline
    parts = proto.components
    keys = {
        step.unique_name: parts.coders[parts.pcollections[next(iter(step.inputs.values()))].coder_id]
        for step in parts.transforms.values()
        if step.spec.urn == "beam:transform:group_by_key:v1"
    }
    standard, workers = options.view_as(StandardOptions), options.view_as(WorkerOptions)
    json.dump(
        {
            "faults": engine_faults(config.wanted()),
            "detach": config.detach,
            "streaming": bool(standard.streaming),
            "machines": workers.max_num_workers,
            "environments": {
                name: {
                    "container": one.payload.decode("utf-8", "replace").lstrip()[1:],
                    "hints": {key.split(":")[2]: value.decode() for key, value in one.resource_hints.items()},
                    "steps": sorted(s.unique_name for s in parts.transforms.values() if s.environment_id == name),
                }
                for name, one in parts.environments.items()
            },
            "keys": {name: coder.component_coder_ids[0] for name, coder in keys.items()},
            "devices": sorted({model.device for model in models}),
        },
        sys.stdout,
    )


if __name__ == "__main__":
    main()
