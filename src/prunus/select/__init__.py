"""Selectors: which units stay, given one group's scores and how many may stay. They know no unit."""
