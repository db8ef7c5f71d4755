"""Records: what is missing, damaged, older or current, and what is set aside."""

import dataclasses
import json

import pytest

from experiments.common import records
from experiments.common.job import ARRAYS, Job
from experiments.common.products import in_order, result_product
from experiments.common.records import OLDER, Forecast, Product, read_record, settle, state_of, write_record

RUN = {"commit": "0123", "date": "2026-01-01", "machine": "m", "wall_seconds": 1.0}


@pytest.fixture
def product(tmp_path):
    for name, text in {"lock": "a==1", "made.json": "{}", "made.npz": "abc"}.items():
        (tmp_path / name).write_text(text)
    files = (tmp_path / "made.json", tmp_path / "made.npz")
    product = Product("thing", files, {"seeds": 2}, others=(str(tmp_path / "lock"),))
    write_record(product, product.digest(), **RUN)
    return product


def change(path):
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def test_what_was_just_made_is_current_and_what_lacks_a_file_is_missing(product):
    assert state_of(product).kind == "current" and state_of(product).is_used(keep=False)
    for path in (*product.files, product.record):
        content = path.read_bytes()
        path.unlink()
        assert state_of(product).kind == "missing"
        path.write_bytes(content)


def test_every_changed_byte_of_a_record_is_seen(product):
    content = product.record.read_bytes()
    for place, byte in enumerate(content):
        product.record.write_bytes(content[:place] + bytes([byte ^ 1]) + content[place + 1 :])
        assert state_of(product).kind == "damaged", content[max(0, place - 20) : place + 20]
    for text in ("", "[]", "{}", '{"sha256_of_the_rest": 1}', "null", "\x00", content.decode().replace("2", "3", 1)):
        product.record.write_text(text)
        assert read_record(product.record) is None
    other = json.loads(content) | {"format": 1}
    del other["sha256_of_the_rest"]
    product.record.write_text(json.dumps(other | {"sha256_of_the_rest": records.digest_of(other)}))
    assert read_record(product.record) is None


def test_settings_and_what_it_is_made_from_are_told_apart(product, tmp_path):
    (tmp_path / "lock").write_text("a==2")
    assert state_of(product).kind == "older"
    assert (state_of(product).is_used(keep=True), state_of(product).is_used(keep=False)) == (True, False)
    assert records.require_used(product, True, "Do this.")["commit"] == "0123"
    with pytest.raises(SystemExit, match=r"made.json is not used: made from other sources or inputs .* Do this."):
        records.require_used(product, False, "Do this.")
    assert dataclasses.replace(product, scripts=("experiments/run.py",)).digest() != product.digest()
    other = dataclasses.replace(product, settings={"seeds": 3, "rate": 0.1})
    assert state_of(other).why == "made with other settings: rate, seeds" and not state_of(other).is_used(keep=True)
    assert "is about other files" in state_of(dataclasses.replace(product, files=product.files[:1])).why


def test_what_is_not_used_is_set_aside_and_comes_back_when_an_edit_is_undone(product, tmp_path):
    record = product.record.read_bytes()
    assert settle(product, keep=False).kind == "current"
    (tmp_path / "lock").write_text("a==2")
    assert settle(product, keep=True).kind == "older" and product.record.exists()
    for _ in range(2):
        foreseen = Forecast({})(product, keep=False)  # with the record in its place, and aside
        assert settle(product, keep=False) == foreseen == OLDER and not product.record.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lock", "made.json", "made.npz", "made.record.aside"]
    (tmp_path / "lock").write_text("a==1")
    assert Forecast({})(product, keep=False).kind == "current" and not product.record.exists()
    assert settle(product, keep=False).kind == "current" and product.record.read_bytes() == record


def test_a_damaged_file_is_renamed_and_the_next_result_leaves_nothing_aside(product, tmp_path):
    change(product.files[1])
    assert settle(product, keep=True).why == f"{product.files[1]} differs from its record"
    assert settle(product, keep=True).kind == "missing"
    assert {path.name for path in tmp_path.iterdir()} == {"lock", "made.json", "made.npz.damaged", "made.record.aside"}
    made_from = records.begin(product)
    product.files[1].write_text("new")
    write_record(product, made_from, **RUN)
    assert settle(product, keep=False).kind == "current" and not list(tmp_path.glob("*.aside"))


def test_what_reads_a_result_follows_its_content_and_not_its_time_of_making(tmp_path):
    folder = tmp_path / "tiny/activity"
    jobs = {"sum": Job("sum", {}, reads=("a",)), "a": Job("a", {}, endings=(ARRAYS,))}
    assert list(in_order(jobs)) == ["a", "sum"]
    first, second = (result_product("activity", "tiny", jobs[name], results=tmp_path) for name in ("a", "sum"))
    lacking = second.digest()
    folder.mkdir(parents=True)
    (folder / "a.npz").write_text("1")
    assert second.digest() == lacking  # it has no record
    write_record(first, "", **RUN)
    there = second.digest()
    write_record(first, "", **RUN | {"wall_seconds": 2.0})
    assert second.digest() == there != lacking
    (folder / "a.npz").write_text("2")
    write_record(first, "", **RUN)
    assert second.digest() != there


def test_files_are_required_with_their_record(product, tmp_path):
    file = product.files[0]
    assert records.require([file], "Do this.")["commit"] == "0123"
    made = [(file, "made.json"), (product.record, "made.record.json")]
    for path, name in made:
        content = path.read_bytes()
        change(path)
        with pytest.raises(SystemExit, match=rf"{name} (differs|is damaged).*: something changed it .* Do this."):
            records.require([file], "Do this.")
        path.unlink()
        with pytest.raises(SystemExit, match=rf"There is no .*{name}. Do this."):
            records.require([file], "Do this.")
        path.write_bytes(content)
    (tmp_path / "made.csv").write_text("")
    with pytest.raises(SystemExit, match=r"does not name made.csv.* Do this."):
        records.require([tmp_path / "made.csv"], "Do this.")


def test_record_of_each_kind_of_file():
    names = ["x/a.b.json", "x/a.b.timing.json", "x/a.b.npz", "x/a.b.csv", "x/a.b.png", "x/a.b.svg", "x/a.b.html"]
    assert {str(records.record_of(product_file)) for product_file in map(records.Path, names)} == {"x/a.b.record.json"}


def test_commit_is_unknown_without_git_and_without_a_checkout(monkeypatch, tmp_path):
    monkeypatch.setattr(records, "ROOT", tmp_path)
    assert records.commit() == "unknown"
    monkeypatch.undo()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert records.commit() == "unknown"
