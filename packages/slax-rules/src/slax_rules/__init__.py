"""Learning rules for spiking networks: each maps a cell to a cell with the same forward pass and another gradient."""

from slax_rules.approximate_otpe import ApproximateOTPE, approximate_otpe
from slax_rules.blocks import Blocks, Moment, linearise
from slax_rules.decolle import decolle, local_losses
from slax_rules.e_prop import EProp, e_prop
from slax_rules.engine import LocalRule, Ruled
from slax_rules.fptt import fptt, fptt_average
from slax_rules.gradients import gradients
from slax_rules.losses import accuracy, cross_entropy, squared_error
from slax_rules.masks import last_step, valid_steps
from slax_rules.ostl import OSTL, ostl
from slax_rules.ostl_with_recurrence import ostl_with_recurrence
from slax_rules.otpe import OTPE, otpe
from slax_rules.ottt import OTTT, ottt
from slax_rules.pp_prop import PPProp, pp_prop
from slax_rules.rtrl import rtrl
from slax_rules.sltt import SLTT, sltt
from slax_rules.snap import snap
from slax_rules.table import RULES, Rule
from slax_rules.training import train_offline, train_online
from slax_rules.uoro import uoro
from slax_rules.window import Block, Pullback, Window

__all__ = [
    "OSTL",
    "OTPE",
    "OTTT",
    "RULES",
    "SLTT",
    "ApproximateOTPE",
    "Block",
    "Blocks",
    "EProp",
    "LocalRule",
    "Moment",
    "PPProp",
    "Pullback",
    "Rule",
    "Ruled",
    "Window",
    "accuracy",
    "approximate_otpe",
    "cross_entropy",
    "decolle",
    "e_prop",
    "fptt",
    "fptt_average",
    "gradients",
    "last_step",
    "linearise",
    "local_losses",
    "ostl",
    "ostl_with_recurrence",
    "otpe",
    "ottt",
    "pp_prop",
    "rtrl",
    "sltt",
    "snap",
    "squared_error",
    "train_offline",
    "train_online",
    "uoro",
    "valid_steps",
]
