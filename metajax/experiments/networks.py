"""Networks' configurations: their options, and how each is built."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Self

import numpy as np

from metajax import rl
from metajax.checks import check_seed
from metajax.errors import InputError
from metajax.experiments.backbone_network import BackboneModel
from metajax.experiments.bounds import Count, CountOrZero, Positive, Seed
from metajax.experiments.genotypes import (
    alphas_of,
    draw_architecture,
    genotype_text,
    line_of,
    read_genotype,
)
from metajax.experiments.network import Network as Network
from metajax.experiments.network import Shape
from metajax.models import (
    CellSpace,
    Genotype,
    cells,
    centre_head,
    conv4,
    fourier_mlp,
    headed,
    mlp,
    random_genotype,
    resnet12,
    siren,
    strongest,
    unet,
    unet_body,
)
from metajax.models.blocks import Halving
from metajax.models.cell_operations import OPERATIONS, OperationName
from metajax.models.cells import LAYERS
from metajax.models.dense import Head
from metajax.models.genotype import KINDS, CellKind
from metajax.models.norms import NormName
from metajax.models.resnet12 import Readout
from metajax.types import Model, PyTree


@dataclass(frozen=True)
class MLPModel(Network):
    """A multilayer perceptron."""

    name = "mlp"
    hidden: tuple[Count, ...] = (40, 40)
    """Widths of the hidden layers."""

    def build(self, shape: Shape, outputs: int) -> Model:
        """The perceptron, of the last axis of its inputs."""
        return mlp(shape[-1], self.hidden, outputs)

    def policy(self, environment: rl.Environment) -> rl.Policy:
        """A policy without memory, of the perceptron's outputs."""
        head, size = rl.head_for(environment), environment.observation_size
        if not size:
            raise InputError(
                "--model mlp acts by what it observes, and there is nothing to observe "
                "here; take gru"
            )
        return rl.feedforward(mlp(size, self.hidden, head.inputs), head)


@dataclass(frozen=True)
class SirenModel(Network):
    """SIREN: a multilayer perceptron of coordinates with sine activations."""

    name = "siren"
    refuses_bfloat16 = True
    hidden: tuple[Count, ...] = (64, 64, 64)
    """Widths of the hidden layers."""
    omega: Positive = 30.0
    """Frequency factor of the sines' arguments."""

    def build(self, shape: Shape, outputs: int) -> Model:
        """The network, of the last axis of its inputs."""
        return siren(shape[-1], self.hidden, outputs, omega=self.omega)


@dataclass(frozen=True)
class FourierMLPModel(Network):
    """A multilayer perceptron on random Fourier features of coordinates."""

    name = "fourier-mlp"
    refuses_bfloat16 = True
    hidden: tuple[Count, ...] = (64, 64)
    """Widths of the hidden layers."""
    features: Count = 64
    """Number of random frequencies; each gives a cosine and a sine."""
    scale: Positive = 2.0
    """Standard deviation of the frequencies, in cycles per half a side of the image."""

    def build(self, shape: Shape, outputs: int) -> Model:
        """The network, of the last axis of its inputs."""
        return fourier_mlp(
            shape[-1], self.hidden, outputs, features=self.features, scale=self.scale
        )


@dataclass(frozen=True)
class GRUModel(Network):
    """A gated recurrent unit: a policy with a memory."""

    name = "gru"
    units: Count = 64
    """Size of the hidden state."""

    def policy(self, environment: rl.Environment) -> rl.Policy:
        """A policy with a memory, and a value."""
        head = rl.head_for(environment)
        return rl.gru(environment.observation_size, head, self.units)


@dataclass(frozen=True)
class FastWeightsModel(Network):
    """Fast weights: a policy with linear attention over its trial."""

    name = "fast-weights"
    units: Count = 64
    """Width of the hidden layers."""
    heads: Count = 4
    """Number of fast-weight matrices."""
    size: Count = 16
    """Size of each key and of each value."""

    def policy(self, environment: rl.Environment) -> rl.Policy:
        """A policy with a memory, and a value."""
        head, size = rl.head_for(environment), environment.observation_size
        return rl.fast_weights(size, head, self.units, heads=self.heads, size=self.size)


@dataclass(frozen=True)
class Conv4Body(Network):
    """Four convolutional blocks, for a learner that makes its own head."""

    name = "conv4"
    images = True
    filters: Count = 64
    """Filters per block."""
    pooling: Halving = "stride"
    """How a block halves its images: by max pooling, or by a stride of 2."""
    norm: NormName = "transductive"
    """Statistics of batch norm: the current batch's (transductive), the support set's
    (support), or a learnt mixture of those with each image's own (task, TaskNorm-I)."""
    halvings: CountOrZero = 4
    """Number of blocks that halve their images; relation networks use 2."""
    head: ClassVar[Head] = "zero"

    def build(self, shape: Shape, outputs: int) -> Model:
        """The network, of images."""
        return conv4(
            outputs,
            self.filters,
            self.pooling,
            image_shape=shape,  # pyright: ignore (height, width, channels)
            head=self.head,
            norm=self.norm,
            halvings=self.halvings,
        )

    @classmethod
    def for_learner(cls, makes_head: bool) -> type[Network]:
        """With or without the head's options."""
        return Conv4Body if makes_head else Conv4Model


@dataclass(frozen=True)
class Conv4Model(Conv4Body):
    """Four convolutional blocks."""

    head: Head = "zero"
    """Linear head, initialised to zeros or by Glorot's rule, or a cosine head
    (Baseline++)."""


@dataclass(frozen=True)
class ResNet12Body(Network):
    """Four residual blocks of three convolutions, for a learner with its own head."""

    name = "resnet12"
    images = True
    widths: tuple[Count, Count, Count, Count] = (64, 160, 320, 640)
    """Filters of each block."""
    pool: Readout = "mean"
    """Input of the head: the averages of the last block's maps (mean), or all of their
    values (flat)."""
    norm: NormName = "transductive"
    """Statistics of batch norm: the current batch's (transductive), the support set's
    (support), or a learnt mixture of those with each image's own (task, TaskNorm-I)."""
    head: ClassVar[Head] = "zero"

    def build(self, shape: Shape, outputs: int) -> Model:
        """The network, of images."""
        return resnet12(
            outputs,
            self.widths,
            self.pool,
            image_shape=shape,  # pyright: ignore (height, width, channels)
            head=self.head,
            norm=self.norm,
        )

    @classmethod
    def for_learner(cls, makes_head: bool) -> type[Network]:
        """With or without the head's options."""
        return ResNet12Body if makes_head else ResNet12Model


@dataclass(frozen=True)
class ResNet12Model(ResNet12Body):
    """Four residual blocks of three convolutions."""

    head: Head = "zero"
    """Linear head, initialised to zeros or by Glorot's rule, or a cosine head
    (Baseline++)."""


@dataclass(frozen=True)
class UNetModel(Network):
    """U-Net: outputs for every pixel, or for every cell of a coarser grid."""

    name = "unet"
    images = True
    widths: tuple[Count, ...] = (24, 48, 64, 96)
    """Features of each level, finest first; multiples of --model.groups."""
    patch: Count = 2
    """Side of the patches that the finest level treats as one pixel, in pixels."""
    convolutions: Count = 1
    """Convolutions per level of the encoder."""
    groups: Count = 8
    """Groups of group norm; 1 is layer norm."""

    def segmenter(self, shape: Shape, outputs: int) -> Model:
        """The network from images to outputs of every pixel."""
        self._check_sides(shape)
        return unet(
            outputs,
            self.widths,
            channels=shape[-1],
            patch=self.patch,
            convolutions=self.convolutions,
            groups=self.groups,
        )

    def detector(self, shape: Shape, ways: int, stride: int) -> Model:
        """The body at a stride, and a head of centres."""
        self._check_sides(shape)
        strides = [self.patch * 2**level for level in range(len(self.widths))]
        if stride not in strides:
            raise InputError(
                f"--data.stride must be one of {strides} for these --model.widths and "
                f"--model.patch, got {stride}"
            )
        level = strides.index(stride)
        body = unet_body(
            self.widths,
            channels=shape[-1],
            patch=self.patch,
            level=level,
            convolutions=self.convolutions,
            groups=self.groups,
        )
        return headed(body, centre_head(self.widths[level], ways))

    def _check_sides(self, shape: Shape) -> None:
        coarsest = self.patch * 2 ** (len(self.widths) - 1)
        if any(side % coarsest for side in shape[:2]):
            raise InputError(
                f"--model unet of {len(self.widths)} widths and --model.patch "
                f"{self.patch} takes images whose sides are multiples of {coarsest}, "
                f"got {shape[0]}x{shape[1]}; take fewer --model.widths, or another "
                "--data.size"
            )


@dataclass(frozen=True)
class CellsBody(Network):
    """Cells whose operations are searched, for a learner that makes its own head."""

    name = "cells"
    images = True
    norm = "transductive"
    channels: Count = 16
    """Features of a node of the first cell; each reduction cell doubles them."""
    layers: tuple[CellKind, ...] = LAYERS
    """Kinds of the cells, in order; reduction cells halve the maps."""
    stride: Count = 1
    """Stride of the convolution before the first cell."""
    pool: Readout = "mean"
    """Input of the head: the averages of the last cell's maps (mean), or all of their
    values (flat)."""
    nodes: Count = 3
    """Nodes per cell."""
    operations: tuple[OperationName, ...] = OPERATIONS
    """Candidate operations of each edge of a cell."""
    genotype: str | None = None
    """Fixed architecture in place of a search: the directory of a search's run, or its
    genotype.json. The configuration keeps the genotype."""
    random: Seed | None = None
    """Random seed of a fixed architecture in place of a search. The configuration keeps
    the genotype."""
    head: ClassVar[Head] = "zero"

    def __post_init__(self) -> None:
        genotype, seed = self.genotype, self.random
        if seed is not None:
            if genotype is not None:
                raise InputError("give --model.genotype or --model.random, not both")
            generator = np.random.default_rng(check_seed("--model.random", seed))
            space = CellSpace(self.nodes, self.operations)
            genotype = line_of(random_genotype(generator, space))
        if genotype is not None:
            object.__setattr__(self, "genotype", genotype_text(genotype))
            object.__setattr__(self, "random", None)

    @property
    def space(self) -> CellSpace | Genotype:
        """What its cells may be, or are.

        Raises:
          InputError: if the options contradict each other, or a kind of cell would be
            searched that no layer is of.
        """
        if self.genotype is None:
            if missing := [kind for kind in KINDS if kind not in self.layers]:
                raise InputError(
                    "--model.layers must be of both kinds in a search, got no "
                    f"{missing[0]} one; add it, or give --model.genotype"
                )
            return CellSpace(self.nodes, self.operations)
        genotype = read_genotype(self.genotype)
        if genotype.nodes != self.nodes:
            raise InputError(
                f"--model.nodes must be {genotype.nodes}, as --model.genotype has, got "
                f"{self.nodes}"
            )
        return genotype

    def build(self, shape: Shape, outputs: int) -> Model:
        """The network, of images."""
        return cells(
            outputs,
            self.space,
            self.layers,
            self.channels,
            image_shape=shape,  # pyright: ignore (height, width, channels)
            stride=self.stride,
            pool=self.pool,
            head=self.head,
        )

    @classmethod
    def for_learner(cls, makes_head: bool) -> type[Network]:
        """With or without the head's options."""
        return CellsBody if makes_head else CellsModel

    @property
    def searched(self) -> bool:
        """Whether its cells may be any of a space."""
        return isinstance(self.space, CellSpace)

    def discretised(self, meta: PyTree, temperature: float) -> Self | None:
        """The network of a search's strongest edges alone."""
        space = self.space
        if isinstance(space, Genotype) or (alphas := alphas_of(meta)) is None:
            return None
        genotype = strongest(space, alphas, temperature=temperature)
        return replace(self, genotype=line_of(genotype))

    def draw(
        self,
        meta: PyTree,
        adapt: Callable[[int], PyTree],
        cut: PyTree,
        *,
        temperature: float,
        to: Path,
    ) -> None:
        """Writes genotype.json, and draws cells.png, and alphas.png of a search."""
        draw_architecture(self.space, meta, adapt, cut, temperature=temperature, to=to)

    @property
    def facts(self) -> Mapping[str, str]:
        """The genotype, if it is fixed."""
        return {} if self.genotype is None else {"genotype": self.genotype}


@dataclass(frozen=True)
class CellsModel(CellsBody):
    """Cells whose operations are searched."""

    head: Head = "zero"
    """Initial value of the linear head."""


NETWORKS: tuple[type[Network], ...] = (
    MLPModel,
    SirenModel,
    FourierMLPModel,
    GRUModel,
    FastWeightsModel,
    Conv4Model,
    Conv4Body,
    ResNet12Model,
    ResNet12Body,
    UNetModel,
    CellsModel,
    CellsBody,
    BackboneModel,
)
MODELS = tuple(dict.fromkeys(kind.name for kind in NETWORKS))
"""Their names."""
