"""Labelled names as padded index arrays: read or drawn, cleaned, split and encoded. No torch here."""

from gradflow.data.dataset import Dataset, Sequences
from gradflow.data.encoding import SEPARATOR, encode
from gradflow.data.loading import load

__all__ = ["SEPARATOR", "Dataset", "Sequences", "encode", "load"]
