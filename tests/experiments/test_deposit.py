"""What is deposited is fetched again, from a server of the test's own on loopback; what is not that is refused."""

import functools
import json
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from experiments import deposit, shipped

CITATION = (Path(__file__).parents[2] / "CITATION.cff").read_text()
CONTENTS = {"accuracy": b"numbers", "demo": b"others"}


@pytest.fixture
def archives(tmp_path, monkeypatch):
    """Two archives with their pointers, in a folder that is the present one."""
    monkeypatch.chdir(tmp_path)
    Path("CITATION.cff").write_text(CITATION)
    shipped.FOLDER.mkdir()
    paths = [shipped.path_of(name) for name in CONTENTS]
    for path, content in zip(paths, CONTENTS.values(), strict=True):
        path.write_bytes(content)
        pointer = {"outs": [{"md5": deposit.md5_of(content), "path": path.name}]}
        path.with_name(f"{path.name}.dvc").write_text(yaml.safe_dump(pointer))
    return paths


@pytest.fixture
def url(archives):
    """The address of what was deposited, with a record of it."""
    deposit.write()
    handler = functools.partial(SimpleHTTPRequestHandler, directory=deposit.DEPOSIT)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        url = f"http://127.0.0.1:{server.server_port}"
        files = [{"key": path.name, "links": {"self": f"{url}/{path.name}"}} for path in archives]
        for name, listed in (("record", files), ("other", files[1:])):
            (deposit.DEPOSIT / name).write_text(json.dumps({"files": listed}))
        yield url
        server.shutdown()


def test_what_was_deposited_is_fetched_again(archives, url):
    told, cited = json.loads((deposit.DEPOSIT / "deposition.json").read_text())["metadata"], yaml.safe_load(CITATION)
    assert {"upload_type", "title", "creators", "description", "publication_date"} <= told.keys()  # which it requires
    person = {"family-names": "Name", "given-names": "A.", "orcid": "https://orcid.org/0000-0002-1825-0097"}
    (creator,) = deposit.metadata(cited | {"authors": [person]})["creators"]
    assert creator == {"name": "Name, A.", "orcid": "0000-0002-1825-0097"}
    archives[0].unlink()
    archives[1].write_bytes(b"damaged")
    deposit.fetch(f"{url}/record")
    assert [path.read_bytes() for path in archives] == list(CONTENTS.values())


def test_what_is_damaged_or_not_there_is_refused(archives, url):
    archives[0].unlink()
    (deposit.DEPOSIT / archives[0].name).write_bytes(b"number")
    for where, told in (("record", "has the md5 .*, expected"), ("other", "has no accuracy")):
        with pytest.raises(SystemExit, match=told):
            deposit.fetch(f"{url}/{where}")
    assert not archives[0].exists()
