"""The one training loop, masks, batches, steps and the small reference networks."""
