"""Few-shot learning algorithms, one a file, each a factory of a `Learner`."""

from metajax.learners.maml import fomaml as fomaml
from metajax.learners.maml import maml as maml
