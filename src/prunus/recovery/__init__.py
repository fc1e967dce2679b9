"""Recoveries: what is done to a pruned model after apply, one file each. They train the model they are given and return it."""
