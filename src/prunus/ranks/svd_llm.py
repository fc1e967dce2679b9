"""SVD-LLM: singular parts of the weight times a Cholesky factor of its inputs' second moments (Wang et al. 2024).

Removes: ranks of linear layers (and convolutions, as `[outputs, inputs * taps]`); each becomes two thin layers.
Needs: hessian (second moments of the inputs, not centred), from one calibration pass.
Cost: the pass with d^2 sums for each distinct input; a Cholesky factorisation, O(d^3), and a singular value decomposition for each weight.
Departures: written from the published description. With H = S S^T, W S = U D V^T: dropping part i costs exactly D_i^2 of the squared
 output error |W X - W' X|^2, and the factors are U sqrt(D) and sqrt(D) V^T S^-1. Every weight keeps the same share of its parameters
 (scope="group"), as published; scope="global" drops the smallest shares of the output energy over all layers. The diagonal of H is
 damped by `damp` of its mean, more where H is not positive definite. The published closed-form update of U, whose inputs come from
 the layers already cut, one after the other, is `update=True` of the plan: one more pass through the whole cut model gives the
 inputs of all layers at once, and U = W H' V^T (V H' V^T)^-1. With equal inputs it changes nothing.
"""

from __future__ import annotations

from typing import Any

import torch

from prunus.core.errors import BadInput
from prunus.core.registry import solver
from prunus.maths.obs import cholesky, stacked
from prunus.maths.rank_parts import Components, decomposed, tail_energy


@solver(unit="ranks", needs=("weight", "hessian"), scope="group")
def svd_llm(matrix: Any, *, damp: float = 1e-6) -> Components:
    """Parts of `W S`, mapped back.

    Args:
        matrix: `.weight [b, p, q]` under the scheme `channel`, `.hessian [q, q]` or `[b, q, q]`.
        damp: share of the mean diagonal that is added to it.

    Returns:
        Components whose `left @ right` is the weight; scores are shares of the output energy lost from each part on.

    Raises:
        BadInput: another scheme, or moments that are not positive definite however damped.
    """
    weight, moments = matrix.weight, stacked(matrix.hessian)
    if moments.shape != (len(weight), weight.shape[2], weight.shape[2]):
        raise BadInput(
            f"svd_llm knows the inputs of whole kernels: give scheme='channel' for {getattr(matrix, 'name', 'this weight')}"
        )
    roots = torch.stack([cholesky(one, damp)[1] for one in moments])
    left, sigma, right = decomposed(weight.double() @ roots, getattr(matrix, "name", ""))
    back = torch.linalg.solve_triangular(roots, right, upper=False, left=False)  # right @ S^-1
    root = sigma.sqrt()
    return Components(left * root[:, None], root[:, :, None] * back, tail_energy(sigma))
