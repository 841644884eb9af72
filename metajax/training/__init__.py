"""Meta-training: a meta-step, many of them, devices, checkpoints, averages."""

from metajax.training.averaging import averaged as averaged
from metajax.training.averaging import parameter_average as parameter_average
from metajax.training.checkpoints import Checkpoints as Checkpoints
from metajax.training.loop import Checkpointer as Checkpointer
from metajax.training.loop import Observer as Observer
from metajax.training.loop import TrainState as TrainState
from metajax.training.loop import fit as fit
from metajax.training.loop import init_state as init_state
from metajax.training.loop import meta_gradient as meta_gradient
from metajax.training.loop import train_step as train_step
