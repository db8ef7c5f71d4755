"""Sequences of pixels: epochs, one order for all images, a split that is read once; and the networks that learn them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from experiments.common.measures import is_right_in_sum
from experiments.pipeline.job import jobs_of, scales_of, settings_of
from experiments.pipeline.spikes import SETS
from experiments.sequential.networks import NETWORKS
from experiments.sequential.pixels import ORDER_SEED, Pixels, splits_of
from experiments.sequential.run import rule_of
from slax_data import digits
from slax_data.sets.idx_images import IDX_SETS, ORDER
from slax_rules import RULES, TBPTT

CONFIG = {"batch_size": 3, "steps": 6, "validation_size": 2, "test_size": 1, "n_steps": 64, "permuted": True}


def test_batches_see_each_image_once_in_an_epoch_and_never_the_held_out_ones():
    images = np.arange(7, dtype=np.uint8)[:, None] * np.ones((1, 4), np.uint8)
    starts = {"train": 0, "validation": 100, "test": 200}
    splits = {split: (images + start, np.arange(7)) for split, start in starts.items()}
    samples = Pixels(CONFIG, splits, seed=0)
    labels = np.concatenate([labels for _, labels in samples.batches()])
    for epoch in labels.reshape(3, 6):  # two batches of 3 of 7 images; the rest is dropped
        assert len(set(epoch)) == 6
    assert [tuple(labels) for _, labels in samples.batches()] == [tuple(labels) for _, labels in samples.batches()]
    inputs, labels = next(iter(samples.batches()))
    np.testing.assert_allclose(inputs[..., 0], np.ones((4, 1)) * labels / 255, rtol=1e-6)
    assert samples.validation[0].shape == (4, 2, 1) and samples.test[0].shape == (4, 1, 1)


def test_all_images_have_one_order_of_pixels_that_of_the_package():
    np.testing.assert_array_equal(np.random.RandomState(ORDER_SEED).permutation(784), ORDER)
    permuted, plain = (splits_of(CONFIG | {"permuted": of}, None)["test"][0] for of in (True, False))
    np.testing.assert_array_equal(plain, digits(split="test")[0])
    np.testing.assert_array_equal(permuted, plain[:, np.random.RandomState(ORDER_SEED).permutation(64)])


def test_files_of_the_pipeline_are_those_of_the_package():
    assert SETS["mnist"]["raw"] == IDX_SETS["mnist"].sha256


@pytest.mark.parametrize("task", scales_of("sequential")["full"]["tasks"])
def test_rules_of_each_task_take_its_network(task):
    jobs = jobs_of("sequential", "full", settings_of("sequential", "full"))
    config = jobs[f"{task}/bptt"].config | {"units": 4}
    model = NETWORKS[config["network"]](config, nnx.Rngs(0))
    rules = [job.config["rule"] for job in jobs.values() if job.config["task"] == task and "rule" in job.config]
    for rule in rules:  # a rule that cannot take the network raises an error
        RULES[rule].make().check(model, jax.ShapeDtypeStruct((2, 1), jnp.float32))
    assert rule_of(config | {"rule": "tbptt"})() == TBPTT(steps=config["piece"])


def test_answer_is_the_class_with_the_largest_sum_of_probabilities():
    outputs = jnp.array([[[9.0, 0.0]], *[[[0.0, 1.0]]] * 3])  # 1 + 3 x .27 against 0 + 3 x .73
    assert is_right_in_sum(outputs, jnp.array([1])).all() and not is_right_in_sum(outputs, jnp.array([0])).any()
