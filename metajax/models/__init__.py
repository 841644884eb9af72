"""Networks as `Model`s, and adapters that turn other libraries' modules into them."""

from metajax.models.adapters import from_equinox as from_equinox
from metajax.models.adapters import from_linen as from_linen
from metajax.models.adapters import from_nnx as from_nnx
from metajax.models.centre_head import centre_head as centre_head
from metajax.models.comparator import comparator as comparator
from metajax.models.conv4 import conv4 as conv4
from metajax.models.convolution import convolution as convolution
from metajax.models.dense import dense as dense
from metajax.models.encoder import encoder as encoder
from metajax.models.feature_pyramid import feature_pyramid as feature_pyramid
from metajax.models.fourier_mlp import fourier_mlp as fourier_mlp
from metajax.models.headed import headed as headed
from metajax.models.mlp import mlp as mlp
from metajax.models.per_example import per_example as per_example
from metajax.models.precision import in_precision as in_precision
from metajax.models.resnet12 import resnet12 as resnet12
from metajax.models.resnet12 import resnet12_maps as resnet12_maps
from metajax.models.siren import siren as siren
from metajax.models.snail import snail_network as snail_network
from metajax.models.tokens import Tokens as Tokens
from metajax.models.transformer import transformer as transformer
from metajax.models.unet import decoder as decoder
from metajax.models.unet import pixel_head as pixel_head
from metajax.models.unet import unet as unet
from metajax.models.unet import unet_body as unet_body
