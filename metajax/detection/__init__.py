"""Objects in images: their boxes, and the maps that a detector predicts."""

from metajax.detection.boxes import Boxes as Boxes
from metajax.detection.boxes import Detections as Detections
from metajax.detection.boxes import overlaps as overlaps
from metajax.detection.suppression import suppress as suppress
