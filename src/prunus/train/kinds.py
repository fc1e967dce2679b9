"""Base classes of torch's layers that torch itself names only with an underscore; everyone else takes them from here.

`BatchNorm` are norms with statistics of batches, `RunningNorm` those and instance norms, `Conv` all convolutions (transposed ones
too), `Dropout` whatever drops at random. Their subclasses (timm's, torchvision's) are recognised with them, which a list of torch's
public classes would not do.
"""

from __future__ import annotations

# torch exports no public name for these bases: the underscore is theirs.
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm  # pyright: ignore[reportPrivateUsage]
from torch.nn.modules.batchnorm import _NormBase as RunningNorm  # pyright: ignore[reportPrivateUsage]
from torch.nn.modules.conv import _ConvNd as Conv  # pyright: ignore[reportPrivateUsage]
from torch.nn.modules.dropout import _DropoutNd as Dropout  # pyright: ignore[reportPrivateUsage]

__all__ = ["BatchNorm", "Conv", "Dropout", "RunningNorm"]
