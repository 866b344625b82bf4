"""What a person said, in the order in which it was said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from multiorganseg.errors import OptionError
from multiorganseg.refine.prompts import Prompt

FORMAT = 1


@dataclass(frozen=True)
class Step:
    """What a person said at once.

    Attributes:
        organ: Key of the organ.
        prompts: What was said of it.
        locked: Keys of the organs that were not to change.
    """

    organ: str
    prompts: tuple[Prompt, ...]
    locked: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        prompts = [prompt.to_json() for prompt in self.prompts]
        return {"organ": self.organ, "locked": list(self.locked), "prompts": prompts}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Step:
        """Read a step.

        Raises:
            OptionError: It is none.
        """
        try:
            prompts = tuple(Prompt.from_json(entry) for entry in data["prompts"])
            return cls(str(data["organ"]), prompts, tuple(map(str, data.get("locked", ()))))
        except (KeyError, TypeError, AttributeError) as error:
            msg = "This is no step of a correction."
            raise OptionError(msg, cause=str(error), next_step="Pass what Session.to_json gave.") from error


def steps_from_json(data: Mapping[str, Any]) -> list[Step]:
    """Read the steps of `Session.to_json`.

    Raises:
        OptionError: It is something else, or of another version.
    """
    try:
        version, steps = data["version"], list(data["steps"])
    except (KeyError, TypeError) as error:
        msg = "These are no saved corrections."
        raise OptionError(msg, cause=str(error), next_step="Pass what Session.to_json gave.") from error
    if version != FORMAT:
        msg = f"The saved corrections have version {version}, not {FORMAT}."
        raise OptionError(msg, next_step="Open them with the release of MultiOrganSeg that wrote them.")
    return [Step.from_json(step) for step in steps]
