"""The table of what jobs need: from whole records of a processor, and from nothing else."""

import json

import pytest
import yaml
from experiments.resources import HEAD, main

from experiments.pipeline.results import Product, write_record

RECORDS = {
    "tiny/demo/a": {"wall_seconds": 3.4, "peak_megabytes": 900, "device": "cpu"},
    "tiny/demo/b": {"wall_seconds": 20.4, "peak_megabytes": 300, "device": "cpu"},
    "tiny/demo/gpu": {"wall_seconds": 99.0, "peak_megabytes": 9000, "device": "NVIDIA"},
    "tiny/demo/damaged": {"wall_seconds": 70.0, "peak_megabytes": 9000, "device": "cpu"},
    "full/demo/short": {"wall_seconds": 0.2, "device": "cpu"},
    "full/throughput/a": {"wall_seconds": 5.0, "peak_megabytes": 900, "device": "cpu"},
}


def test_the_largest_of_each_scale_counts_and_the_rest_stays(tmp_path):
    for name, facts in RECORDS.items():
        product = Product(name, (tmp_path / "results" / f"{name}.json",), {})
        write_record(product, "", **facts)
        if name.endswith("damaged"):
            product.record.write_text(json.dumps(json.loads(product.record.read_text()) | {"wall_seconds": 7000.0}))
    table = tmp_path / "resources.yaml"
    table.write_text("{deep: {full: {seconds: 5}}, demo: {full: {megabytes: 500}, tiny: {seconds: 90}}}")
    main([str(tmp_path / "results"), "--table", str(table)])
    assert table.read_text().startswith(HEAD)
    demo = {"full": {"seconds": 1, "megabytes": 500}, "tiny": {"seconds": 20, "megabytes": 900}}
    others = {"deep": {"full": {"seconds": 5}}, "throughput": {"full": {"seconds": 5}}}
    assert yaml.safe_load(table.read_text()) == {"demo": demo, **others}
    with pytest.raises(SystemExit, match="has no records of results"):
        main([str(tmp_path / "none"), "--table", str(table)])
