from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from multiorganseg.bundles.metadata import Domain, Metadata, Preprocessing
from multiorganseg.intensities import map_window
from multiorganseg.organs.labels import LabelTable
from multiorganseg.quality.domain import (
    ABOVE_SLACK_MM,
    drop_untaught,
    judge,
    organ_intensities,
    scan_measures,
    tops_above_liver,
)
from multiorganseg.quality.flags import LOW_CONFIDENCE, NOT_FOUND
from multiorganseg.quality.statistics import OrganStatistics

WINDOW = (-125.0, 275.0)
SPACING = (3.0, 4.0, 4.0)
TABLE = LabelTable({1: "liver", 2: "aorta", 3: "spleen"})
SHAPE = (80, 70, 90)
ORGANS = {
    1: (slice(20, 50), slice(15, 50), slice(15, 40), 110.0),
    3: (slice(30, 50), slice(20, 45), slice(60, 75), 120.0),
}


def _scan(**changes: float) -> tuple[np.ndarray, np.ndarray]:
    """A trunk of fat around muscle with a spine and organs, on the network's grid."""
    y, x = np.mgrid[: SHAPE[1], : SHAPE[2]]
    distance = np.hypot((y - 35) / 30, (x - 45) / 40)
    plane = np.where(distance < 1, -100.0, -1000.0)
    plane[distance < 0.8] = 50.0
    plane[50:58, 40:50] = 400.0
    hu = np.broadcast_to(plane, SHAPE).copy()
    labels = np.zeros(SHAPE, np.uint8)
    for value, (k, j, i, bright) in ORGANS.items():
        hu[k, j, i], labels[k, j, i] = bright, value
    hu[10:70, 40:46, 43:48], labels[10:70, 40:46, 43:48] = changes.get("aorta", 150.0), 2
    hu += np.random.default_rng(0).normal(0, 5, SHAPE)
    return map_window(hu.astype(np.float32), WINDOW), labels


def _metadata(image: np.ndarray, labels: np.ndarray) -> Metadata:
    """A bundle that was trained on scans much like this one."""
    scan = {key: (0.9 * value, 1.1 * value) for key, value in scan_measures(image, SPACING, WINDOW).items()}
    organs = organ_intensities(image, labels, TABLE, WINDOW)
    domain = Domain(scan, {key: (hu - 20, hu + 20) for key, hu in organs.items()}, {"aorta": 30.0})
    return Metadata(
        1,
        "m",
        "1.0.0",
        "d",
        "CT",
        "strided_dynunet",
        {},
        "softmax",
        TABLE,
        Preprocessing(SPACING, "window", WINDOW),
        (48, 32, 32),
        8,
        "MIT",
        domain=domain,
    )


def _rows(*flags: tuple[str, ...]) -> tuple[OrganStatistics, ...]:
    return tuple(
        OrganStatistics(key, 9, 9.0, 9.0, 0.9, own) for key, own in zip(TABLE.keys, flags, strict=True)
    )


FINE = _rows((), (), ())


def test_measures_say_what_the_scan_shows() -> None:
    found = scan_measures(_scan()[0], SPACING, WINDOW)
    assert found["length_mm"] == 80 * 3
    assert found["width_mm"] == pytest.approx(80 * 4, abs=8)
    assert found["depth_mm"] == pytest.approx(60 * 4, abs=8)
    assert found["cut_share"] == 0
    assert 0.2 < found["fat_share"] < 0.5
    assert found["fat_share"] + found["soft_share"] + found["bright_share"] < 1


def test_measures_of_a_block_are_exact() -> None:
    """A block of 16 × 20 voxels in the plane, its last row on the image's edge; a fifth of it each HU."""
    window, spacing = (-200.0, 300.0), (3.0, 4.0, 5.0)
    hu = np.full((12, 20, 30), -1000.0, np.float32)
    bands = np.repeat([-120.0, -110.0, 50.0, 150.0, 250.0], 4)
    hu[1:11, 4:, 5:25] = bands
    found = scan_measures(map_window(hu, window), spacing, window)
    assert found == pytest.approx(
        {
            "length_mm": 10 * 3,
            "width_mm": 20 * 5,
            "depth_mm": 16 * 4,
            "cut_share": 20 / (2 * (16 + 20)),
            "fat_share": 0.2,
            "soft_share": 0.2,
            "bright_share": 0.2,
        }
    )


def test_a_scan_like_those_of_the_training_is_not_flagged() -> None:
    image, labels = _scan()
    assert judge(_metadata(image, labels), image, labels, FINE).reasons == ()


@pytest.mark.parametrize(
    ("box", "said"),
    [
        ((slice(30, 50), slice(None), slice(None)), "60 mm along the body"),
        ((slice(None), slice(20, 50), slice(30, 60)), "120 mm wide"),
        ((slice(None), slice(20, 50), slice(30, 60)), "field of view cuts"),
    ],
)
def test_a_short_scan_and_a_small_field_of_view_are_reported(box, said) -> None:
    image, labels = _scan()
    metadata = _metadata(image, labels)
    judgement = judge(metadata, image[box], labels[box], FINE)
    (message,) = judgement.messages("m")
    assert said in message


def test_another_contrast_phase_is_told_with_its_organs_worst_first() -> None:
    image, labels = _scan()
    metadata = _metadata(image, labels)
    other, _ = _scan(aorta=45.0)
    one_organ = judge(metadata, other, labels, FINE)
    assert one_organ.reasons == ()
    other[labels == 3] = map_window(np.float32([60.0]), WINDOW)[0]
    (reason,) = judge(metadata, other, labels, FINE).reasons
    assert "contrast phase" in reason
    assert reason.index("aorta 45 HU") < reason.index("spleen 60 HU")
    assert "liver" not in reason


@pytest.mark.parametrize("hu", [0.0, 2000.0])
def test_what_has_no_fat_and_muscle_is_reported(hu) -> None:
    image, labels = _scan()
    metadata = _metadata(image, labels)
    phantom = np.where(image > -0.95, map_window(np.float32([hu]), WINDOW)[0], -1).astype(np.float32)
    assert "0% of it is fat" in " ".join(judge(metadata, phantom, labels, FINE).reasons)


def test_an_image_without_a_body_is_reported() -> None:
    image, labels = _scan()
    nothing = np.full_like(image, -1)
    assert "shows no body" in " ".join(judge(_metadata(image, labels), nothing, labels, FINE).reasons)


def test_a_scan_in_which_most_organs_are_unreliable_is_reported_whatever_the_bundle_says() -> None:
    image, labels = _scan()
    silent = replace(_metadata(image, labels), domain=None)
    rows = (*_rows((NOT_FOUND,), (LOW_CONFIDENCE,), (NOT_FOUND,)), *FINE[:2])
    (reason,) = judge(silent, image, labels, rows).reasons
    assert "3 of 5 organs" in reason
    assert judge(silent, image, labels, (*FINE, *rows[:2])).reasons == ()
    (short,) = judge(silent, image[:20], labels[:20], FINE).reasons
    assert "looks at 144 mm at once" in short


def test_a_network_without_a_window_of_hu_is_not_judged() -> None:
    image, labels = _scan()
    metadata = replace(_metadata(image, labels), preprocessing=Preprocessing(SPACING, "zscore", None))
    assert judge(metadata, image[:3], labels[:3], _rows((NOT_FOUND,), (NOT_FOUND,), ())).reasons == ()


def test_organs_further_above_the_liver_than_taught_are_removed() -> None:
    _, labels = _scan()
    domain = Domain({}, {}, {"aorta": 9.0, "spleen": -50.0})
    assert tops_above_liver(labels, TABLE, SPACING) == {"liver": 0, "aorta": 60, "spleen": 0}
    kept, cut = drop_untaught(labels, TABLE, SPACING, domain)
    last = 49 + (9 + ABOVE_SLACK_MM) / SPACING[0]
    assert np.flatnonzero((kept == 2).any(axis=(1, 2)))[-1] == last
    assert cut == {"aorta"}
    assert (kept[: int(last) + 1] == labels[: int(last) + 1]).all()


@pytest.mark.parametrize("liver", ["none", "small"])
def test_without_a_liver_nothing_is_known_of_heights(liver) -> None:
    _, labels = _scan()
    labels[labels == 1] = 0
    if liver == "small":
        labels[20:22, :10, :10] = 1
    kept, cut = drop_untaught(labels, TABLE, SPACING, Domain({}, {}, {"aorta": 9.0}))
    assert cut == frozenset()
    np.testing.assert_array_equal(kept, labels)


@pytest.mark.parametrize(("unreliable", "dropped"), [(3, True), (1, False)])
def test_in_a_slender_body_unreliable_organs_are_dropped(unreliable, dropped) -> None:
    """A leg or a neck; a small field of view of a trunk is not taken for one."""
    image, labels = _scan()
    metadata = _metadata(image, labels)
    rows = (*_rows(*[(NOT_FOUND,)] * unreliable, *[()] * (3 - unreliable)), *FINE[:2])
    leg = np.full_like(image, -1)
    leg[:, 20:50, 30:60] = image[:, 20:50, 30:60]
    assert judge(metadata, leg, labels, rows).another_part is dropped
    field = np.ascontiguousarray(image[:, 20:50, 30:60])
    assert not judge(metadata, field, labels[:, 20:50, 30:60], rows).another_part
    assert not judge(metadata, image, labels, rows).another_part


@pytest.mark.parametrize(
    ("width", "cut", "slender"),
    [
        ((300.0, 600.0), (0.0, 0.0), True),
        ((120.0, 600.0), (0.0, 0.0), False),
        ((300.0, 600.0), (0.3, 0.4), True),
    ],
)
def test_slender_is_narrower_than_the_narrowest_of_the_training(width, cut, slender) -> None:
    image, labels = _scan()
    metadata = _metadata(image, labels)
    scan = {**metadata.domain.scan, "width_mm": width, "depth_mm": (1.0, 600.0), "cut_share": cut}
    metadata = replace(metadata, domain=replace(metadata.domain, scan=scan))
    rows = (*_rows((NOT_FOUND,), (NOT_FOUND,), (NOT_FOUND,)), *FINE[:2])
    leg = np.full_like(image, -1)
    leg[:, 20:50, 30:60] = image[:, 20:50, 30:60]
    assert judge(metadata, leg, labels, rows).another_part is slender
    cut_on_three_sides = np.pad(leg[:, 20:50, 30:60], ((0, 0), (0, 10), (0, 0)), constant_values=-1)
    assert scan_measures(cut_on_three_sides, SPACING, WINDOW)["cut_share"] == pytest.approx(0.75, abs=0.02)
    seen = np.pad(labels[:, 20:50, 30:60], ((0, 0), (0, 10), (0, 0)))
    assert not judge(metadata, cut_on_three_sides, seen, rows).another_part
