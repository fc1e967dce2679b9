"""Criteria of single weights: `f(layer) -> [outputs, inputs]`, convolutions flattened to `[outputs, inputs * taps]`."""
