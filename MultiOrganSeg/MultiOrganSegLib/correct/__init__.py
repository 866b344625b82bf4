"""Correction of a segmentation of the scene by prompts, answered by the engine's process."""

from contextlib import suppress


def register_effect() -> None:
    """Make the Segment Editor's effect known to all editors; Slicer without widgets has no effects."""
    with suppress(ImportError):
        from MultiOrganSegEffects.CorrectOrganEffect import register

        register()
