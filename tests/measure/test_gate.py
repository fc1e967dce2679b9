import pytest

from prunus.core.errors import BadInput, GateFailed, UnknownName
from prunus.measure.gate import check, parse

DENSE = {"accuracy": 0.90, "perplexity": 20.0, "macs": 100.0, "params": 1000.0}


@pytest.mark.parametrize(
    ("gate", "measured"),
    [
        ("accuracy >= dense - 0.5", {"accuracy": 0.895}),
        ("accuracy>=dense-0.5%", {"accuracy": 0.895}),
        ("accuracy >= 89", {"accuracy": 0.895}),
        ("accuracy >= 0.89", {"accuracy": 0.895}),
        ("accuracy >= 89%", {"accuracy": 0.895}),
        ("perplexity <= dense * 1.1", {"perplexity": 22.0}),
        ("perplexity <= 1.1 * dense", {"perplexity": 22.0}),
        ("perplexity <= dense + 2", {"perplexity": 22.0}),
        ("perplexity <= dense + 10%", {"perplexity": 22.0}),
        ("macs <= 0.5*dense and params < 1e3", {"macs": 50.0, "params": 999.0}),
        ("macs <= 0.5 * dense & accuracy > dense - 1", {"macs": 10.0, "accuracy": 0.891}),
    ],
)
def test_holds_at_the_edge_and_fails_beyond(gate, measured):
    lines = check(gate, measured, DENSE)
    assert all(line.startswith("holds") for line in lines)
    sign = -1 if ">" in gate.split("and")[0].split("&")[0] else 1
    name = next(iter(measured))
    step = 0.01 if name == "accuracy" else 1.0
    with pytest.raises(GateFailed, match="FAILS") as failure:
        check(gate, {**measured, name: measured[name] + 100 * sign * step}, DENSE)
    assert failure.value.exit_code == 4


def test_nan_never_holds():
    with pytest.raises(GateFailed):
        check("accuracy >= 0", {"accuracy": float("nan")})


def test_values_with_intervals_are_read():
    assert check("accuracy >= 90", {"accuracy": (0.95, (0.9, 1.0))})


@pytest.mark.parametrize(
    "gate", ["accuracy", "accuracy = 3", "accuracy >= dens", "accuracy >= dense - ", "", "a >= 0 * dense"]
)
def test_what_is_no_gate_is_refused(gate):
    with pytest.raises(BadInput):
        parse(gate)


def test_unknown_metrics_name_the_nearest():
    with pytest.raises(UnknownName, match="accuracy"):
        check("acuracy >= 3", {"accuracy": 1.0})
    with pytest.raises(UnknownName, match="dense"):
        check("accuracy >= dense", {"accuracy": 1.0})
