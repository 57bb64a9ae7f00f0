"""Data sets with groups: readers of official layouts, and data made on the spot."""

from fairskorch.datasets._celeba import load_celeba
from fairskorch.datasets._chexpert import load_chexpert
from fairskorch.datasets._cifar10 import load_cifar10
from fairskorch.datasets._digits import make_biased_digits
from fairskorch.datasets._ham10000 import load_ham10000
from fairskorch.datasets._split import split_by_subject
from fairskorch.datasets._synthetic import make_biased_classification
from fairskorch.datasets._table_of_images import load_images
from fairskorch.datasets._utkface import load_utkface

__all__ = [
    "load_celeba",
    "load_chexpert",
    "load_cifar10",
    "load_ham10000",
    "load_images",
    "load_utkface",
    "make_biased_classification",
    "make_biased_digits",
    "split_by_subject",
]
