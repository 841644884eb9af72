"""Objects in images: their boxes, and the maps that a detector predicts."""

from metajax.detection.boxes import Boxes as Boxes
from metajax.detection.boxes import Detections as Detections
from metajax.detection.boxes import overlaps as overlaps
from metajax.detection.centre_loss import centre_loss as centre_loss
from metajax.detection.centres import CentreMaps as CentreMaps
from metajax.detection.centres import CentreTargets as CentreTargets
from metajax.detection.centres import centre_targets as centre_targets
from metajax.detection.decoding import decode as decode
from metajax.detection.pooling import pool_boxes as pool_boxes
from metajax.detection.suppression import suppress as suppress
