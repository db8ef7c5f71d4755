"""Choose the decays of LIF and LI for the spoken digits on the validation split.

`python -m experiments.accuracy.choose_decays` prints the best validation accuracy of each pair over some learning rates, for
one seed under BPTT and under OTTT. The test split is not read. The pair with the best mean is in config.yaml.
"""

import itertools

from experiments.common.job import jobs_of, settings_of
from experiments.common.learning import train, trials_of
from experiments.common.products import SPIKES
from experiments.common.samples import make_sampler

TASK, RULES = "spoken_digits", ("bptt", "ottt")
DECAYS, READ_OUT_DECAYS = (0.9, 0.95, 0.98), (0.95, 0.98, 0.99)
RATES = [1e-2, 3e-2]


def best_accuracy(rule: str, decay: float, read_out_decay: float) -> float:
    """The best validation accuracy over the learning rates, with one update per sequence."""
    job = jobs_of("accuracy", "full", settings_of("accuracy", "full"))[f"{TASK}/{rule}"]
    config = job.config | {"decay": decay, "read_out_decay": read_out_decay}
    sampler, where = make_sampler(config, SPIKES / f"{TASK}.npz"), f"{rule}, {decay}, {read_out_decay}"
    trials = trials_of(train(config, "offline", sampler, where, rates=RATES, seeds=1, tests=False))
    return max(map(max, trials["validation"]))


if __name__ == "__main__":
    print("decay, read_out_decay, " + ", ".join(RULES))
    for pair in itertools.product(DECAYS, READ_OUT_DECAYS):
        print(*pair, *(f"{best_accuracy(rule, *pair):.4f}" for rule in RULES), sep=", ", flush=True)
