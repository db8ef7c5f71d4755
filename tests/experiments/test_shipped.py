"""The archive of shipped results: what goes in, what comes out, and what is refused."""

import io
import json
import lzma
import tarfile

import pytest

from experiments import shipped
from experiments.common.job import ARRAYS, NUMBERS, Job
from experiments.common.products import STORE, result_product
from experiments.common.records import digest_of, read_record, seal_and_write, state_of, write_record


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


def contents(products):
    return {path: path.read_bytes() for product in products for path in (*product.files, product.record)}


def test_what_was_packed_comes_out_again(products, tmp_path, capsys):
    before, file = contents(products), tmp_path / "full.tar.xz"
    shipped.pack(products, file)
    assert "2 of 2 jobs" in capsys.readouterr().out
    first = file.read_bytes()
    shipped.pack(products, file)
    assert file.read_bytes() == first
    assert shipped.unpack(products, file) == []
    products[0].files[1].unlink()
    content = bytearray(products[1].files[0].read_bytes())
    content[0] ^= 1
    products[1].files[0].write_bytes(content)
    assert shipped.unpack(products, file) == products
    assert contents(products) == before


def test_damaged_and_missing_results_and_other_settings_are_left_out(products, tmp_path, capsys):
    file = tmp_path / "full.tar.xz"
    products[0].files[0].write_text("changed")
    shipped.pack(products, file)
    told = capsys.readouterr().out
    assert "Left out: accuracy digits/bptt: " in told and "differs from its record" in told and "1 of 2 jobs" in told
    assert all(name.startswith("accuracy/vowels.") for name in shipped.members(file))
    products[1].files[0].unlink()
    with pytest.raises(SystemExit, match="no results to pack into"):
        shipped.pack(products, file)


def test_result_older_than_the_sources_is_packed_with_its_own_record(products, tmp_path, capsys):
    seal_and_write(products[0].record, read_record(products[0].record) | {"made_from": "others", "commit": "0000"})
    shipped.pack(products, tmp_path / "full.tar.xz")
    assert "Packed, though not current: accuracy digits/bptt: made from other sources" in capsys.readouterr().out
    products[0].record.unlink()
    assert shipped.unpack(products, tmp_path / "full.tar.xz") == [products[0]]
    assert read_record(products[0].record)["commit"] == "0000"


def test_a_record_of_the_first_format_is_read_and_tells_what_it_told(products, tmp_path):
    """It has the digest of each source, which today's digests do not equal: the result is older than the sources."""
    first, files = products[0], read_record(products[0].record)["files"]
    old = {"format": 1, "files": files, "commit": "4567", "device": "cpu"}
    old["made_from"] = {"settings": {"scale": "full"}, "files": {"requirements.lock": "0"}}
    archived = [(path, path.read_bytes()) for path in first.files]
    archived.append((first.record, json.dumps(old | {"sha256_of_the_rest": digest_of(old)}).encode()))
    file = archive_with(tmp_path / "old.tar.xz", *((member(shipped.name_of(path)), data) for path, data in archived))
    before = {path: path.read_bytes() for path in first.files}
    for path in (*first.files, first.record):
        path.unlink()
    assert shipped.unpack(products, file) == [first]
    assert {path: path.read_bytes() for path in first.files} == before
    assert state_of(first).kind == "older" and read_record(first.record)["commit"] == "4567"


def archive_with(path, *members):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for member, data in members:
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    path.write_bytes(lzma.compress(content.getvalue()))
    return path


def member(name, **values):
    made = tarfile.TarInfo(name)
    for key, value in values.items():
        setattr(made, key, value)
    return made


SPARSE = {"GNU.sparse.size": str(6 << 30), "GNU.sparse.realsize": str(6 << 30), "GNU.sparse.map": f"0,4,{6 << 30},0"}


@pytest.mark.parametrize(
    "bad",
    [
        [(member("symbolic link", type=tarfile.SYMTYPE, linkname="/etc/passwd"), b"")],
        [(member("hard link", type=tarfile.LNKTYPE, linkname="other"), b"")],
        [(member("fifo", type=tarfile.FIFOTYPE), b"")],
        [(member("twice"), b"a"), (member("twice"), b"b")],
        [(member("sparse", pax_headers=SPARSE), b"abcd")],
    ],
    ids=lambda bad: bad[0][0].name,
)
def test_what_is_no_plain_file_is_refused(tmp_path, bad):
    with pytest.raises(SystemExit, match="is no plain file, or is there twice"):
        shipped.members(archive_with(tmp_path / "bad.tar.xz", *bad))


def test_names_that_no_job_has_are_not_written(products, tmp_path):
    file = archive_with(tmp_path / "bad.tar.xz", (member("../outside"), b"x"), (member("/tmp/outside"), b"x"))
    products[0].record.unlink()
    assert shipped.unpack(products, file) == [] and not (tmp_path / "results/outside").exists()


def test_large_and_damaged_archives_are_refused(tmp_path):
    large = archive_with(tmp_path / "large.tar.xz", (member("zeros"), bytes(1 << 20)))
    assert len(shipped.members(large)["zeros"]) == 1 << 20
    with pytest.raises(SystemExit, match="more than 1000 bytes"):
        shipped.members(large, largest=1000)
    content = large.read_bytes()
    for damaged in (content[: len(content) // 2], content[:-40] + b"x" + content[-39:], b"", b"text"):
        large.write_bytes(damaged)
        with pytest.raises(SystemExit, match=r"is damaged|is cut off"):
            shipped.members(large)


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
