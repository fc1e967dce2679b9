"""The words every other room speaks: Score, Budget, Plan, Results, Prunable, registry, store, randomness, errors.

Nothing here imports torch or numpy when it is imported, so the command line can answer `--help` at once.
"""
