"""Spike trains to learn from: synthetic manifolds, real data and encoders. Time first, randomness by key."""

from slax_data.batching import batches as batches
from slax_data.batching import take_batch as take_batch
from slax_data.checks import check_labels as check_labels
from slax_data.datasets import DATASETS as DATASETS
from slax_data.datasets import make_task as make_task
from slax_data.digits import digits as digits
from slax_data.digits import digits_task as digits_task
from slax_data.encoders import latency_decode as latency_decode
from slax_data.encoders import latency_encode as latency_encode
from slax_data.encoders import rate_decode as rate_decode
from slax_data.encoders import rate_encode as rate_encode
from slax_data.manifolds import Manifolds as Manifolds
from slax_data.manifolds import manifold_values as manifold_values
from slax_data.manifolds import random_manifolds as random_manifolds
from slax_data.randman import randman as randman
from slax_data.randman import randman_task as randman_task
from slax_data.task import Task as Task

__version__ = "0.1.0"
