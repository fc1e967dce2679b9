"""Mathematics that methods share: OBS updates, exact partial selection. Knows arrays and tensors, no units and no models."""
