r"""Intervals of group metrics from counts.

A gap is a largest minus a smallest rate. Resampling it fails near parity: every draw
of an absolute gap is above 0, so a percentile interval never reaches the truth 0.
Here only *signed* quantities get intervals, and the gap follows by projection:

- A rate has Wilson's score interval.
- A difference of two groups' rates has Newcombe's interval, which combines the two
  Wilson intervals ("method of variance estimates recovery", MOVER).
- A gap lies between the largest lower and the largest upper limit of the signed
  differences, and not below 0. Its lower limit holds for all differences at once
  (Bonferroni); its upper limit needs no such correction, since the largest of the
  upper limits is above that of the pair where the true gap is.
- Ratios and minima follow in the same way, means from limits at a split level.
- Two classifiers on the same rows are compared group by group, on the rows where they
  disagree (Bayesian bootstrap of those counts). The difference of their gaps then lies
  between the differences at the comparisons where either gap may be.
- Rows of one subject are not independent: `design_effects` says by how much each rate
  varies more than its number of rows tells, and the rows count for that much less.
- Several fits of one method differ by their seeds: `fits_interval` adds their spread.

References
----------
Wilson. Probable inference, the law of succession, and statistical inference. Journal
of the American Statistical Association, 1927. Newcombe. Interval estimation for the
difference between independent proportions. Statistics in Medicine, 1998. Zou and
Donner. Construction of confidence limits about effect measures: a general approach.
Statistics in Medicine, 2008. Rubin. The Bayesian bootstrap. Annals of Statistics, 1981.
Kish. Survey sampling. Wiley, 1965. Korn and Graubard. Confidence intervals for
proportions with small expected number of positive counts estimated from survey data.
Survey Methodology, 1998.
"""

from fairskorch.intervals._fits import fits_interval
from fairskorch.intervals._metric import metric_interval
from fairskorch.intervals._paired import paired_interval
from fairskorch.intervals._rates import (
    Interval,
    difference_interval,
    rate_difference_interval,
    rate_interval,
)
from fairskorch.intervals._subjects import design_effects

__all__ = [
    "Interval",
    "design_effects",
    "difference_interval",
    "fits_interval",
    "metric_interval",
    "paired_interval",
    "rate_difference_interval",
    "rate_interval",
]
