"""Records: what is missing, damaged, older or current, and what is set aside."""

import dataclasses

import pytest

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
    for text in ("", "[]", "{}"):
        product.record.write_text(text)
        assert read_record(product.record) is None


def test_settings_and_what_it_is_made_from_are_told_apart(product, tmp_path):
    (tmp_path / "lock").write_text("a==2")
    assert state_of(product).kind == "older"
    assert (state_of(product).is_used(keep=True), state_of(product).is_used(keep=False)) == (True, False)
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
