"""What the model is asked about each picture: the prompt of the run or of the picture's folder,
with its placeholders filled in.

A `prompt.txt` in a folder of the input is the prompt of the pictures in it and below it, unless a
nearer folder has one, or --user-prompt was given. Knows nothing of captions.
"""

from collections import Counter
from collections.abc import Iterator

from captioner.asking.facts import facts
from captioner.asking.in_full import asked_for_in
from captioner.asking.placeholders import filled, refusal, used
from captioner.asking.texts import NoText, text_within
from captioner.errors import InputError
from captioner.pictures.scan import FOLDER_PROMPT
from captioner.records import Asked, Picture
from captioner.settings import Settings
from captioner.text import counted, listed, printable

SHOWN = 60  # characters of a folder's prompt


class Prompts:
    """What a run asks. A plain class: Prefect passes it on as it is."""

    def __init__(self, settings: Settings) -> None:
        """`settings` are in full, as `in_full` makes them."""
        self._settings = settings
        self._input_dir = settings.input_dir
        self._own = "user_prompt" in settings.model_fields_set
        self._of_folder: dict[str, tuple[str, str] | None] = {}
        self._asked: dict[str, Asked] = {}  # by texts without placeholders: one for many pictures
        self.of_folders: Counter[str] = Counter()  # folders whose prompt was asked → pictures

    def of(self, picture: Picture) -> Asked:
        """What the model is asked about the picture.

        Raises:
            InputError: the prompt of its folder cannot be used.
        """
        folder = picture.key.rpartition("/")[0]
        user = self._settings.user_prompt
        if not self._own and (found := self._folder_prompt(folder)):
            place, user = found
            self.of_folders[place] += 1
            if self._settings.language:
                user = asked_for_in(self._settings.language, user)
        if user in self._asked:
            return self._asked[user]
        system, ask = self._settings.system_prompt, self._settings.ask
        wanted = used((user, system or "", *ask))
        values = facts(picture, self._input_dir, wanted) if wanted else {}
        asked = Asked(
            filled(user, values),
            None if system is None else filled(system, values),
            tuple(filled(each, values) for each in ask),
        )
        if not wanted:
            self._asked[user] = asked
        return asked

    def remarks(self) -> Iterator[str]:
        """What is to be said of prompts of folders, once all pictures are planned."""
        if folders := self.of_folders:
            pictures = counted(folders.total(), "picture has", "pictures have")
            texts = dict(found for found in self._of_folder.values() if found)
            places = listed(f"{place} (“{_beginning(texts[place])}”)" for place in folders)
            them = "it" if len(folders) == 1 else "them"
            yield f"{pictures} the prompt of a folder: {places}; --user-prompt leaves {them} out"
        top = self._input_dir / FOLDER_PROMPT
        if self._own and top.is_file():
            yield f"{printable(str(top))} is passed over, since --user-prompt is given"

    def _folder_prompt(self, folder: str) -> tuple[str, str] | None:
        """The nearest prompt to a folder: where it is, and what it says."""
        passed = []
        while folder not in self._of_folder:  # a tree may be deeper than Python calls itself
            passed.append(folder)
            if (found := self._in(folder)) or not folder:
                self._of_folder[folder] = found
            else:
                folder = folder.rpartition("/")[0]
        for below in passed:
            self._of_folder[below] = self._of_folder[folder]
        return self._of_folder[folder]

    def _in(self, folder: str) -> tuple[str, str] | None:
        """The prompt in a folder itself."""
        path = self._input_dir / folder / FOLDER_PROMPT
        shown = printable(str(path))
        try:
            text = text_within(path, self._input_dir)
        except NoText as error:
            raise _unusable(shown, str(error)) from None
        if text is None:
            return None
        if wrong := refusal(text):
            raise _unusable(shown, wrong)
        return shown, text


def _beginning(text: str) -> str:
    """Enough of a prompt, which may have come with the pictures, to see what is asked."""
    line = printable(" ".join(text[: 4 * SHOWN].split()))
    return line if len(line) <= SHOWN else line[: SHOWN - 1] + "…"


def _unusable(shown: str, why: str) -> InputError:
    return InputError(
        f"{shown} cannot be the prompt of its folder: {why}. Mend it or give it another name; "
        "with --user-prompt it is passed over."
    )
