"""Learning rules for spiking networks: each maps a cell to a cell with the same forward pass and another gradient."""

from slax_rules.blocks import Blocks, Moment, linearise
from slax_rules.engine import LocalRule, Ruled
from slax_rules.gradients import gradients
from slax_rules.losses import accuracy, cross_entropy
from slax_rules.ostl import OSTL, ostl
from slax_rules.ottt import OTTT, ottt
from slax_rules.sltt import SLTT, sltt
from slax_rules.table import RULES, Rule
from slax_rules.training import train_offline, train_online

__all__ = [
    "OSTL",
    "OTTT",
    "RULES",
    "SLTT",
    "Blocks",
    "LocalRule",
    "Moment",
    "Rule",
    "Ruled",
    "accuracy",
    "cross_entropy",
    "gradients",
    "linearise",
    "ostl",
    "ottt",
    "sltt",
    "train_offline",
    "train_online",
]
