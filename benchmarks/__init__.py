"""Measurements of time and memory, here and in other libraries."""
