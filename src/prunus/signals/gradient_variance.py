"""How the gradient of the label's logit at the input changes over checkpoints of a training run (Agarwal et al. 2022).

At every checkpoint the gradient of the label's logit (before softmax) is taken at the input and, for images `[B, C, H,
W]`, averaged over the channels. `gradient_variance` is its variance over the checkpoints, `gradient_std` the square
root of that, pixel by pixel, each averaged over the pixels.

`collect(model, data, "gradient_variance", checkpoints=[...])`: earlier states of the model, as state dicts or
safetensors files; the model itself is the last one. A Fit keeps them while it trains. Evaluation mode throughout.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from prunus.core.errors import BadInput
from prunus.signals.inputs import float_input, gradient, logits_of, named
from prunus.signals.scan import Accumulator
from prunus.train.step import Step

PROVIDES = ("gradient_variance", "gradient_std")
LEVEL = "rows"
LABELLED = ("gradient_variance", "gradient_std")
VERSION = 1
MEMORY = "8 * rows + checkpoints * model + 4 * inputs of a batch + activations of a batch"


class Accumulate(Accumulator):
    """Both float32 `[B]`."""

    def start(self) -> None:
        """Read the checkpoints; each must fit the model."""
        model = self.scan.model
        given = self.scan.options.get("checkpoints") or ()
        if isinstance(given, (str, Path, Mapping)) or not isinstance(given, Sequence) or not given:
            raise BadInput(
                "the variance of gradients is over checkpoints: give checkpoints=[...], earlier states of this model "
                "(state dicts or .safetensors files), or let a training run keep them: fit=px.Fit(...)"
            )
        self._models: list[nn.Module] = [_At(model, _state(model, one)) for one in given]
        self._models.append(model)

    def batch(self, step: Step, grads: tuple[Tensor | None, ...]) -> dict[str, Tensor]:
        """One forward and one backward pass for each checkpoint."""
        x = float_input(self.scan.batch, "the variance of gradients").detach()
        labels = _labels(step)
        mean = spread = None
        for number, model in enumerate(self._models, 1):
            found = self._gradient(model, x, labels, step).double()
            if mean is None or spread is None:
                mean, spread = found, torch.zeros_like(found)
                continue
            change = found - mean
            mean = mean + change / number
            spread = spread + change * (found - mean)
        assert spread is not None
        variance = (spread / len(self._models)).flatten(1)
        return {
            name: values.mean(1).float()
            for name, values in (("gradient_variance", variance), ("gradient_std", variance.sqrt()))
            if name in self.wanted
        }

    def _gradient(self, model: nn.Module, x: Tensor, labels: Tensor, step: Step) -> Tensor:
        """Gradient of the label's logit, `[B, ...]` without the channels of images."""
        with torch.enable_grad():
            x = x.clone().requires_grad_()
            logits = logits_of(self.scan, model, x)
            outside = (labels < 0) | (labels >= logits.shape[1])
            if outside.any():
                raise BadInput(
                    f"labels {labels[outside][:5].tolist()} of rows {named(step, outside)} are not in 0..{logits.shape[1] - 1}"
                )
            found = gradient(logits.gather(1, labels[:, None]).squeeze(1), x)
        return found.mean(1) if found.dim() == 4 else found


class _At(nn.Module):
    """A model at another state; parameters are not copied into it."""

    def __init__(self, model: nn.Module, state: dict[str, Tensor]) -> None:
        super().__init__()
        object.__setattr__(self, "_model", model)  # not a child: the model's own modules stay as they are
        self._values = state

    def __getattr__(self, name: str) -> Any:
        if name in ("_model", "_values"):
            raise AttributeError(name)
        return getattr(self._model, name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return torch.func.functional_call(self._model, self._values, args, kwargs)


def _state(model: nn.Module, given: Any) -> dict[str, Tensor]:
    """One checkpoint on the model's device, checked against it."""
    if isinstance(given, (str, Path)):
        from safetensors.torch import load_file

        state = load_file(str(given))
    else:
        state = dict(given)
    own = model.state_dict()
    wrong = [
        name for name in {*own, *state} if name not in own or name not in state or own[name].shape != state[name].shape
    ]
    if wrong:
        raise BadInput(f"a checkpoint does not fit the model at {sorted(wrong)[:5]}: give states of this architecture")
    return {name: value.detach().to(own[name]) for name, value in state.items()}


def _labels(step: Step) -> Tensor:
    if step.labels is None or step.labels.is_floating_point() or step.labels.dim() != 1:
        raise BadInput(
            "the variance of gradients needs one class for each row; unlabelled rows can be scored with deepfool, entropy or "
            "prototypes"
        )
    return step.labels.long()
