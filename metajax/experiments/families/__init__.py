"""Families of tasks: one file each, and one line here."""

from metajax.experiments.families.bandit import BanditData as BanditData
from metajax.experiments.families.cifar import CifarData as CifarData
from metajax.experiments.families.cub import CubData as CubData
from metajax.experiments.families.dense_folder import CocoFolderData as CocoFolderData
from metajax.experiments.families.dense_folder import MaskFolderData as MaskFolderData
from metajax.experiments.families.family import Family as Family
from metajax.experiments.families.family import ImageData as ImageData
from metajax.experiments.families.fields import FolderFieldsData as FolderFieldsData
from metajax.experiments.families.fields import GlyphDistancesData as GlyphDistancesData
from metajax.experiments.families.fields import GlyphFieldsData as GlyphFieldsData
from metajax.experiments.families.fields import OmniglotFieldsData as OmniglotFieldsData
from metajax.experiments.families.folder import FolderData as FolderData
from metajax.experiments.families.glyphs import GlyphsData as GlyphsData
from metajax.experiments.families.labelled_fields import (
    GlyphClassesData as GlyphClassesData,
)
from metajax.experiments.families.labelled_fields import (
    OmniglotClassesData as OmniglotClassesData,
)
from metajax.experiments.families.maze import MazeData as MazeData
from metajax.experiments.families.mdp import MdpData as MdpData
from metajax.experiments.families.navigation import NavigationData as NavigationData
from metajax.experiments.families.omniglot import OmniglotData as OmniglotData
from metajax.experiments.families.scenes import GlyphBoxesData as GlyphBoxesData
from metajax.experiments.families.scenes import GlyphMasksData as GlyphMasksData
from metajax.experiments.families.scenes import OmniglotBoxesData as OmniglotBoxesData
from metajax.experiments.families.scenes import OmniglotMasksData as OmniglotMasksData
from metajax.experiments.families.sinusoid import SinusoidData as SinusoidData

FAMILIES: tuple[type[Family], ...] = (
    SinusoidData,
    GlyphsData,
    OmniglotData,
    CifarData,
    CubData,
    FolderData,
    GlyphMasksData,
    GlyphBoxesData,
    OmniglotMasksData,
    OmniglotBoxesData,
    MaskFolderData,
    CocoFolderData,
    GlyphFieldsData,
    GlyphDistancesData,
    OmniglotFieldsData,
    FolderFieldsData,
    GlyphClassesData,
    OmniglotClassesData,
    BanditData,
    MdpData,
    NavigationData,
    MazeData,
)
PREPARED = {kind.dataset.name: kind.dataset for kind in FAMILIES if kind.dataset}
"""The data sets that are prepared once, by name."""
