"""Correction of a segmentation by clicks, scribbles and lassos, without a network in the loop."""

from multiorganseg.refine.changes import Change
from multiorganseg.refine.maps import NetworkMaps
from multiorganseg.refine.prompts import Prompt
from multiorganseg.refine.session import Session
from multiorganseg.refine.steps import Step

__all__ = ["Change", "NetworkMaps", "Prompt", "Session", "Step"]
