"""prunus: prune data, models and tokens; recover what was lost; measure what was won."""

__version__ = "0.1.0"
