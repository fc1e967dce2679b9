"""Criteria of channels, heads and neurons: `f(group) -> [size]`.

A group has `writers`, `readers` and `vectors`: Members with `weight [units, per_unit, other]` and, where they were
collected, `grad` of that shape, `input_mean`, `input_var`, `input_norm` `[units, per_unit]` and `hessian [units *
per_unit, units * per_unit]`.
"""
