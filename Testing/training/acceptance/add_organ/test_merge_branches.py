from __future__ import annotations

import pytest
import torch

from multiorganseg.bundles import load_bundle
from multiorganseg.errors import TrainingError
from multiorganseg.inference.backends import load_network
from multiorganseg.progress import Progress
from multiorganseg.projects.acceptance import AcceptanceReport, OrganVerdict, Verdict, load_acceptance
from multiorganseg_training.acceptance.add_organ import Workplace, add_organ
from multiorganseg_training.acceptance.check import Split
from multiorganseg_training.acceptance.plan import AddOrganOptions, add_organ_recipe, load_plan
from multiorganseg_training.run.build import recipe_network


def test_branches_become_one_network_that_is_compared_organ_by_organ(added):
    ours = added(4)
    ours(iterations=40)
    branched = load_bundle(ours.run / "candidate")
    place = Workplace(ours.project, ours.run.parent / "merged", ours.cache, torch.device("cpu"))
    options = AddOrganOptions(str(branched.folder), (), iterations=40, merge=True)

    started = recipe_network(add_organ_recipe(branched, Split((), (), "none"), options))
    trained = load_network(branched)
    assert not any(name.startswith("branches") for name in started.state_dict())
    assert torch.equal(started.head.weight[:, :2], trained.head.weight)
    assert started.head.weight.shape[1] == 3

    acceptance = add_organ(options, place, Progress())
    assert set(acceptance.organs) == {"liver", "spleen"}
    assert not acceptance.with_role("new")
    assert acceptance.cases
    assert acceptance.organs["liver"].difference > -0.1
    merged = load_bundle(place.run / "candidate")
    assert merged.metadata.name == f"{branched.metadata.name}-merged"
    assert merged.metadata.labels == branched.metadata.labels
    assert "branches" not in merged.metadata.arguments
    assert load_plan(place.run).merges
    assert load_acceptance(place.run).base_name == branched.metadata.name
    with pytest.raises(TrainingError, match="cannot go on so"):
        add_organ(AddOrganOptions("liver-ct", ("spleen",), iterations=40), place, Progress())


def test_a_network_without_branches_has_nothing_to_merge(added, base):
    ours = added(1)
    place = Workplace(ours.project, ours.run, ours.cache, torch.device("cpu"))
    with pytest.raises(TrainingError, match="cannot be merged") as caught:
        add_organ(AddOrganOptions(str(base.folder), (), iterations=1, merge=True), place, Progress())
    assert "has none" in caught.value.cause


@pytest.mark.parametrize(
    ("verdicts", "passed"),
    [
        ((Verdict.PASS, Verdict.PASS), True),
        ((Verdict.PASS, Verdict.UNPROVEN), False),
        ((Verdict.PASS, Verdict.FAIL), False),
    ],
)
def test_without_new_organs_every_one_must_pass(verdicts, passed):
    figures = dict.fromkeys(("dice_old", "dice_new", "nsd_old", "nsd_new"), 0.9)
    rest = dict.fromkeys(("volume_ml_old", "volume_ml_new", "difference", "confidence_interval"))
    organs = {
        f"organ {number}": OrganVerdict("old", "annotated", 3, **figures, **rest, verdict=verdict, why="")
        for number, verdict in enumerate(verdicts)
    }
    assert (
        AcceptanceReport("b", "1.0.0", "0" * 64, "run", ("a",), "hold-out", 0.01, 0.5, organs).passed
        is passed
    )
