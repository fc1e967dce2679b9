"""Gradient norm of each row over ALL parameters (GraNd, Paul et al. 2021), exact, from one batched backward pass.

Parameters want no gradient during the pass: the backward pass only carries gradients from output to output, a hook at
each module's output turns them into squared norms per row (see `factors`), and no `[rows, parameters]` array is held.
Before anything is measured, two rows are checked against autograd, one row at a time; where a model mixes rows or hides
parameters from the rules, all rows are done one at a time, which is exact and slow, and a warning says so.

Evaluation mode; frozen parameters count as all others.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from prunus.core.errors import BadInput, NonFinite
from prunus.signals.factors import Dense, Factor, squared_norms
from prunus.signals.row_gradients import Call, factors
from prunus.signals.scan import Accumulator
from prunus.train.step import Step, first_rows, one_row

PROVIDES = ("grad_norm",)
LEVEL = "rows"
LABELLED = ("grad_norm",)
VERSION = 1
MEMORY = "4 * rows + activations of a batch + 32e6"
AGREE = 1e-3  # relative difference allowed between the rules and autograd, float32


class Accumulate(Accumulator):
    """float32 `[B]`."""

    BACKWARD = "activations"

    def start(self) -> None:
        """Hook every module: children answer for their own parameters, parents for what no child was called for."""
        device = next(self.scan.model.parameters()).device
        self._zero = torch.zeros((), requires_grad=True, device=device)
        self._answers: dict[nn.Module, tuple[str, ...]] = {}
        self._called: set[nn.Module] = set()
        self._slow = False
        self._checked = 0  # rows of the largest batch that was checked
        self._reset()
        self._lift_broadcast()
        for module in self.scan.model.modules():
            self.scan.after(module, self._after)

    def _reset(self) -> None:
        self._uses: dict[Tensor, int] = {}
        self._waiting: dict[Tensor, list[Factor]] = {}
        self._squares: Tensor | None = None
        self._fault = ""

    # ---- forward ----------------------------------------------------------------------------------------------------

    def _after(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        self._called.add(module)
        names = self._responsible(module)
        first = output[0] if isinstance(output, tuple) else output
        if self._slow or not names or not isinstance(first, Tensor) or not first.is_floating_point():
            return None
        call = Call(module, args, kwargs, _versions(args), self.scan.rows, names)
        for name in names:
            self._use(module.get_parameter(name))
        if not first.requires_grad:
            first = first + self._zero  # the first layers: a gradient has to reach them
        if len(first) == 1 and self.scan.rows > 1:
            first = first.expand(self.scan.rows, *first.shape[1:])  # a table of positions: give each row its own
        first.register_hook(self._arrived(call))
        return (first, *output[1:]) if isinstance(output, tuple) else first

    def _use(self, parameter: Tensor) -> None:
        self._uses[parameter] = self._uses.get(parameter, 0) + 1

    def _responsible(self, module: nn.Module) -> tuple[str, ...]:
        """Own parameters, and those of descendants that are used without being called (as MultiheadAttention does)."""
        if module not in self._answers:
            lifted = self._lifted.get(module, {})
            own = [name for name, _ in module.named_parameters(recurse=False) if name not in lifted]
            self._answers[module] = tuple(own + self._uncalled(module))
        return self._answers[module]

    def _uncalled(self, module: nn.Module) -> list[str]:
        found: list[str] = []
        for name, child in module.named_children():
            if child not in self._called:
                found += [f"{name}.{key}" for key, _ in child.named_parameters(recurse=False)]
                found += [f"{name}.{key}" for key in self._uncalled(child)]
        return found

    # ---- backward ---------------------------------------------------------------------------------------------------

    def _arrived(self, call: Call) -> Callable[[Tensor], None]:
        def backward(delta: Tensor) -> None:
            if self._fault:
                return
            if _versions(call.args) != call.versions:
                self._fault = f"the input of {type(call.module).__name__} was overwritten"
                return
            try:
                with self.scan.pause(), torch.no_grad():
                    self._add(call, delta.detach())
            except (NotImplementedError, RuntimeError) as error:
                self._fault = f"{type(call.module).__name__}: {error}"

        return backward

    def _add(self, call: Call, delta: Tensor) -> None:
        delta = delta.float() if delta.dtype in (torch.float16, torch.bfloat16) else delta
        for name, factor in factors(call, delta).items():
            parameter = call.module.get_parameter(name)
            if self._uses[parameter] == 1:
                self._count(squared_norms([factor]))
            else:
                self._waiting.setdefault(parameter, []).append(factor)

    def _count(self, squares: Tensor) -> None:
        self._squares = squares if self._squares is None else self._squares + squares

    # ---- parameters that are broadcast over rows (class tokens, position tables) -------------------------------------

    def _lift_broadcast(self) -> None:
        """Containers' parameters with a leading axis of 1 get one copy per row during the forward pass."""
        self._lifted: dict[nn.Module, dict[str, Tensor]] = {}
        for module in self.scan.model.modules():
            for name, parameter in module.named_parameters(recurse=False):
                if parameter.dim() > 1 and len(parameter) == 1 and any(True for _ in module.children()):
                    self._lifted.setdefault(module, {})[name] = parameter
        for module in self._lifted:
            self.scan.before(module, self._lift)
            self.scan.hooks.append(module.register_forward_hook(self._restore, always_call=True))

    def _lift(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        if self._slow:
            return
        for name, parameter in self._lifted[module].items():
            copies = (parameter.detach() + self._zero).expand(self.scan.rows, *parameter.shape[1:])
            self._use(parameter)
            copies.register_hook(self._arrived_copies(parameter))
            module._parameters[name] = copies  # type: ignore[assignment]

    def _restore(self, module: nn.Module, args: Any, output: Any) -> None:
        for name, parameter in self._lifted[module].items():
            module._parameters[name] = parameter  # type: ignore[assignment]

    def _arrived_copies(self, parameter: Tensor) -> Callable[[Tensor], None]:
        def backward(delta: Tensor) -> None:
            self._waiting.setdefault(parameter, []).append(Dense(delta.detach().flatten(1)))

        return backward

    # ---- after the batch --------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Check the rules on one or two rows of the batch, with no other hooks at work."""
        rows, batch = self.scan.rows, self.scan.batch
        if self._slow or self._checked >= min(rows, 2):
            return
        self._checked = min(rows, 2)
        exact = [self._exactly(row) for row in range(self._checked)]
        try:
            self.scan.batch, self.scan.rows = first_rows(batch, self._checked, rows), self._checked
            with self.scan.pause(but=self):
                found, loss = self._by_rules()
        except (RuntimeError, ValueError, IndexError) as error:  # a model that rejects what the hooks did to it
            found, loss = None, None
            self._fault = self._fault or str(error)
        finally:
            self.scan.batch, self.scan.rows = batch, rows
        fault = self._fault
        self._reset()
        if found is None or loss is None:
            self._give_up(fault or "no parameter was reached")
            return
        for mine, theirs in zip((found, loss), (torch.stack(part) for part in zip(*exact))):
            finite = torch.isfinite(theirs)  # rows that are not are named when their batch is measured
            if not torch.allclose(mine[finite], theirs[finite].to(mine.device), rtol=AGREE, atol=1e-6):
                self._give_up(f"the rules give {mine.tolist()} where autograd gives {theirs.tolist()}")
                return

    def _by_rules(self) -> tuple[Tensor | None, Tensor | None]:
        assert self.scan.step is not None
        loss = self.scan.step(self.scan.model, self.scan.batch).loss
        if loss is None or not loss.requires_grad:
            return None, None
        wanted = [parameter for parameter in self.scan.model.parameters() if parameter.requires_grad]
        torch.autograd.grad(loss.sum(), [self._zero, *wanted], allow_unused=True)
        return self._norms(), loss.detach().float()

    def targets(self) -> list[Tensor]:
        """The zero that was added at the inputs: asking for its gradient makes the backward pass run through."""
        return [] if self._slow else [self._zero]

    def batch(self, step: Step, grads: tuple[Tensor | None, ...]) -> dict[str, Tensor]:
        """Norms of the batch's rows."""
        norms = None if self._slow else self._norms()
        if norms is None and not self._slow:
            self._give_up(self._fault or "no parameter was reached")
        self._reset()
        if norms is None:
            norms = torch.stack([self._exactly(row)[0] for row in range(self.scan.rows)])
        finite = torch.isfinite(norms)
        if not bool(finite.all()):
            rows = (~finite).nonzero().flatten()[:5].cpu().numpy()
            named = rows if step.ids is None else step.ids[rows]
            raise NonFinite(f"grad_norm is not finite for rows {named.tolist()}: look at their loss")
        return {"grad_norm": norms}

    def _norms(self) -> Tensor | None:
        """By the rules; None when they do not hold here."""
        for waiting in self._waiting.values():
            self._count(squared_norms(waiting))
        if self._squares is None or self._fault:
            return None
        return self._squares.clamp_min(0).sqrt().float()

    def _give_up(self, reason: str) -> None:
        self._slow = True
        warnings.warn(f"grad_norm: one backward pass for each row from here on, because {reason}", stacklevel=2)

    def _exactly(self, row: int) -> tuple[Tensor, Tensor]:
        """Norm and loss of one row by definition: a forward and backward pass of its own."""
        parameters = [p for p in self.scan.model.parameters() if p.is_floating_point()]
        wants = [p.requires_grad for p in parameters]
        assert self.scan.step is not None
        try:
            for parameter in parameters:
                parameter.requires_grad_(True)
            with self.scan.pause():
                loss = self.scan.step(self.scan.model, one_row(self.scan.batch, row, self.scan.rows)).loss
            if loss is None:
                raise BadInput("grad_norm needs a loss for each row")
            grads: list[Tensor | None] = list(torch.autograd.grad(loss.sum(), parameters, allow_unused=True))
        finally:
            for parameter, wanted in zip(parameters, wants):
                parameter.requires_grad_(wanted)
        squares = [grad.double().square().sum() for grad in grads if grad is not None]
        return torch.stack(squares).sum().sqrt().float(), loss.detach().float()[0]


def _versions(args: tuple[Any, ...]) -> tuple[int, ...]:
    return tuple(value._version for value in args if isinstance(value, Tensor))
