"""Average parameters of a cubic schedule and the loss that follows, against an independent derivation."""

from __future__ import annotations

import numpy as np
import pytest

from prunus.maths.scaling_law import (
    ScalingLaw,
    average_of_cubic,
    average_parameters,
    cubic_sparsity,
    journey,
    training_flops,
)

pytestmark = pytest.mark.golden("journey-matters--average-parameters")
CLOSE = {"rtol": 1e-10}


def test_average_and_loss(case):
    params, steps, initial, final, begin, end, every, floor, a, alpha, b, beta, per_step = case["hyper"].tolist()
    steps, law = int(steps), ScalingLaw(floor, a, alpha, b, beta)
    rise = {"begin": int(begin), "end": int(end), "initial": initial, "every": int(every)}
    sparsity = cubic_sparsity(steps, final, **rise)
    np.testing.assert_allclose(sparsity, case["sparsity"], **CLOSE)
    average = average_parameters(params, sparsity)
    np.testing.assert_allclose(average, case["avg_params"], **CLOSE)
    shares = {"begin": begin / steps, "end": end / steps, "initial": initial}
    np.testing.assert_allclose(average_of_cubic(params, final, **shares), case["avg_params_continuous"], **CLOSE)
    np.testing.assert_allclose(law.loss(average, steps * per_step), case["loss"], **CLOSE)
    np.testing.assert_allclose(law.loss(params, steps * per_step), case["loss_dense"], **CLOSE)
    flops = training_flops(params, sparsity, per_step)
    np.testing.assert_allclose(flops, case["train_flops"], **CLOSE)
    np.testing.assert_allclose(journey(law, params, sparsity, flops=flops).loss, case["loss"], **CLOSE)
