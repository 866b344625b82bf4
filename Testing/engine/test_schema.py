"""Values that are read as dataclasses: all that is wrong is told, with its path and what must stand there."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import pytest

from multiorganseg import schema
from multiorganseg.errors import DependencyError, TrainingError
from multiorganseg.organs.labels import LabelTable
from multiorganseg.projects.matrix import LabelStatus
from multiorganseg.schema import AtLeastOne, Limits, SchemaError, Share, one_of, problems_of, read_as, typed


@dataclass(frozen=True)
class Inner:
    share: Share
    kind: Annotated[str, one_of("a", "b")] = "a"


@dataclass(frozen=True)
class Outer:
    count: AtLeastOne
    labels: LabelTable
    inner: Inner
    others: Mapping[str, Inner]
    more: tuple[Inner, ...] = ()
    maybe: Inner | None = None
    sizes: Annotated[tuple[AtLeastOne, AtLeastOne], Limits(description="two sizes")] = (1, 1)
    statuses: Mapping[LabelStatus, tuple[str, ...]] | None = None
    free: Any = None


RIGHT: dict[str, Any] = {
    "count": 2,
    "labels": {"2": "liver"},
    "inner": {"share": 1},
    "others": {"x": {"share": 0.5}},
    "more": [{"share": 0.25, "kind": "b"}],
    "sizes": [3, 4],
    "statuses": {"absent": ["liver"]},
}


def test_values_become_what_is_declared():
    built = read_as(Outer, RIGHT)
    assert built.labels == LabelTable({2: "liver"})
    assert (built.inner, built.others["x"], built.more) == (Inner(1.0), Inner(0.5), (Inner(0.25, "b"),))
    assert isinstance(built.inner.share, float)
    assert (built.sizes, built.maybe) == ((3, 4), None)
    assert built.statuses == {LabelStatus.ABSENT: ("liver",)}
    assert problems_of(Inner(0.5)) == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"count": 0}, "'count' must be a whole number >= 1, not 0"),
        ({"count": True}, "'count' must be a whole number, not True"),
        ({"count": 2.0}, "'count' must be a whole number, not 2.0"),
        ({"count": 10**400}, "'count' must be a whole number <= 9007199254740992"),
        ({"labels": {"01": "liver"}}, "'labels': This is not a label table. '01' stands where"),
        ({"labels": {"1": 5}}, "'labels': This is not a label table. 5 stands where"),
        ({"inner": {"share": float("nan")}}, "'inner.share' must be a number >= 0.0, not nan"),
        ({"inner": [1]}, "'inner' must be a table of fields, not [1]"),
        ({"inner": {}}, "it lacks 'inner.share'"),
        ({"others": {"x": {"share": 0, "kin": 1}}}, "it has the unknown field 'others.x.kin'"),
        ({"others": {"x": {"share": 2}}}, "'others.x.share' must be a number <= 1.0, not 2"),
        ({"more": [{"share": 0}, {"share": "0"}]}, "'more.1.share' must be a number, not '0'"),
        ({"maybe": {"share": 0, "kind": "a\n"}}, "'maybe.kind' must be one of a, b, not"),
        ({"sizes": [1]}, "'sizes' must be two sizes, not [1]"),
        ({"sizes": [1, 0]}, "'sizes[1]' must be two sizes, not [1, 0]"),
        ({"statuses": {"seen": []}}, "'a key of statuses' must be one of annotated, absent, unknown, pseudo"),
        ({"stranger": 1}, "it has the unknown field 'stranger' (known are count, labels"),
    ],
)
def test_what_is_wrong_is_named(change, problem):
    with pytest.raises(SchemaError) as caught:
        read_as(Outer, {**RIGHT, **change})
    assert len(caught.value.problems) == 1
    assert problem in caught.value.problems[0]


def test_everything_wrong_is_told_at_once():
    wrong = {"count": 0, "labels": {}, "others": {"x": 1, "y": {"share": -1}}, "new": 1}
    with pytest.raises(TrainingError, match="The file has wrong, unknown or missing fields") as caught:
        typed(Outer, wrong, "The file", "Mend it.")
    for part in ("lacks 'inner'", "unknown field 'new'", "'count'", "'others.x'", "'others.y.share'"):
        assert part in caught.value.cause
    assert caught.value.next_step == "Mend it."


def test_what_was_built_otherwise_is_checked_too():
    assert problems_of(Inner(2.0, "c")) == [
        "'share' must be a number <= 1.0, not 2.0",
        "'kind' must be one of a, b, not 'c'",
    ]


def test_without_the_package_an_error_says_what_to_install(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "msgspec" else found(name))
    schema._hints.cache_clear()
    with pytest.raises(DependencyError, match="msgspec") as caught:
        read_as(Inner, {"share": 0})
    assert "pip install msgspec" in caught.value.next_step
