"""The publications that define a rule, as BibTeX."""

from typing import Any

from slax_rules.layerwise.routes.feedback import Symmetric
from slax_rules.layerwise.rule import LayerRule
from slax_rules.layerwise.sltt import SLTT
from slax_rules.registry.rules import RULES
from slax_rules.rule import LearningRule


def cite(rule: str | LearningRule | LayerRule) -> str:
    """Return the BibTeX entries of the publications that define a rule.

    A combination of a rule and a route with a name in `RULES` has the sources of that name; any other combination has the
    source of the rule and one of the route.

    Args:
        rule: a rule, or a name in `RULES`, which also knows rules that are implemented in the optimizer, such as "fptt".

    Raises:
        KeyError: an unknown name.
        TypeError: a rule whose class is not in `RULES`, such as a rule of your own.

    Example:
        >>> from flax import nnx
        >>> from slax_rules import OTPE, SLTT, Direct, cite
        >>> print(cite(OTPE()))
        @misc{summe2023otpe,
          author = {Summe, Thomas and Schaefer, Clemens JS and Joshi, Siddharth},
          title = {Estimating Post-Synaptic Effects for Online Training of Feed-Forward {SNNs}},
          year = {2023},
          eprint = {2311.16151},
          archivePrefix = {arXiv}
        }
        >>> cite(SLTT(route=Direct(rngs=nnx.Rngs(0)))) == cite("dfa")
        True
    """
    if isinstance(rule, str):
        return RULES[rule].bibtex
    of_class = [entry for entry in RULES.values() if entry.rule is type(rule) and entry.optimizer is None]
    if not of_class:
        raise TypeError(f"cite got a {type(rule).__name__}, expected a name in RULES or a rule of a class in RULES.")
    route = type(getattr(rule, "route", Symmetric()))
    named = [entry for entry in of_class if (entry.route or Symmetric) is route and _has(rule, entry.options)]
    if named:
        return max(named, key=lambda entry: len(entry.options)).bibtex
    # The route alone has a name where the rule has no traces; otherwise its first combination says where it is from.
    with_route = [entry for entry in RULES.values() if entry.route is route]
    sources = [of_class[0], *sorted(with_route, key=lambda entry: entry.rule is not SLTT)[:1]]
    return "\n\n".join(dict.fromkeys(entry.bibtex for entry in sources))


def _has(rule: Any, options: Any) -> bool:
    return all(getattr(rule, name, None) == value for name, value in options.items())
