"""Observers of training: JSON lines, TensorBoard, trackers, and a progress display."""

from metajax.reporting.progress import Progress as Progress
from metajax.reporting.rows import JsonLines as JsonLines
from metajax.reporting.rows import finite as finite
from metajax.reporting.rows import read_rows as read_rows
from metajax.reporting.tensorboard import TensorBoard as TensorBoard
from metajax.reporting.trackers import TRACKERS as TRACKERS
from metajax.reporting.trackers import MLflow as MLflow
from metajax.reporting.trackers import Tracker as Tracker
from metajax.reporting.trackers import Trackio as Trackio
from metajax.reporting.trackers import WandB as WandB
from metajax.reporting.trackers import check_trackers as check_trackers
