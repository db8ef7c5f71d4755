"""The table of all rules, and the contents of an entry."""
