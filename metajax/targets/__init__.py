"""Compilation for chips that are not here, and what it tells of a program.

Compiling needs no chip, only its compiler: `pip install "metajax[targets]"`. What is
read from a compiled program is an estimate; no time follows from it.
"""

from metajax.targets.absent import devices as devices
from metajax.targets.chips import CHIPS as CHIPS
from metajax.targets.chips import Chip as Chip
from metajax.targets.chips import chip_of as chip_of
from metajax.targets.compiling import Compiled as Compiled
from metajax.targets.compiling import compile_for as compile_for
from metajax.targets.program import Instruction as Instruction
from metajax.targets.program import Program as Program
from metajax.targets.program import product_operations as product_operations
from metajax.targets.program import read_program as read_program
