"""Learners' configurations: their options, what they can take, how each is built."""

from metajax.experiments.learners import (
    baselines,
    dense,
    fields,
    loops,
    one_pass,
    policies,
)
from metajax.experiments.learners.adaptation import Adaptation as Adaptation
from metajax.experiments.learners.adaptation import Setting as Setting

LEARNERS: dict[str, type[Adaptation]] = {
    kind.name: kind
    for kind in (
        loops.Maml,
        loops.Fomaml,
        loops.Anil,
        loops.Boil,
        loops.Reptile,
        loops.ProtoMaml,
        loops.FoProtoMaml,
        loops.Imaml,
        loops.Cavia,
        loops.MetaSgd,
        loops.MetaCurvature,
        loops.MetaLstm,
        loops.LearnedOptimizer,
        loops.MamlPlusPlus,
        loops.Mtl,
        loops.Tnas,
        baselines.Baseline,
        baselines.BaselinePlusPlus,
        baselines.MetaBaseline,
        baselines.SimpleShot,
        baselines.Pmf,
        one_pass.Prototypical,
        one_pass.Matching,
        one_pass.Relation,
        one_pass.Siamese,
        one_pass.R2D2,
        one_pass.LrD2,
        one_pass.MetaOptNet,
        one_pass.NeuralProcess,
        one_pass.Mann,
        one_pass.Snail,
        dense.PrototypicalSegmenter,
        dense.SiameseSegmenter,
        dense.CorrelationSegmenter,
        dense.CorrelationDetector,
        dense.FineTunedDetector,
        fields.Mwt,
        policies.MamlRl,
        policies.Rl2,
    )
}
"""By the name that `--learner` takes."""
