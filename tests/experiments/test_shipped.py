"""The archive of shipped results: what it leaves out and refuses. What comes out of it: tests/workflow/test_pipeline.py."""

import hashlib
import tarfile

import pytest

from experiments import shipped
from experiments.pipeline.job import ARRAYS, NUMBERS, Job
from experiments.pipeline.plan import SHIPPED_INPUTS, STORE, result_product, shipped_inputs, spikes_product
from experiments.pipeline.results import Product, state_of, write_json, write_record


@pytest.fixture
def products(tmp_path, monkeypatch):
    """Two results of the scale, in a folder that is the present one."""
    monkeypatch.chdir(tmp_path)
    made = []
    for name in ("digits/bptt", "vowels"):
        job = Job(name, {"scale": "full"}, endings=(NUMBERS, ARRAYS))
        product = result_product("accuracy", "full", job)
        for file in product.files:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{name} {file.suffix}")
        write_record(product, product.digest(), commit="0123")
        made.append(product)
    return made


def test_absent_inputs_count_as_those_of_the_shipped_results(tmp_path, monkeypatch):
    """As in a clone, which lacks spikes and the records of other libraries' environments."""
    monkeypatch.chdir(tmp_path)
    for module in ("common.products", "common.records", "shipped"):
        monkeypatch.setattr(f"experiments.{module}.ROOT", tmp_path)
    environment, sets = "benchmarks/.envs/norse.json", {"speech": {"raw": {}, "n_steps": 20}}
    write_json(tmp_path / "data/config.yaml", {"sets": sets})
    job = Job("digits", {}, spikes="speech", files=(environment,))
    product, spikes = result_product("accuracy", "full", job), spikes_product("speech", sets["speech"])
    for file in (*product.files, *spikes.files, tmp_path / environment):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("made")
    write_record(spikes, spikes.digest())
    write_record(product, product.digest())
    shipped.note_inputs([product])
    noted, digest = shipped_inputs(), hashlib.sha256(b"made").hexdigest()
    assert noted == {
        environment: {"sha256": digest, "made_from": None},
        "data/processed/speech.npz": {"sha256": digest, "made_from": spikes.digest()},
    }
    assert product.digest() == Product.digest(product)

    # What is there counts, whatever was noted.
    write_json(SHIPPED_INPUTS, {name: of | {"sha256": "other"} for name, of in noted.items()})
    assert state_of(product).kind == "current"
    spikes.files[0].write_text("made otherwise")
    write_record(spikes, spikes.digest())
    assert state_of(product).kind == "older"
    write_json(SHIPPED_INPUTS, noted)
    for file in (tmp_path / environment, spikes.files[0], spikes.record):
        file.unlink()
    assert state_of(product).kind == "current"
    for name in noted:
        write_json(SHIPPED_INPUTS, noted | {name: noted[name] | {"sha256": "other"}})
        assert state_of(product).kind == "older"
    write_json(tmp_path / "data/config.yaml", {"sets": {"speech": {"raw": {}, "n_steps": 30}}})
    assert state_of(product).kind == "older"  # the spikes would be made otherwise


def test_names_that_no_job_has_and_links_are_not_written(products, tmp_path):
    names = [shipped.name_of(path) for path in (*products[0].files, products[0].record)]
    with tarfile.open(tmp_path / "bad.tar.xz", "w:xz") as tar:
        for name in ("../outside", "/tmp/outside", *names):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = (tarfile.SYMTYPE, "/etc/passwd") if name in names else (tarfile.REGTYPE, "")
            tar.addfile(member)
    products[0].record.unlink()
    assert shipped.unpack(products, tmp_path / "bad.tar.xz") == []
    assert not (tmp_path / "results/outside").exists() and not products[0].record.exists()


def test_damaged_archives_are_refused(products, tmp_path):
    file = tmp_path / "full.tar.xz"
    shipped.pack(products, file)
    content = file.read_bytes()
    shipped.pack(products, file)
    assert file.read_bytes() == content and shipped.unpack(products, file) == []
    middle = len(content) // 2
    for damaged in (content[:middle], content[:middle] + b"x" + content[middle + 1 :], b"", b"text"):
        file.write_bytes(damaged)
        with pytest.raises(SystemExit, match="is damaged"):
            shipped.members(file)


def test_archive_is_the_one_in_the_store_that_its_pointer_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert shipped.archive("toy") is None
    path = shipped.path_of("toy")
    path.parent.mkdir()
    of_a = "0cc175b9c0f1b6a831c399e269772661"  # the md5 of the letter
    path.with_name(f"{path.name}.dvc").write_text(f"outs: [{{md5: {of_a}, path: toy.tar.xz}}]\n")
    assert shipped.archive("toy") is None
    stored = tmp_path / STORE / of_a[:2] / of_a[2:]
    stored.parent.mkdir(parents=True)
    stored.write_text("a")
    assert shipped.archive("toy").read_text() == "a"
    stored.write_text("b")
    with pytest.raises(SystemExit, match="is damaged: its md5 is"):
        shipped.archive("toy")
    path.write_text("c")
    assert shipped.archive("toy") == path
