"""Every case of the claims' calibration, on more data than the ordinary suite has time for."""

import numpy as np
import pytest
from test_calibration import rarely

from lib.claims import calibration, trials

DRAWS = 200  # some three minutes; docs/calibration.md is made of more


@pytest.mark.parametrize("case", trials.CASES, ids=lambda case: case.ids.split()[0])
def test_a_test_is_rarely_wrong_and_as_powerful_as_it_says(case):
    rates = calibration.run(case, DRAWS)
    draws = len(rates.supported)
    assert rarely(rates.wrong, draws)
    assert rarely(rates.refuted, draws)
    assert abs(rates.found - rates.printed) <= calibration.TOLERANCE + 3 * np.sqrt(0.25 / draws)


@pytest.mark.parametrize("plan", trials.FAMILIES)
def test_a_family_without_any_effect_is_rarely_supported_anywhere(plan):
    families = 60
    assert rarely(calibration.familywise(plan, families), families)
