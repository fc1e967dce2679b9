"""Measures: one file each; `stats` says what a difference is worth, `gate` checks a promise."""
