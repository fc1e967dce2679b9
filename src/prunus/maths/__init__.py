"""Mathematics that methods share: OBS updates, exact partial selection. Knows arrays, no units and no models."""
