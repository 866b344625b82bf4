"""Organs: the catalogue and label tables."""

from multiorganseg.organs.catalogue import Catalogue, Code, Organ, load_catalogue
from multiorganseg.organs.labels import LabelTable

__all__ = ["Catalogue", "Code", "LabelTable", "Organ", "load_catalogue"]
