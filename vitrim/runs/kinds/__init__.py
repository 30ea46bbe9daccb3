"""How a model's outputs are compared with what was asked, one file for each kind of task.

A new kind is one file here, one row in `settings/task_kinds.py`, one objective in `training/objectives.py`
and its cells in `data/targets.py`.
"""

from vitrim.runs.kinds.classify import Classify, Metrics
from vitrim.runs.kinds.kind import Kind
from vitrim.runs.kinds.multilabel import Multilabel, MultilabelMetrics
from vitrim.runs.kinds.regress import Regress, RegressMetrics

KINDS: dict[str, Kind] = {"classify": Classify(), "multilabel": Multilabel(), "regress": Regress()}
AnyMetrics = Metrics | MultilabelMetrics | RegressMetrics
