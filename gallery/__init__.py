"""The gallery: all figures on one page, each with its claims and their verdicts, and the same claims as a text."""
