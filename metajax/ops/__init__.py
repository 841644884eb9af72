"""Array operations that stay fast when every task has its own weights."""

from metajax.ops.convolution import conv2d as conv2d
from metajax.ops.convolution import conv_general_dilated as conv_general_dilated
from metajax.ops.linear import linear as linear
from metajax.ops.normalisation import batch_norm as batch_norm
from metajax.ops.normalisation import group_norm as group_norm
from metajax.ops.pooling import max_pool as max_pool
from metajax.ops.tuned import Tuned as Tuned
from metajax.ops.tuned import taking as taking
from metajax.ops.tuning import tune as tune
from metajax.ops.unit_rows import unit_rows as unit_rows
from metajax.ops.windows import max_window as max_window
from metajax.ops.windows import mean_window as mean_window
