"""Models to and from a hub that runs on this machine, over HTTP, by huggingface_hub itself."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest
import yaml

from finetune import tasks
from finetune.bundle import Bundle, BundleError, load_bundle
from finetune.hub import HubError, run_pull, run_push
from finetune.registry import Registry
from tests.finetune.toy_task import TASK
from tests.local_hub import TOKEN, Hub, local_hub

REPO = "survey/toy"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    monkeypatch.setattr(tasks, "names", lambda: ("toy",))
    monkeypatch.setattr(tasks, "get", {"toy": TASK}.__getitem__)
    # large files by git's own protocol: the hub's faster one needs a server that is not to be had here
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with local_hub() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running


def head(hub: Hub, repo: str = REPO, branch: str = "main") -> dict[str, bytes]:
    held = hub.repositories[repo]
    return held.commits[held.branches[branch]]


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_what_is_pushed_comes_back_the_same(hub: Hub, bundle: Bundle, tmp_path: Path) -> None:
    said: list[str] = []
    pushed = run_push(bundle.path, REPO, licence="bsd-3-clause", say=said.append)
    assert pushed["digest"] == bundle.digest
    assert head(hub).keys() == {*files(bundle.path), "README.md"}
    assert f"{len(files(bundle.path))} files" in said[0]
    pulled = run_pull(REPO, output=tmp_path / "new" / "model")
    assert pulled["commit"] == pushed["commit"]
    assert load_bundle(tmp_path / "new" / "model").digest == bundle.digest
    assert files(tmp_path / "new" / "model") == files(bundle.path), "no card, no cache"
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["model"]


def test_the_card_has_the_head_that_hubs_read(hub: Hub, bundle: Bundle) -> None:
    run_push(bundle.path, REPO, licence="bsd-3-clause")
    text = head(hub)["README.md"].decode()
    _, front, page = text.split("---\n", 2)
    facts = yaml.safe_load(front)
    assert facts["license"] == "bsd-3-clause"
    assert facts["library_name"] == "nightcat"
    assert "astronomy" in facts["tags"]
    assert facts["nightcat"]["digest"] == bundle.digest
    assert page.lstrip().startswith("# Model card: toy")
    run_push(bundle.path, "survey/other")
    assert "license" not in yaml.safe_load(head(hub, "survey/other")["README.md"].decode().split("---\n")[1])


def test_a_pulled_model_is_a_candidate_and_nothing_more(hub: Hub, bundle: Bundle, tmp_path: Path) -> None:
    run_push(bundle.path, REPO)
    found = run_pull(REPO, registry=str(tmp_path / "models"))
    state = Registry(str(tmp_path / "models")).state("toy")
    assert (state.candidate, state.production) == (bundle.digest[:16], "")
    assert load_bundle(found["path"]).digest == bundle.digest
    # and from the registry it can be pushed by its digest
    again = run_push(bundle.digest[:8], "survey/again", registry=str(tmp_path / "models"))
    assert again["digest"] == bundle.digest


@pytest.mark.parametrize("name", ["model/model.safetensors", "baseline.json", "bundle.json"])
def test_what_was_tampered_with_is_not_kept(hub: Hub, bundle: Bundle, tmp_path: Path, name: str) -> None:
    run_push(bundle.path, REPO)
    changed = {**head(hub), name: head(hub)[name][:-1] + b" "}
    hub.repositories[REPO].commit("main", changed)
    for where in ({"output": tmp_path / "model"}, {"registry": str(tmp_path / "models")}):
        with pytest.raises(HubError, match=f"{REPO} at .* is not kept: ") as caught:
            run_pull(REPO, **where)
        assert (f"{name} is damaged" if name != "bundle.json" else "stated on its front page") in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["../outside.json", "/outside.json", "model/../../outside.json"])
def test_a_file_outside_of_the_folder_is_refused(hub: Hub, bundle: Bundle, tmp_path: Path, name: str) -> None:
    run_push(bundle.path, REPO)
    info = json.loads(head(hub)["bundle.json"])
    info["files"][name] = "0" * 64
    hub.repositories[REPO].commit("main", {**head(hub), name: b"{}", "bundle.json": json.dumps(info).encode()})
    with pytest.raises(HubError, match="outside of it"):
        run_pull(REPO, output=tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_gone_or_another_digest_is_not_kept(hub: Hub, bundle: Bundle, tmp_path: Path) -> None:
    run_push(bundle.path, REPO)
    with pytest.raises(HubError, match=f"its digest is {bundle.digest[:16]}, 0123 was asked for"):
        run_pull(REPO, output=tmp_path / "model", digest="0123")
    assert run_pull(REPO, output=tmp_path / "model", digest=bundle.digest[:12])["digest"] == bundle.digest
    shutil.rmtree(tmp_path / "model")
    hub.repositories[REPO].commit("main", {n: d for n, d in head(hub).items() if n != "baseline.json"})
    with pytest.raises(HubError, match=r"holds no whole model: .*baseline\.json"):
        run_pull(REPO, output=tmp_path / "model")
    run_push(bundle.path, "survey/empty")
    hub.repositories["survey/empty"].commit("main", {"README.md": b"hello"})
    with pytest.raises(HubError, match=r"holds no whole model: .*bundle\.json"):
        run_pull("survey/empty", output=tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_a_revision_is_pinned(hub: Hub, bundle: Bundle, tmp_path: Path) -> None:
    from finetune.bundle_writing import derive_bundle

    first = run_push(bundle.path, REPO)
    other = derive_bundle(bundle, tmp_path / "other", created_by="another", seed=5)
    second = run_push(other.path, REPO)
    trial = run_push(bundle.path, REPO, revision="trial")
    assert run_pull(REPO, output=tmp_path / "a")["digest"] == other.digest
    assert run_pull(REPO, output=tmp_path / "b", revision=first["commit"])["digest"] == bundle.digest
    assert run_pull(REPO, output=tmp_path / "b", revision=second["commit"])["digest"] == other.digest, "replaced"
    assert run_pull(REPO, output=tmp_path / "c", revision="trial")["commit"] == trial["commit"]
    with pytest.raises(HubError, match=f"{REPO} .*RevisionNotFound"):
        run_pull(REPO, output=tmp_path / "d", revision="nowhere")


def test_files_of_an_earlier_model_are_gone(hub: Hub, bundle: Bundle) -> None:
    run_push(bundle.path, REPO)
    hub.repositories[REPO].commit("main", {**head(hub), "model_7/config.json": b"{}", ".gitattributes": b""})
    run_push(bundle.path, REPO)
    assert "model_7/config.json" not in head(hub)
    assert ".gitattributes" in head(hub)


def test_a_private_repository_wants_a_token(
    hub: Hub, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_push(bundle.path, REPO, private=True)
    assert hub.repositories[REPO].private
    monkeypatch.setenv("HF_TOKEN", "hf_bad")
    with pytest.raises(HubError, match=f"{REPO} on {hub.url}: RepositoryNotFoundError"):
        run_pull(REPO, output=tmp_path / "model")
    with pytest.raises(HubError, match="Invalid credentials"):
        run_push(bundle.path, "survey/new")
    assert list(hub.repositories) == [REPO]


def test_a_hub_that_is_not_there_is_named(
    hub: Hub, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(HubError, match=r"nobody/nothing on .*RepositoryNotFoundError"):
        run_pull("nobody/nothing", output=tmp_path / "model")
    with pytest.raises(HubError, match="HFValidationError"):
        run_pull("not a name", output=tmp_path / "model")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    for work in (lambda: run_pull(REPO, output=tmp_path / "model"), lambda: run_push(bundle.path, REPO)):
        with pytest.raises(HubError, match=f"{REPO} on http://127.0.0.1:9: ConnectError"):
            work()
    assert not list(tmp_path.iterdir())


def test_a_folder_with_something_else_is_left_alone(hub: Hub, bundle: Bundle, tmp_path: Path) -> None:
    run_push(bundle.path, REPO)
    (tmp_path / "thesis.tex").write_text("all of it")
    with pytest.raises(BundleError, match="exists and is no bundle"):
        run_pull(REPO, output=tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]
