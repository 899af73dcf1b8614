"""The settings of one run: all groups together, flat.

`RECIPE` and `TITLES` are made of what the groups say of each setting. Knows nothing of where a
value came from.
"""

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field

from captioner.fields import FORMATS, MAX_SHARDS, InRecipe, NotInRecipe
from captioner.groups import (
    AgainSettings,
    DecodingSettings,
    DeviceSettings,
    FolderSettings,
    ModelSettings,
    PictureSettings,
    PromptSettings,
    ResultSettings,
)


# pydantic takes the fields of the last base first
class Settings(
    ResultSettings,
    DeviceSettings,
    PictureSettings,
    ModelSettings,
    DecodingSettings,
    PromptSettings,
    AgainSettings,
    FolderSettings,
):
    """The settings of one run."""

    @classmethod
    def of(cls, *groups: BaseModel) -> Self:
        """The settings that the groups hold together; what no group was given is not given here."""
        given = (
            (name, getattr(group, name)) for group in groups for name in group.model_fields_set
        )
        return cls.model_validate(dict(given))

    def grouped(self) -> dict[str, BaseModel]:
        """The groups by the names that they have as parameters of the flow."""
        given = self.model_fields_set
        return {
            name: group.model_validate(
                {field: getattr(self, field) for field in group.model_fields if field in given}
            )
            for name, group in GROUPS.items()
        }

    def from_a_form(self) -> "Settings":
        """The same, but that nobody gave what has its default: a form hands in every default."""
        fields = type(self).model_fields
        values = {name: getattr(self, name) for name in self.model_fields_set}
        return Settings.model_construct(
            **{name: value for name, value in values.items() if value != fields[name].default}
        )

    @property
    def format_names(self) -> str:
        """For example `PNG, JPG or JPEG`."""
        names = [name.upper() for name in dict.fromkeys(self.formats) if name != "all"]
        names = [name.upper() for name in FORMATS] if "all" in self.formats else names
        return " or ".join(filter(None, (", ".join(names[:-1]), names[-1])))

    @property
    def may_download_into_model(self) -> bool:
        """Whether a missing `model` directory is to be made: a repository was given for it."""
        return "repo_id" in self.model_fields_set


class FleetSettings(BaseModel):
    """How one folder is divided among several machines: of a fleet, and of no single run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shards: Annotated[int | None, NotInRecipe("says what is done where")] = Field(
        default=None,
        ge=1,
        le=MAX_SHARDS,
        title="Shards",
        description="How many parts the folder is split into, of which a worker takes one at a "
        "time; left out, four for each worker that is online.",
    )


GROUPS: dict[str, type[BaseModel]] = {
    "folders": FolderSettings,
    "again": AgainSettings,
    "prompts": PromptSettings,
    "decoding": DecodingSettings,
    "model": ModelSettings,
    "pictures": PictureSettings,
    "device": DeviceSettings,
    "results": ResultSettings,
}
DEFAULTS = Settings()

# The settings that a caption depends on, and what they are called in a reason to caption again.
RECIPE = {
    name: mark.name
    for name, field in Settings.model_fields.items()
    for mark in field.metadata
    if isinstance(mark, InRecipe)
}

# How the form calls what the terminal calls by its flag.
TITLES = {
    "--" + name.replace("_", "-"): f"“{field.title}”"
    for name, field in Settings.model_fields.items()
}
TITLES["--schema"] = TITLES["--answer-schema"]
