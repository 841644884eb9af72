"""Evaluation over many tasks, with intervals and the protocol beside the numbers."""

from metajax.evaluation.outputs import Outputs as Outputs
from metajax.evaluation.outputs import TaskOutputs as TaskOutputs
from metajax.evaluation.outputs import task_outputs as task_outputs
from metajax.evaluation.per_query import per_query as per_query
from metajax.evaluation.result import Evaluation as Evaluation
from metajax.evaluation.result import Score as Score
from metajax.evaluation.result import report as report
from metajax.evaluation.scores import evaluate as evaluate
