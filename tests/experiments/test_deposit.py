"""Depositing and fetching results: what is sent, and what is refused. The server is one of the test's own, on loopback."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from experiments import deposit, shipped

ROOT = Path(__file__).parents[2]
CONTENTS = {"accuracy": b"numbers", "demo": b"others"}


def md5(content):
    return hashlib.md5(content).hexdigest()


class Zenodo(BaseHTTPRequestHandler):
    """What the API answers to a token: a draft, the checksum of what arrived, and the record of both."""

    def answered(self, content, status=200):
        self.send_response(status)
        self.end_headers()
        self.wfile.write(content if isinstance(content, bytes) else json.dumps(content).encode())

    def received(self):
        content = self.rfile.read(int(self.headers["Content-Length"]))
        assert self.headers["Authorization"] == "Bearer secret"
        return content

    def do_POST(self):
        assert self.path == "/api/deposit/depositions" and self.headers["Content-Type"] == "application/json"
        self.server.draft = json.loads(self.received())
        self.answered({"links": {"bucket": f"{self.server.url}/bucket", "html": "its page"}}, 201)

    def do_PUT(self):
        content = self.server.damage(self.received())
        self.server.files[self.path.removeprefix("/bucket/")] = content
        self.answered({"checksum": f"md5:{md5(content)}"}, 201)

    def do_GET(self):
        if self.path == "/api/records/1":
            files = [{"key": key, "links": {"self": f"{self.server.url}/{key}"}} for key in self.server.files]
            self.answered({"files": files})
        elif self.path[1:] in self.server.files:
            self.answered(self.server.files[self.path[1:]])
        else:
            self.answered(b"no such record", 404)

    def log_message(self, *_):
        pass


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
    (tmp_path / "CITATION.cff").write_bytes((ROOT / "CITATION.cff").read_bytes())
    paths = [shipped.path_of(name) for name in CONTENTS]
    for path, content in zip(paths, CONTENTS.values(), strict=True):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        pointer = {"outs": [{"md5": md5(content), "size": len(content), "path": path.name}]}
        path.with_name(f"{path.name}.dvc").write_text(yaml.safe_dump(pointer))
    return paths


def test_what_was_deposited_is_fetched_again(archives, server, capsys):
    deposit.write()
    deposit.upload(f"{server.url}/api")
    assert "Publish it there" in capsys.readouterr().out
    assert server.files == {path.name: path.read_bytes() for path in archives}
    told, cited = server.draft["metadata"], yaml.safe_load(Path("CITATION.cff").read_text())
    assert {"upload_type", "title", "creators", "description", "publication_date"} <= told.keys()  # which it requires
    assert told["creators"] == [{"name": cited["authors"][0]["name"]}] and told["version"] == cited["version"]
    assert told["related_identifiers"][0]["identifier"] == cited["references"][0]["doi"]
    archives[0].unlink()
    archives[1].write_bytes(b"damaged")
    for number in (2, 0):
        deposit.fetch(f"{server.url}/api/records/1")
        assert f"{number} of 2 archives" in capsys.readouterr().out
        assert [path.read_bytes() for path in archives] == list(CONTENTS.values())


@pytest.mark.parametrize("damage", [lambda content: content[:-1], lambda content: content + b"+", lambda _: b""])
def test_what_arrives_damaged_is_refused_on_both_ways(archives, server, damage):
    deposit.write()
    server.damage = damage
    with pytest.raises(SystemExit, match="arrived with the checksum"):
        deposit.upload(f"{server.url}/api")
    server.files = {path.name: damage(path.read_bytes()) for path in archives}
    archives[0].unlink()
    with pytest.raises(SystemExit, match=r"has the md5 .*, expected"):
        deposit.fetch(f"{server.url}/api/records/1")
    assert not archives[0].exists()


def test_deposit_refuses_what_cannot_work(archives, server, monkeypatch):
    for path in archives:
        path.unlink()
    with pytest.raises(SystemExit, match="Got no archives"):
        deposit.write()
    with pytest.raises(SystemExit, match=r"has no accuracy\.tar\.xz"):
        deposit.fetch(f"{server.url}/api/records/1")
    with pytest.raises(SystemExit, match="404: Not Found. no such record"):
        deposit.fetch(f"{server.url}/api/records/2")
    with pytest.raises(SystemExit, match="cannot be reached"):
        deposit.fetch("http://127.0.0.1:9/")  # nobody listens there
    with pytest.raises(SystemExit, match="expected a DOI of Zenodo"):
        deposit.fetch("10.1088/2634-4386/ada988")
    monkeypatch.delenv(deposit.TOKEN)
    with pytest.raises(SystemExit, match="Got no token"):
        deposit.upload(f"{server.url}/api")


def test_a_doi_is_an_address_and_persons_are_creators():
    for doi in ("10.5281/zenodo.17", "https://doi.org/10.5281/zenodo.17"):
        assert deposit.address(doi) == "https://zenodo.org/api/records/17"
    person = {"family-names": "Noether", "given-names": "Emmy", "orcid": "https://orcid.org/0000-0000-0000-0000"}
    assert deposit.creator(person) == {"name": "Noether, Emmy", "orcid": "0000-0000-0000-0000"}
