"""Metrics: scores of predictions, over many tasks."""

from metajax.metrics.average_precision import COCO as COCO
from metajax.metrics.average_precision import average_precision as average_precision
from metajax.metrics.image_overlap import image_iou as image_iou
from metajax.metrics.intervals import Z95 as Z95
from metajax.metrics.intervals import jackknife as jackknife
from metajax.metrics.intervals import mean as mean
from metajax.metrics.labelled import label_accuracy as label_accuracy
from metajax.metrics.labelled import signal_accuracy as signal_accuracy
from metajax.metrics.metric import Metric as Metric
from metajax.metrics.metric import accuracy as accuracy
from metajax.metrics.metric import as_metric as as_metric
from metajax.metrics.metric import mean_of as mean_of
from metajax.metrics.metric import mse as mse
from metajax.metrics.metric import percent as percent
from metajax.metrics.overlap import fb_iou as fb_iou
from metajax.metrics.overlap import mean_iou as mean_iou
from metajax.metrics.ranking import auc as auc
from metajax.metrics.returns import average_return as average_return
from metajax.metrics.returns import episode_return as episode_return
from metajax.metrics.returns import total_return as total_return
from metajax.metrics.root_error import rmse as rmse
from metajax.metrics.signal_to_noise import psnr as psnr
