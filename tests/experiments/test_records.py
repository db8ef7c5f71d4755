"""Records: what is damaged and what is older. What the pipeline makes of it: tests/workflow/test_pipeline.py."""

import dataclasses

import pytest

from experiments.pipeline.job import ARRAYS, Job
from experiments.pipeline.plan import in_order, result_product
from experiments.pipeline.results import Product, state_of, write_record

RUN = {"commit": "0123", "date": "2026-01-01", "machine": "m", "wall_seconds": 1.0}


@pytest.fixture
def product(tmp_path):
    for name, text in {"lock": "a==1", "made.json": "{}", "made.npz": "abc"}.items():
        (tmp_path / name).write_text(text)
    files = (tmp_path / "made.json", tmp_path / "made.npz")
    product = Product("thing", files, {"seeds": 2}, others=(str(tmp_path / "lock"),))
    write_record(product, product.digest(), **RUN)
    return product


def test_every_changed_byte_of_a_record_is_seen(product):
    content = product.record.read_bytes()
    for place, byte in enumerate(content):
        product.record.write_bytes(content[:place] + bytes([byte ^ 1]) + content[place + 1 :])
        assert state_of(product).kind == "damaged", content[max(0, place - 20) : place + 20]


def test_settings_and_what_it_is_made_from_are_told_apart(product, tmp_path):
    (tmp_path / "lock").write_text("a==2")
    assert state_of(product).kind == "older"
    assert (state_of(product).is_used(keep=True), state_of(product).is_used(keep=False)) == (True, False)
    assert dataclasses.replace(product, scripts=("experiments/run.py",)).digest() != product.digest()
    other = dataclasses.replace(product, settings={"seeds": 3, "rate": 0.1})
    assert state_of(other).why == "made with other settings: rate, seeds" and not state_of(other).is_used(keep=True)
    assert "is about other files" in state_of(dataclasses.replace(product, files=product.files[:1])).why


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
