"""Pre-trained backbones, from a file of weights as timm saves them."""

from metajax.models.backbones.config import Preprocessing as Preprocessing
from metajax.models.backbones.loading import Backbone as Backbone
from metajax.models.backbones.loading import backbone_digest as backbone_digest
from metajax.models.backbones.loading import load_backbone as load_backbone
