"""The flow of section 1 of the design, one verb a file: signals, score, plan, recover, compare, save. What `px.*` and the CLI call."""
