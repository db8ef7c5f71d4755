"""What a result is made from, its record, and the archives of shipped results. What the pipeline makes: tests/workflow."""

import dataclasses
import importlib
from pathlib import Path

import pytest

from experiments.pipeline import results, shipped
from experiments.pipeline.job import ARRAYS, NUMBERS, Job
from experiments.pipeline.results import Product, begin, checksums_below, own_sources, result_product, state_of
from slax_data import DATASETS, ENCODERS, Encoder
from slax_rules import RULES, RuleEntry

RUN = {"commit": "0123", "date": "2026-01-01", "machine": "m", "wall_seconds": 1.0}


def made(product: Product, text: str = "made") -> Product:
    """The product after its files and its record were written."""
    for file in product.files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{file.name} {text}")
    results.write_record(product, begin(product), **RUN)
    return product


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def product(folder):
    (folder / "input.npz").write_text("1")
    files = (folder / "thing.json", folder / "thing.npz")
    return made(Product("thing", files, {"seeds": 2}, ("requirements.lock",), {"input": folder / "input.npz"}))


def test_every_changed_byte_of_a_record_is_seen(product):
    content = product.record.read_bytes()
    for place, byte in enumerate(content):
        product.record.write_bytes(content[:place] + bytes([byte ^ 1]) + content[place + 1 :])
        assert state_of(product).kind == "damaged", content[max(0, place - 20) : place + 20]


def test_a_product_is_current_while_files_settings_sources_and_inputs_are_the_same(product, folder):
    assert state_of(product).kind == "current"
    other = dataclasses.replace(product, settings={"seeds": 3, "rate": 0.1})
    assert state_of(other).why == "made with other settings: rate, seeds"
    assert not state_of(other).is_used("keep") and state_of(other).is_used("draw")
    moved = state_of(dataclasses.replace(product, sources=("dvc.yaml",)))
    assert moved.kind == "older" and moved.is_used("keep") and not moved.is_used("remake")
    assert "is about other files" in state_of(dataclasses.replace(product, files=product.files[:1])).why
    (folder / "input.npz").write_text("2")
    assert state_of(product).why == "made from another input than the present one"
    (folder / "input.npz").unlink()  # as in a clone that lacks it
    assert state_of(product).kind == "current"
    assert "which is gone" in state_of(dataclasses.replace(product, inputs={})).why
    product.files[1].write_text("edited")
    assert state_of(product).why == f"{product.files[1]} differs from its record"
    product.files[1].unlink()
    assert state_of(product).kind == "missing"


def test_what_reads_a_result_follows_its_settings_and_its_content(folder):
    jobs = {"a": Job("a", {"steps": 1}, endings=(ARRAYS,)), "sum": Job("sum", {}, reads=("a",))}
    other = jobs | {"a": dataclasses.replace(jobs["a"], config={"steps": 2})}
    product = made(result_product("deep", "tiny", jobs, "sum"))
    assert state_of(result_product("deep", "tiny", other, "sum")).kind == "older"
    first = made(result_product("deep", "tiny", jobs, "a"))
    assert state_of(product).kind == "older"  # it was made without these arrays
    made(product)
    results.write_record(first, begin(first), **RUN | {"wall_seconds": 2.0})
    assert state_of(product).kind == "current"
    made(first, "made otherwise")
    assert state_of(product).kind == "older"


def test_a_result_depends_on_spikes_and_folders_and_a_figure_on_what_draws():
    jobs = {"a": Job("a", {}, spikes="japanese_vowels", sources=("benchmarks/side_by_side",))}
    product = result_product("questions", "tiny", jobs, "a")
    assert product.more["spikes"] == results.spikes_product("japanese_vowels").digest()
    computing = set(checksums_below(*product.sources))
    drawing = set(checksums_below(*results.figure_products("questions", "tiny", jobs)["questions_time"].sources))
    used = {"experiments/common/learning.py", "experiments/questions/run.py", "benchmarks/side_by_side/measure.py"}
    assert used | {"packages/slax-rules/src/slax_rules/api.py", "experiments/__init__.py"} <= computing
    shown_as = {path.relative_to(results.ROOT).as_posix() for path in results.ROOT.glob("experiments/drawing/*.yaml")}
    assert shown_as | {"experiments/questions/plot.py", "experiments/drawing/figures.py"} <= drawing and shown_as
    assert not computing & {"experiments/questions/plot.py", "experiments/questions/jobs.py", "experiments/run.py"}
    assert not any("slax-viz" in file or "drawing" in file for file in computing)
    assert any("slax-viz" in file for file in result_product("landscapes", "tiny", jobs, "a").sources)
    assert {"experiments/questions/run.py", "experiments/plot.py"} <= drawing  # a drawing may read what computes
    assert all((results.ROOT / file).is_file() for file in computing | drawing)
    other = {"a": dataclasses.replace(jobs["a"], module="other")}
    assert result_product("questions", "tiny", other, "a").digest() != product.digest()


OWN = """
from slax_rules import SLTT
class Own(SLTT): pass
def task(key): pass
def onset(intensities, *, n_steps): pass
"""


def test_a_rule_a_data_set_or_a_code_of_a_script_counts_where_settings_name_it(folder, monkeypatch):
    (folder / "own_data.py").write_text(OWN)
    monkeypatch.syspath_prepend(folder)
    module = importlib.import_module("own_data")
    monkeypatch.setitem(RULES, "own", RuleEntry(title="own", rule=module.Own))
    monkeypatch.setitem(DATASETS, "mine", module.task)
    monkeypatch.setitem(ENCODERS, "onset", Encoder(module.onset, random=False))
    named = ({"rules": ["own", "otpe"]}, {"dataset": "mine"}, {"tasks": {"t": {"code": "onset"}}})
    before = [own_sources(settings) for settings in named]
    assert all([*map(Path, found)] == [Path(folder.name, "own_data.py")] for found in before)
    assert own_sources({"rule": "otpe", "dataset": "digits"}) == {}
    (folder / "own_data.py").write_text(f"{OWN}\nedited = 1")
    assert not any(own_sources(settings) == old for settings, old in zip(named, before, strict=True))


def test_an_archive_has_the_same_bytes_and_brings_back_what_is_missing_or_damaged(folder, monkeypatch):
    jobs = {name: Job(name, {"scale": "full"}, endings=(NUMBERS, ARRAYS)) for name in ("digits/bptt", "vowels")}
    products = [made(result_product("accuracy", "full", jobs, name)) for name in jobs]
    monkeypatch.setattr(shipped, "products_of", lambda name: products if name == "accuracy" else [])
    shipped.pack("accuracy")
    content = (folder / "shipped/accuracy.tar.xz").read_bytes()
    shipped.pack("accuracy")
    assert (folder / "shipped/accuracy.tar.xz").read_bytes() == content and shipped.unpack() == 0
    products[0].record.unlink()
    products[1].files[0].write_text("edited")
    assert shipped.unpack() == 2 and [state_of(product).kind for product in products] == ["current", "current"]
