"""The libraries that are measured, one file for each."""
