"""The table of all rules, and what an entry says of one."""
