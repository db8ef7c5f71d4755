"""Certificates: what is damaged, out of date or current, and what follows for the pipeline."""

import json
import os

import pytest

from experiments.common import provenance
from experiments.common.provenance import (
    Product,
    certify,
    changes_since,
    commit,
    decide,
    older_results,
    read_certificate,
    require_intact,
    state_of,
)
from experiments.common.sources import Sources

RUN = {"commit": "0123", "date": "2026-01-01", "machine": "m", "wall_seconds": 1.0}


@pytest.fixture
def folder(tmp_path):
    for name, text in {"code.py": "x = 1", "lock": "a==1", "made.json": "{}", "made.npz": "abc"}.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def product_in(folder, **changes):
    files = (folder / "made.json", folder / "made.npz")
    made_from = {name: folder / name for name in ("code.py", "lock")}
    given = {"label": "thing", "certificate": folder / "made.record.json", "files": files, "settings": {"seeds": 2}}
    return Product(**given | {"made_from": made_from} | changes)


@pytest.fixture
def product(folder):
    product = product_in(folder)
    certify(product, product.digests(Sources(folder)), **RUN)
    return product


def state(product):
    return state_of(product, Sources(product.certificate.parent))


def test_what_was_just_made_is_current(product):
    assert state(product).kind == "current" and state(product).reason == ""


@pytest.mark.parametrize("name", ["made.json", "made.npz", "made.record.json"])
def test_missing_file_is_not_made_yet(product, folder, name):
    (folder / name).unlink()
    assert (state(product).kind, state(product).reason) == ("missing", "not made yet")


@pytest.mark.parametrize("name", ["made.json", "made.npz"])
def test_changed_byte_is_damage(product, folder, name):
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert state(product).kind == "damaged" and not state(product).is_usable
    assert state(product).reason == f"{folder / name} differs from its certificate"


def test_every_changed_byte_of_a_certificate_is_seen(product):
    content = product.certificate.read_bytes()
    for place, byte in enumerate(content):
        product.certificate.write_bytes(content[:place] + bytes([byte ^ 1]) + content[place + 1 :])
        assert state(product).kind == "damaged", content[max(0, place - 20) : place + 20]


def test_certificate_that_was_edited_or_is_about_other_files_does_not_count(product, folder):
    edited = product.certificate.read_text().replace('"seeds": 2', '"seeds": 3')
    product.certificate.write_text(edited)
    assert read_certificate(product.certificate) is None
    other = product_in(folder, files=(folder / "made.json",))
    certify(other, other.digests(Sources(folder)), **RUN)
    assert "is about other files" in state(product).reason


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"sha256_of_the_rest": 1}', "null", "\x00"])
def test_file_that_is_no_certificate_does_not_count(product, content):
    product.certificate.write_text(content)
    assert state(product).kind == "damaged"


def test_changed_source_input_and_settings_are_out_of_date(product, folder):
    (folder / "code.py").write_text("x = 1  # a comment")
    assert state(product).kind == "current"
    (folder / "code.py").write_text("x = 2")
    assert state(product).reason == "code.py changed" and state(product).is_usable
    (folder / "lock").write_text("a==2")
    assert state(product).reason == "code.py, lock changed"
    other = product_in(folder, settings={"seeds": 3, "rate": 0.1})
    assert state(other).reason == "other settings: rate, seeds; code.py, lock changed"
    assert state(other).kind == "outdated" and not state(other).is_usable


def test_new_and_gone_sources_are_changes_and_absent_inputs_are_told_apart(product, folder):
    (folder / "new.py").write_text("y = 1")
    more = product_in(folder, made_from={name: folder / name for name in ("code.py", "lock", "new.py")})
    assert state(more).changed == ("new.py",)
    less = product_in(folder, made_from={"code.py": folder / "code.py"})
    assert state(less).changed == ("lock",)
    (folder / "lock").unlink()
    assert (state(product).changed, state(product).absent) == ((), ("lock",))
    assert state(product).reason == "lock missing"


def test_many_names_are_counted(product, folder):
    many = {f"{number}.py": folder / "code.py" for number in range(5)}
    assert state(product_in(folder, made_from=many)).reason == "0.py, 1.py, 2.py and 4 more changed"


def chain(folder):
    """Spikes, a result that reads them, and a figure of it."""
    products = []
    for name, reads in (("spikes", []), ("result", ["spikes"]), ("figure", ["result"])):
        (folder / name).write_text(name)
        made_from = {"lock": folder / "lock"} | {other: folder / other for other in reads}
        if name == "result":
            made_from["code.py"] = folder / "code.py"
        product = Product(name, folder / f"{name}.record.json", (folder / name,), {}, made_from)
        certify(product, product.digests(Sources(folder)), **RUN)
        products.append(product)
    return products


def decided(products, **options):
    root = products[0].certificate.parent
    found = decide(products, Sources(root), **options)
    return {product.label: found[product.certificate].reason for product in products}


def test_what_depends_on_what_is_made_again_is_made_again(folder):
    products = chain(folder)
    assert decided(products) == {"spikes": "", "result": "", "figure": ""}
    (folder / "code.py").write_text("x = 2")
    told = decided(products)
    assert told == {"spikes": "", "result": "code.py changed", "figure": f"{folder}/result.record.json is made again"}
    (folder / "code.py").write_text("x = 1")
    assert decided(products, forced=[folder / "spikes"]) == {
        "spikes": f"{folder}/spikes is asked for",
        "result": f"{folder}/spikes.record.json is made again",
        "figure": f"{folder}/result.record.json is made again",
    }


def test_kept_results_are_used_as_long_as_they_are_intact(folder):
    products = chain(folder)
    keep = [products[1].certificate]
    (folder / "code.py").write_text("x = 2")
    (folder / "spikes").unlink()
    assert decided(products, keep=keep) == {"spikes": "not made yet", "result": "", "figure": ""}
    assert decide(products, Sources(folder), keep=keep)[keep[0]].older
    (folder / "result").write_text("resulT")
    told = decided(products, keep=keep)
    assert told["result"].endswith("differs from its certificate") and told["figure"]
    (folder / "result").write_text("result")
    products[1] = Product("result", keep[0], products[1].files, {"other": 1}, products[1].made_from)
    assert decided(products, keep=keep)["result"].startswith("other settings: other")


def test_times_of_files_have_no_part_in_it(product, folder):
    for time in (0, 4e9):
        for path in folder.iterdir():
            os.utime(path, (time, time))
        assert state(product).kind == "current"
    (folder / "code.py").write_text("x = 2")
    os.utime(folder / "code.py", (0, 0))
    assert state(product).kind == "outdated"


def test_what_was_edited_while_it_was_made_is_out_of_date(folder):
    product = product_in(folder)
    made_from = product.digests(Sources(folder))
    (folder / "code.py").write_text("x = 2")
    certify(product, made_from, **RUN)
    assert state(product).kind == "outdated"


def test_changes_are_named_without_what_was_made_and_is_not_there(folder):
    made_from = {"code.py": folder / "code.py", "data/processed/a.npz": folder / "made.npz"}
    product = product_in(folder, made_from=made_from)
    certify(product, product.digests(Sources(folder)), **RUN)
    certificate = read_certificate(product.certificate)
    assert changes_since(certificate, Sources(folder)) == []
    (folder / "code.py").unlink()
    assert changes_since(certificate, Sources(folder)) == ["code.py"]
    found = older_results([product.certificate, folder / "none.record.json"], Sources(folder))
    assert found == {product.certificate.as_posix(): ["code.py"]}


def test_intact_file_is_required(product, folder):
    file = folder / "made.json"
    assert require_intact(product.certificate, [file], "Do this.")["commit"] == "0123"
    with pytest.raises(SystemExit, match=r"does not name code.py.* Do this."):
        require_intact(product.certificate, [folder / "code.py"], "Do this.")
    file.write_text("{} ")
    with pytest.raises(SystemExit, match=r"made.json differs from its certificate: something changed it .* Do this."):
        require_intact(product.certificate, [file], "Do this.")
    product.certificate.write_text("{}")
    with pytest.raises(SystemExit, match=r"made.record.json is damaged"):
        require_intact(product.certificate, [file], "Do this.")
    product.certificate.unlink()
    with pytest.raises(
        SystemExit, match=r"There is no .*made.record.json, which is written next to made.json: copy both"
    ):
        require_intact(product.certificate, [file], "Do this.")
    file.unlink()
    with pytest.raises(SystemExit, match=r"There is no .*made.json. Do this."):
        require_intact(product.certificate, [file], "Do this.")


def test_commit_is_unknown_without_git_and_without_a_checkout(monkeypatch, tmp_path):
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(tmp_path))
        assert commit() == "unknown"
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    assert commit() == "unknown"


def test_certificate_is_text_that_a_person_can_read(product):
    content = json.loads(product.certificate.read_text())
    assert content["made_from"]["settings"] == {"seeds": 2} and set(content["files"]) == {"made.json", "made.npz"}
    assert set(content["made_from"]["files"]) == {"code.py", "lock"}
