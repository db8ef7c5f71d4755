"""Spikes as they come, from files of events and from connections, in the pieces that `slax_rules.run_stream` takes."""
