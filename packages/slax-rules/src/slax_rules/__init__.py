"""Learning rules for spiking networks: ways to differentiate a model over time, and training with them."""

from importlib.metadata import distributions as _distributions
from types import ModuleType as _ModuleType

from slax_rules.forward_propagation import fptt as fptt
from slax_rules.layerwise.eligibility import eligibility_gradient as eligibility_gradient
from slax_rules.layerwise.eligibility import zero_eligibility as zero_eligibility
from slax_rules.layerwise.jacobians import LocalJacobians as LocalJacobians
from slax_rules.layerwise.jacobians import StepPoint as StepPoint
from slax_rules.layerwise.jacobians import linearize as linearize
from slax_rules.layerwise.layer import Layer as Layer
from slax_rules.layerwise.layer import LayerGradient as LayerGradient
from slax_rules.layerwise.layer import LayerWindow as LayerWindow
from slax_rules.layerwise.layer_rule import LayerRule as LayerRule
from slax_rules.layerwise.route import Route as Route
from slax_rules.layerwise.route import Symmetric as Symmetric
from slax_rules.layerwise.route import Teaching as Teaching
from slax_rules.layerwise.routes import Adaptive as Adaptive
from slax_rules.layerwise.routes import Direct as Direct
from slax_rules.layerwise.routes import FixedBases as FixedBases
from slax_rules.layerwise.routes import Local as Local
from slax_rules.layerwise.routes import Random as Random
from slax_rules.layerwise.routes import Target as Target
from slax_rules.loop.devices import split_batch as split_batch
from slax_rules.loop.entry import gradients as gradients
from slax_rules.loop.entry import train_offline as train_offline
from slax_rules.loop.entry import train_online as train_online
from slax_rules.loop.reward import Trial as Trial
from slax_rules.loop.reward import extend_trial as extend_trial
from slax_rules.loop.reward import reward_gradient as reward_gradient
from slax_rules.loop.reward import start_trial as start_trial
from slax_rules.loop.stream import Stream as Stream
from slax_rules.loop.stream import StreamStep as StreamStep
from slax_rules.loop.stream import extend_stream as extend_stream
from slax_rules.loop.stream import look_ahead as look_ahead
from slax_rules.loop.stream import start_stream as start_stream
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
from slax_rules.rule import LearningRule as LearningRule
from slax_rules.rule import StepSize as StepSize
from slax_rules.rule import WindowGradient as WindowGradient
from slax_rules.training.agreement import Agreement as Agreement
from slax_rules.training.agreement import GradientAgreement as GradientAgreement
from slax_rules.training.agreement import agreement as agreement
from slax_rules.training.batches import Sampler as Sampler
from slax_rules.training.callbacks import Callback as Callback
from slax_rules.training.callbacks import EarlyStopping as EarlyStopping
from slax_rules.training.callbacks import Every as Every
from slax_rules.training.callbacks import StepInfo as StepInfo
from slax_rules.training.callbacks import StopTraining as StopTraining
from slax_rules.training.checkpoints import Checkpoints as Checkpoints
from slax_rules.training.cost import Cost as Cost
from slax_rules.training.cost import cost as cost
from slax_rules.training.evaluation import evaluate as evaluate
from slax_rules.training.evaluation import predict as predict
from slax_rules.training.fit import fit as fit
from slax_rules.training.history import History as History
from slax_rules.training.run_stream import Piece as Piece
from slax_rules.training.run_stream import StreamInfo as StreamInfo
from slax_rules.training.run_stream import run_stream as run_stream
from slax_rules.training.sweep import sweep as sweep
from slax_rules.training.sweep_results import Interval as Interval
from slax_rules.training.sweep_results import Run as Run
from slax_rules.training.sweep_results import Sweep as Sweep
from slax_rules.training.weights import LoadedWeights as LoadedWeights
from slax_rules.training.weights import load_weights as load_weights
from slax_rules.training.weights import save_weights as save_weights

__version__ = next((found.version for found in _distributions(name="slax-rules")), "not installed")
__all__ = [name for name, value in globals().items() if name[0] != "_" and not isinstance(value, _ModuleType)]


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
