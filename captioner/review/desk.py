"""What a review does to an output folder: it lists captions, saves edits and notes verdicts.

Knows nothing of HTTP.
"""

import hashlib
import io
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from captioner.errors import CaptionError, InputError
from captioner.output.provenance import FILE_NAME
from captioner.output.results import Result, picture_in, results
from captioner.output.reviews import (
    ACCEPTED,
    OPEN,
    VERDICTS,
    Review,
    add_review,
    edit,
    read_reviews,
)
from captioner.output.thumbnails import Thumbnails
from captioner.pages.gallery import about, text
from captioner.pictures.decoding import load_image
from captioner.pictures.kinds import ALL
from captioner.records import Stamp
from captioner.text import printable

RECENTLY = 60.0  # seconds
JPEG_PIXELS, JPEG_QUALITY = 2_097_152, 85  # of a picture that the browser cannot show


class Desk:
    """One output folder under review; its methods may be called by any number of threads."""

    def __init__(self, output_dir: Path, input_dir: Path) -> None:
        """Read the captions.

        Raises:
            InputError: there are none, or the pictures are not where they are said to be.
            OutputError: the folder cannot be read.
        """
        self._directory = output_dir
        self._input = input_dir
        self._writing = threading.Lock()
        self._decoding = threading.Lock()  # one at a time: a large picture takes a GB
        self._files: dict[str, Path] = {}
        self._keys: dict[str, str] = {}  # by the names that pictures have in addresses
        self._stamps: dict[str, Stamp | None] = {}  # likewise
        self._thumbnails = Thumbnails(output_dir)
        read_reviews(output_dir)
        for result in results(output_dir):
            self._know(result)
        if not self._files:
            raise InputError(f"{printable(str(output_dir))} holds no captions to review.")
        if not any(picture_in(input_dir, key) for key in self._files):
            raise InputError(
                f"None of the pictures is in {printable(str(input_dir))}; "
                "name their folder with --input-dir."
            )

    def entries(self) -> Iterator[dict[str, Any]]:
        """What the page shows of each caption, as the folder is now.

        Raises:
            OutputError: the folder cannot be read.
        """
        said = read_reviews(self._directory)
        for result in results(self._directory):
            yield self._entry(result, self._know(result), said.get(result.key))

    def picture(self, name: str) -> Path | None:
        """The picture that has this name in addresses; None when it is not in the folder."""
        key = self._keys.get(name)
        return None if key is None else picture_in(self._input, key)

    def jpeg(self, name: str) -> bytes | None:
        """The same as a JPEG, for browsers that do not show its format; None when it cannot be
        decoded."""
        if (path := self.picture(name)) is None:
            return None
        file = io.BytesIO()
        try:
            with self._decoding:
                load_image(path, JPEG_PIXELS, formats=(ALL,), root=self._input.resolve()).save(
                    file, "JPEG", quality=JPEG_QUALITY
                )
        except CaptionError:
            return None
        return file.getvalue()

    def thumbnail(self, name: str) -> bytes | None:
        """The thumbnail of the picture that has this name in addresses; None without one."""
        key = self._keys.get(name)
        path = None if key is None else picture_in(self._input, key)
        return None if path is None else self._thumbnails.read(self._stamps[name], path)

    def save(self, key: str, before: str, caption: str) -> str:
        """Write an edited caption, which is accepted by that; the digest of what is there now.

        Raises:
            KeyError: there is no such caption.
            Changed: its file does not say any more what had the digest `before`.
            OutputError: it cannot be written.
        """
        with self._writing:
            after = edit(self._directory, self._files[key], before, caption)
            add_review(self._directory, key, Review(ACCEPTED, after))
            return after

    def judge(self, key: str, verdict: str, digest: str) -> None:
        """Note what the person thinks of the caption that has this digest.

        Raises:
            KeyError: there is no such caption, or no such verdict.
            OutputError: it cannot be noted.
        """
        if key not in self._files or verdict not in VERDICTS:
            raise KeyError(key)
        with self._writing:
            add_review(self._directory, key, Review(verdict, digest))

    def shown(self, key: str, caption: str) -> dict[str, str]:
        """What the page shows of a caption that its file holds now."""
        return text(caption, self._files[key])

    def busy(self) -> bool:
        """Whether a run has written to the folder within the last minute.

        Its lock is not asked: a run that began in that moment would find it taken.
        """
        try:
            written = (self._directory / FILE_NAME).stat().st_mtime
        except OSError:
            return False
        return abs(time.time() - written) < RECENTLY

    def _know(self, result: Result) -> str:
        """Note where the caption is; the name of its picture in addresses."""
        name = hashlib.sha256(result.key.encode(errors="surrogateescape")).hexdigest()[:20]
        self._files[result.key] = result.file
        self._keys[name] = result.key
        self._stamps[name] = result.figures.source
        return name

    def _entry(self, result: Result, name: str, review: Review | None) -> dict[str, Any]:
        digest = result.digest.hex()
        path = picture_in(self._input, result.key)
        small = path and self._thumbnails.of(result.figures.source, path)
        fresh = review is not None and review.digest == digest
        return {
            "name": result.key,
            "state": "captioned",
            **about(result),
            "picture": f"picture/{name}",
            "jpeg": f"jpeg/{name}",
            "thumbnail": f"thumbnail/{name}" if small else None,
            "new": False,
            "digest": digest,
            "made": result.figures.digest.hex(),  # of what the model said; another is an edit
            "review": review.verdict if review is not None and fresh else OPEN,
        }
