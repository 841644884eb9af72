"""Meta-training: the meta-step, the loop, devices, checkpoints, averages."""

from metajax.training.averaging import averaged as averaged
from metajax.training.averaging import parameter_average as parameter_average
from metajax.training.checkpoints import Checkpoints as Checkpoints
from metajax.training.dispatching import dispatches as dispatches
from metajax.training.fitting import fit as fit
from metajax.training.repeating import repeated_step as repeated_step
from metajax.training.state import Checkpointer as Checkpointer
from metajax.training.state import Observer as Observer
from metajax.training.state import TrainState as TrainState
from metajax.training.state import init_state as init_state
from metajax.training.step import meta_gradient as meta_gradient
from metajax.training.step import train_step as train_step
