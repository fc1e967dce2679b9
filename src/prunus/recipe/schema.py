"""The tables of a recipe: their keys, types and defaults."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from prunus.core import files
from prunus.core.budget import Budget
from prunus.core.prunable import UNITS

NAMED = ("data", "model", "train", "teacher", "signals", "recover", "measure")
SCHEMES = ("datasets", "gguf", "package", "prunus", "sklearn", "timm", "torchvision", "transformers")
SIMPLE_RULES = {
    "rows": ("random", "random_balanced", "rs2"),
    "weights": ("random", "magnitude"),
    "channels": ("random", {"name": "l1", "compensate": "joint_ls"}),
    "layers": ("random", "block_influence"),
    "ranks": ("random", "svd"),
    "tokens": ("random", "grid"),
}
Value = bool | int | float | str | list[bool | int | float | str]


class Table(BaseModel):
    """A table of a recipe; unknown keys are refused.

    Keys named in `LEAN` are left out where they say nothing, so that runs from before them keep their names and their store.
    """

    LEAN: ClassVar[tuple[str, ...]] = ()
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    @model_serializer(mode="wrap")
    def _lean(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in dump(self).items() if name not in self.LEAN or value}


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else [value]


def _as_choice(value: Any) -> Any:
    if isinstance(value, str):
        return {"name": value}
    if isinstance(value, dict) and "options" not in value:
        return {"name": value.get("name"), "options": {k: v for k, v in value.items() if k != "name"}}
    return value


class Choice(Table):
    """A method and its options: `"ccs"` or `{ name = "ccs", hard_cut = 0.3 }`."""

    name: str
    options: dict[str, Value] = {}

    @property
    def label(self) -> str:
        """`ccs`, or `ccs(hard_cut=0.3)`."""
        inside = ", ".join(f"{name}={value}" for name, value in sorted(self.options.items()))
        return f"{self.name}({inside})" if inside else self.name


OneChoice = Annotated[Choice, BeforeValidator(_as_choice)]
Choices = Annotated[tuple[OneChoice, ...], BeforeValidator(_as_list), Field(min_length=1)]
Budgets = Annotated[tuple[str, ...], BeforeValidator(_as_list), Field(min_length=1)]
Names = Annotated[tuple[str, ...], BeforeValidator(_as_list)]
OneOrMore = str | Annotated[tuple[str, ...], Field(min_length=1)]
Positive = Annotated[int, Field(gt=0)]


class RunTable(Table):
    """`[run]`: name, seeds, and what the machine may be asked for (the last three do not change the numbers)."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,60}$")]
    seeds: Annotated[tuple[int, ...], BeforeValidator(_as_list), Field(min_length=1)] = (0,)
    jobs: Annotated[int, Field(ge=0, le=256)] = 2
    max_hours: Annotated[float, Field(gt=0)] = 24.0

    @model_validator(mode="after")
    def _unique(self) -> Self:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds must differ: {list(self.seeds)}")
        return self


class RoleTable(Table):
    """A role of a data set: where its rows come from (default: the data's own source) and how many at most."""

    source: str = ""
    limit: Positive | None = None
    share: Annotated[float, Field(gt=0, lt=1)] | None = None


class DataTable(Table):
    """`[data]`: what `open_data` takes (relative paths lie below PRUNUS_DATA), and the roles fit, val, test.

    `window` and `tokenizer` cut text into rows of so many tokens; `transform` names one that ships with prunus.
    `label_noise` is the share of rows of role fit that get a wrong label; val and test stay as they are.
    """

    LEAN = ("label_noise",)

    source: str
    id: str = ""
    label: str = ""
    image: str = ""
    text: str = ""
    x: Names = ()
    split: str = ""
    size: Positive | None = None
    normalise: str | tuple[tuple[float, ...], tuple[float, ...]] = ""
    mode: Literal["RGB", "L"] = "RGB"
    window: Positive | None = None
    tokenizer: str = ""
    transform: OneChoice | None = None
    label_noise: Annotated[float, Field(ge=0, lt=1)] = 0.0
    fit: RoleTable = RoleTable()
    val: RoleTable = RoleTable(share=0.1)
    test: RoleTable | None = None


class ModelTable(Table):
    """`[model]`: what `open_model` takes; `options` go to the constructor. Without weights: new ones from the seed."""

    source: str
    weights: str = ""
    classes: Positive | None = None
    options: dict[str, Value] = {}
    dtype: Literal["float32", "float64", "bfloat16", "float16"] = "float32"


class CombineTable(Table):
    """`combine` of a train table: kept images are packed `factor ** 2` to one, as the recovery combine does."""

    factor: Annotated[int, Field(ge=2)] = 2
    within: Literal["tile", "image", "none"] = "tile"
    scale: tuple[float, float] = (0.5, 1.0)
    ratio: tuple[float, float] = (0.75, 4 / 3)


class TrainTable(Table):
    """`[train]`: the training that judges rows, or makes the model; `equal` says what subsets get equally.

    `combine` packs the images that a plan keeps; training on every row knows nothing of it.
    """

    epochs: Positive | None = None
    steps: Positive | None = None
    equal: Literal["steps", "epochs"] = "steps"
    batch: Positive = 128
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: Annotated[float, Field(gt=0)] = 0.1
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    nesterov: bool = True
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    schedule: Literal["constant", "cosine", "step", "onecycle"] = "cosine"
    warmup: Annotated[int, Field(ge=0)] = 0
    augment: Names = ()
    combine: CombineTable | None = None

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give either epochs or steps")
        return self


OF_SUBSETS = ("combine",)
"""Settings of a train table that count for a subset of the rows only: training on every row knows nothing of them."""


class TeacherTable(Table):
    """`[teacher]`: a model trained on every row of role fit, which teaches the rows that stay (distillation).

    `train` and `model` name tables, by default the arm's own; train = "none" takes the model's given weights as they are.
    `seed` is the teacher's; by default that of its student + 1, so that no student begins where its teacher began and
    the dense arm of the next seed is the teacher. `alpha` and `temperature` as in the recovery distill.
    """

    train: str = ""
    model: str = ""
    seed: int | None = None
    alpha: Annotated[float, Field(ge=0, le=1)] | Literal["auto"] = "auto"
    temperature: Annotated[float, Field(gt=0)] = 4.0


class SignalsTable(Table):
    """`[signals]`: one pass of the model over rows of role fit, or (with `train`) signals recorded while training.

    `recorder` holds options of the recorder (`el2n_epochs`, `window`, `early`); `checkpoints` and `folds` are those of `px.Fit`.
    """

    LEAN = ("recorder", "checkpoints", "folds")

    train: str = ""
    epochs: Positive | None = None
    seeds: Annotated[tuple[int, ...], BeforeValidator(_as_list), Field(min_length=1)] = (0,)
    limit: Positive | None = None
    batch: Positive = 128
    need: Names = ()
    recorder: dict[Literal["el2n_epochs", "window", "early"], Positive] = {}
    checkpoints: Positive | None = None
    folds: Positive | None = None


class RecoverTable(Table):
    """`[recover]`: what follows a cut, in the order listed."""

    how: Choices
    epochs: Positive | None = None
    steps: Positive | None = None
    limit: Positive | None = None
    batch: Positive = 128
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: Annotated[float, Field(gt=0)] = 0.01
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    schedule: Literal["constant", "cosine", "step", "onecycle"] = "cosine"
    augment: Names = ()


class MeasureTable(Table):
    """`[measure]`: metrics on role test, and gates (`accuracy >= dense - 0.5`)."""

    metrics: Names = ("accuracy",)
    role: Literal["test", "val"] = "test"
    batch: Positive = 256
    limit: Positive | None = None
    tokens: Positive | None = None
    window: Positive | None = None
    dtype: Literal["float32", "float64", "bfloat16", "float16"] | None = None
    latency_batch: Positive = 1
    repeats: Positive = 20
    before_recovery: bool = True
    require: Names = ()


class PruneTable(Table):
    """`[[arms.prune]]`: one unit removed. `budget` says what stays; lists are sweeps.

    `weights = false` trains without the loss weights that some selectors of rows give (craig, grad_match).
    """

    method: Choices
    budget: Budgets
    unit: str = ""
    select: Choices | None = None
    within: str = ""
    allocate: Choices | None = None
    over: str = ""
    compensate: Choices | None = None
    at: str = ""
    groups: Literal["", "all", "inner"] = ""
    floor: Annotated[int, Field(ge=0)] = 1
    round_to: Positive | None = None
    same_shape: bool = False
    tolerance: Annotated[float, Field(ge=0)] | None = None
    pin: str = ""
    ban: str = ""
    weights: bool = True

    @model_validator(mode="after")
    def _one_unit(self) -> Self:
        asked = {Budget.parse(budget).unit for budget in self.budget}
        if len(asked) > 1:
            raise ValueError(f"the budgets remove different units: {', '.join(sorted(asked))}; make one table for each")
        unit = self.unit or asked.pop()
        if unit not in UNITS:
            raise ValueError(f"unit is one of {', '.join(UNITS)}, not {unit!r}")
        object.__setattr__(self, "unit", unit)
        return self


class ArmTable(Table):
    """`[[arms]]`: removals in order, on named data and model; `controls` overrides `[controls]`, `seeds` those of the run.

    Lists of `data`, `model` and `train` are sweeps: every combination is a setting, compared within itself.
    `teacher` names tables of teachers; a list, in which "none" may stand, is a sweep. So is a list of `recover`: the same cut
    recovered in several ways, as fine-tuned and from scratch.
    """

    prune: Annotated[tuple[PruneTable, ...], BeforeValidator(_as_list), Field(min_length=1)]
    name: str = ""
    data: OneOrMore = ""
    model: OneOrMore = ""
    train: OneOrMore = ""
    teacher: Names = ()
    signals: str = ""
    recover: OneOrMore = ""
    measure: str = ""
    seeds: Annotated[tuple[int, ...], BeforeValidator(_as_list)] = ()
    controls: Annotated[tuple[Any, ...], BeforeValidator(_as_list)] | None = None


class ReportTable(Table):
    """`[report]`: title and forms of the report."""

    title: str = ""
    forms: Names = ("html",)


class Recipe(Table):
    """A whole recipe, every default filled in."""

    run: RunTable
    data: dict[str, DataTable]
    model: dict[str, ModelTable]
    train: dict[str, TrainTable] = {}
    teacher: dict[str, TeacherTable] = {}
    signals: dict[str, SignalsTable] = {"main": SignalsTable()}
    recover: dict[str, RecoverTable] = {}
    measure: dict[str, MeasureTable] = {"main": MeasureTable()}
    controls: dict[str, Annotated[tuple[Any, ...], BeforeValidator(_as_list)]] = {}
    arms: Annotated[tuple[ArmTable, ...], Field(min_length=1)]
    report: ReportTable = ReportTable()

    def canonical(self) -> dict[str, Any]:
        """Plain values, in one form for every way of writing the same recipe."""
        return self.model_dump(mode="json")

    def hash(self) -> str:
        """8 hex digits over everything that can change a number: not the name, the jobs, the hours, the report."""
        value = self.canonical()
        value.pop("report")
        value["run"] = {"seeds": value["run"]["seeds"]}
        return files.digest(value)[:8]

    @property
    def folder(self) -> str:
        """Name of the run folder: `<name>-<hash>`."""
        return f"{self.run.name}-{self.hash()}"
