"""Whether a run's name is one that Prefect or one of its UIs filled in, or a person's.

Knows nothing of what a run is called instead.
"""

import re
from functools import cache
from typing import Any

# Prefect's classic form: a Greek letter, perhaps with a number, a star and perhaps another word
LETTERS = (
    "alpha|beta|gamma|delta|epsilon|zeta|eta|theta|iota|kappa|lambda|mu|nu|xi|omicron|pi|rho|sigma|"
    "tau|upsilon|phi|chi|psi|omega"
)
CLASSIC = re.compile(rf"({LETTERS})\d{{0,4}}(-[a-z]+){{1,3}}")

# the new form: what a shop says of its goods, and an animal or a dish of six letters at most
PRAISE = (
    "Awesome|Rustic|Small|Gorgeous|Fantastic|Sleek|Intelligent|Unbranded|Refined|Licensed|Generic|"
    "Practical|Ergonomic|Handcrafted|Tasty|Handmade|Incredible"
)
NEW = re.compile(rf"({PRAISE})-(?=[^\W\d_a-z])[\w .'-]{{1,6}}")


def filled_in(name: str) -> bool:
    """Whether nobody chose this name: `wise-otter`, `zeta4-nyria` or `Ergonomic-Meagle`."""
    kinds, beings = _words_of_prefect()
    kind, _, being = name.partition("-")
    return (kind in kinds and being in beings) or filled_in_by_a_form(name)


def filled_in_by_a_form(name: str) -> bool:
    """Whether it has the shape of those that the two forms suggest; a person's `beta-test` has."""
    return bool(CLASSIC.fullmatch(name) or NEW.fullmatch(name))


@cache
def _words_of_prefect() -> tuple[frozenset[str], frozenset[str]]:
    """The words of which Prefect makes names: what comes first, and what comes second."""
    from coolname.data import config  # of the package that Prefect makes them with

    lists: dict[str, Any] = dict(config)

    def words(part: str) -> frozenset[str]:
        return frozenset(word for name in lists[part]["lists"] for word in lists[name]["words"])

    return words("adj_any"), words("subj")
