"""Translate the graph of a night for Dataflow without an account, and print what the service would be given, as JSON.

It runs in an environment of its own (``make dataflow``): the Google libraries are large, and Beam imports them wherever
it finds them.
"""

from __future__ import annotations

import json
import sys

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions

from pipeline.engine import beam_flags
from pipeline.engines import engine_faults
from pipeline.models import resolve_models
from pipeline.options import RunConfig
from pipeline.survey import Plan, survey
from transforms.records import FileRef

IMAGE = "eu.gcr.io/survey-project/nightcat:0.1.0"


def main() -> None:
    config = RunConfig(
        engine="dataflow", runner="DataflowRunner", inputs=("gs://survey-bucket/night",), output="gs://survey-bucket/cat",
        accelerator="type:nvidia-l4;count:1;install-nvidia-driver", min_ram="8GB",
        beam_options=(
            "--project=survey-project", "--region=europe-west1", "--temp_location=gs://survey-bucket/tmp",
            f"--sdk_container_image={IMAGE}", "--dry_run=True", "--no_auth",
        ),
    )  # fmt: skip
    models = resolve_models(("stellar_parameters", "variable_star"), {}, config.where(), "fp32", 1, remote=True)
    plan = Plan(
        files=(FileRef(url="gs://survey-bucket/night/a.fits", source="a.fits"),), models=models, night="2026-11-24",
        run_id="r", version="0", staging="gs://survey-bucket/cat/.staging/r", order=3, hints=config.hints(),
    )  # fmt: skip
    options = PipelineOptions(beam_flags(config, 1, False))
    pipeline = beam.Pipeline(options=options)
    survey(pipeline, plan)
    pipeline.run()
    proto = pipeline.runner.proto_pipeline
    parts = proto.components
    keys = {
        step.unique_name: parts.coders[parts.pcollections[next(iter(step.inputs.values()))].coder_id]
        for step in parts.transforms.values()
        if step.spec.urn == "beam:transform:group_by_key:v1"
    }
    json.dump(
        {
            "faults": engine_faults(config.wanted()),
            "streaming": bool(options.view_as(StandardOptions).streaming),
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
