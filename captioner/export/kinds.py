"""The table of exports: each is a name and a writer.

A writer is called with the captions and a `Place`, and hands finished files to it. It knows nothing
of the run, of what was left out, or of which files may be replaced.
"""

from collections.abc import Callable, Iterable

from captioner.export.page import write_html
from captioner.export.place import Place
from captioner.export.tables import write_csv, write_jsonl, write_parquet, write_txt
from captioner.export.xmp import write_xmp
from captioner.output.results import Result

Writer = Callable[[Iterable[Result], Place], None]

KINDS: dict[str, Writer] = {
    "txt": write_txt,
    "jsonl": write_jsonl,
    "csv": write_csv,
    "parquet": write_parquet,
    "xmp": write_xmp,
    "html": write_html,
}
