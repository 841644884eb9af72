"""Episodes: families of tasks, and image data sets on the device or streamed to it.

Every sampler is called as `episodes(key, tasks) -> Episode`, inside `jit`; see
`metajax.data.StagedSampler` for its three stages and how to write one.
"""

from metajax.data.dense.coco_folder import coco_folder as coco_folder
from metajax.data.dense.episodes import DenseImages as DenseImages
from metajax.data.dense.episodes import dense_episodes as dense_episodes
from metajax.data.dense.mask_folder import mask_folder as mask_folder
from metajax.data.dense.store import DenseStore as DenseStore
from metajax.data.dense.streaming import DenseStream as DenseStream
from metajax.data.dense.streaming import stream_dense_episodes as stream_dense_episodes
from metajax.data.folders.folder import image_folder as image_folder
from metajax.data.grouping import grouped_tasks as grouped_tasks
from metajax.data.images import Images as Images
from metajax.data.images import ImageStore as ImageStore
from metajax.data.images import image_episodes as image_episodes
from metajax.data.iterables import from_step as from_step
from metajax.data.joint import JointBatches as JointBatches
from metajax.data.joint import joint_batches as joint_batches
from metajax.data.records import Records as Records
from metajax.data.sampling import Fetching as Fetching
from metajax.data.sampling import SamplerWrapper as SamplerWrapper
from metajax.data.sampling import StagedSampler as StagedSampler
from metajax.data.sets.cifar import cifar_fs as cifar_fs
from metajax.data.sets.cifar import fc100 as fc100
from metajax.data.sets.fields import Fields as Fields
from metajax.data.sets.fields import fields as fields
from metajax.data.sets.fields import pixel_coordinates as pixel_coordinates
from metajax.data.sets.glyphs import Glyphs as Glyphs
from metajax.data.sets.glyphs import glyph_store as glyph_store
from metajax.data.sets.glyphs import glyphs as glyphs
from metajax.data.sets.glyphs import ink as ink
from metajax.data.sets.glyphs import signed_distance as signed_distance
from metajax.data.sets.glyphs import single_glyphs as single_glyphs
from metajax.data.sets.labelled_fields import LabelledFields as LabelledFields
from metajax.data.sets.labelled_fields import labelled_fields as labelled_fields
from metajax.data.sets.omniglot import omniglot as omniglot
from metajax.data.sets.pages import Page as Page
from metajax.data.sets.scenes import Scenes as Scenes
from metajax.data.sets.scenes import scenes as scenes
from metajax.data.sets.sinusoid import Sinusoid as Sinusoid
from metajax.data.sets.sinusoid import sinusoid as sinusoid
from metajax.data.single import single_images as single_images
from metajax.data.single import stream_single_images as stream_single_images
from metajax.data.staging import staged as staged
from metajax.data.streaming import Stream as Stream
from metajax.data.streaming import stream_episodes as stream_episodes
from metajax.data.wrappers.augmentation import Augmented as Augmented
from metajax.data.wrappers.augmentation import Transform as Transform
from metajax.data.wrappers.augmentation import augmented as augmented
from metajax.data.wrappers.converting import Converted as Converted
from metajax.data.wrappers.converting import converted as converted
from metajax.data.wrappers.hiding import hide_labels as hide_labels
from metajax.data.wrappers.jitter import jitter as jitter
from metajax.data.wrappers.keyed import WithKeys as WithKeys
from metajax.data.wrappers.keyed import keyed as keyed
from metajax.data.wrappers.mixing import metamix as metamix
from metajax.data.wrappers.mixing import mixup as mixup
from metajax.data.wrappers.transforms import flip_classes as flip_classes
from metajax.data.wrappers.transforms import shuffle_labels as shuffle_labels
from metajax.data.wrappers.transforms import shuffle_support as shuffle_support
from metajax.data.wrappers.transforms import turn_classes as turn_classes
from metajax.data.wrappers.varied import Varied as Varied
from metajax.data.wrappers.varied import varied as varied
