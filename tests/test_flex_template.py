"""The template of Dataflow: its parameters, what its launcher makes of them, and that the documents say so."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms.resources import MinRamHint

from pipeline.cli import build_parser
from pipeline.cli.run import config_of
from pipeline.engines import Wanted, engine_faults
from tests.pipeline.dataflow_dry_run import IMAGE, LAUNCHED, load_launch

FOLDER = Path(__file__).resolve().parents[1] / "deploy" / "dataflow"
PARAMETERS: dict[str, dict[str, Any]] = {
    one["name"]: one for one in json.loads((FOLDER / "metadata.json").read_text())["parameters"]
}
launch = load_launch()

#: For each parameter what its expression takes and what it refuses.
EXAMPLES = {
    "input": (
        ["gs://b0b/n", "gs://bucket", "gs://b-u.c/n/*.fits,@gs://bucket/list.txt"],
        ["/here", "s3://bucket/n", "gs://B/n", "gs://bucket/n,", "--force", "gs://b/n gs"],
    ),
    "output": (["gs://bucket/catalog", "gs://bucket/a/b/"], ["gs://bucket", "gs://bucket/", "/cat", "gs://bucket/a,b"]),
    "night": (["2026-11-24"], ["2026-13-01", "2026-11-32", "20261124", "last", "2026-11-24 "]),
    "tasks": (["variable_star", "variable_star,stellar_parameters"], ["", "a,", "A b", "--x"]),
    "registry": (["gs://bucket/models"], ["models", "gs://bucket/a,b"]),
    "accelerator": (
        ["type:nvidia-l4;count:1;install-nvidia-driver", "type:nvidia-tesla-t4;count:2"],
        ["nvidia-l4", "type:nvidia-l4", "type:nvidia-l4;count:0", "type:nvidia-l4;count:1;driver"],
    ),
    "min_ram": (["8GB", "1.5TiB", "512MB"], ["8", "0GB", "8 GB", "GB", "8gb"]),
    "workers": (["1", "100"], ["0", "auto", "-1", "1.5"]),
    "device": (["auto", "cpu", "cuda"], ["mps", "cuda:1", "gpu"]),
    "dtype": (["fp32", "bf16"], ["fp16", "FP32"]),
    "threads": (["1", "12"], ["0", "x"]),
    "order": (["0", "3", "10"], ["11", "-1", "3.0"]),
    "targets": (["gs://bucket/t.csv"], ["t.csv"]),
    "threshold": (["4.5", "0.5", "10"], ["0", "0.0", "-1", "x"]),
    "embeddings": (["true", "false"], ["True", "1", ""]),
    "force": (["true", "false"], ["yes"]),
    "strict": (["true", "false"], ["yes"]),
    "sdk_container_image": (
        [IMAGE, "europe-docker.pkg.dev/p/r/nightcat", "gcr.io/p/n@sha256:" + "0" * 64],
        ["nightcat", "gs://bucket/image", "gcr.io/p/n:0.1 "],
    ),
}


def takes(name: str, value: str) -> bool:
    return all(re.fullmatch(expression, value) for expression in PARAMETERS[name]["regexes"])


@pytest.mark.parametrize("name", sorted(PARAMETERS))
def test_a_parameter_is_told_and_takes_what_it_should(name: str) -> None:
    one = PARAMETERS[name]
    assert set(one) <= {"name", "label", "helpText", "isOptional", "regexes"}
    assert one["label"]
    assert one["helpText"].endswith(".")
    assert all(e.startswith("^") and e.endswith("$") and "(?" not in e for e in one["regexes"]), "as RE2 reads it"
    good, bad = EXAMPLES[name]
    assert [value for value in good if not takes(name, value)] == []
    assert [value for value in bad if takes(name, value)] == []


def test_every_parameter_is_an_option_of_nightcat_or_of_beam() -> None:
    assert set(EXAMPLES) == set(PARAMETERS)
    assert [name for name, one in PARAMETERS.items() if not one.get("isOptional")] == ["input", "output", "night"]
    assert {*launch.VALUES, *launch.SWITCHES} | {"sdk_container_image"} == set(PARAMETERS)
    known = build_parser()._subparsers._group_actions[0].choices["run"]._option_string_actions
    assert {launch._flag(name) for name in (*launch.VALUES, *launch.SWITCHES)} <= set(known)
    assert PipelineOptions([f"--sdk_container_image={IMAGE}"]).get_all_options()["sdk_container_image"] == IMAGE


@pytest.mark.parametrize("value", EXAMPLES["min_ram"][0])
def test_beam_reads_the_memory(value: str) -> None:
    assert int(next(iter(MinRamHint.parse(value).values()))) > 0


def config(*given: str, image: str = "") -> Any:
    words = launch.arguments(given, image)
    cut = words.index("--")
    options = build_parser().parse_args(words[:cut])
    options.beam_options = words[cut + 1 :]
    return config_of(options)


@pytest.fixture
def google(monkeypatch: pytest.MonkeyPatch) -> None:
    """The Google libraries have an environment of their own; here nothing is opened that needs them."""
    monkeypatch.setattr("pipeline.engines.importlib.util.find_spec", lambda name: object())
    monkeypatch.setattr("pipeline.options.location_fault", lambda place: "")


@pytest.mark.usefixtures("google")
def test_what_the_launcher_hands_over_becomes_a_detached_run() -> None:
    found = config(*LAUNCHED, image=IMAGE)
    assert (found.engine, found.runner, found.detach) == ("dataflow", "DataflowRunner", True)
    assert (found.inputs, found.night) == (("gs://survey-bucket/night",), "2026-11-24")
    assert found.tasks == ("stellar_parameters", "variable_star")
    assert found.hints() == {"accelerator": "type:nvidia-l4;count:1;install-nvidia-driver", "min_ram": "8GB"}
    assert (found.workers, found.registry) == (5, "")
    for word in ("--job_name=nightcat-2026-11-24", "--project=survey-project", f"--sdk_container_image={IMAGE}"):
        assert word in found.beam_options
    assert not any("runner" in word for word in found.beam_options), "nightcat names it"
    needed = ("--input=gs://bucket/a,@gs://bucket/l", "--output=gs://bucket/c", "--night=2026-11-24")
    more = ("--project=p", "--region=r", "--temp_location=gs://b/t", "--template_location=gs://b/job")
    two = config(*needed, *more, "--force=true", "--embeddings=false", "--sdk_container_image=mine", image=IMAGE)
    assert two.inputs == ("gs://bucket/a", "@gs://bucket/l")
    assert (two.force, two.embeddings) == (True, False)
    assert two.beam_options == (*more, "--sdk_container_image=mine")


@pytest.mark.usefixtures("google")
def test_every_example_comes_through_to_the_configuration() -> None:
    base = {name: EXAMPLES[name][0][0] for name in ("input", "output", "night", "sdk_container_image")}
    beam = ("--project=p", "--region=r", "--temp_location=gs://b/t")
    for name, (good, _) in EXAMPLES.items():
        for value in good:
            given = {**base, name: value}
            found = config(*(f"--{key}={one}" for key, one in given.items()), *beam)
            if name not in ("input", "sdk_container_image"):
                told = getattr(found, name)
                text = ",".join(told) if name == "tasks" else str(told).lower() if told in (True, False) else str(told)
                assert text in (value, f"{value}.0"), (name, told)


def test_what_cannot_be_is_refused(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for given, why in (("--force=maybe", "neither true nor false"), ("--runner=FlinkRunner", "this template is of")):
        with pytest.raises(ValueError, match=why):
            launch.arguments([given])
        monkeypatch.setattr("sys.argv", ["launch.py", given])
        assert launch.main() == 2
        assert why in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", ["launch.py", "--input=gs://b/n", "--output=/here", "--night=2026-11-24"])
    assert launch.main() == 2, "what nightcat refuses the launch does"
    assert "'/here' lies on this machine" in capsys.readouterr().err


def test_the_image_has_what_the_launcher_needs() -> None:
    text = (FOLDER / "Dockerfile").read_text()
    assert re.search(r"^ENV FLEX_TEMPLATE_PYTHON_PY_FILE=(/template/launch.py)$", text, re.M)
    assert "COPY deploy/dataflow/launch.py /template/launch.py" in text
    assert f"ENV {launch.IMAGE}=${{IMAGE}}" in text
    assert text.count("/opt/google/dataflow/python_template_launcher") == 2
    assert "FLEX_TEMPLATE_PYTHON_SETUP_FILE" not in text


def test_commands_of_the_page_are_ones_that_we_take() -> None:
    page = (FOLDER / "README.md").read_text()
    named = set(re.findall(r"--parameters '?(?:\^~\^)?(\w+)=", page))
    assert {"input", "output", "night", "accelerator", "min_ram", "tasks"} <= named <= set(PARAMETERS)
    (finish,) = re.findall(r"^nightcat (finish .*)$", page, re.M)
    assert build_parser().parse_args(shlex.split(finish)).module == "pipeline.cli.finish:finish"


def test_machines_at_most() -> None:
    from pipeline.engines import engine_flags

    asked = Wanted(runner="DataflowRunner", options=("--project=p",), workers=7, places={})
    assert "--max_num_workers=7" in engine_flags(asked)
    assert "--max_num_workers=7" not in engine_flags(
        Wanted(runner="DataflowRunner", options=("--max_num_workers=2",), workers=7, places={})
    )
    assert any("--region" in fault for fault in engine_faults(asked))
