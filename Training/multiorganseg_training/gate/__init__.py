"""The regression gate: a network that learned more organs must not have lost the old ones."""

from multiorganseg_training.gate.case import GateCase, gate_case
from multiorganseg_training.gate.gate import Gate, OrganVerdict, Verdict
from multiorganseg_training.gate.gate_json import load_gate, save_gate
from multiorganseg_training.gate.judge import GateOptions, judge, judge_folds
from multiorganseg_training.gate.publish_extension import (
    ExtensionWishes,
    Published,
    publish_extension,
    roll_back,
)
from multiorganseg_training.gate.report import gate_report
from multiorganseg_training.gate.run_gate import gate_run
from multiorganseg_training.gate.split import Split, split_for_gate

__all__ = [
    "ExtensionWishes",
    "Gate",
    "GateCase",
    "GateOptions",
    "OrganVerdict",
    "Published",
    "Split",
    "Verdict",
    "gate_case",
    "gate_report",
    "gate_run",
    "judge",
    "judge_folds",
    "load_gate",
    "publish_extension",
    "roll_back",
    "save_gate",
    "split_for_gate",
]
