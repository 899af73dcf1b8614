"""Whether a caption is in the language that was asked for, by py3langid, an optional package.

It is trained on 139 languages, and used for those that can be asked for. Knows nothing of prompts.
"""

import importlib.util
import threading
from typing import Any

from captioner.fields import LANGUAGES

OTHER_LANGUAGE = "language"  # the flag of a caption in another one
SURE = 0.9  # what another language must be, of 1: Danish and Norwegian are each other's at 0.3
NO_LANGUAGE = "zxx"  # of numbers and the like

_lock = threading.Lock()  # captions of a batch come on threads of their own
_identifiers: list[Any] = []  # made once, which takes some seconds


def is_installed() -> bool:
    """Whether languages can be told apart here."""
    return importlib.util.find_spec("py3langid") is not None


def is_in_another(text: str, language: str) -> bool:
    """Whether `text` is surely in another language; False when nobody can tell."""
    if not text or not is_installed():
        return False
    likeliest, probability = _identifier().rank(text)[0]
    return probability >= SURE and likeliest not in (language, NO_LANGUAGE)


def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    with _lock:
        if not _identifiers:
            made = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
            made.set_languages([*LANGUAGES, NO_LANGUAGE])
            _identifiers.append(made)
        return _identifiers[0]
