"""Tokens: which visual tokens stay. Criteria and selectors, one file each; `select`, `splice` and `anyres` serve them all."""
