"""Criteria of whole layers (blocks of a chain): `f(layer) -> one number`."""
