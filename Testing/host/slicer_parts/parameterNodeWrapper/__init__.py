"""Stands for `slicer.parameterNodeWrapper`: typed attributes over a vtkMRMLScriptedModuleNode.

Rules, names and errors follow the real package; parameter packs, containers and unions are not offered,
so a class that uses them is refused.
"""

from slicer.parameterNodeWrapper.connectors import (
    Decimals,
    GuiConnector,
    SingleStep,
    createGuiConnector,
    parameterNodeGuiConnector,
)
from slicer.parameterNodeWrapper.serializers import Default
from slicer.parameterNodeWrapper.validators import (
    Choice,
    Exclude,
    IsInstance,
    Maximum,
    Minimum,
    NotNone,
    Validator,
    WithinRange,
)
from slicer.parameterNodeWrapper.wrapper import (
    SlicerParameterNamePropertyName,
    findChildWidgetForParameter,
    isParameterNodeWrapper,
    parameterNodeWrapper,
)

__all__ = [
    "Choice",
    "Decimals",
    "Default",
    "Exclude",
    "GuiConnector",
    "IsInstance",
    "Maximum",
    "Minimum",
    "NotNone",
    "SingleStep",
    "SlicerParameterNamePropertyName",
    "Validator",
    "WithinRange",
    "createGuiConnector",
    "findChildWidgetForParameter",
    "isParameterNodeWrapper",
    "parameterNodeGuiConnector",
    "parameterNodeWrapper",
]
