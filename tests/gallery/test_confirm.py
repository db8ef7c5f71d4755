"""Which claims fresh seeds confirm: `python -m gallery.confirm`."""

import pytest
import yaml
from small_gallery import MEMORY, OTPE, SECOND, claim, figure, written

from gallery import confirm

TABLE = "task,rule,mean,low,high,values\nfirst,bptt,2,,,1.9 2 2.1\nfirst,otpe,{0},,,{1}\nsecond,bptt,2,,,2 2 2\n"
MEMORY_TABLE = "rule,bytes\nbptt,4096\notpe,1024\n"
SLOWER = claim("slower", OTPE, "above", {"rule": "bptt"})
CLAIMS = [
    claim("faster", OTPE, "below", {"rule": "bptt"}),
    claim("below_the_least", OTPE, "below", 1.3),
    claim("before", OTPE, "below", {"rule": "bptt"}, written="before"),
    claim("open", OTPE, "below", 1.0),
    claim("twice", SECOND, "equal", 2.0, kind="check"),
    SLOWER,
]


def test_a_claim_is_confirmed_by_the_same_verdict_on_fresh_seeds(tmp_path, monkeypatch, capsys):
    """Of those written after, a claim that holds again or fails again is confirmed, and not one that is open or a check; an
    experiment without fresh tables has nothing to confirm."""
    monkeypatch.chdir(tmp_path)
    for name, content in (("cost", figure("speed", "Speed", CLAIMS)), ("other", figure("memory", "Memory", MEMORY))):
        written(tmp_path / "experiments" / name / "claims.yaml", yaml.safe_dump({"figures": [content]}))
    written(tmp_path / "figures/full/speed.csv", TABLE.format(1, "0.98 1 1.02"))
    written(tmp_path / "figures/full/memory.csv", MEMORY_TABLE)
    command = ["--scale", "full", "--fresh", "fresh"]
    with pytest.raises(SystemExit, match="Got no tables of fresh seeds below --fresh"):
        confirm.main(command)
    written(tmp_path / "fresh/full/speed.csv", TABLE.format(1.29, "1.2 1.3 1.37"))
    written(tmp_path / "fresh/full/memory.csv", MEMORY_TABLE)  # a count, the same for all seeds
    confirm.main(command)
    *lines, last = capsys.readouterr().out.splitlines()
    assert [line.split(None, 1) for line in lines] == [
        ["confirmed", "cost/faster: holds, on fresh seeds holds"],
        ["not", "confirmed cost/below_the_least: holds, on fresh seeds unresolved"],
        ["confirmed", "cost/slower: does not hold, on fresh seeds does not hold"],
    ]
    assert last == "2 confirmed, 1 not confirmed"
    with pytest.raises(SystemExit, match="Got no tables of fresh seeds below --fresh"):
        confirm.main([*command[:-1], "figures"])
