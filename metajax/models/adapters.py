"""Other libraries' modules as `Model`s; each library is imported when it is used.

Their products are exact in float32 unless JAX's setting says otherwise; see
`metajax.in_precision`.
"""

from metajax.models._equinox import from_equinox as from_equinox
from metajax.models._linen import from_linen as from_linen
from metajax.models._nnx import from_nnx as from_nnx
