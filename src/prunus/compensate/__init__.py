"""Compensators: what changes in the matrices that read removed units, so that outputs move as little as possible.

`f(reader, dropped, ...) -> edits`. They are unit-blind: a reader is a matrix seen from its input side (reader.py).
"""
