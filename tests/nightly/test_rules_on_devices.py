"""Eight devices give the numbers of one under the rules that tests/training/test_devices.py leaves out."""

import json
import os
import subprocess
import sys

from slax_rules import RULES
from training import eight_devices


def test_training_and_gradients_are_those_of_one_device():
    names = sorted(RULES.keys() - {"uoro", *eight_devices.KINDS})
    command = [sys.executable, eight_devices.__file__, *names]
    run = subprocess.run(command, env=os.environ, capture_output=True, text=True, timeout=1800)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)["measured"]
    assert sorted(found) == names
    assert {name: value for name, value in found.items() if not value < 1e-12} == {}
