"""Door 3: online accumulation against the full log, two processes merged, killed runs, truncated files."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from prunus.core.errors import BadInput, CorruptFile, IdMismatch, SplitError, UnknownName
from prunus.signals.dynamics import PROVIDES
from prunus.signals.recorder import Recorder, row_values

EPOCHS, ROWS, CLASSES = 13, 40, 4


class Rows:
    """A map-style dataset with ids."""

    def __init__(self, rows: int = ROWS, text: bool = False):
        generator = torch.Generator().manual_seed(0)
        self.x = torch.randn(rows, 6, generator=generator)
        self.y = torch.randint(0, CLASSES, (rows,), generator=generator)
        self.ids = np.array([f"r{row:03d}" for row in range(rows)]) if text else np.arange(rows) * 3 + 5
        self.labels = self.y.numpy()

    def __len__(self):
        return len(self.x)

    def __getitem__(self, row):
        return self.x[row], self.y[row]


@pytest.fixture(scope="module")
def log():
    """Logits of every row in every epoch."""
    generator = torch.Generator().manual_seed(3)
    return torch.randn(EPOCHS, ROWS, CLASSES, generator=generator) * 2


def replay(recorder: Recorder, rows: Rows, log: torch.Tensor, start: int = 0, batch: int = 7) -> None:
    position = {identity: row for row, identity in enumerate(rows.ids.tolist())}
    for epoch in range(start, len(log)):
        loader = DataLoader(recorder.dataset, batch, shuffle=True, generator=torch.Generator().manual_seed(epoch))
        for ids, _, y in loader:
            names = ids.tolist() if isinstance(ids, torch.Tensor) else ids
            logits = log[epoch, [position[name] for name in names]]
            loss = torch.nn.functional.cross_entropy(logits, y, reduction="none")
            recorder.batch(ids, logits=logits, labels=y, loss=loss)
        recorder.end_epoch()


@pytest.mark.parametrize("text", [False, True])
def test_online_equals_the_full_log(log, text):
    rows = Rows(text=text)
    recorder = Recorder(rows, el2n_epochs=5, window=4, early=7)
    replay(recorder, rows, log)
    found = recorder.signals()
    p = log.double().softmax(-1)
    index = rows.y.view(1, -1, 1).expand(EPOCHS, -1, 1)
    p_true = p.gather(2, index)[..., 0]
    margin = p_true - p.scatter(2, index, -1).amax(2)
    loss = -p_true.log()
    correct = (log.argmax(2) == rows.y).numpy()
    hot = torch.nn.functional.one_hot(rows.y, CLASSES)
    windows = p_true.unfold(0, 4, 1)
    early = p_true[:7].unfold(0, 4, 1)
    expected = {
        "loss_sum": loss.sum(0), "loss_last": loss[-1], "aum": margin.sum(0), "aum_mean": margin.mean(0),
        "entropy_last": -(p[-1] * p[-1].log()).sum(1), "el2n_sum": (p - hot).norm(dim=2)[:5].sum(0),
        "p_true_mean": p_true.mean(0), "p_true_std": p_true.std(0, correction=0),
        "window_std": windows.std(2).mean(0), "p_true_early": p_true[:7].mean(0),
        "window_dual": (early.std(2) * (1 - early.mean(2))).mean(0),
    }  # fmt: skip
    for name, value in expected.items():
        torch.testing.assert_close(found.field(name).double(), value, rtol=1e-4, atol=1e-5, msg=name)
    forgetting = (correct[:-1] & ~correct[1:]).sum(0)
    assert found.forgetting.tolist() == forgetting.tolist()
    assert found.correctness.tolist() == correct.sum(0).tolist()
    assert found.never_learned.tolist() == (~correct.any(0)).tolist()
    first = np.where(correct.any(0), correct.argmax(0), -1)
    assert found.first_learned.tolist() == first.tolist()
    assert found.seen.tolist() == [EPOCHS] * ROWS
    assert found.windows.tolist() == [EPOCHS - 3] * ROWS
    assert found.early_windows.tolist() == [4] * ROWS
    assert found.ids.tolist() == rows.ids.tolist()
    assert found.labels.tolist() == rows.y.tolist()


def test_rows_that_are_left_out_keep_their_state(log):
    rows = Rows()
    recorder = Recorder(rows, ("seen", "forgetting", "aum_mean", "window_std"), window=2)
    for epoch in range(4):
        part = np.arange(ROWS) if epoch % 2 == 0 else np.arange(5)
        recorder.batch(rows.ids[part], logits=log[epoch, part], labels=rows.y[part])
        recorder.end_epoch()
    found = recorder.signals()
    assert found.seen.tolist() == [4] * 5 + [2] * (ROWS - 5)
    margin = torch.from_numpy(np.stack([row_values(logits, rows.y)["margin"] for logits in log[:3:2]]))
    torch.testing.assert_close(found.aum_mean[5:].double(), margin[:, 5:].double().mean(0), rtol=1e-4, atol=1e-5)


def test_the_first_entry_counts_once_per_epoch_across_ranks(tmp_path, log):
    rows = Rows()
    ranks = [Recorder(rows, ("seen", "loss_sum"), tmp_path, rank=rank, world=2) for rank in (1, 0)]
    for epoch in range(3):
        for recorder, part in zip(ranks, (np.arange(18, ROWS), np.arange(20))):  # rows 18 and 19 on both
            recorder.batch(rows.ids[part], loss=torch.full((len(part),), 1.0 + recorder.rank))
            recorder.end_epoch()
        assert len(list(tmp_path.glob("epoch-*"))) == 0, f"epoch {epoch} is folded when its last rank is there"
    found = ranks[1].signals()
    assert found.seen.tolist() == [3] * ROWS
    ranks[1].batch(rows.ids[:20], loss=torch.ones(20))
    ranks[1].end_epoch()
    with pytest.raises(BadInput, match=r"ranks \[1\] have not ended epoch 3"):
        ranks[1].signals()
    assert found.loss_sum.tolist() == [3.0] * 20 + [6.0] * (ROWS - 20)
    with pytest.raises(BadInput, match="rank 0"):
        ranks[0].signals()


WORKER = """
import os, sys
import numpy as np, torch
import torch.distributed as dist
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler
from prunus.signals.recorder import Recorder
sys.path.insert(0, {tests!r})
from test_recorder import Rows
dist.init_process_group("gloo", init_method="file://{folder}/meet", rank=int(sys.argv[1]), world_size=2)
rows = Rows(41)
recorder = Recorder(rows, ("seen", "aum", "forgetting"), "{folder}/rec")
log = torch.randn(6, 41, 4, generator=torch.Generator().manual_seed(3)) * 2
for epoch in range(6):
    sampler = DistributedSampler(rows, shuffle=True, seed=1)  # pads 41 rows to 42: one row is seen twice
    sampler.set_epoch(epoch)
    for ids, x, y in DataLoader(recorder.dataset, 5, sampler=sampler):
        recorder.batch(ids, logits=log[epoch, (ids - 5) // 3], labels=y)
    recorder.end_epoch()
dist.barrier()
dist.destroy_process_group()
"""


def test_two_gloo_processes_equal_one(tmp_path):
    code = textwrap.dedent(WORKER.format(folder=tmp_path, tests=os.path.dirname(__file__)))
    runs = [subprocess.Popen([sys.executable, "-c", code, str(rank)], stderr=subprocess.PIPE) for rank in range(2)]
    for run in runs:
        _, errors = run.communicate(timeout=120)
        assert run.returncode == 0, errors.decode()
    rows = Rows(41)
    merged = Recorder(rows, ("seen", "aum", "forgetting"), tmp_path / "rec", rank=0, world=2).signals()
    log = torch.randn(6, 41, 4, generator=torch.Generator().manual_seed(3)) * 2
    alone = Recorder(rows, ("seen", "aum", "forgetting"))
    for logits in log:
        alone.batch(rows.ids, logits=logits, labels=rows.y)
        alone.end_epoch()
    for name in ("seen", "aum", "forgetting"):
        torch.testing.assert_close(merged.field(name), alone.signals().field(name), rtol=1e-6, atol=1e-6)


def test_a_killed_run_goes_on_where_its_last_epoch_ended(tmp_path, log):
    rows = Rows()
    whole = Recorder(rows, window=4)
    replay(whole, rows, log)
    first = Recorder(rows, out=tmp_path, window=4)
    replay(first, rows, log[:5])
    first.batch(rows.ids[:9], logits=log[5, :9], labels=rows.y[:9], loss=torch.ones(9))  # and is killed in epoch 5
    second = Recorder(rows, out=tmp_path, window=4)
    assert second.epoch == 5
    replay(second, rows, log, start=5)
    for name in PROVIDES:
        torch.testing.assert_close(second.signals().field(name), whole.signals().field(name), rtol=1e-6, atol=1e-6)


KILLED = """
import numpy as np, torch
from prunus.signals.recorder import Recorder
ids = np.arange(20000)
recorder = Recorder(ids, ("seen", "aum", "window_std"), {folder!r}, ids=ids)
logits, labels = torch.randn(20000, 4), torch.zeros(20000, dtype=torch.long)
while True:
    recorder.batch(ids, logits=logits, labels=labels)
    recorder.end_epoch()
"""


def test_a_process_killed_while_it_writes_leaves_a_whole_state(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", KILLED.format(folder=str(tmp_path))])
    state = tmp_path / "state.safetensors"
    deadline = time.monotonic() + 60
    while not state.exists() and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    child.kill()
    child.wait()
    ids = np.arange(20000)
    recorder = Recorder(ids, ("seen", "aum", "window_std"), tmp_path, ids=ids)
    assert recorder.epoch >= 1
    assert set(recorder.signals().seen.tolist()) == {recorder.epoch}


def test_a_repeated_epoch_is_not_counted_twice(tmp_path, log):
    rows = Rows()
    recorder = Recorder(rows, "seen", tmp_path)
    for epoch in (0, 1, 1, 0, 2):
        recorder.batch(rows.ids, logits=log[epoch], labels=rows.y)
        recorder.end_epoch(epoch)
    assert recorder.signals().seen.tolist() == [3] * ROWS


def test_broken_state_is_named(tmp_path, log):
    rows = Rows()
    recorder = Recorder(rows, ("seen", "aum"), tmp_path)
    replay(recorder, rows, log[:1])
    path = tmp_path / "state.safetensors"
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(CorruptFile, match=r"state\.safetensors"):
        Recorder(rows, ("seen", "aum"), tmp_path)
    with pytest.raises(BadInput, match="other options"):
        Recorder(rows, ("seen",), tmp_path)


def test_state_of_other_rows_is_refused(tmp_path, log):
    rows = Rows()
    replay(Recorder(rows, "aum", tmp_path), rows, log[:1])
    other = Rows()
    other.ids = other.ids + 1
    with pytest.raises(IdMismatch):
        Recorder(other, "aum", tmp_path)


def test_values_that_are_not_finite_are_left_out_with_a_warning(log):
    rows = Rows()
    recorder = Recorder(rows, ("seen", "aum"))
    bad = log[0].clone()
    bad[2, 1] = float("nan")
    recorder.batch(rows.ids, logits=bad, labels=rows.y)
    with pytest.warns(UserWarning, match=r"\[11\]"):
        recorder.end_epoch()
    assert recorder.signals().seen.tolist() == [1, 1, 0] + [1] * (ROWS - 3)


def test_token_logits_are_averaged_over_labelled_tokens():
    recorder = Recorder(range(2), ("aum", "correctness"))
    logits, labels = torch.randn(2, 3, 5), torch.tensor([[0, 1, -100], [2, 3, 4]])
    recorder.batch([0, 1], logits=logits, labels=labels)
    recorder.end_epoch()
    margins = row_values(logits[labels >= 0], labels[labels >= 0])["margin"]
    found = recorder.signals().aum
    torch.testing.assert_close(found, torch.tensor([margins[:2].mean(), margins[2:].mean()]))


def test_dict_rows_and_labels_of_the_dataset():
    class Dicts(Rows):
        def __getitem__(self, row):
            return {"x": self.x[row], "y": self.y[row]}

    rows = Dicts()
    recorder = Recorder(rows, "aum")
    for batch in DataLoader(recorder.dataset, 16):
        recorder.batch(batch["ids"], logits=torch.randn(len(batch["x"]), CLASSES))
    recorder.end_epoch()
    assert recorder.signals().aum.shape == (ROWS,)


def test_bad_use_says_what_to_do():
    rows = Rows()
    with pytest.raises(UnknownName, match="aum"):
        Recorder(rows, "aun")
    with pytest.raises(BadInput, match="out="):
        Recorder(rows, "aum", world=2, rank=0)
    recorder = Recorder(rows, "aum")
    with pytest.raises(BadInput, match="end_epoch"):
        recorder.signals()
    recorder.batch(rows.ids[:2], loss=torch.zeros(2))
    with pytest.raises(BadInput, match="logits="):
        recorder.end_epoch()
    recorder = Recorder(rows, "loss_sum")
    recorder.batch([4], loss=torch.zeros(1))
    with pytest.raises(IdMismatch, match="4"):
        recorder.end_epoch()
    rows.role = "test"
    with pytest.raises(SplitError, match="test"):
        Recorder(rows, "aum")
