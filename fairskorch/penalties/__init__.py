"""Penalties: differentiable numbers that compare how a network treats groups.

Each is a `torch.nn.Module`, called as ``penalty(logits, target, groups)``, that holds
no data and no parameter. See `GroupPenalty` for how to write another.
"""

from fairskorch.penalties._base import GroupPenalty
from fairskorch.penalties._losses import AccuracyEquality, MaxMinLoss
from fairskorch.penalties._mindiff import MinDiff
from fairskorch.penalties._rates import (
    DemographicParity,
    DisparateImpact,
    EqualizedOdds,
    EqualOpportunity,
)

__all__ = [
    "ALIASES",
    "AccuracyEquality",
    "DemographicParity",
    "DisparateImpact",
    "EqualOpportunity",
    "EqualizedOdds",
    "GroupPenalty",
    "MaxMinLoss",
    "MinDiff",
]

#: Short names that estimators accept.
ALIASES = {
    "ae": AccuracyEquality,
    "di": DisparateImpact,
    "dp": DemographicParity,
    "eo": EqualizedOdds,
    "eopp": EqualOpportunity,
    "mindiff": MinDiff,
    "mmf": MaxMinLoss,
}
