"""The adapters of every task, `step(model, batch) -> Step`.

They live in `train`, below signals, because training uses them too.
"""

from prunus.train.step import (
    Batch,
    LossFn,
    Step,
    StepFn,
    detection_step,
    infer_step,
    per_row_loss,
    transformers_step,
    xy_step,
)

__all__ = [
    "Batch",
    "LossFn",
    "Step",
    "StepFn",
    "detection_step",
    "infer_step",
    "per_row_loss",
    "transformers_step",
    "xy_step",
]
