"""PySide6 with the manners of PythonQt, and stand-ins for the widgets of CTK and Slicer.

What is the same here as in PythonQt: Qt properties are attributes; `connect("signal(types)", slot)`; a
slot gets no more arguments than it takes; a property or signal that does not exist raises.
"""
