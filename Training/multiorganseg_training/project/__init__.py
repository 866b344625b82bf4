"""Projects: folders of cases whose labels are known in part."""

from multiorganseg_training.project.add_case import add_case
from multiorganseg_training.project.annotate import SavedAnnotation, save_annotation
from multiorganseg_training.project.channels import channel_lookup, known_channels
from multiorganseg_training.project.contradictions import Contradiction, find_contradictions
from multiorganseg_training.project.create import create_project
from multiorganseg_training.project.export_nnunet import ExportReport, PartialCases, export_nnunet
from multiorganseg_training.project.import_folder import import_folder
from multiorganseg_training.project.import_msd import import_msd
from multiorganseg_training.project.import_nnunet import import_nnunet
from multiorganseg_training.project.lock import project_lock
from multiorganseg_training.project.matrix import LabelStatusMatrix
from multiorganseg_training.project.matrix_json import load_matrix, save_matrix
from multiorganseg_training.project.merge import MergeOptions, merge_projects
from multiorganseg_training.project.organs import add_organ, project_catalogue
from multiorganseg_training.project.project import Project, ProjectCase
from multiorganseg_training.project.project_json import load_project, save_project
from multiorganseg_training.project.set_status import set_status, set_statuses
from multiorganseg_training.project.state import project_state
from multiorganseg_training.project.status import LabelStatus
from multiorganseg_training.project.unused_files import tidy

__all__ = [
    "Contradiction",
    "ExportReport",
    "LabelStatus",
    "LabelStatusMatrix",
    "MergeOptions",
    "PartialCases",
    "Project",
    "ProjectCase",
    "SavedAnnotation",
    "add_case",
    "add_organ",
    "channel_lookup",
    "create_project",
    "export_nnunet",
    "find_contradictions",
    "import_folder",
    "import_msd",
    "import_nnunet",
    "known_channels",
    "load_matrix",
    "load_project",
    "merge_projects",
    "project_catalogue",
    "project_lock",
    "project_state",
    "save_annotation",
    "save_matrix",
    "save_project",
    "set_status",
    "set_statuses",
    "tidy",
]
