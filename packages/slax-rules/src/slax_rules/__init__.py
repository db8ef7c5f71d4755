"""Learning rules for spiking networks: ways to differentiate a model over time, and training with them."""

from importlib.metadata import distributions as _distributions
from types import ModuleType as _ModuleType

from slax_rules.actor_critic import start_episodes as start_episodes
from slax_rules.actor_critic import train_on_rewards as train_on_rewards
from slax_rules.api import gradients as gradients
from slax_rules.api import train_offline as train_offline
from slax_rules.api import train_online as train_online
from slax_rules.devices import split_batch as split_batch
from slax_rules.engine.eligibility import eligibility_gradient as eligibility_gradient
from slax_rules.engine.eligibility import zero_eligibility as zero_eligibility
from slax_rules.engine.jacobians import linearize as linearize
from slax_rules.losses import PerSequence as PerSequence
from slax_rules.losses import PerStep as PerStep
from slax_rules.losses import SequenceLoss as SequenceLoss
from slax_rules.losses import accuracy as accuracy
from slax_rules.losses import correct as correct
from slax_rules.losses import cross_entropy as cross_entropy
from slax_rules.losses import squared_error as squared_error
from slax_rules.masks import last_step as last_step
from slax_rules.masks import random_steps as random_steps
from slax_rules.masks import valid_steps as valid_steps
from slax_rules.penalties import Penalty as Penalty
from slax_rules.penalties import firing_rate as firing_rate
from slax_rules.penalties import sparsity as sparsity
from slax_rules.registry import *  # noqa: F403 - RULES, and the class of each rule
from slax_rules.rewards import extend_trial as extend_trial
from slax_rules.rewards import reward_gradient as reward_gradient
from slax_rules.rewards import start_trial as start_trial
from slax_rules.rules.base import Layer as Layer
from slax_rules.rules.base import LayerGradient as LayerGradient
from slax_rules.rules.base import LayerRule as LayerRule
from slax_rules.rules.base import LayerWindow as LayerWindow
from slax_rules.rules.base import Route as Route
from slax_rules.rules.base import Rule as Rule
from slax_rules.rules.base import Symmetric as Symmetric
from slax_rules.rules.fptt import fptt as fptt
from slax_rules.rules.per_layer import PerLayer as PerLayer
from slax_rules.rules.routes import Adaptive as Adaptive
from slax_rules.rules.routes import Direct as Direct
from slax_rules.rules.routes import FixedBases as FixedBases
from slax_rules.rules.routes import Local as Local
from slax_rules.rules.routes import Random as Random
from slax_rules.rules.routes import Target as Target
from slax_rules.stream import extend_stream as extend_stream
from slax_rules.stream import look_ahead as look_ahead
from slax_rules.stream import start_stream as start_stream
from slax_rules.train.agreement import GradientAgreement as GradientAgreement
from slax_rules.train.agreement import agreement as agreement
from slax_rules.train.agreement import gradient_norms as gradient_norms
from slax_rules.train.batches import Sampler as Sampler
from slax_rules.train.callbacks import EarlyStopping as EarlyStopping
from slax_rules.train.callbacks import Every as Every
from slax_rules.train.callbacks import LogTo as LogTo
from slax_rules.train.callbacks import StepInfo as StepInfo
from slax_rules.train.callbacks import StopTraining as StopTraining
from slax_rules.train.certificate import certified_gradient as certified_gradient
from slax_rules.train.checkpoints import Checkpoints as Checkpoints
from slax_rules.train.cost import cost as cost
from slax_rules.train.evaluate import evaluate as evaluate
from slax_rules.train.evaluate import predict as predict
from slax_rules.train.fit import fit as fit
from slax_rules.train.run_stream import Piece as Piece
from slax_rules.train.run_stream import run_stream as run_stream
from slax_rules.train.sweep import sweep as sweep
from slax_rules.train.weights import load_weights as load_weights
from slax_rules.train.weights import save_weights as save_weights

__version__ = next((found.version for found in _distributions(name="slax-rules")), "not installed")
__all__ = [name for name, value in globals().items() if name[0] != "_" and not isinstance(value, _ModuleType)]


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
