"""Captions as plain text, JSON Lines, CSV and Parquet. Knows nothing of which are left out."""

import csv
import io
import json
import os
from collections.abc import Iterable, Mapping
from typing import Any

from captioner.export.columns import Fields, cell, columns_of
from captioner.export.place import Place
from captioner.output.results import Result
from captioner.pages.thumbnails import thumbnail_bytes
from captioner.pictures.kinds import ALL

# how a cell begins that a spreadsheet would take for a formula (OWASP, "CSV Injection")
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
ROWS = 500  # of the Parquet file that are in memory at a time


def write_txt(results: Iterable[Result], place: Place) -> None:
    """A file a caption, with the caption alone: what trainers read beside a picture.

    Raises:
        OutputError: one cannot be written.
    """
    for result in results:
        if (path := place.beside(result, ".txt")) is not None:
            place.write(path, encoded(result.caption.strip() + "\n"))


def write_jsonl(results: Iterable[Result], place: Place) -> None:
    """`metadata.jsonl` of Hugging Face's imagefolder: `file_name` and `text`, and the fields.

    It names pictures by their paths within the folder that it is in, as `load_dataset` wants them.

    Raises:
        OutputError: it cannot be written.
    """
    results = list(results)
    fields = columns_of(results, ("file_name", "text", "image", "label"))
    lines = []
    for result in results:
        if place.options.beside and place.picture(result) is None:
            continue
        name = os.path.relpath(place.options.input_dir / result.key, place.home)
        line = {"file_name": name, "text": result.caption} | _further(result, fields)
        lines.append(json.dumps(line, ensure_ascii=False))
    place.write(place.home / "metadata.jsonl", encoded("".join(f"{line}\n" for line in lines)))


def write_csv(results: Iterable[Result], place: Place) -> None:
    """`captions.csv` for spreadsheets: UTF-8 with a mark, and no cell that is a formula.

    Raises:
        OutputError: it cannot be written.
    """
    results = list(results)
    fields = columns_of(results, COLUMNS)
    file = io.StringIO()
    rows = csv.writer(file)
    rows.writerow([*COLUMNS, *map(_cell, map(_text, fields))])
    for result in results:
        rows.writerow([_cell(value) for value in row(result, fields).values()])
    place.write(place.home / "captions.csv", b"\xef\xbb\xbf" + encoded(file.getvalue()))


def write_parquet(results: Iterable[Result], place: Place) -> None:
    """`captions.parquet`: a row a caption, with what it was made from, and on request a thumbnail,
    in the form of the `Image` of Hugging Face's `datasets`.

    Raises:
        OutputError: it cannot be written.
    """
    import pyarrow as pa  # here, since it takes half a second
    import pyarrow.parquet as pq

    results = list(results)
    further = columns_of(results, {*COLUMNS, "thumbnail"})
    columns = COLUMNS | {_text(name): kind for name, (_, kind) in further.items()}
    types = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
    fields = [
        pa.field(name, pa.list_(pa.string()) if kind is list else types[kind])
        for name, kind in columns.items()
    ]
    if place.options.thumbnails:
        image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        fields.append(pa.field("thumbnail", image))
    schema = pa.schema(fields, metadata=_features(columns) if place.options.thumbnails else None)
    file = io.BytesIO()
    with pq.ParquetWriter(file, schema) as writer:
        rows: list[dict[str, Any]] = []
        for result in results:
            rows.append(row(result, further) | _thumbnail(result, place))
            if len(rows) == ROWS:
                writer.write_table(pa.Table.from_pylist(rows, schema))
                rows.clear()
        writer.write_table(pa.Table.from_pylist(rows, schema))
    place.write(place.home / "captions.parquet", file.getvalue())


COLUMNS: dict[str, type] = {
    "image": str,
    "caption": str,
    "prompt": str,
    "flags": list,
    "edited": bool,
    "width": int,
    "height": int,
    "image_tokens": int,
    "generated_tokens": int,
    "seconds": float,
    "repo_id": str,
    "revision": str,
    "image_sha256": str,
    "captioned_at": str,
}


def row(result: Result, fields: Fields) -> dict[str, Any]:
    """The columns of one caption: in the order of `COLUMNS`, then those of its `fields`."""
    made = result.figures
    values = (
        *(_text(result.key), _text(result.caption), _text(result.prompt)),
        *(list(result.flags), result.edited, made.width, made.height),
        *(made.image_tokens, made.generated_tokens, made.seconds),
        *(made.repo_id, made.revision, made.sha256, made.at),
    )
    return dict(zip(COLUMNS, values, strict=True)) | _further(result, fields)


def _further(result: Result, fields: Fields) -> dict[str, Any]:
    return {
        _text(column): cell(result.fields, name, kind) for column, (name, kind) in fields.items()
    }


def encoded(text: str) -> bytes:
    """UTF-8; the bytes of a file name that is not become escapes."""
    return text.encode("utf-8", "backslashreplace")


def _text(value: str) -> str:
    return encoded(value).decode()


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        value = " ".join(value)
    if isinstance(value, str):
        # a spreadsheet reads the quote as: what follows is text
        return f"'{value}" if value.startswith(FORMULA) else value.replace("\0", "\\0")
    return value


def _thumbnail(result: Result, place: Place) -> dict[str, Any]:
    if not place.options.thumbnails:
        return {}
    picture = place.picture(result)
    data = thumbnail_bytes(picture, (ALL,)) if picture else None
    return {"thumbnail": {"bytes": data, "path": None} if data else None}


def _features(columns: Mapping[str, type]) -> dict[str, str]:
    """What tells `datasets` that the column of thumbnails holds pictures."""
    kinds = {str: "string", int: "int64", float: "float64", bool: "bool"}
    features: dict[str, Any] = {
        name: {"feature": {"dtype": "string", "_type": "Value"}, "_type": "List"}
        if kind is list
        else {"dtype": kinds[kind], "_type": "Value"}
        for name, kind in columns.items()
    }
    features["thumbnail"] = {"_type": "Image"}
    return {"huggingface": json.dumps({"info": {"features": features}})}
