"""A hub on this machine: the few endpoints that huggingface_hub calls to make a repository, commit to it and read it.

It speaks HTTP, keeps commits and large files in memory, and asks for a token where a repository is private. What the
real hub adds (Xet storage, multi-part uploads, pull requests, rate limits) it does not have.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_good"
LARGE = re.compile(r"\.(safetensors|bin)$")
Files = dict[str, bytes]


@dataclass
class Repository:
    """Commits by digest, branches by name."""

    private: bool = False
    commits: dict[str, Files] = field(default_factory=lambda: {"0" * 40: {}})
    branches: dict[str, str] = field(default_factory=lambda: {"main": "0" * 40})

    def commit(self, branch: str, files: Files) -> str:
        text = json.dumps(sorted((name, hashlib.sha256(data).hexdigest()) for name, data in files.items()))
        oid = hashlib.sha1(f"{len(self.commits)}{text}".encode()).hexdigest()
        self.commits[oid], self.branches[branch] = files, oid
        return oid

    def find(self, revision: str) -> tuple[str, Files] | None:
        oid = self.branches.get(revision, revision)
        return (oid, self.commits[oid]) if oid in self.commits else None


class Hub(ThreadingHTTPServer):
    """The server, with what it holds."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[str, Repository] = {}
        self.large: Files = {}
        self.asked: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, format: str, *args: Any) -> None:
        self.server.asked.append(f"{self.command} {self.path}")

    def do_GET(self) -> None:
        self._route()

    do_HEAD = do_POST = do_PUT = do_GET

    def _route(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else self._chunks()
        path = unquote(urlsplit(self.path).path)
        for pattern, name in ROUTES:
            match = re.fullmatch(pattern, path)
            if match:
                getattr(self, name)(body, **match.groupdict())
                return
        self._answer(404, {"error": f"no such page: {path}"})

    def _chunks(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return b""
        data = b""
        while size := int(self.rfile.readline(), 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data

    def _answer(self, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _signed(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _repository(self, repo: str, write: bool = False) -> Repository | None:
        found = self.server.repositories.get(repo)
        if write and not self._signed():
            self._answer(401, {"error": "Invalid credentials"}, {"X-Error-Message": "Invalid credentials"})
            return None
        if found is None or (found.private and not self._signed()):
            self._answer(404 if self._signed() else 401, {"error": "Repository not found"},
                         {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})  # fmt: skip
            return None
        return found

    def _revision(self, repo: str, revision: str) -> tuple[str, Files] | None:
        held = self._repository(repo)
        if held is None:
            return None
        found = held.find(revision)
        if found is None:
            text = f"Invalid rev id: {revision}"
            self._answer(404, {"error": text}, {"X-Error-Code": "RevisionNotFound", "X-Error-Message": text})
        return found

    def create(self, body: bytes) -> None:
        asked = json.loads(body)
        name = f"{asked.get('organization') or 'somebody'}/{asked['name']}"
        if not self._signed():
            self._answer(401, {"error": "Invalid credentials"}, {"X-Error-Message": "Invalid credentials in token"})
        elif name in self.server.repositories:
            self._answer(409, {"error": "You already created this model repo", "url": f"{self.server.url}/{name}"})
        else:
            private = bool(asked.get("private")) or asked.get("visibility") == "private"
            self.server.repositories[name] = Repository(private=private)
            self._answer(200, {"url": f"{self.server.url}/{name}", "name": name})

    def branch(self, body: bytes, repo: str, branch: str) -> None:
        held = self._repository(repo, write=True)
        if held is not None and branch in held.branches:
            self._answer(409, {"error": f"branch {branch} exists"})
        elif held is not None:
            held.branches[branch] = held.branches["main"]
            self._answer(200, {})

    def check_card(self, body: bytes) -> None:
        self._answer(200, {"warnings": [], "errors": []})

    def preupload(self, body: bytes, repo: str, revision: str) -> None:
        if self._repository(repo, write=True) is None:
            return
        asked = json.loads(body)["files"]
        modes = [
            {"path": f["path"], "uploadMode": "lfs" if LARGE.search(f["path"]) else "regular", "shouldIgnore": False}
            for f in asked
        ]
        self._answer(200, {"files": modes})

    def batch(self, body: bytes, repo: str) -> None:
        found = [
            {"oid": one["oid"], "size": one["size"],
             "actions": {"upload": {"href": f"{self.server.url}/large/{one['oid']}"}}}
            for one in json.loads(body)["objects"]
        ]  # fmt: skip
        self._answer(200, {"transfer": "basic", "objects": found})

    def store(self, body: bytes, oid: str) -> None:
        good = hashlib.sha256(body).hexdigest() == oid
        if good:
            self.server.large[oid] = body
        self._answer(200 if good else 400, {})

    def commit(self, body: bytes, repo: str, revision: str) -> None:
        held = self._repository(repo, write=True)
        if held is None:
            return
        files = dict(held.commits[held.branches[revision]])
        for line in body.splitlines():
            step = json.loads(line)
            value = step["value"]
            if step["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif step["key"] == "lfsFile":
                files[value["path"]] = self.server.large[value["oid"]]
            elif step["key"] == "deletedFile":
                del files[value["path"]]
        oid = held.commit(revision, files)
        self._answer(200, {"success": True, "commitOid": oid, "commitUrl": f"{self.server.url}/{repo}/commit/{oid}"})

    def info(self, body: bytes, repo: str, revision: str = "main") -> None:
        found = self._revision(repo, revision)
        if found is not None:
            siblings = [{"rfilename": name} for name in found[1]]
            self._answer(200, {"id": repo, "sha": found[0], "private": False, "siblings": siblings, "tags": []})

    def tree(self, body: bytes, repo: str, revision: str) -> None:
        found = self._revision(repo, revision)
        if found is not None:
            names = [{"type": "file", "path": n, "size": len(d), "oid": "0" * 40} for n, d in found[1].items()]
            self._answer(200, names)

    def resolve(self, body: bytes, repo: str, revision: str, name: str) -> None:
        found = self._revision(repo, revision)
        if found is None:
            return
        if name not in found[1]:
            self._answer(404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"})
            return
        data = found[1][name]
        self._answer(200, data, {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": found[0]})


_REPO, _REV = r"(?P<repo>[^/]+/[^/]+)", r"(?P<revision>[^/]+)"
ROUTES: list[tuple[str, str]] = [
    (r"/api/repos/create", "create"),
    (r"/api/validate-yaml", "check_card"),
    (rf"/api/models/{_REPO}/branch/(?P<branch>.+)", "branch"),
    (rf"/api/models/{_REPO}/preupload/{_REV}", "preupload"),
    (rf"/api/models/{_REPO}/commit/{_REV}", "commit"),
    (rf"/api/models/{_REPO}/revision/{_REV}", "info"),
    (rf"/api/models/{_REPO}/tree/{_REV}", "tree"),
    (rf"/api/models/{_REPO}", "info"),
    (rf"/{_REPO}\.git/info/lfs/objects/batch", "batch"),
    (r"/large/(?P<oid>[0-9a-f]{64})", "store"),
    (rf"/{_REPO}/resolve/{_REV}/(?P<name>.+)", "resolve"),
]


@contextmanager
def local_hub() -> Iterator[Hub]:
    """Serve a hub as long as the block lasts."""
    with Hub() as hub:
        thread = threading.Thread(target=hub.serve_forever, daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()


if __name__ == "__main__":
    with local_hub() as running:
        print(running.url, flush=True)
        threading.Event().wait()
