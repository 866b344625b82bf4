from __future__ import annotations

import pytest

from multiorganseg.errors import OptionError
from multiorganseg_training.acceptance.plan import parse_seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10m", 600), ("1h", 3600), ("overnight", 28800), ("90m", 5400), ("2.5h", 9000), (" 3 m ", 180)],
)
def test_times(text, seconds):
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "0m", "-1h", "10", "1d", "1:30", "h", "ten minutes", "1e3m", "nan h"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(OptionError, match="is not a time") as caught:
        parse_seconds(text)
    assert "overnight" in caught.value.next_step
