"""Spike trains to learn from: synthetic manifolds, real data and encoders. Time comes first; keys control all randomness."""

from importlib.metadata import distributions as _distributions
from types import ModuleType as _ModuleType

from slax_data.audio.cochlea import Cochlea as Cochlea
from slax_data.audio.cochlea import encode_audio as encode_audio
from slax_data.audio.hearing import encode_recordings as encode_recordings
from slax_data.checks import check_labels as check_labels
from slax_data.datasets import DATASETS as DATASETS
from slax_data.datasets import make_task as make_task
from slax_data.encoding.augmentation import Augmentation as Augmentation
from slax_data.encoding.delta_code import delta_encode as delta_encode
from slax_data.encoding.encoders import ENCODERS as ENCODERS
from slax_data.encoding.encoders import Encoder as Encoder
from slax_data.encoding.encoders import latency_encode as latency_encode
from slax_data.encoding.encoders import rate_encode as rate_encode
from slax_data.encoding.events import bin_events as bin_events
from slax_data.environments import MemoryChain as MemoryChain
from slax_data.environments import RepeatPrevious as RepeatPrevious
from slax_data.loading import padded as padded
from slax_data.loading import prefetched as prefetched
from slax_data.loading import take_batch as take_batch
from slax_data.loading import time_first as time_first
from slax_data.sets.chorales import Chorales as Chorales
from slax_data.sets.chorales import bach as bach
from slax_data.sets.chorales import bach_task as bach_task
from slax_data.sets.digits import digits as digits
from slax_data.sets.digits import digits_task as digits_task
from slax_data.sets.digits import mnist_5k as mnist_5k
from slax_data.sets.digits import mnist_5k_task as mnist_5k_task
from slax_data.sets.heidelberg import shd as shd
from slax_data.sets.heidelberg import shd_task as shd_task
from slax_data.sets.heidelberg import ssc_task as ssc_task
from slax_data.sets.idx_images import download_mnist as download_mnist
from slax_data.sets.idx_images import fashion_mnist_task as fashion_mnist_task
from slax_data.sets.idx_images import idx_images as idx_images
from slax_data.sets.idx_images import mnist_task as mnist_task
from slax_data.sets.images import image_task as image_task
from slax_data.sets.indexed import indexed_task as indexed_task
from slax_data.sets.japanese_vowels import Series as Series
from slax_data.sets.japanese_vowels import japanese_vowel_spikes as japanese_vowel_spikes
from slax_data.sets.japanese_vowels import japanese_vowels as japanese_vowels
from slax_data.sets.japanese_vowels import japanese_vowels_task as japanese_vowels_task
from slax_data.sets.laser import laser as laser
from slax_data.sets.laser import laser_task as laser_task
from slax_data.sets.manifolds import Manifolds as Manifolds
from slax_data.sets.manifolds import manifold_values as manifold_values
from slax_data.sets.manifolds import random_manifolds as random_manifolds
from slax_data.sets.randman import randman as randman
from slax_data.sets.randman import randman_task as randman_task
from slax_data.sets.spoken_digits import download_spoken_digits as download_spoken_digits
from slax_data.sets.spoken_digits import spoken_digit_spikes as spoken_digit_spikes
from slax_data.sets.spoken_digits import spoken_digits as spoken_digits
from slax_data.sets.spoken_digits import spoken_digits_task as spoken_digits_task
from slax_data.sets.spoken_digits_mfcc import spoken_digits_mfcc as spoken_digits_mfcc
from slax_data.sets.spoken_digits_mfcc import spoken_digits_mfcc_task as spoken_digits_mfcc_task
from slax_data.sets.upstream_randman import upstream_randman as upstream_randman
from slax_data.storage.packed import SpikeTrains as SpikeTrains
from slax_data.storage.packed import spike_trains as spike_trains
from slax_data.storage.whole_files import data_folder as data_folder
from slax_data.storage.whole_files import download as download
from slax_data.task import Task as Task
from slax_data.task import held_out as held_out
from slax_data.task import stored_task as stored_task

__version__ = next((found.version for found in _distributions(name="slax-data")), "not installed")
__all__ = [name for name, value in globals().items() if name[0] != "_" and not isinstance(value, _ModuleType)]


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
