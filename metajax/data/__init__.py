"""Episodes: families of tasks, and image data sets on the device or streamed to it.

Every sampler is called as `episodes(key, tasks) -> Episode`, inside `jit`; see
`metajax.data.StagedSampler` for its three stages and how to write one.
"""

from metajax.data.augmentation import Augmented as Augmented
from metajax.data.augmentation import Transform as Transform
from metajax.data.augmentation import augmented as augmented
from metajax.data.cifar import cifar_fs as cifar_fs
from metajax.data.cifar import fc100 as fc100
from metajax.data.converting import Converted as Converted
from metajax.data.converting import converted as converted
from metajax.data.dense_coco import coco_folder as coco_folder
from metajax.data.dense_episodes import DenseImages as DenseImages
from metajax.data.dense_episodes import dense_episodes as dense_episodes
from metajax.data.dense_masks import mask_folder as mask_folder
from metajax.data.dense_store import DenseStore as DenseStore
from metajax.data.dense_streaming import DenseStream as DenseStream
from metajax.data.dense_streaming import stream_dense_episodes as stream_dense_episodes
from metajax.data.fields import Fields as Fields
from metajax.data.fields import fields as fields
from metajax.data.fields import pixel_coordinates as pixel_coordinates
from metajax.data.folder import image_folder as image_folder
from metajax.data.glyphs import Glyphs as Glyphs
from metajax.data.glyphs import glyph_store as glyph_store
from metajax.data.glyphs import glyphs as glyphs
from metajax.data.glyphs import ink as ink
from metajax.data.glyphs import signed_distance as signed_distance
from metajax.data.glyphs import single_glyphs as single_glyphs
from metajax.data.grouping import grouped_tasks as grouped_tasks
from metajax.data.hiding import hide_labels as hide_labels
from metajax.data.images import Images as Images
from metajax.data.images import ImageStore as ImageStore
from metajax.data.images import image_episodes as image_episodes
from metajax.data.iterables import from_step as from_step
from metajax.data.jitter import jitter as jitter
from metajax.data.joint import JointBatches as JointBatches
from metajax.data.joint import joint_batches as joint_batches
from metajax.data.keyed import WithKeys as WithKeys
from metajax.data.keyed import keyed as keyed
from metajax.data.labelled_fields import LabelledFields as LabelledFields
from metajax.data.labelled_fields import labelled_fields as labelled_fields
from metajax.data.mixing import metamix as metamix
from metajax.data.mixing import mixup as mixup
from metajax.data.omniglot import omniglot as omniglot
from metajax.data.pages import Page as Page
from metajax.data.records import Records as Records
from metajax.data.sampling import Fetching as Fetching
from metajax.data.sampling import SamplerWrapper as SamplerWrapper
from metajax.data.sampling import StagedSampler as StagedSampler
from metajax.data.scenes import Scenes as Scenes
from metajax.data.scenes import scenes as scenes
from metajax.data.single import single_images as single_images
from metajax.data.single import stream_single_images as stream_single_images
from metajax.data.sinusoid import Sinusoid as Sinusoid
from metajax.data.sinusoid import sinusoid as sinusoid
from metajax.data.staging import staged as staged
from metajax.data.streaming import Stream as Stream
from metajax.data.streaming import stream_episodes as stream_episodes
from metajax.data.transforms import flip_classes as flip_classes
from metajax.data.transforms import shuffle_labels as shuffle_labels
from metajax.data.transforms import shuffle_support as shuffle_support
from metajax.data.transforms import turn_classes as turn_classes
from metajax.data.varied import Varied as Varied
from metajax.data.varied import varied as varied
