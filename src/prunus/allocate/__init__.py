"""Allocators: split one budget over groups (classes, clusters, layers, heads, experts, images) with floors and caps.

One shape for every unit: `f(request, *, options) -> counts`, int64 `[g]`, in the order of `request.names`.
Counts do not depend on the order of the groups; ties between groups go to the lexicographically smaller name.
With unit costs the counts add up to the total exactly; with other costs they cost at most the total.
"""
