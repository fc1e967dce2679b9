"""The stage table of recipes: what each step of a run really does."""

from __future__ import annotations

from prunus.run import measures_on_disk, models_on_disk, plans_on_disk, rows_on_disk, shorter
from prunus.run.outside import data_facts, model_facts, plan_facts, target_facts
from prunus.run.stage import Stage
from prunus.train.optim import warm

STAGES: dict[str, Stage] = {
    "data": Stage(rows_on_disk.write_rows, version=2, facts=data_facts),
    "model": Stage(models_on_disk.make_model, facts=model_facts),
    "train": Stage(models_on_disk.train, trains=True, warm=warm, shorter=shorter.train),
    "signals": Stage(plans_on_disk.record_signals, version=2, trains=True, warm=warm, shorter=shorter.signals),
    "score": Stage(plans_on_disk.make_score, facts=target_facts),
    "plan": Stage(plans_on_disk.make_plan, facts=plan_facts),
    "apply": Stage(models_on_disk.apply_plan),
    "recover": Stage(models_on_disk.recover_model, version=2, trains=True, warm=warm, shorter=shorter.recover),
    "measure": Stage(measures_on_disk.measure_model, shorter=shorter.measure),
    "pair": Stage(measures_on_disk.measure_pair),
    "report": Stage(measures_on_disk.write_report),
}
