"""Schemas by number, from a real HTTP server and from a folder."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pipeline.schemas import RegistryError, Schemas
from tests.pipeline.alerts import lsst_schema

TEXT = json.dumps(lsst_schema(True))


class Registry(ThreadingHTTPServer):
    """Answers as Confluent's registry does."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.schemas: dict[int, str] = {1000: TEXT}
        self.user, self.broken, self.asked = "", False, []
        self.url = f"http://127.0.0.1:{self.server_port}"


class Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server: Any = self.server
        server.asked.append(self.path)
        number = int(self.path.rpartition("/")[2])
        wanted = f"Basic {base64.b64encode(server.user.encode()).decode()}"
        if server.broken:
            code, body = 503, b"tired"
        elif server.user and self.headers.get("Authorization") != wanted:
            code, body = 401, b"{}"
        elif number in server.schemas:
            code, body = 200, json.dumps({"schema": server.schemas[number]}).encode()
        else:
            code, body = 404, json.dumps({"error_code": 40403, "message": "Schema not found"}).encode()
        self.send_response(code)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def registry() -> Iterator[Registry]:
    server = Registry()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_schema_is_asked_for_once_and_an_unknown_one_again(registry: Registry) -> None:
    schemas = Schemas(registry.url)
    assert schemas.find([1000, 1001]) == {1000: TEXT}
    registry.schemas[1001] = "{}"
    assert schemas.find([1000, 1001]) == {1000: TEXT, 1001: "{}"}
    assert registry.asked == [f"/schemas/ids/{n}" for n in (1000, 1001, 1001)]


def test_a_registry_that_does_not_answer_says_nothing_of_the_schema(registry: Registry) -> None:
    registry.broken = True
    with pytest.raises(RegistryError, match="503"):
        Schemas(registry.url).find([1000])
    with pytest.raises(RegistryError, match="does not answer"):
        Schemas("http://127.0.0.1:9").find([1000])
    registry.broken, registry.schemas[2] = False, "no json"
    with pytest.raises(RegistryError, match="does not answer"):
        Schemas(registry.url).find([2])


def test_a_user_is_told_to_the_registry(registry: Registry) -> None:
    registry.user = "me:secret"
    with pytest.raises(RegistryError, match="401") as caught:
        Schemas(registry.url, "me:wrong").find([1000])
    assert "wrong" not in str(caught.value)
    assert Schemas(registry.url, "me:secret").find([1000]) == {1000: TEXT}
    assert "secret" not in repr(Schemas(registry.url, "me:secret"))


def test_schemas_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "1000.avsc").write_text(TEXT)
    (tmp_path / "7.avsc").write_text("{")
    assert Schemas(str(tmp_path)).find([1000, 3]) == {1000: TEXT}
    with pytest.raises(RegistryError, match=r"7\.avsc is no schema"):
        Schemas(str(tmp_path)).find([7])
    with pytest.raises(RegistryError, match="does not exist"):
        Schemas(str(tmp_path / "away")).find([7])
    assert Schemas("").find([7]) == {}
