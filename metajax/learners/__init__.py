"""Few-shot learning algorithms, one a file, as functions that return a `Learner`."""

from metajax.learners.anil import anil as anil
from metajax.learners.baseline import baseline as baseline
from metajax.learners.baseline import baseline_plus_plus as baseline_plus_plus
from metajax.learners.boil import boil as boil
from metajax.learners.cavia import cavia as cavia
from metajax.learners.closed_form import HeadRule as HeadRule
from metajax.learners.closed_form import closed_form as closed_form
from metajax.learners.correlation_detector import (
    correlation_detector as correlation_detector,
)
from metajax.learners.correlation_segmenter import (
    correlation_segmenter as correlation_segmenter,
)
from metajax.learners.fine_tuned import fine_tuned as fine_tuned
from metajax.learners.fine_tuned import pmf as pmf
from metajax.learners.fine_tuned_detector import (
    fine_tuned_detector as fine_tuned_detector,
)
from metajax.learners.full_context import full_context as full_context
from metajax.learners.imaml import imaml as imaml
from metajax.learners.in_context import in_context as in_context
from metajax.learners.inner_optimizer import InnerOptimizer as InnerOptimizer
from metajax.learners.inner_optimizer import curvature as curvature
from metajax.learners.inner_optimizer import fixed as fixed
from metajax.learners.inner_optimizer import parameter_rates as parameter_rates
from metajax.learners.inner_optimizer import step_rates as step_rates
from metajax.learners.learned import learned_maml as learned_maml
from metajax.learners.learned import meta_sgd as meta_sgd
from metajax.learners.logistic import lr_d2 as lr_d2
from metajax.learners.maml import fomaml as fomaml
from metajax.learners.maml import maml as maml
from metajax.learners.maml_plus_plus import maml_plus_plus as maml_plus_plus
from metajax.learners.maml_plus_plus import multi_step_weights as multi_step_weights
from metajax.learners.maml_rl import maml_rl as maml_rl
from metajax.learners.mann import mann as mann
from metajax.learners.matching import matching as matching
from metajax.learners.meta_baseline import meta_baseline as meta_baseline
from metajax.learners.mtl import mtl as mtl
from metajax.learners.mtl import scale_and_shift as scale_and_shift
from metajax.learners.mwt import mwt as mwt
from metajax.learners.neural_process import neural_process as neural_process
from metajax.learners.partition import everything as everything
from metajax.learners.partition import nothing as nothing
from metajax.learners.partition import scale_or_offset as scale_or_offset
from metajax.learners.proto_maml import proto_maml as proto_maml
from metajax.learners.prototypical import prototypical as prototypical
from metajax.learners.prototypical_segmenter import (
    prototypical_segmenter as prototypical_segmenter,
)
from metajax.learners.recurrent import learned_optimizer as learned_optimizer
from metajax.learners.recurrent import meta_lstm as meta_lstm
from metajax.learners.relation import relation as relation
from metajax.learners.reparametrised import reparametrised as reparametrised
from metajax.learners.reptile import reptile as reptile
from metajax.learners.ridge import r2d2 as r2d2
from metajax.learners.rl2 import ActorCritic as ActorCritic
from metajax.learners.rl2 import rl2 as rl2
from metajax.learners.schedules import annealed as annealed
from metajax.learners.schedules import switch as switch
from metajax.learners.siamese import siamese as siamese
from metajax.learners.siamese import verification as verification
from metajax.learners.siamese_segmenter import siamese_segmenter as siamese_segmenter
from metajax.learners.simple_shot import simple_shot as simple_shot
from metajax.learners.snail import snail as snail
from metajax.learners.svm import meta_opt_net as meta_opt_net
from metajax.learners.tent import prediction_entropy as prediction_entropy
from metajax.learners.tent import tent as tent
from metajax.learners.tnas import tnas as tnas
from metajax.learners.weight_features import Features as Features
from metajax.learners.weight_features import (
    detached_weight_changes as detached_weight_changes,
)
from metajax.learners.weight_features import sorted_values as sorted_values
from metajax.learners.weight_features import weight_changes as weight_changes
