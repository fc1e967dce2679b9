"""A policy over the rows of a matrix that is rewarded for a spectrum that stays (PruneNet, Sengupta et al. 2025)."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
import torch.nn.functional as F
from scipy.stats import ks_2samp
from torch import Tensor, nn

from prunus.core.rng import Rng

NO_DIFFERENCE = 99999.0  # the released reward where the spectra are equal
LEAST = 1e-6  # noise stays this far from 0 and 1


class RowPolicy(nn.Module):
    """Probability of each row to stay: sigmoid((W A^T + a) v), made random by logistic noise.

    W A^T v is formed as W (A^T v): the rows x rows matrix of the released code is never there.

    Args:
        rows, width: shape of the matrices it is for.
        rng: for its first weights.
    """

    def __init__(self, rows: int, width: int, rng: Rng) -> None:
        super().__init__()
        generator, bound = rng.torch(), 1 / math.sqrt(width)
        self.weight = nn.Parameter((2 * torch.rand(rows, width, generator=generator) - 1) * bound)
        self.bias = nn.Parameter((2 * torch.rand(rows, generator=generator) - 1) * bound)
        self.row_logit = nn.Parameter(torch.rand(rows, 1, generator=generator))

    def forward(self, matrix: Tensor) -> Tensor:
        """`[rows, width]` to logits `[rows]` of what stays."""
        logit = self.row_logit[:, 0]
        return matrix @ (self.weight.T @ logit) + self.bias @ logit

    def loss(self, matrix: Tensor, noise: Tensor, action: Tensor, reward: float) -> Tensor:
        """-sum of log probabilities of the rows in `action`, times the reward.

        Args:
            matrix: `[rows, width]`.
            noise: uniform `[rows]`.
            action: int64, rows that were kept.
            reward: larger is better.
        """
        return -F.logsigmoid(noisy(self(matrix), noise))[action].sum() * reward


def noisy(logits: Tensor, noise: Tensor) -> Tensor:
    """Logits `[rows]` with logistic noise, from uniform `[rows]`."""
    return logits + torch.logit(noise, eps=LEAST)


def spectrum(matrix: Tensor) -> Tensor:
    """Singular values, float64, the largest first: roots of the eigenvalues of the smaller Gram matrix."""
    wide = matrix.double()
    gram = wide @ wide.T if wide.shape[0] < wide.shape[1] else wide.T @ wide
    return torch.linalg.eigvalsh(gram).clamp_min(0).sqrt().flip(0)


def distance(full: Tensor, sliced: Tensor) -> float:
    """Kolmogorov-Smirnov statistic of two samples, in [0, 1]."""
    return float(cast("Any", ks_2samp(full.numpy(), sliced.numpy(), method="asymp")).statistic)


def reward(distance_: float) -> float:
    """1 / statistic."""
    return 1 / distance_ if distance_ > 0 else NO_DIFFERENCE


def discounted(rewards: list[float], factor: float = 0.99) -> list[float]:
    """The reward of layer l times factor^l: what is released; it is no sum of what follows."""
    return [value * factor**layer for layer, value in enumerate(rewards)]


def towards_half(logits: Tensor, *, released: bool = False) -> Tensor:
    """Sum over rows of KL(Bernoulli(alpha) || Bernoulli(1/2)), alpha = sigmoid(logits).

    Args:
        logits: `[rows]`.
        released: the released expression, the cross-entropy of alpha with 1 - alpha less log 2, which is no divergence.
    """
    alpha, yes, no = torch.sigmoid(logits), F.softplus(-logits), F.softplus(logits)  # -log alpha, -log(1 - alpha)
    if released:
        return (yes * (1 - alpha) + no * alpha - math.log(2)).sum()
    return (math.log(2) - yes * alpha - no * (1 - alpha)).sum()


def leverage(matrix: Tensor) -> Tensor:
    """Leverage score of each row `[rows]`, float64: the diagonal of W (W^T W)^-1 W^T, by one QR factorisation."""
    return torch.linalg.qr(matrix.double()).Q.square().sum(1)
