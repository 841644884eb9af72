"""What happens inside adaptation: diagnostics of any learner with an inner loop.

Each is a pure function of a learner, its meta-parameters and a meta-batch of episodes,
and returns arrays with named axes; `metajax.study.plots.plot` draws any of them.
"""

from metajax.study import remarks as remarks
from metajax.study.activations import activations as activations
from metajax.study.chips import ChipPlan as ChipPlan
from metajax.study.chips import plan_for as plan_for
from metajax.study.cost import Plan as Plan
from metajax.study.cost import plan as plan
from metajax.study.curvature import Density as Density
from metajax.study.curvature import Sensitivity as Sensitivity
from metajax.study.curvature import Spectrum as Spectrum
from metajax.study.curvature import adaptation_spectrum as adaptation_spectrum
from metajax.study.curvature import density as density
from metajax.study.curvature import spectrum as spectrum
from metajax.study.lanczos import Quadrature as Quadrature
from metajax.study.lanczos import Tridiagonal as Tridiagonal
from metajax.study.lanczos import lanczos as lanczos
from metajax.study.lanczos import quadrature as quadrature
from metajax.study.landscape import HeatMap as HeatMap
from metajax.study.landscape import Landscape as Landscape
from metajax.study.landscape import heat_map as heat_map
from metajax.study.landscape import joint_optimum as joint_optimum
from metajax.study.landscape import landscape as landscape
from metajax.study.layers import layer_names as layer_names
from metajax.study.named import Named as Named
from metajax.study.noise import Noise as Noise
from metajax.study.noise import noise as noise
from metajax.study.orders import Expansion as Expansion
from metajax.study.orders import Orders as Orders
from metajax.study.orders import expansion as expansion
from metajax.study.orders import orders as orders
from metajax.study.orders import scaled as scaled
from metajax.study.representation import Contributions as Contributions
from metajax.study.representation import Freezing as Freezing
from metajax.study.representation import Reuse as Reuse
from metajax.study.representation import contributions as contributions
from metajax.study.representation import freezing as freezing
from metajax.study.representation import reuse as reuse
from metajax.study.similarity import linear_cka as linear_cka
from metajax.study.similarity import mean_cca as mean_cca
from metajax.study.task_map import TaskMap as TaskMap
from metajax.study.task_map import classical_scaling as classical_scaling
from metajax.study.task_map import group_area as group_area
from metajax.study.task_map import task_map as task_map
from metajax.study.task_vectors import features_of_path as features_of_path
from metajax.study.task_vectors import fisher_diagonal as fisher_diagonal
from metajax.study.task_vectors import task2vec as task2vec
from metajax.study.task_vectors import task_distances as task_distances
from metajax.study.trajectories import Trajectories as Trajectories
from metajax.study.trajectories import trajectories as trajectories
