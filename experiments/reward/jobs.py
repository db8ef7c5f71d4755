"""One job for each task and rule, with all seeds."""

from experiments.pipeline.job import one_for_each_rule

jobs = one_for_each_rule
