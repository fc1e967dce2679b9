"""What goes wrong is one line that names the nearest right thing; usage errors end with code 2."""

from __future__ import annotations

import pytest

from cli.shell import done, prunus, refused


@pytest.mark.parametrize("words", [(), ("plan",), ("nothing",), ("plan", "--floor", "many", "a", "b")])
def test_usage_errors_end_with_two(words):
    found = prunus(*words)
    assert found.code == 2
    assert "Traceback" not in found.err


def test_unknown_option_names_the_nearest(made, here):
    line = refused(2, "plan", made / "score", "30% rows", "--starta", 5, "--out", "p")
    assert "'starta'; did you mean strata" in line
    line = refused(2, "recover", made / "dense", "--data", made / "train.npz", "--epocs", 5, "--out", "p")
    assert "did you mean epochs" in line
    line = refused(2, "plan", made / "score", "30% rows", "--selct", "top", "--out", "p")
    assert "did you mean select" in line


def test_flags_may_stand_anywhere(made, here):
    done("plan", "--strata", 5, "--out", "p", made / "score", "--hard-cut=0.1", "30% rows")
    assert "takes float" in refused(2, "plan", made / "score", "30% rows", "--clip", "much", "--out", "q")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("score", "train.npz", "el2m", "--out", "s"), "did you mean el2n"),
        (("score", "train.npz", "taylor", "--out", "s"), "taylor is channels/taylor, but train.npz holds rows"),
        (("score", "dense", "el2n", "--out", "s"), "el2n scores rows"),
        (("score", "train.npz", "el2n", "--out", "s"), "--model"),
        (("score", "train.npz", "el2n", "--signals", "nowhere", "--out", "s"), "no folder of signals"),
        (("plan", "dense", "l1", "50% rows", "--out", "p"), "dense is a model"),
        (("plan", "train.npz", "el2n", "50% macs", "--out", "p"), "train.npz holds rows"),
        (("plan", "dense", "l1", "50% weights", "--out", "p"), "l1 is channels/l1"),
        (("plan", "dense", "l1", "fifty", "--out", "p"), "is not a budget"),
        (
            ("plan", "dense", "l1", "50% macs", "--select", "top", "--out", "p"),
            "--select does not belong to plans over channels",
        ),
        (("plan", "dense", "taylor", "50% macs", "--out", "p"), "--data"),
        (("plan", "dense", "l1", "50% macs"), "--out"),
        (("apply", "score", "train.npz", "--out", "x.npz"), "is a score"),
        (("apply", "rows", "dense", "--out", "x"), "is a plan over rows"),
        (("apply", "rows", "train.npz", "--out", "x.png"), "rows are written to"),
        (("export", "cut", "--as", "npy", "--out", "x"), "plan over rows"),
        (("measure", "cut", "test.npz"), "is a plan, not a model"),
        (("measure", "dense", "--metrics", "accuracy"), "measured on rows"),
        (("measure", "dense", "test.npz", "--metrics", "acuracy"), "did you mean accuracy"),
        (("compare", "dense", "rows", "test.npz"), "prunus sweep"),
        (("recover", "dense", "--data", "test.npz?role=test", "--out", "x"), "test rows"),
        (("signals", "train.npz?lable=y", "--model", "dense", "--need", "probs", "--out", "x"), "did you mean label"),
        (("signals", "train.npz", "--model", "dense", "--need", "prob", "--out", "x"), "did you mean probs"),
        (("signals", "train.npz", "--model", "prunus:tinynn", "--need", "probs", "--out", "x"), "did you mean tinycnn"),
        (("sweep", "rows", "30% rows"), "where SCORE"),
        (("sweep", "score", "30% rows", "--fit", "prunus:tinycnn"), "--data"),
        (("report", "nowhere"), "no run folder"),
        (("methods", "eln"), "did you mean el"),
    ],
    ids=lambda value: " ".join(map(str, value))[:60] if isinstance(value, tuple) else None,
)
def test_refusals_say_what_to_do(made, monkeypatch, words, said):
    monkeypatch.chdir(made)
    assert said in refused(2, *words)
    assert not (made / "p").exists() and not (made / "x").exists()


def test_what_is_there_is_not_overwritten_unasked(made, here):
    words = ("plan", made / "score", "30% rows", "--out", "p")
    done(*words)
    assert "already" in refused(2, *words)
    done(*words, "--overwrite")


def test_disk_and_memory_are_refused_before_the_work(made, here, monkeypatch):
    from prunus.cli import forecast

    words = ("signals", made / "train.npz", "--model", made / "dense", "--need", "probs", "--dry-run")
    monkeypatch.setattr(forecast.files, "free_bytes", lambda folder: 10)
    found = prunus(*words)
    assert found.code == 5 and "are free" in found.err
    monkeypatch.undo()
    monkeypatch.setattr(forecast, "memory_free", lambda: 0)
    monkeypatch.setattr(forecast, "peak_bytes", iter([2**30, 0, 0]).__next__)
    found = prunus(*words)
    assert found.code == 5 and "in memory" in found.err
