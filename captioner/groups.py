"""Every setting of a run, declared once, in the groups of the form in Prefect's UI.

The flags of the command line, the environment variables and the parameters of the flow are all read
from here. Each setting is marked with whether a caption depends on it. Knows nothing of where a
value came from.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
)
from pydantic.config import JsonDict
from pydantic_settings import NoDecode

from captioner.answers import MAX_PROMPT_LENGTH, asked_twice, read_asks, read_schema
from captioner.fields import (
    Colour,
    Formats,
    InRecipe,
    Language,
    NotInRecipe,
    Part,
    Phrases,
    Place,
    split_at_commas,
)

DEFAULT_REPO_ID = "lmstudio-community/Qwen3-VL-30B-A3B-Instruct-MLX-8bit"
MAX_BATCH_SIZE, MAX_TOKENS = 32, 32_768
DEFAULT_USER_PROMPT = "Describe the contents of this image."
NOT_EMPTY: JsonDict = {"minLength": 1}  # for the form, which knows a path as a text


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FolderSettings(_Group):
    """Where the pictures are, and where the captions go."""

    input_dir: Annotated[Place, NotInRecipe("the file's own bytes count, wherever it is")] = Field(
        default=Path("input"),
        title="Input directory",
        description="The directory whose picture files are captioned.",
        json_schema_extra=NOT_EMPTY,
    )
    recursive: Annotated[bool, NotInRecipe("says where pictures are looked for")] = Field(
        default=False,
        title="Folders below too",
        description="Caption the pictures of all folders below; the output gets the same folders.",
    )
    output_dir: Annotated[Place, NotInRecipe("captions may be moved")] = Field(
        default=Path("output"),
        title="Output directory",
        description="Where the caption files, captions.json and summary.json are written.",
        json_schema_extra=NOT_EMPTY,
    )


class AgainSettings(_Group):
    """What is captioned once more besides what is new, how many at most, and which part of it."""

    overwrite: Annotated[bool, NotInRecipe("says what is done, not how")] = Field(
        default=False,
        title="Overwrite",
        description="Caption every picture again, also where a caption is up to date or was "
        "edited by hand.",
    )
    retry_flagged: Annotated[bool, NotInRecipe("says what is done, not how")] = Field(
        default=False,
        title="Retry flagged captions",
        description="Caption again what was flagged, for whatever reason, and nothing else.",
    )
    limit: Annotated[int | None, NotInRecipe("says what is done, not how")] = Field(
        default=None,
        ge=1,
        title="Pictures at most",
        description="Only the first pictures that are to be captioned, this many; "
        "the others are left for the next run.",
    )
    shard: Annotated[Part | None, NotInRecipe("says what is done, not how")] = Field(
        default=None,
        title="Shard",
        description="One part of the folder, such as 3/12; the next run without it merges all.",
    )


class PromptSettings(_Group):
    """What the model is asked."""

    preset: Annotated[
        Literal["caption", "alt-text", "keywords", "diagram", "document", "photo", "training"]
        | Place
        | None,
        NotInRecipe("its values count, one by one"),
    ] = Field(
        default=None,
        title="Preset",
        description="Prompts and other settings for a purpose, which are used where a setting is "
        "not given; or a file of one's own, such as ./mine.toml.",
    )
    user_prompt: Annotated[str, InRecipe("user prompt")] = Field(
        default=DEFAULT_USER_PROMPT,
        min_length=1,
        max_length=MAX_PROMPT_LENGTH,
        title="User prompt",
        description="The text shown to the model alongside each image, or the file that holds it "
        "behind an @. It may hold {name}, {stem}, {folder}, {taken}, {width} and {height}.",
    )
    system_prompt: Annotated[str | None, InRecipe("system prompt")] = Field(
        default=None,
        max_length=MAX_PROMPT_LENGTH,
        title="System prompt",
        description="The system role of the assistant. Left out when it is not given.",
    )
    language: Annotated[Language | None, NotInRecipe("it is asked for in the prompt")] = Field(
        default=None,
        title="Language",
        description="The language that captions are asked for in, such as de; those in another "
        "one are flagged.",
    )
    answer_schema: Annotated[str | None, BeforeValidator(read_schema), InRecipe("schema")] = Field(
        default=None,
        title="Schema",
        description="A file with a JSON Schema, or its text: the answer is an object of that form, "
        "which the caption file keeps as its fields.",
    )
    ask: Annotated[
        tuple[str, ...],
        NoDecode,  # a prompt may be any text
        BeforeValidator(read_asks),
        InRecipe("further questions"),
    ] = Field(
        default=(),
        title="Further questions",
        description="More to ask of each picture in the same look, each as NAME=PROMPT; the answer "
        "becomes the field of that name.",
    )
    banned_phrase: Annotated[Phrases, NoDecode, InRecipe("banned phrases")] = Field(
        default=(),
        title="Banned phrases",
        description="A caption that holds one of them is asked for again, and flagged when that "
        "does not help.",
    )
    remove_openings: Annotated[Phrases, NoDecode, InRecipe("openings")] = Field(
        default=(),
        title="Openings to remove",
        description="What is removed from the beginning of a caption, such as: This image shows.",
    )

    @field_validator("ask")
    @classmethod
    def _one_answer_a_field(cls, ask: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if twice := asked_twice(info.data.get("answer_schema"), ask):
            raise ValueError(f"asks for {twice}, which the schema has already")
        return ask


class DecodingSettings(_Group):
    """How a caption is generated."""

    max_tokens: Annotated[int, InRecipe("token limit")] = Field(
        default=512,
        ge=1,
        le=MAX_TOKENS,
        title="Tokens at most",
        description="A caption is cut after this many tokens; earlier ones that ended by "
        "themselves stay.",
    )
    temperature: Annotated[float, InRecipe("temperature")] = Field(
        default=0.0,
        ge=0.0,
        le=2.0,
        allow_inf_nan=False,
        title="Temperature",
        description="0 always takes the most likely token; higher values vary more.",
    )
    seed: Annotated[int, InRecipe("seed")] = Field(
        default=0,
        ge=0,
        title="Seed",
        description="With a temperature above 0: the same seed, picture and batch size give the "
        "same caption.",
    )


class ModelSettings(_Group):
    """Which model captions."""

    model: Annotated[Place | None, NotInRecipe("the revision of the checkpoint counts")] = Field(
        default=None,
        title="Model directory",
        description="A directory with the MLX weights, in place of the Hugging Face cache.",
        json_schema_extra=NOT_EMPTY,
    )
    repo_id: Annotated[str, NotInRecipe("the revision of the checkpoint counts")] = Field(
        default=DEFAULT_REPO_ID,
        pattern=r"^\w[\w.-]{0,95}/\w[\w.-]{0,95}$",
        title="Hugging Face repository",
        description="The repository (owner/name) that is downloaded when the model is missing.",
    )


class PictureSettings(_Group):
    """Which files are pictures, and how the model sees one."""

    formats: Annotated[Formats, NotInRecipe("the file's own bytes count, whatever its format")] = (
        Field(
            default=("png", "jpg", "jpeg"),
            title="Picture formats",
            description="The files that are captioned, by their suffixes: png, jpg, jpeg, webp, "
            "avif, gif, tiff, bmp, heic, or all.",
        )
    )
    max_pixels: Annotated[int, InRecipe("pixel cap")] = Field(
        default=2_097_152,
        ge=0,
        title="Pixels at most",
        description="Larger pictures are scaled down to this many pixels first; "
        "0 leaves it to the model.",
    )
    background: Annotated[Colour, InRecipe("background")] = Field(
        default="white",
        validate_default=False,  # Pillow need not be imported for it
        title="Background",
        description="The colour behind what is transparent in a picture: a name or #rrggbb.",
    )


class DeviceSettings(_Group):
    """How pictures go to the device, and how it is kept at it."""

    batch_size: Annotated[
        Annotated[int, Field(ge=1, le=MAX_BATCH_SIZE)] | Literal["auto"],
        NotInRecipe("rounding alone differs with the number of rows"),
    ] = Field(
        default=1,
        title="Batch size",
        description="How many pictures the device captions at a time; auto chooses by the memory "
        "that is free once the model is loaded.",
    )
    keep_awake: Annotated[bool, NotInRecipe("has nothing to do with captions")] = Field(
        default=True,
        title="Keep awake",
        description="Keep a Mac that nobody uses from falling asleep while the run lasts.",
    )


class ResultSettings(_Group):
    """What is written besides the captions."""

    gallery: Annotated[bool, NotInRecipe("made from the captions")] = Field(
        default=True,
        title="Gallery",
        description="Write index.html, a page with all pictures and their captions.",
    )
    export: Annotated[
        tuple[Literal["txt", "jsonl", "csv", "parquet", "xmp", "html"], ...],
        NoDecode,  # a variable holds `txt,csv` like the flag
        BeforeValidator(split_at_commas),
        NotInRecipe("made from the captions"),
    ] = Field(
        default=(),
        title="Exports",
        description="Other forms of the captions that are written too: txt, jsonl, csv, parquet, "
        "xmp, html.",
    )
    beside: Annotated[bool, NotInRecipe("where exports go")] = Field(
        default=False,
        title="Exports beside the pictures",
        description="Write exports into the input directory, where trainers and photo programs "
        "look for them. A file that is somebody else's is left as it is.",
    )
    include_flagged: Annotated[bool, NotInRecipe("which captions are exported")] = Field(
        default=False,
        title="Export flagged captions too",
        description="Export also captions that are flagged, for whatever reason.",
    )
    xmp_name: Annotated[Literal["darktable", "adobe"], NotInRecipe("how exports are named")] = (
        Field(
            default="darktable",
            title="Names of XMP sidecars",
            description="a.jpg.xmp, as darktable, digiKam and Immich read them, or a.xmp, as "
            "Adobe's programs do.",
        )
    )
