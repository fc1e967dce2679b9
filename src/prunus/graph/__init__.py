"""The graph: cut any model that can run a forward pass."""
