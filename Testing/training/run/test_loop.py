from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from multiorganseg.bundles import read_weights
from multiorganseg.errors import Cancelled, TrainingError
from multiorganseg.events import EventStream
from multiorganseg.inference import backends
from multiorganseg.progress import CancelToken, Progress
from multiorganseg_training.acceptance.publish import Publication, publish
from multiorganseg_training.methods import METHODS, Batch, Method, Setting, Step
from multiorganseg_training.recipe.file import recipe_to_dict
from multiorganseg_training.recipe.recipe import Recipe
from multiorganseg_training.run import loop
from multiorganseg_training.run.build import TRUNK, build_optimiser, recipe_method, recipe_network
from multiorganseg_training.run.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from multiorganseg_training.run.loop import Trained, train

CPU = torch.device("cpu")
SHORT = {"iterations": 6, "batch_size": 1}
SILENT = {"log_every": 0, "validate_every": 0, "checkpoint_every": 0}


@dataclass
class Runner:
    """Trains on two prepared cases and remembers what was reported."""

    cases: list
    run: Path
    events: StringIO = field(default_factory=StringIO)
    validated: list[int] = field(default_factory=list)
    token: CancelToken = field(default_factory=CancelToken)
    cancel_at: Callable[[str, float], bool] = lambda stage, fraction: False
    cancel_in_validation: bool = False

    def __call__(self, recipe: Recipe) -> Trained:
        return train(
            recipe,
            self.cases,
            self.run,
            CPU,
            EventStream(self.events),
            Progress(self._report, self.token),
            self._validate,
        )

    def _report(self, stage: str, fraction: float) -> None:
        if self.cancel_at(stage, fraction):
            self.token.cancel()

    def _validate(self, network: nn.Module, iteration: int) -> None:
        assert not network.training
        self.validated.append(iteration)
        if self.cancel_in_validation:
            raise Cancelled


@pytest.fixture
def runner(prepared, tmp_path) -> Runner:
    return Runner(prepared, tmp_path / "run")


def _stub(monkeypatch: pytest.MonkeyPatch, loss: Callable[[Tensor], Tensor]) -> None:
    class Stub(Method):
        def __init__(self, setting: Setting) -> None:
            super().__init__()

        def forward(self, network: nn.Module, batch: Batch, generator: np.random.Generator) -> Step:
            return Step(loss(network(batch.image).logits))

    monkeypatch.setitem(METHODS, "stub", Stub)


def _assert_equal_states(first: dict[str, Any], second: dict[str, Any]) -> None:
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


def test_a_stopped_run_ends_with_the_weights_of_an_uninterrupted_one(phantom_recipe, prepared, tmp_path):
    recipe = phantom_recipe(optimisation=SHORT, reporting=SILENT)
    whole = Runner(prepared, tmp_path / "whole")(recipe)
    for third in (1 / 3, 2 / 3):
        with pytest.raises(Cancelled):
            Runner(prepared, tmp_path / "parts", cancel_at=lambda _, done, third=third: done >= third)(recipe)
    parts = Runner(prepared, tmp_path / "parts")(recipe)
    _assert_equal_states(whole.last.state_dict(), parts.last.state_dict())
    _assert_equal_states(whole.average.state_dict(), parts.average.state_dict())
    first, second = load_checkpoint(tmp_path / "whole"), load_checkpoint(tmp_path / "parts")
    assert first is not None
    assert second is not None
    assert first.generator == second.generator
    assert first.average_updates == second.average_updates == 6
    for name in first.optimiser["state"]:
        _assert_equal_states(first.optimiser["state"][name], second.optimiser["state"][name])


def test_the_seed_decides(phantom_recipe, prepared, tmp_path):
    states = [
        Runner(prepared, tmp_path / f"{number}")(
            phantom_recipe(seed=seed, optimisation={"iterations": 2})
        ).last
        for number, seed in enumerate((1, 1, 2))
    ]
    _assert_equal_states(states[0].state_dict(), states[1].state_dict())
    weights = [next(network.parameters()) for network in states]
    assert not torch.equal(weights[0], weights[2])


def test_cancel_saves_the_iteration_that_was_done(phantom_recipe, runner):
    runner.cancel_at = lambda _, done: done >= 0.5
    with pytest.raises(Cancelled):
        runner(phantom_recipe(optimisation=SHORT, reporting=SILENT))
    checkpoint = load_checkpoint(runner.run)
    assert checkpoint is not None
    assert checkpoint.iteration == 4, "the token is checked at the report after the one that set it"


def test_cancel_while_validating_saves_too(phantom_recipe, runner):
    runner.cancel_in_validation = True
    with pytest.raises(Cancelled):
        runner(phantom_recipe(optimisation=SHORT, reporting={**SILENT, "validate_every": 2}))
    checkpoint = load_checkpoint(runner.run)
    assert checkpoint is not None
    assert checkpoint.iteration == 2


def test_a_finished_run_is_not_trained_further(phantom_recipe, runner):
    recipe = phantom_recipe(optimisation={"iterations": 2}, reporting=SILENT)
    first, runner.events = runner(recipe), StringIO()
    second = runner(recipe)
    assert runner.events.getvalue() == ""
    _assert_equal_states(first.last.state_dict(), second.last.state_dict())
    assert not second.last.training


def test_another_recipe_is_refused(phantom_recipe, runner):
    runner(phantom_recipe(optimisation={"iterations": 1}))
    with pytest.raises(TrainingError, match="started with another recipe"):
        runner(phantom_recipe(optimisation={"iterations": 2}))


def test_an_optimiser_that_numbers_other_parameters_is_refused(phantom_recipe, runner):
    recipe = phantom_recipe(optimisation={"iterations": 1})
    runner(recipe)
    checkpoint = load_checkpoint(runner.run)
    assert checkpoint is not None
    checkpoint.optimiser["param_groups"][0]["params"][0] = 10**12
    save_checkpoint(checkpoint, runner.run)
    with pytest.raises(TrainingError, match="does not fit its recipe"):
        runner(recipe)


def test_zero_reports_at_the_end_alone(phantom_recipe, runner, monkeypatch):
    saved = []
    monkeypatch.setattr(loop, "save_checkpoint", lambda checkpoint, run: saved.append(checkpoint.iteration))
    runner(phantom_recipe(optimisation={"iterations": 4}, reporting=SILENT))
    assert saved == [4]
    assert runner.events.getvalue().count("\n") == 1
    assert runner.validated == []


def test_reports_come_as_often_as_asked(phantom_recipe, runner, monkeypatch):
    saved = []
    monkeypatch.setattr(loop, "save_checkpoint", lambda checkpoint, run: saved.append(checkpoint.iteration))
    runner(
        phantom_recipe(
            optimisation=SHORT, reporting={"log_every": 4, "validate_every": 2, "checkpoint_every": 3}
        )
    )
    assert saved == [3, 6]
    assert runner.validated == [2, 4], "the last iteration is validated by the caller"
    assert ['"iteration": 4' in line for line in runner.events.getvalue().splitlines()] == [True, False]


def test_a_loss_that_is_not_finite_ends_the_run(phantom_recipe, runner, monkeypatch):
    _stub(monkeypatch, lambda logits: logits.mean() * float("nan"))
    with pytest.raises(TrainingError, match="The loss is nan at iteration 0") as caught:
        runner(phantom_recipe(method="stub", optimisation=SHORT))
    assert "fp32" in caught.value.next_step
    assert load_checkpoint(runner.run) is None


def test_a_gradient_that_is_not_finite_ends_the_run_before_the_step(phantom_recipe, runner, monkeypatch):
    calls = []

    def bad_at_the_fourth(logits: Tensor) -> Tensor:
        calls.append(float(logits.detach().sum()))
        return logits.square().mean() if len(calls) < 4 else (logits * 0).sum().abs().sqrt()

    _stub(monkeypatch, bad_at_the_fourth)
    recipe = phantom_recipe(method="stub", optimisation=SHORT, reporting={**SILENT, "checkpoint_every": 3})
    with pytest.raises(TrainingError, match="norm of the gradient is nan at iteration 3") as caught:
        runner(recipe)
    assert "fp32" in caught.value.next_step
    checkpoint = load_checkpoint(runner.run)
    assert checkpoint is not None
    assert checkpoint.iteration == 3
    assert all(tensor.isfinite().all() for tensor in checkpoint.network.values())


def test_the_last_layer_learns_faster_by_its_factor(phantom_recipe, runner):
    recipe = phantom_recipe(
        optimisation={"iterations": 1, "warmup": 0.0, "weight_decay": 0.0, "head_factor": 5.0}
    )
    torch.manual_seed(recipe.seed)
    before = recipe_network(recipe).state_dict()
    after = runner(recipe).last.state_dict()
    moved = {name: float((after[name] - before[name]).abs().max()) for name in before}
    head = max(value for name, value in moved.items() if name.startswith("head."))
    rest = max(value for name, value in moved.items() if not name.startswith("head."))
    assert rest == pytest.approx(recipe.optimisation.learning_rate, rel=1e-2), "AdamW's first step"
    assert head == pytest.approx(5 * rest, rel=1e-2)


def test_training_starts_from_a_bundle(phantom_recipe, runner, phantom_run, tmp_path):
    publication = Publication("1.0.0", "Apache-2.0", "Licence text", "Notes")
    first = publish(
        phantom_run.place.run, phantom_run.place.data, tmp_path / "phantom-ct", publication, Progress()
    )
    recipe = phantom_recipe(
        network={"initial": str(first.folder)}, optimisation={"iterations": 1, "learning_rate": 1e-9}
    )
    learned = {name: torch.from_numpy(array).float() for name, array in read_weights(first).items()}
    started = recipe_network(recipe).state_dict()
    _assert_equal_states(started, learned)
    after = runner(recipe).last.state_dict()
    for name, tensor in learned.items():
        torch.testing.assert_close(after[name], tensor, rtol=1e-4, atol=1e-6)


def test_a_patch_that_the_network_cannot_halve_is_refused(phantom_recipe):
    with pytest.raises(TrainingError, match="16 × 30 × 32") as caught:
        recipe_network(phantom_recipe(network={"patch_shape": [16, 30, 32]}))
    assert "4 × 8 × 8" in caught.value.cause


@pytest.mark.parametrize(
    "changes",
    [
        {"network": {"arguments": {"filters": [8, 16, 24]}}},
        {"data": {"labels": {"1": "spleen", "6": "pancreas"}}},
    ],
)
def test_a_bundle_of_another_network_or_organs_is_refused(phantom_recipe, phantom_run, tmp_path, changes):
    publication = Publication("1.0.0", "Apache-2.0", "Licence text", "Notes")
    first = publish(
        phantom_run.place.run, phantom_run.place.data, tmp_path / "phantom-ct", publication, Progress()
    )
    changes["network"] = {**changes.get("network", {}), "initial": str(first.folder)}
    with pytest.raises(TrainingError, match="cannot start from"):
        recipe_network(phantom_recipe(**changes))


def test_training_starts_from_another_run(phantom_recipe, phantom_run):
    recipe = phantom_recipe(network={"initial": str(phantom_run.place.run)})
    checkpoint = load_checkpoint(phantom_run.place.run)
    assert checkpoint is not None
    _assert_equal_states(recipe_network(recipe).state_dict(), checkpoint.network)


@pytest.mark.parametrize("architecture", ["strided_dynunet", "vnet"])
def test_sigmoids_start_a_softmax(phantom_recipe, tmp_path, architecture):
    arguments = {"strided_dynunet": {"filters": [4, 4, 4]}, "vnet": {"n_filters": 4, "stages": 2}}
    network = {"architecture": architecture, "arguments": arguments[architecture], "patch_shape": [8, 16, 16]}
    first = phantom_recipe(network={**network, "activation": "sigmoid"}, method="partial")
    trained = recipe_network(first)
    with torch.no_grad():
        for head in trained.own_heads():
            head.weight.mul_(5)
    state = trained.state_dict()
    checkpoint = Checkpoint(1, recipe_to_dict(first), state, state, 1, {}, {}, {})
    save_checkpoint(checkpoint, tmp_path / "first")
    second = recipe_network(phantom_recipe(network={**network, "initial": str(tmp_path / "first")}))
    image = torch.randn(1, 1, 8, 16, 16)
    with torch.inference_mode():
        before, after = (each.eval()(image).logits for each in (trained, second))
    assert not after[:, 0].any()
    torch.testing.assert_close(after[:, 1:], before)
    assert after[:, 1:].abs().max() > 0.1
    softmax = phantom_recipe(network=network)
    save_checkpoint(replace(checkpoint, recipe=recipe_to_dict(softmax)), tmp_path / "second")
    with pytest.raises(TrainingError, match="cannot start from"):
        recipe_network(
            phantom_recipe(network={**network, "activation": "sigmoid", "initial": str(tmp_path / "second")})
        )


class Counting(Method):
    """Learns a weight of its own and counts its steps, as a method with a teacher does."""

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.register_buffer("steps", torch.zeros(1))
        self.seen = nn.Linear(1, 1)

    def judge(self) -> nn.Module:
        return self.seen

    def forward(self, network: nn.Module, batch: Batch, generator: np.random.Generator) -> Step:
        noise = float(generator.standard_normal())
        own = self.weight.square().sum() * (1 + noise**2) + self.seen.weight.square().sum()
        return Step(own + network(batch.image).logits.square().mean())

    def after_step(self, network: nn.Module) -> None:
        self.steps += 1


def test_a_methods_own_state_is_trained_and_survives_a_stop(phantom_recipe, runner, monkeypatch, tmp_path):
    monkeypatch.setitem(METHODS, "counting", Counting)
    recipe = phantom_recipe(method="counting", optimisation=SHORT, reporting=SILENT)
    runner(recipe)
    whole = load_checkpoint(runner.run)
    runner.run, runner.cancel_at = tmp_path / "stopped", lambda stage, fraction: fraction == 0.5
    with pytest.raises(Cancelled):
        runner(recipe)
    runner.token, runner.cancel_at = CancelToken(), lambda stage, fraction: False
    runner(recipe)
    resumed = load_checkpoint(runner.run)
    assert whole is not None
    assert resumed is not None
    assert float(resumed.method["steps"]) == SHORT["iterations"]
    assert float(resumed.method["weight"]) < 1
    _assert_equal_states(whole.method, resumed.method)
    _assert_equal_states(whole.network, resumed.network)
    _assert_equal_states(whole.method_average, resumed.method_average)
    assert not torch.equal(whole.method_average["weight"], whole.method["seen.weight"])


def test_stochastic_gradient_descent(phantom_recipe, runner):
    sgd = {"optimiser": "sgd", "schedule": "constant", "momentum": 0.0, "weight_decay": 0.0}
    recipe = phantom_recipe(optimisation={**SHORT, **sgd, "iterations": 1, "gradient_clip": 1e-3})
    before = recipe_network(recipe)
    torch.manual_seed(recipe.seed)
    before = recipe_network(recipe).state_dict()
    after = runner(recipe).last.state_dict()
    trunk = [name for name in before if not name.startswith("head.")]
    moved = sum(float((after[name] - before[name]).square().sum()) for name in trunk) ** 0.5
    assert 0 < moved <= 1.01e-3 * recipe.optimisation.learning_rate, "the clipped gradient times the rate"


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_precision_is_that_of_the_recipe_and_weights_stay_in_float32(
    phantom_recipe, runner, monkeypatch, precision, dtype
):
    monkeypatch.setattr(backends, "has_bf16", lambda: True)
    seen = []

    def loss(logits: Tensor) -> Tensor:
        seen.append(logits.dtype)
        return logits.float().square().mean()

    _stub(monkeypatch, loss)
    trained = runner(phantom_recipe(method="stub", optimisation={"iterations": 1, "precision": precision}))
    assert seen == [dtype]
    assert all(parameter.dtype == torch.float32 for parameter in trained.last.parameters())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"method": "magic"}, "No method 'magic'"),
        ({"method_arguments": {"speed": 2}}, "'supervised' do not fit"),
        ({"method_arguments": {"dice_weight": "much"}}, "'dice_weight' must be a number"),
        ({"method_arguments": {"dice_weight": -1.0}}, "'dice_weight'"),
        ({"method_arguments": {"dice_weight": float("nan")}}, "'dice_weight'"),
        ({"method": "partial", "method_arguments": {"log": "no"}}, "'log' must be true or false"),
        ({"method": "ltuda", "method_arguments": {"views": 2.5}}, "'views' must be a whole number"),
        ({"method": "ltuda", "method_arguments": {"threshold": "high"}}, "'threshold'"),
        ({"method": "ltuda", "method_arguments": {"teacher_decay": 2}}, "'teacher_decay'"),
        ({"method": "ltuda", "method_arguments": {"prototypes": True, "width": 0}}, "'width'"),
        ({"method": "fused", "method_arguments": {"min_voxels": "a"}}, "'min_voxels'"),
        ({"method": "fused", "method_arguments": {"views": 2, "dice_weight": [1]}}, "'dice_weight'"),
    ],
)
def test_an_unknown_method_or_argument(phantom_recipe, runner, change, said):
    with pytest.raises(TrainingError, match=said):
        runner(phantom_recipe(**change))


def test_the_loop_names_no_method():
    tree = ast.parse(inspect.getsource(loop))
    imported = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and "methods" in (node.module or "")
        for alias in node.names
    }
    assert imported == {"Method", "Step"}
    said = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    taken = set(METHODS) | {kind.__name__ for kind in METHODS.values()}
    assert not taken & (said | names | attributes)
    assert not {"cpu", "cuda", "mps"} & said


def test_the_last_layer_moves_alone_in_the_first_share_of_the_run(phantom_recipe, runner, tmp_path):
    share = {**SHORT, "head_alone": 0.5, "weight_decay": 0.1}
    recipe = phantom_recipe(optimisation=share, reporting={**SILENT, "checkpoint_every": 3})
    torch.manual_seed(recipe.seed)
    before = recipe_network(recipe).state_dict()
    runner.cancel_at = lambda _, done: done >= 0.3
    with pytest.raises(Cancelled):
        runner(recipe)
    alone = load_checkpoint(runner.run)
    assert alone is not None
    assert alone.iteration == 3
    moved = {name for name in before if not torch.equal(before[name], alone.network[name])}
    assert moved == {"head.weight", "head.bias"}
    parts = Runner(runner.cases, runner.run)(recipe)
    assert all(not torch.equal(before[name], tensor) for name, tensor in parts.last.state_dict().items())
    whole = Runner(runner.cases, tmp_path / "whole")(recipe)
    _assert_equal_states(whole.last.state_dict(), parts.last.state_dict())


def test_the_trunk_learns_slower_by_its_factor(phantom_recipe, runner):
    recipe = phantom_recipe(
        optimisation={"iterations": 1, "warmup": 0.0, "weight_decay": 0.0, "trunk_factor": 0.1}
    )
    torch.manual_seed(recipe.seed)
    before = recipe_network(recipe).state_dict()
    after = runner(recipe).last.state_dict()
    rest = max(float((after[name] - before[name]).abs().max()) for name in before if name[:5] != "head.")
    assert rest == pytest.approx(0.1 * recipe.optimisation.learning_rate, rel=1e-2)


def test_the_last_layers_of_all_decoders_are_no_trunk(phantom_recipe):
    arguments = {"n_filters": 4, "stages": 2, "decoders": ["transposed", "nearest"]}
    recipe = phantom_recipe(network={"architecture": "vnet", "arguments": arguments})
    network = recipe_network(recipe)
    optimiser = build_optimiser(network, recipe_method(recipe, network), recipe.optimisation)
    trunk = {id(parameter) for parameter in optimiser.param_groups[TRUNK]["params"]}
    outside = {name for name, parameter in network.named_parameters() if id(parameter) not in trunk}
    assert outside == {"head.weight", "head.bias", "other_heads.0.weight", "other_heads.0.bias"}


def test_training_starts_from_a_run_of_fewer_organs(phantom_recipe, phantom_run):
    labels = {"1": "spleen", "6": "liver", "7": "pancreas"}
    recipe = phantom_recipe(data={"labels": labels}, network={"initial": str(phantom_run.place.run)})
    checkpoint = load_checkpoint(phantom_run.place.run)
    assert checkpoint is not None
    started = recipe_network(recipe).state_dict()
    assert torch.equal(started["head.weight"][:, :3], checkpoint.network["head.weight"])
    assert torch.equal(started["head.bias"][1:3], checkpoint.network["head.bias"][1:])
    assert len(started["head.bias"]) == 4
    other = phantom_recipe(
        data={"labels": {"1": "pancreas", "2": "spleen", "6": "liver"}},
        network={"initial": str(phantom_run.place.run)},
    )
    with pytest.raises(TrainingError, match="cannot start from") as caught:
        recipe_network(other)
    assert "not the recipe's first ones" in caught.value.cause


FURTHER = {"1": "spleen", "6": "liver", "7": "pancreas"}


def _branched(phantom_recipe, initial, labels=FURTHER, branches=(1,), **network):
    arguments = {"filters": [8, 16, 16], "branches": list(branches)}
    return phantom_recipe(
        data={"labels": labels}, network={"initial": str(initial), "arguments": arguments, **network}
    )


def test_a_further_organ_starts_on_a_branch(phantom_recipe, phantom_run, tmp_path):
    checkpoint = load_checkpoint(phantom_run.place.run)
    assert checkpoint is not None
    recipe = _branched(phantom_recipe, phantom_run.place.run)
    started = recipe_network(recipe)
    state = started.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in checkpoint.network.items())
    branch = started.all_branches()[0]
    method = recipe_method(recipe, started)
    groups = build_optimiser(started, method, recipe.optimisation).param_groups
    assert [id(p) for p in groups[1]["params"]][-2:] == [id(p) for p in branch.head.parameters()]

    save_checkpoint(replace(checkpoint, recipe=recipe_to_dict(recipe), network=state), tmp_path)
    _assert_equal_states(recipe_network(_branched(phantom_recipe, tmp_path)).state_dict(), state)
    further = {**FURTHER, "8": "stomach"}
    second = recipe_network(_branched(phantom_recipe, tmp_path, further, (1, 1))).state_dict()
    assert all(torch.equal(second[name], tensor) for name, tensor in state.items())
    with pytest.raises(TrainingError, match="cannot start from"):
        recipe_network(_branched(phantom_recipe, tmp_path, further))


@pytest.mark.parametrize(
    "changes",
    [
        {"branches": (2,)},
        {"branches": (1, 1)},
        {"labels": {"1": "spleen", "6": "liver"}},
        {"labels": {"1": "spleen", "6": "pancreas", "7": "liver"}},
        {"activation": "sigmoid"},
    ],
)
def test_a_branch_that_does_not_fit_the_further_organs_is_refused(phantom_recipe, phantom_run, changes):
    with pytest.raises(TrainingError, match="cannot start from"):
        recipe_network(_branched(phantom_recipe, phantom_run.place.run, **changes))
