"""Selectors: from the scores of one group and a count to the positions that stay. They do not know what a unit is.

One shape: `f(score, count, *, options, rng) -> positions`, int64 `[count]`, unique, in any order. Ties are broken by
id, so a selection follows its units when their order changes.

How a score reads (`score.sense`): keep = large stays; hard = large is a hard row; easy = large is an easy row. Of hard
or easy scores the hardest stay first unless an option says otherwise.
"""
