"""A linear layer whose weight is stored and multiplied as compressed sparse rows."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from prunus.core.errors import BadInput


class CsrLinear(nn.Module):
    """y = W x + b with only the nonzero entries of W; for inference on the CPU. The state dict holds plain tensors.

    Args:
        linear: with zeros in its weight; left as it is.

    Raises:
        BadInput: another class than nn.Linear, or half precision, which no sparse kernel of the CPU multiplies.
    """

    crow: Tensor
    columns: Tensor
    values: Tensor

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach()
        if type(linear) is not nn.Linear or weight.dtype not in (torch.float32, torch.float64):
            raise BadInput(
                f"sparse rows need nn.Linear in float32 or float64, not {type(linear).__name__} in {weight.dtype}"
            )
        sparse = weight.to_sparse_csr()
        self.out_features, self.in_features = weight.shape
        self.register_buffer("crow", sparse.crow_indices().int())  # what the library's kernels index with
        self.register_buffer("columns", sparse.col_indices().int())
        self.register_buffer("values", sparse.values().clone())
        bias = cast("Tensor | None", linear.bias)  # None where there is none, whatever torch declares
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone(), requires_grad=False)

    def forward(self, input: Tensor) -> Tensor:
        """x `[..., in]` -> y `[..., out]`."""
        size = (self.out_features, self.in_features)
        weight = torch.sparse_csr_tensor(self.crow, self.columns, self.values, size, check_invariants=False)
        output = (weight @ input.reshape(-1, self.in_features).T).T
        output = output if self.bias is None else output + self.bias
        return output.reshape(*input.shape[:-1], self.out_features)

    def to_linear(self) -> nn.Linear:
        """The dense layer with the same numbers."""
        size = (self.out_features, self.in_features)
        weight = torch.sparse_csr_tensor(self.crow, self.columns, self.values, size, check_invariants=True)
        made = nn.Linear(self.in_features, self.out_features, bias=self.bias is not None, dtype=self.values.dtype)
        with torch.no_grad():
            made.weight.copy_(weight.to_dense())
            if self.bias is not None:
                made.bias.copy_(self.bias)
        return made.train(self.training)

    def extra_repr(self) -> str:
        """Shape and density."""
        size = self.out_features * self.in_features
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, density={len(self.values) / size:.3g}"
        )
