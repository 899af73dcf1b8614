"""`python -m captioner.export OUTPUT --to txt,csv`: exports over a finished output folder."""

import argparse
import logging
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from captioner.errors import CaptionerError, InputError
from captioner.export.exporting import Choice, export
from captioner.export.kinds import KINDS
from captioner.export.place import Options
from captioner.output.folder import SUMMARY
from captioner.output.lock import locked
from captioner.output.shards import shard_files
from captioner.text import printable


def main(arguments: Sequence[str] | None = None) -> int:
    """Export as the flags say; 0, or 2 with one sentence when it cannot be done."""
    flags = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    options = Options(flags.input_dir, flags.beside, flags.xmp_name, flags.thumbnails)
    replacements = tuple((old, new) for old, new in flags.replace)
    choice = Choice(flags.include_flagged, flags.prefix, flags.suffix, replacements)
    kinds = [kind.strip() for kind in flags.to.split(",") if kind.strip()]
    try:
        _check_finished(flags.output)
        with locked(flags.output):
            for sentence in export(flags.output, kinds, options, choice):
                print(sentence)
    except CaptionerError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _check_finished(output: Path) -> None:
    """Raises InputError when no run of the whole folder has ended yet."""
    if (output / SUMMARY).is_file():
        return
    shown = printable(str(output))
    with suppress(OSError):
        if shard_files(output):
            raise InputError(
                f"{shown} holds the captions of shards, which are not merged yet: run the flow on "
                "it once without --shard, and export then."
            )
    raise InputError(f"{shown} is not the output folder of a run, which has a {SUMMARY}.")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m captioner.export",
        description="Write the captions of a finished output folder in other forms. "
        "Nothing is captioned, and the caption files stay as they are.",
    )
    add = parser.add_argument
    add("output", type=Path, help="the output folder of a run")
    add("--to", required=True, metavar="KINDS", help=f"one or more of {', '.join(KINDS)}")
    add("--input-dir", type=Path, default=Path("input"), help="where the pictures are (input)")
    add("--beside", action="store_true", help="put the files beside the pictures")
    add("--include-flagged", action="store_true", help="also captions that cannot be trusted")
    add("--prefix", default="", help="a text before each caption")
    add("--suffix", default="", help="a text after each caption")
    add(
        "--replace",
        nargs=2,
        action="append",
        default=[],
        metavar=("OLD", "NEW"),
        help="a text in each caption, and what stands in its place; may be given several times",
    )
    add(
        "--xmp-name",
        choices=("darktable", "adobe"),
        default="darktable",
        help="sidecars are named a.jpg.xmp, as darktable, digiKam and Immich read them, or a.xmp",
    )
    add("--thumbnails", action="store_true", help="small pictures in the Parquet file")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
