from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch

from multiorganseg.bundles import Metadata
from multiorganseg.errors import ResourceError
from multiorganseg.inference.preflight import (
    GIB,
    LARGEST_BATCH,
    OVERLAPS,
    Settings,
    estimate_need,
    limit_time,
    plan_settings,
)
from multiorganseg.organs.labels import LabelTable

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
SHAPE = (150, 200, 220)
VOXELS = 133 * 512 * 512
PLENTY = 10**13


@pytest.fixture
def many(metadata: Metadata) -> Metadata:
    labels = LabelTable.numbered(f"organ_{number}" for number in range(104))
    return replace(metadata, labels=labels, patch_shape=(48, 160, 192))


def _plan(metadata: Metadata, device: torch.device, *, ram: int = PLENTY, card: int = PLENTY) -> Settings:
    return plan_settings(
        metadata, SHAPE, VOXELS, device=device, quality="balanced", ram_free=ram, device_free=card
    )


@pytest.mark.parametrize(("device", "batch"), [(CPU, 1), (CUDA, LARGEST_BATCH)])
def test_with_plenty_nothing_is_given_up(many, device, batch) -> None:
    settings = _plan(many, device)
    assert settings == Settings(device, device, OVERLAPS["balanced"], batch)


def test_what_does_not_fit_is_given_up_in_order(many) -> None:
    sizes = [int(80 * GIB * 0.93**n) for n in range(120)]
    seen = []
    for card in sizes:
        settings = _plan(many, CUDA, card=card)
        state = (settings.device.type, settings.accumulate_on.type, settings.batch_size)
        if not seen or seen[-1][0] != state:
            seen.append((state, settings))
    assert [state for state, _ in seen] == [
        ("cuda", "cuda", 8),
        ("cuda", "cuda", 4),
        ("cuda", "cuda", 2),
        ("cuda", "cuda", 1),
        ("cuda", "cpu", 1),
        ("cpu", "cpu", 1),
    ]
    counts = [len(settings.messages) for _, settings in seen]
    assert counts == [0, 1, 1, 1, 2, 3]
    assert "batches (4)" in seen[1][1].messages[0]
    assert "main memory" in seen[4][1].messages[-1]
    assert "GiB" in seen[5][1].messages[-1]
    assert all(settings.overlap == OVERLAPS["balanced"] for _, settings in seen)


def test_what_is_planned_fits(many) -> None:
    for card in (int(60 * GIB * 0.8**n) for n in range(30)):
        settings = _plan(many, CUDA, card=card)
        assert estimate_need(many, SHAPE, VOXELS, settings).device <= card


def test_too_little_main_memory_is_an_error_with_figures(many) -> None:
    need = estimate_need(many, SHAPE, VOXELS, _plan(many, CPU)).ram
    with pytest.raises(ResourceError) as caught:
        _plan(many, CPU, ram=need // 2)
    needed, free = map(float, re.findall(r"([\d.]+) GiB", caught.value.cause))
    assert needed == pytest.approx(need / GIB, abs=0.06)
    assert free == pytest.approx(need / 2 / GIB, abs=0.06)
    assert caught.value.next_step
    assert _plan(many, CPU, ram=need * 2).messages == ()


def test_the_need_moves_with_the_place_of_the_sums(many) -> None:
    on_card = Settings(CUDA, CUDA, 0.4, 1)
    beside = replace(on_card, accumulate_on=CPU)
    on_cpu = replace(beside, device=CPU)
    first, second, third = (estimate_need(many, SHAPE, VOXELS, s) for s in (on_card, beside, on_cpu))
    moved = first.device - second.device
    assert moved >= 4 * 105 * 48 * SHAPE[1] * SHAPE[2]
    assert second.ram - first.ram == moved
    assert third.device == 0
    assert third.ram > second.ram
    assert first.windows == second.windows == third.windows > 1


def test_sums_depend_on_the_slab_not_on_the_height(many, metadata) -> None:
    settings = Settings(CUDA, CUDA, 0.4, 1)
    low, high = (estimate_need(many, (height, 200, 220), VOXELS, settings) for height in (60, 600))
    assert low.device == high.device
    assert estimate_need(metadata, SHAPE, VOXELS, settings).device < low.device
    bigger = estimate_need(many, SHAPE, VOXELS, replace(settings, batch_size=4))
    assert bigger.device > low.device


def test_more_decoders_are_more_to_sum_and_the_map_is_more_to_keep(many) -> None:
    on_card = Settings(CUDA, CUDA, 0.4, 1)
    one, two, mapped = (
        estimate_need(many, SHAPE, VOXELS, settings)
        for settings in (on_card, replace(on_card, decoders=2), replace(on_card, uncertain=True))
    )
    assert two.device - one.device >= 4 * 105 * 48 * SHAPE[1] * SHAPE[2]
    assert mapped.ram - one.ram > VOXELS
    assert mapped.device == one.device
    planned = plan_settings(
        many, SHAPE, VOXELS, device=CUDA, quality="balanced", ram_free=PLENTY, device_free=PLENTY,
        decoders=2, uncertain=True,
    )  # fmt: skip
    assert (planned.decoders, planned.uncertain) == (2, True)


WINDOWS = {0.1: 4, 0.4: 12, 0.6: 40}


@pytest.mark.parametrize(
    ("limit", "overlap"), [(100.0, 0.6), (80.0, 0.6), (79.0, 0.4), (24.0, 0.4), (23.0, 0.1), (1.0, 0.1)]
)
def test_the_largest_step_up_to_the_limit_is_taken(limit, overlap) -> None:
    settings = limit_time(Settings(CPU, CPU, 0.6, 1), 2.0, WINDOWS, limit)
    assert settings.overlap == overlap
    if overlap == 0.6:
        assert settings.messages == ()
    else:
        (message,) = settings.messages
        assert "80 s" in message
        assert f"{limit:.0f} s" in message


def test_the_coarsest_step_stays_as_it_is() -> None:
    settings = Settings(CPU, CPU, 0.1, 1)
    assert limit_time(settings, 100.0, WINDOWS, 1.0) is settings
