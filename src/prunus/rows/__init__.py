"""Methods over rows (samples, images, documents).

A criterion is a pure function of recorded signals, `f(s) -> Tensor [n]`, called on chunks of rows; `whole=True` in its
decorator says that it needs all rows at once. What a large value means is its `sense`: hard rows stay first under
`select/top`, unless asked otherwise. A dynamic chooses rows anew for every epoch; `rows/sampler.py` turns it into a
torch sampler.
"""
