"""A Flink cluster for each night on Kubernetes: its parts fit together, and its script does what it says."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.cli import build_parser
from pipeline.engines import Wanted, engine_faults

FOLDER = Path(__file__).resolve().parents[1] / "deploy" / "flink"
FILES = ("application.yaml", "session.yaml")
DOCUMENTS: list[dict[str, Any]] = list(yaml.safe_load_all((FOLDER / "application.yaml").read_text()))


def of_kind(kind: str) -> list[dict[str, Any]]:
    return [document for document in DOCUMENTS if document["kind"] == kind]


def job(name: str) -> dict[str, Any]:
    (found,) = [document for document in of_kind("CronJob") if document["metadata"]["name"] == name]
    return found["spec"]["jobTemplate"]["spec"]


def pod(name: str) -> dict[str, Any]:
    return job(name)["template"]["spec"]


def asked() -> tuple[Any, Wanted]:
    """The command that drives, as nightcat reads it, and what its engine is asked for."""
    (driver,) = pod("nightcat-night")["containers"]
    words = driver["args"]
    cut = words.index("--")
    options = build_parser().parse_args(words[:cut])
    places = {"--input x": "/survey/inbox", "--output": "/survey/catalog"}
    return options, Wanted(
        runner="FlinkRunner", options=tuple(words[cut + 1 :]), workers=options.workers, places=places
    )


def test_the_command_is_one_that_we_take() -> None:
    options, wanted = asked()
    assert (options.module, options.engine, options.detach) == ("pipeline.cli.run:run", "flink", None)
    assert engine_faults(wanted) == []
    refused = replace(wanted, options=(*wanted.options, "--checkpointing_interval=10000"))
    assert "its last windows never close" in engine_faults(refused)[0]


def test_the_driver_has_its_job_manager_and_its_job_server_beside_it() -> None:
    _, wanted = asked()
    beside = {one["name"]: one for one in pod("nightcat-night")["initContainers"]}
    assert set(beside) == {"jobmanager", "job-server"}
    server = dict(word.removeprefix("--").split("=") for word in beside["job-server"]["args"])
    assert wanted.given["job_endpoint"] == f"localhost:{server['job-port']}"
    assert wanted.given["artifact_endpoint"] == f"localhost:{server['artifact-port']}"
    assert server["flink-master"] == "localhost:8081"
    assert server["artifacts-dir"].startswith("/survey/"), "TaskManagers read it there"
    (service,) = of_kind("Service")
    assert service["spec"]["selector"] == job("nightcat-night")["template"]["metadata"]["labels"]
    opened = {port["containerPort"] for port in beside["jobmanager"]["ports"]}
    assert {port["port"] for port in service["spec"]["ports"]} == opened


def test_all_that_runs_beside_ends_with_the_night() -> None:
    for name in ("nightcat-night", "nightcat-night-taskmanagers"):
        for one in pod(name)["initContainers"]:
            assert one["restartPolicy"] == "Always", "else it would have to end before the main container begins"
            opened = {8099, *(port["containerPort"] for port in one.get("ports", ()))}
            assert one["startupProbe"]["tcpSocket"]["port"] in opened
        assert pod(name)["restartPolicy"] == "Never"
        assert job(name)["activeDeadlineSeconds"] > 0
    assert len({document["spec"]["schedule"] for document in of_kind("CronJob")}) == 1
    assert {document["spec"]["concurrencyPolicy"] for document in of_kind("CronJob")} == {"Forbid"}


def test_one_worker_for_each_gpu() -> None:
    options, wanted = asked()
    (pool,) = pod("nightcat-night-taskmanagers")["initContainers"]
    assert pool["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert wanted.given["environment_config"] == f"localhost:{pool['ports'][0]['containerPort']}"
    assert f"--service_port={pool['ports'][0]['containerPort']}" in pool["args"]
    assert wanted.given["sdk_worker_parallelism"] == "1"
    assert options.device == "cuda"
    assert settings("application.yaml")["taskmanager"]["numberOfTaskSlots"] == 1
    tasks = job("nightcat-night-taskmanagers")
    assert options.workers == tasks["parallelism"] == tasks["completions"]


def test_all_see_one_volume_and_one_configuration() -> None:
    (claim,) = of_kind("PersistentVolumeClaim")
    (config,) = of_kind("ConfigMap")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    for name in ("nightcat-night", "nightcat-night-taskmanagers"):
        volumes = {one["name"]: one for one in pod(name)["volumes"]}
        assert volumes["survey"]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
        assert volumes["config"]["configMap"]["name"] == config["metadata"]["name"]
        for one in (*pod(name)["initContainers"], *pod(name)["containers"]):
            assert {"name": "survey", "mountPath": "/survey"} in one["volumeMounts"]
            for mount in one["volumeMounts"]:
                assert mount.get("subPath", "config.yaml") in config["data"]
    (driver,) = pod("nightcat-night")["containers"]
    for one in driver["env"]:
        assert one["name"] in config["data"]
    assert all(f"NIGHTCAT_{name}" in config["data"] for name in ("INBOX", "CATALOG", "REGISTRY"))


def settings(file: str) -> dict[str, Any]:
    documents = yaml.safe_load_all((FOLDER / file).read_text())
    (config,) = [document for document in documents if document["kind"] == "ConfigMap"]
    return yaml.safe_load(config["data"]["config.yaml"])


@pytest.mark.parametrize("file", FILES)
def test_no_cluster_has_checkpoints_for_its_nights(file: str) -> None:
    found = settings(file)
    assert "execution" not in found
    assert found["jobmanager"]["rpc"]["address"] == found["rest"]["address"]
    assert found["blob"]["server"]["port"] == 6124, "a port that no service names is not reached"


def test_clusters_are_of_one_flink_and_one_beam() -> None:
    text = [(FOLDER / file).read_text() for file in FILES]
    for image in ("image: flink:", "image: apache/beam_flink", "image: nightcat-worker:", "image: nightcat:"):
        found = {line.split("image: ")[1] for one in text for line in one.splitlines() if image in line}
        assert len(found) == 1, found


def start(tmp_path: Path, port: int, entry: str) -> subprocess.Popen[bytes]:
    (config,) = of_kind("ConfigMap")
    (tmp_path / "taskmanager.sh").write_text(config["data"]["taskmanager.sh"])
    (tmp_path / "entry.sh").write_text(f"#!/usr/bin/env bash\necho $$ $1 > {tmp_path}/told\n{entry}\n")
    (tmp_path / "entry.sh").chmod(0o755)
    told = {"ENTRYPOINT": str(tmp_path / "entry.sh"), "JOBMANAGER": "localhost", "PORT": str(port), "PAUSE": "0.1"}
    return subprocess.Popen(["bash", tmp_path / "taskmanager.sh"], env={**os.environ, **told, "MISSED": "5"})


def test_a_task_manager_ends_with_the_job_manager_of_its_night(tmp_path: Path) -> None:
    with closing(socket.socket()) as server:
        server.bind(("localhost", 0))
        script = start(tmp_path, server.getsockname()[1], "exec sleep 60")
        time.sleep(0.7)
        assert script.poll() is None, "it waits for the JobManager to come"
        server.listen(100)
        time.sleep(1.0)
        assert script.poll() is None, "the night goes on"
    assert script.wait(20) == 0
    pid, word = (tmp_path / "told").read_text().split()
    assert word == "taskmanager"
    assert not Path(f"/proc/{pid}").exists()


def test_a_task_manager_that_dies_is_a_failure(tmp_path: Path) -> None:
    with closing(socket.socket()) as server:
        server.bind(("localhost", 0))
        server.listen(100)
        assert start(tmp_path, server.getsockname()[1], "exit 3").wait(20) == 1
