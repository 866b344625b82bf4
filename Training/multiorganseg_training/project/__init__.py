"""Projects: folders of cases whose labels are known in part."""

from multiorganseg.projects.file import load_matrix, load_project, project_lock, save_matrix, save_project
from multiorganseg.projects.matrix import LabelStatus, LabelStatusMatrix
from multiorganseg.projects.project import Project, ProjectCase
from multiorganseg_training.project.add_case import add_case, set_status, set_statuses
from multiorganseg_training.project.annotate import SavedAnnotation, save_annotation
from multiorganseg_training.project.check import Contradiction, find_contradictions, tidy
from multiorganseg_training.project.create import MergeOptions, create_project, merge_projects
from multiorganseg_training.project.export_nnunet import ExportReport, PartialCases, export_nnunet
from multiorganseg_training.project.import_dataset import import_folder, import_msd, import_nnunet
from multiorganseg_training.project.organs import add_organ, project_catalogue
from multiorganseg_training.project.state import project_state

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
    "create_project",
    "export_nnunet",
    "find_contradictions",
    "import_folder",
    "import_msd",
    "import_nnunet",
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
