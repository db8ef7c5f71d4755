"""The gallery: all figures on one page, each with its claims and what became of them, and the same claims as a text."""
