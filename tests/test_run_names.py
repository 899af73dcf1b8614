"""Which names are filled in, and which are a person's. The two forms are asked for theirs in
`test_deployments.py`."""

import pytest
from prefect.utilities.names import generate_slug

from flows.run_names import filled_in


def test_the_names_that_prefect_makes_are_known() -> None:
    assert [name for name in (generate_slug(2) for _ in range(2_000)) if not filled_in(name)] == []


@pytest.mark.parametrize(
    "name",
    [
        "zeta4-nyria",
        "lambda608-gondor-tensor",
        "iota-canis-majoris-vector",
        "Ergonomic-Meagle",
        "Awesome-Arepa",
        "Tasty-Pipián",
        "Small-Döner",
        "Generic-Ox",
    ],
)
def test_the_names_that_the_forms_fill_in_are_known(name: str) -> None:
    assert filled_in(name)


@pytest.mark.parametrize(
    "name",
    [
        "holiday-photos",
        "in: 3 pictures",
        "beta",
        "alphabet-soup",
        "Small-cats",
        "Awesome-Photographs",
        "wise otter",
        "Zeta4-nyria",
        "",
    ],
)
def test_a_person_s_name_stays(name: str) -> None:
    assert not filled_in(name)
