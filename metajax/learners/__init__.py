"""Few-shot learning algorithms, one a file, each a factory of a `Learner`."""

from metajax.learners.anil import anil as anil
from metajax.learners.boil import boil as boil
from metajax.learners.cavia import cavia as cavia
from metajax.learners.choice import everything as everything
from metajax.learners.choice import nothing as nothing
from metajax.learners.choice import scale_or_offset as scale_or_offset
from metajax.learners.imaml import imaml as imaml
from metajax.learners.in_context import in_context as in_context
from metajax.learners.inner_optimizer import InnerOptimizer as InnerOptimizer
from metajax.learners.inner_optimizer import curvature as curvature
from metajax.learners.inner_optimizer import fixed as fixed
from metajax.learners.inner_optimizer import parameter_rates as parameter_rates
from metajax.learners.inner_optimizer import step_rates as step_rates
from metajax.learners.learned import learned_maml as learned_maml
from metajax.learners.learned import meta_sgd as meta_sgd
from metajax.learners.maml import fomaml as fomaml
from metajax.learners.maml import maml as maml
from metajax.learners.maml_plus_plus import maml_plus_plus as maml_plus_plus
from metajax.learners.maml_plus_plus import multi_step_weights as multi_step_weights
from metajax.learners.mtl import mtl as mtl
from metajax.learners.mtl import scale_and_shift as scale_and_shift
from metajax.learners.proto_maml import proto_maml as proto_maml
from metajax.learners.recurrent import learned_optimizer as learned_optimizer
from metajax.learners.recurrent import meta_lstm as meta_lstm
from metajax.learners.reptile import reptile as reptile
from metajax.learners.schedules import switch as switch
