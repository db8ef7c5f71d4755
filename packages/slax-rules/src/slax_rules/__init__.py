"""Learning rules for spiking networks: ways to differentiate a model over time, and training with them."""

from slax_rules.bptt import BPTT, TBPTT
from slax_rules.forward_propagation import fptt, fptt_average
from slax_rules.influence.rtrl import RTRL
from slax_rules.influence.snap import SnAp
from slax_rules.influence.uoro import UORO
from slax_rules.layerwise.eligibility import eligibility_gradient, zero_eligibility
from slax_rules.layerwise.jacobians import LocalJacobians, StepPoint, linearize
from slax_rules.layerwise.layer import Layer, LayerGradient, LayerRule, LayerWindow, Route, Symmetric, Teaching
from slax_rules.layerwise.ostl import OSTL
from slax_rules.layerwise.otpe import OTPE, ApproximateOTPE, EProp
from slax_rules.layerwise.ottt import DECOLLE, OTTT
from slax_rules.layerwise.pp_prop import PPProp
from slax_rules.layerwise.routes import Adaptive, Direct, FixedBases, Local, Random, Target
from slax_rules.layerwise.s_tllr import STLLR
from slax_rules.layerwise.sltt import SLTT
from slax_rules.loop.devices import split_batch
from slax_rules.loop.entry import gradients, train_offline, train_online
from slax_rules.loop.reward import Trial, extend_trial, reward_gradient, start_trial
from slax_rules.loop.stream import Extended, Stream, extend_stream, look_ahead, start_stream
from slax_rules.losses import (
    PerSequence,
    PerStep,
    SequenceLoss,
    accuracy,
    correct,
    cross_entropy,
    last_step,
    random_steps,
    squared_error,
    valid_steps,
)
from slax_rules.penalties import Penalty, firing_rate, sparsity
from slax_rules.registry import RULES, Exactness, RuleEntry, cite
from slax_rules.rule import LearningRule, StepSize, WindowGradient
from slax_rules.training.agreement import Agreement, GradientAgreement, agreement
from slax_rules.training.batches import Sampler
from slax_rules.training.callbacks import Callback, EarlyStopping, Every, StepInfo
from slax_rules.training.checkpoints import Checkpoints
from slax_rules.training.cost import Cost, cost
from slax_rules.training.evaluation import evaluate, predict
from slax_rules.training.fit import fit
from slax_rules.training.history import History
from slax_rules.training.run_stream import Piece, StreamInfo, run_stream
from slax_rules.training.sweep import Interval, Run, Sweep, sweep
from slax_rules.training.weights import load_weights, save_weights

__all__ = [
    "BPTT",
    "DECOLLE",
    "OSTL",
    "OTPE",
    "OTTT",
    "RTRL",
    "RULES",
    "SLTT",
    "STLLR",
    "TBPTT",
    "UORO",
    "Adaptive",
    "Agreement",
    "ApproximateOTPE",
    "Callback",
    "Checkpoints",
    "Cost",
    "Direct",
    "EProp",
    "EarlyStopping",
    "Every",
    "Exactness",
    "Extended",
    "FixedBases",
    "GradientAgreement",
    "History",
    "Interval",
    "Layer",
    "LayerGradient",
    "LayerRule",
    "LayerWindow",
    "LearningRule",
    "Local",
    "LocalJacobians",
    "PPProp",
    "Penalty",
    "PerSequence",
    "PerStep",
    "Piece",
    "Random",
    "Route",
    "RuleEntry",
    "Run",
    "Sampler",
    "SequenceLoss",
    "SnAp",
    "StepInfo",
    "StepPoint",
    "StepSize",
    "Stream",
    "StreamInfo",
    "Sweep",
    "Symmetric",
    "Target",
    "Teaching",
    "Trial",
    "WindowGradient",
    "accuracy",
    "agreement",
    "cite",
    "correct",
    "cost",
    "cross_entropy",
    "eligibility_gradient",
    "evaluate",
    "extend_stream",
    "extend_trial",
    "firing_rate",
    "fit",
    "fptt",
    "fptt_average",
    "gradients",
    "last_step",
    "linearize",
    "load_weights",
    "look_ahead",
    "predict",
    "random_steps",
    "reward_gradient",
    "run_stream",
    "save_weights",
    "sparsity",
    "split_batch",
    "squared_error",
    "start_stream",
    "start_trial",
    "sweep",
    "train_offline",
    "train_online",
    "valid_steps",
    "zero_eligibility",
]
