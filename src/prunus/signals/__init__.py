"""Signals: what is measured once, in one streaming pass or one training run, and used by many methods.

A signal's file declares, as literals: PROVIDES (names), LEVEL ("rows", "modules" or "training"), VERSION and MEMORY
(a formula in bytes).
"""
