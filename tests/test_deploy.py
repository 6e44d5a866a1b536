"""What lies in deploy/ parses, and every command line in it is one that nightcat takes."""

from __future__ import annotations

import ast
import configparser
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.cli import build_parser
from pipeline.engines import Wanted, engine_faults

DEPLOY = Path(__file__).resolve().parents[1] / "deploy"
UNITS = sorted(path.name for path in (DEPLOY / "systemd").iterdir() if path.suffix in (".service", ".timer"))


class Unit(configparser.RawConfigParser):
    """A unit file: keys may stand twice, and case counts."""

    def __init__(self) -> None:
        super().__init__(strict=False, dict_type=dict, interpolation=None)
        self.optionxform = str  # type: ignore[assignment, method-assign]


def documents() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()))


def containers(job: dict[str, Any]) -> list[dict[str, Any]]:
    pod = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    return [*pod.get("initContainers", ()), *pod["containers"]]


def constants(path: Path) -> dict[str, str]:
    tree = ast.parse(path.read_text())
    return {
        node.targets[0].id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    }


def commands() -> Iterator[tuple[str, list[str]]]:
    """Every command line of nightcat, without its first word."""
    for line in (DEPLOY / "nightcat.cron").read_text().splitlines():
        if re.match(r"[\d*]", line):
            for part in line.split(maxsplit=5)[5].split("&&"):
                yield "nightcat.cron", shlex.split(part)[1:]
    for name in UNITS:
        for line in (DEPLOY / "systemd" / name).read_text().splitlines():
            if line.startswith("ExecStart="):
                yield name, shlex.split(line.removeprefix("ExecStart="))[1:]
    for job in documents():
        if job["kind"] == "CronJob":
            yield from (("kubernetes.yaml", container["args"]) for container in containers(job))
    for text in constants(DEPLOY / "airflow_dag.py").values():
        if text.startswith("nightcat "):
            yield "airflow_dag.py", shlex.split(text)[1:]


def flink() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / "flink" / "session.yaml").read_text()))


def test_the_night_on_a_flink_cluster_is_a_command_that_we_take() -> None:
    (job,) = [d for d in flink() if d["kind"] == "CronJob"]
    (driver,) = containers(job)
    words = driver["args"]
    cut = words.index("--")
    options = build_parser().parse_args(words[:cut])
    assert (options.module, options.engine) == ("pipeline.cli.run:run", "flink")
    places = {"--output": "/survey/catalog"}
    asked = Wanted(runner="FlinkRunner", options=tuple(words[cut + 1 :]), workers=2, places=places)
    assert engine_faults(asked) == []
    parts = {d["metadata"]["name"]: d for d in flink() if d["kind"] == "Deployment"}
    (service,) = [d for d in flink() if d["kind"] == "Service"]
    assert asked.given["job_endpoint"] == f"{service['metadata']['name']}:8099"
    assert {8099, 8098, 8081} <= {port["port"] for port in service["spec"]["ports"]}
    workers = parts["nightcat-taskmanager"]["spec"]["template"]["spec"]["containers"]
    pool = next(one for one in workers if one["name"] == "beam-worker-pool")
    assert asked.given["environment_config"] == f"localhost:{pool['ports'][0]['containerPort']}"
    assert pool["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert int(asked.given["sdk_worker_parallelism"]) == 1, "one process for each GPU"
    assert options.workers == parts["nightcat-taskmanager"]["spec"]["replicas"]
    claims = {
        volume["persistentVolumeClaim"]["claimName"]
        for part in (*parts.values(), job["spec"]["jobTemplate"])
        for volume in part["spec"]["template"]["spec"]["volumes"]
        if "persistentVolumeClaim" in volume
    }
    assert claims == {d["metadata"]["name"] for d in flink() if d["kind"] == "PersistentVolumeClaim"}, (
        "all see one disk"
    )
    settings = yaml.safe_load(next(d for d in flink() if d["kind"] == "ConfigMap")["data"]["config.yaml"])
    assert settings["taskmanager"]["numberOfTaskSlots"] == 1
    assert "--add-opens=java.base/java.util=ALL-UNNAMED" in settings["env"]["java"]["opts"]["all"]


@pytest.mark.parametrize("name", ["flink", "dataflow"])
def test_images_of_workers_are_made_from_ours_and_of_our_release_of_beam(name: str) -> None:
    text = (DEPLOY / name / "Dockerfile").read_text()
    assert "FROM nightcat:0.1.0" in text
    found = set(
        re.findall(r"(?:beam_[\w.]+:|==)(\d+\.\d+\.\d+)", text + (DEPLOY / "flink" / "session.yaml").read_text())
    )
    assert found == {version("apache-beam")}


def test_every_scheduler_runs_all_three() -> None:
    found = sorted((name, words[0]) for name, words in commands())
    for scheduler in ("airflow_dag.py", "kubernetes.yaml", "nightcat.cron"):
        assert [word for name, word in found if name == scheduler] == ["drift", "retrain", "run"]
    assert [word for name, word in found if name.endswith(".service")] == ["drift", "run", "retrain"]


@pytest.mark.parametrize(
    ("name", "words"), list(commands()), ids=lambda value: value if isinstance(value, str) else value[0]
)
def test_every_command_line_is_one_that_we_take(name: str, words: list[str]) -> None:
    options = build_parser().parse_args(words)
    assert options.module.startswith("pipeline.cli.")
    assert all(re.search(r"NIGHTCAT_[A-Z]+", word) for word in words if "/" in word or "$" in word)


def test_a_renamed_option_would_be_seen() -> None:
    with pytest.raises(SystemExit):
        build_parser().parse_args(["retrain", "--katalog", "x", "--labels", "y"])


def test_variables_are_set_where_they_are_used() -> None:
    names = {word for _, words in commands() for word in re.findall(r"NIGHTCAT_[A-Z]+", " ".join(words))}
    names.add("NIGHTCAT_REGISTRY")
    (config,) = [d for d in documents() if d["kind"] == "ConfigMap"]
    assert names == set(config["data"])
    for file in ("nightcat.cron", "systemd/nightcat.env"):
        assert names == set(re.findall(r"^(NIGHTCAT_[A-Z]+)=", (DEPLOY / file).read_text(), re.M))
    page = (DEPLOY / "README.md").read_text()
    assert all(f"`{name}`" in page for name in names)


def test_kubernetes_jobs_have_what_they_need() -> None:
    jobs = [d for d in documents() if d["kind"] == "CronJob"]
    assert {job["metadata"]["name"] for job in jobs} == {"nightcat-nightly", "nightcat-weekly"}
    (claim,) = [d["metadata"]["name"] for d in documents() if d["kind"] == "PersistentVolumeClaim"]
    for job in jobs:
        assert job["apiVersion"] == "batch/v1"
        assert len(job["spec"]["schedule"].split()) == 5
        assert job["spec"]["concurrencyPolicy"] == "Forbid"
        pod = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
        assert pod["restartPolicy"] == "Never"
        assert pod["volumes"] == [{"name": "survey", "persistentVolumeClaim": {"claimName": claim}}]
        for container in containers(job):
            assert container["image"].startswith("nightcat:")
            assert container["resources"]["requests"]["memory"]
            assert {"secretRef": {"name": "nightcat-credentials", "optional": True}} in container["envFrom"]
            assert container["volumeMounts"] == [{"name": "survey", "mountPath": "/survey"}]
            assert all(isinstance(word, str) for word in container["args"])


@pytest.mark.parametrize("name", UNITS)
def test_units_are_whole(name: str) -> None:
    unit = Unit()
    unit.read(DEPLOY / "systemd" / name)
    assert unit["Unit"]["Description"]
    if name.endswith(".timer"):
        assert unit["Timer"]["OnCalendar"]
        assert unit["Install"]["WantedBy"] == "timers.target"
        assert name.replace(".timer", ".service") in UNITS
    else:
        assert unit["Service"]["Type"] == "oneshot"
        assert unit["Service"]["EnvironmentFile"] == "/etc/nightcat.env"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_takes_the_timers() -> None:
    for name in UNITS:
        if name.endswith(".timer"):
            unit = Unit()
            unit.read(DEPLOY / "systemd" / name)
            when = unit["Timer"]["OnCalendar"]
            subprocess.run(["systemd-analyze", "calendar", when], check=True, capture_output=True)


def test_the_dag_compiles_and_runs_what_it_names() -> None:
    path = DEPLOY / "airflow_dag.py"
    compile(path.read_text(), str(path), "exec")
    named = {
        keyword.value.id
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        for keyword in node.keywords
        if keyword.arg == "bash_command" and isinstance(keyword.value, ast.Name)
    }
    assert named == {name for name, text in constants(path).items() if text.startswith("nightcat ")}


def test_the_image_installs_what_is_here() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    sources = re.findall(r"/src/([\w.]+)", text)
    assert sources
    assert all((DEPLOY.parent / name).is_file() for name in sources)
    assert 'ENTRYPOINT ["nightcat"]' in text
