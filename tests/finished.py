"""A finished output folder whose captions say what somebody hostile would let a model say.

No model is needed: the captions are saved as the flow saves them.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from captioner.asking.prompts import Prompts
from captioner.output.folder import OutputFolder
from captioner.pages.gallery import write_gallery
from captioner.pictures.reading import Valid, validate
from captioner.pictures.scan import scan
from captioner.pictures.stamps import stamp_of
from captioner.records import Caption, DeviceFigures, Failure, Generation, Recipe, Skipped
from captioner.run import Run
from captioner.settings import Settings
from tests.conftest import draw_picture

CAPTIONS = {
    "a.png": '=HYPERLINK("http://example.org") a formula,\nin two lines',
    "b & <c>'\".jpg": 'A <script>alert("x")</script><img src=x onerror=alert(1)> & \u202e more',
    "cut.png": "A caption that was cut",
    "ordner ü.png": "Ein Kästchen",
}
FIELDS: dict[str, dict[str, Any]] = {
    "a.png": {"alt_text": "A sheet\nof numbers", "keywords": ["=1+1", "sheet"], "people": 0},
    "b & <c>'\".jpg": {
        "alt_text": '<b onmouseover="alert(2)">Ω</b>',
        "keywords": "script, red , script",
        "mood & <i>": {"is": ["calm", 0.5]},
        "image": "not a column twice",
    },
}
FLAGS = {"cut.png": ("truncated", "banned")}
BANNED = {"cut.png": ("was <cut>", "caption")}
EDITED = {"ordner ü.png": "Eine Kiste"}
THUMBNAILS = ("a.png", "cut.png")  # the others were captioned before there were any
FAILED, SKIPPED = "failed.png", "skipped.png"


def finished(folder: Path) -> Settings:
    """A folder with four captions, of which one is flagged and one edited by hand, and with two
    pictures that have none."""
    settings = Settings(
        input_dir=folder / "in", output_dir=folder / "out", user_prompt="Describe it."
    )
    settings.input_dir.mkdir(parents=True)
    for name in (*CAPTIONS, FAILED):
        draw_picture(settings.input_dir / name)
    (settings.input_dir / SKIPPED).write_bytes(b"no picture")
    run = Run.begin(settings)
    run.scan = scan(settings.input_dir)
    recipe = Recipe.of(settings, "abc")
    with OutputFolder(settings.output_dir) as output:
        run.plan = output.plan(run.scan, settings, recipe, Prompts(settings).of)
        for job in run.plan.todo:
            key, stamp = job.picture.key, stamp_of(job.picture.path)
            if key == FAILED:
                run.failures.append(Failure(job, "the <b>device</b> said no"))
            elif key == SKIPPED:
                run.skipped.append(Skipped(job.picture, "empty file", stamp))
            else:
                flags = FLAGS.get(key, ())
                text = CAPTIONS[key]
                made = Generation(text, "stop", 100, 80, 24, 16, 11, 0.5, 2.0, flags=flags)
                made = replace(made, fields=FIELDS.get(key), banned=BANNED.get(key, ()))
                read = validate(job, thumbnail=key in THUMBNAILS)
                assert isinstance(read, Valid)
                caption = Caption(job, "Describe it.", made, stamp, read.thumbnail)
                output.save(caption, recipe)
                run.add(caption)
        run.end(DeviceFigures())
        for key, text in EDITED.items():
            path = settings.output_dir / f"{Path(key).stem}.json"
            path.write_text(json.dumps(json.loads(path.read_text()) | {"caption": text}))
        output.finish(run)
        write_gallery(run, output)
    return settings
