"""Depositing and fetching results: what is sent, and what is refused. The server is one of the test's own, on loopback."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from experiments import deposit, shipped

CITATION = (Path(__file__).parents[2] / "CITATION.cff").read_text()
CONTENTS = {"accuracy": b"numbers", "demo": b"others"}


class Zenodo(BaseHTTPRequestHandler):
    """What the API answers: a draft, the checksum of what arrived, and the record of all."""

    def answered(self, content, status=200):
        self.send_response(status)
        self.end_headers()
        self.wfile.write(content if isinstance(content, bytes) else json.dumps(content).encode())

    def received(self):
        assert self.headers["Authorization"] == "Bearer secret"
        return self.rfile.read(int(self.headers["Content-Length"]))

    def do_POST(self):
        assert self.path == "/api/deposit/depositions" and self.headers["Content-Type"] == "application/json"
        self.server.draft = json.loads(self.received())
        self.answered({"links": {"bucket": f"{self.server.url}/bucket", "html": "its page"}}, 201)

    def do_PUT(self):
        self.server.files[self.path.removeprefix("/bucket/")] = content = self.server.damage(self.received())
        self.answered({"checksum": f"md5:{deposit.md5_of(content)}"}, 201)

    def do_GET(self):
        if self.path == "/record":
            links = {name: {"self": f"{self.server.url}/{name}"} for name in self.server.files}
            self.answered({"files": [{"key": name, "links": link} for name, link in links.items()]})
        else:
            found = self.server.files.get(self.path[1:])
            self.answered(found or b"no such record", 200 if found else 404)

    def log_message(self, *_): ...


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Zenodo) as server:
        server.url, server.files, server.damage = f"http://127.0.0.1:{server.server_port}", {}, lambda content: content
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def archives(tmp_path, monkeypatch):
    """Two archives with their pointers, in a folder that is the present one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(deposit.TOKEN, "secret")
    Path("CITATION.cff").write_text(CITATION)
    shipped.FOLDER.mkdir()
    paths = [shipped.path_of(name) for name in CONTENTS]
    for path, content in zip(paths, CONTENTS.values(), strict=True):
        path.write_bytes(content)
        pointer = {"outs": [{"md5": deposit.md5_of(content), "size": len(content), "path": path.name}]}
        path.with_name(f"{path.name}.dvc").write_text(yaml.safe_dump(pointer))
    return paths


def test_what_was_deposited_is_fetched_again(archives, server):
    deposit.write()
    deposit.upload(f"{server.url}/api")
    told, cited = server.draft["metadata"], yaml.safe_load(CITATION)
    assert {"upload_type", "title", "creators", "description", "publication_date"} <= told.keys()  # which it requires
    assert told["creators"] == [{"name": cited["authors"][0]["name"]}] and told["version"] == cited["version"]
    assert told["related_identifiers"][0]["identifier"] == cited["references"][0]["doi"]
    archives[0].unlink()
    archives[1].write_bytes(b"damaged")
    deposit.fetch(f"{server.url}/record")
    assert [path.read_bytes() for path in archives] == list(CONTENTS.values())


@pytest.mark.parametrize("damage", [lambda content: content[:-1], lambda content: content + b"+"])
def test_what_arrives_damaged_is_refused_on_both_ways(archives, server, damage):
    deposit.write()
    server.damage = damage
    with pytest.raises(SystemExit, match="arrived as md5:"):
        deposit.upload(f"{server.url}/api")
    server.files = {path.name: damage(path.read_bytes()) for path in archives}
    archives[0].unlink()
    with pytest.raises(SystemExit, match=r"has the md5 .*, expected"):
        deposit.fetch(f"{server.url}/record")
    assert not archives[0].exists()


def test_deposit_refuses_what_cannot_work(archives, server, monkeypatch):
    for path in archives:
        path.unlink()
    with pytest.raises(SystemExit, match="Got no archives"):
        deposit.write()
    refused = {
        f"{server.url}/record": "has no accuracy",
        f"{server.url}/2": "404: .* no such record",
        "10.1/x": "cannot be had",
    }
    for where, told in refused.items():
        with pytest.raises(SystemExit, match=told):
            deposit.fetch(where)
    monkeypatch.delenv(deposit.TOKEN)
    with pytest.raises(SystemExit, match="Got no token"):
        deposit.upload(f"{server.url}/api")
