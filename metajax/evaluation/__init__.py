"""Evaluation over many tasks, with intervals and the protocol beside the numbers."""

from metajax.evaluation.scores import Evaluation as Evaluation
from metajax.evaluation.scores import Outputs as Outputs
from metajax.evaluation.scores import Score as Score
from metajax.evaluation.scores import TaskOutputs as TaskOutputs
from metajax.evaluation.scores import evaluate as evaluate
from metajax.evaluation.scores import report as report
from metajax.evaluation.scores import task_outputs as task_outputs
