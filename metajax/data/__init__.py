"""Episodes: families of tasks, and image data sets that stay on the device.

Every sampler is a pytree called as `episodes(key, tasks) -> Episode`, inside `jit`.
"""

from metajax.data.folder import image_folder as image_folder
from metajax.data.glyphs import Glyphs as Glyphs
from metajax.data.glyphs import glyphs as glyphs
from metajax.data.images import Images as Images
from metajax.data.images import ImageStore as ImageStore
from metajax.data.images import image_episodes as image_episodes
from metajax.data.omniglot import omniglot as omniglot
from metajax.data.sinusoid import Sinusoid as Sinusoid
from metajax.data.sinusoid import sinusoid as sinusoid
