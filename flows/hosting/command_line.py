"""Flags and environment variables to settings. Imports neither MLX nor Prefect, so that `--help`
and a wrong flag answer at once."""

import inspect
import os
import re
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    CliPositionalArg,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from captioner.fields import Place
from captioner.settings import FleetSettings, Settings
from captioner.text import printable

PREFIX = "CAPTION_"
KEPT_BY_DEFAULT = "90d"  # in the database of the temporary server, which nobody else cleans
FOLDER = "folder"  # what is given without a flag
ASK = "--ask"
OTHER_NAMES = {"answer-schema": "schema"}  # flags that have two

# what a value must be, for the kinds of pydantic's complaints; braces are filled from the limits
EXPECTED = {
    "greater_than_equal": "{ge} or more",
    "less_than_equal": "{le} or less",
    "greater_than": "more than {gt}",
    "less_than": "less than {lt}",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number of fewer digits",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_parsing": "a number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "literal_error": "{expected}",
    "enum": "{expected}",
    "string_too_short": "at least {min_length} characters long",
    "string_too_long": "at most {max_length} characters long",
    "string_pattern_mismatch": "of the form owner/name",  # only repositories have a pattern
    "string_unicode": "valid UTF-8",
}


class _Variables(EnvSettingsSource):
    """The variables of flags; what is given without one has none."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        if field_name == FOLDER:
            return None, field_name, False
        value, key, is_complex = super().get_field_value(field, field_name)
        if value is None and (other := OTHER_NAMES.get(field_name.replace("_", "-"))):
            value = self.env_vars.get((PREFIX + other).lower())
        return value, key, is_complex


class Flags(Settings, BaseSettings):
    """Every setting as a flag and as an environment variable."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        # pydantic-settings 2.16 cuts `--flag=value` at a newline where case does not matter
        case_sensitive=True,
        cli_parse_args=True,
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_shortcuts=OTHER_NAMES,
        cli_avoid_json=True,
        cli_hide_none_type=True,
        cli_use_class_docs_for_groups=True,
        nested_model_default_partial_update=False,
        frozen=True,
    )

    @classmethod
    def __pydantic_init_subclass__(cls, **_: object) -> None:
        cls.__doc__ = inspect.cleandoc(cls.__doc__ or "")  # as --help shows it

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags, which come first by themselves, then the variables that are not empty."""
        variables = _Variables(settings_cls, case_sensitive=False, env_ignore_empty=True)
        return init_settings, variables

    def settings(self) -> Settings:
        """The settings of the run, without what a command knows besides; what nobody gave is not
        given there either."""
        given = self.model_dump(include=set(Settings.model_fields), exclude_unset=True)
        return Settings.model_validate(given)


def _writable(path: Path) -> Path:
    try:
        path.open("a").close()
    except OSError as error:
        raise ValueError(f"cannot be written to: {path}: {error.strerror}") from error
    return path


def _days(value: str) -> str:
    if not re.fullmatch(r"[1-9][0-9]{0,4}d", value):
        raise ValueError("must be a number of days such as 90d")
    return value


class CommandLine(Flags):
    """Caption every PNG, JPG and JPEG in a directory with a local MLX vision-language model.

    Every flag can also be given as an environment variable, such as CAPTION_MAX_TOKENS for
    --max-tokens. Flags go before variables.
    """

    folder: CliPositionalArg[Place | None] = Field(
        default=None, description="The same as --input-dir."
    )
    plan: bool = Field(
        default=False,
        description="Say what a run would do and how long that may take, and do nothing.",
    )
    list_presets: bool = Field(
        default=False, description="Say what presets there are, a line each, and do nothing."
    )
    quiet: bool = Field(default=False, description="Show problems and the end only.")
    log_file: Annotated[Place, AfterValidator(_writable)] | None = Field(
        default=None, description="Append all lines to this file, also those of a quiet run."
    )
    debug: bool = Field(default=False, description="Show tracebacks and Prefect's own log lines.")
    keep_runs: Annotated[str, AfterValidator(_days)] | None = Field(
        default=None,
        description="Remove runs of this flow from Prefect's database when they are older, such as "
        "90d. Left out, it is 90d where the server is only for the time of the run, and none "
        "are removed from the server that PREFECT_API_URL names.",
    )

    def runs_kept_for(self, temporary_server: bool) -> timedelta | None:
        """How long runs stay in Prefect's database; None for ever."""
        days = self.keep_runs or (KEPT_BY_DEFAULT if temporary_server else None)
        return timedelta(days=int(days.removesuffix("d"))) if days else None

    @field_validator(FOLDER)
    @classmethod
    def _one_folder(cls, folder: Path | None, info: ValidationInfo) -> Path | None:
        named = info.data.get("input_dir", folder)
        if folder and folder != named and _is_given("--input-dir"):
            raise ValueError(
                f"is given twice, as {printable(str(folder))} and as "
                f"--input-dir {printable(str(named))}: give one"
            )
        return folder

    def settings(self) -> Settings:
        """The settings of the run; the folder that stands by itself goes before a variable."""
        settings = super().settings()
        return settings.model_copy(update={"input_dir": self.folder}) if self.folder else settings

    def parameters(self) -> dict[str, BaseModel]:
        """The parameters of the flow."""
        return self.settings().grouped()


class FleetCommandLine(FleetSettings, CommandLine):
    """Caption every PNG, JPG and JPEG in a directory with several machines.

    Each runs a worker of the work pool: docs/several-macs.md. Every flag can also be given as an
    environment variable, such as CAPTION_SHARDS for --shards.
    """

    model_config = CommandLine.model_config

    @field_validator("shard")
    @classmethod
    def _all_of_them(cls, shard: str | None) -> str | None:
        if shard:
            raise ValueError("is for one machine by itself: leave it out with several")
        return shard

    def parameters(self) -> dict[str, BaseModel]:
        """The parameters of the flow, with how the folder is divided."""
        return super().parameters() | {"fleet": FleetSettings(shards=self.shards)}


F = TypeVar("F", bound=Flags)


def parse_command_line(kind: type[F]) -> F:
    """The values that `sys.argv` and the environment ask for.

    Exits with code 2 and one sentence for each bad value, 0 after `--help`.
    """
    _warn_of_unknown_variables(kind)
    arguments, asked = _without_questions(sys.argv[1:])
    given: dict[str, Any] = {"ask": asked} if asked else {}
    try:
        return kind(_cli_parse_args=arguments, **given)
    except ValidationError as error:
        _refuse(error.errors())


def _without_questions(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The arguments without those of --ask, and what these ask.

    pydantic-settings would cut a question at its commas.
    """
    rest: list[str] = []
    asked: list[str] = []
    left = iter(arguments)
    for argument in left:
        flag, equals, value = argument.partition("=")
        if flag != ASK:
            rest.append(argument)
        else:
            asked.append(value if equals else next(left, ""))
        if argument == "--":
            rest += left
    return rest, asked


def _warn_of_unknown_variables(kind: type[Flags]) -> None:
    names = {*kind.model_fields, *OTHER_NAMES.values()} - {FOLDER}
    known = {PREFIX + name.upper() for name in names}
    for name in sorted(os.environ):
        if name.upper().startswith(PREFIX) and name.upper() not in known:
            print(f"{printable(name)} is no setting; --help lists them.", file=sys.stderr)


def _refuse(problems: Sequence[ErrorDetails]) -> NoReturn:
    for name in dict.fromkeys(str(problem["loc"][0]) for problem in problems):
        of_this = [problem for problem in problems if problem["loc"][0] == name]
        print(f"{_source(name)} {_complaint(of_this)}.", file=sys.stderr)
    raise SystemExit(2)


def _source(name: str) -> str:
    """The flag or the environment variable that gave the setting `name` its value."""
    if name == FOLDER:
        return "The folder"
    kebab = name.replace("_", "-")
    flags = [f"--{each}" for each in (kebab, OTHER_NAMES.get(kebab)) if each]
    if given := [flag for flag in flags if _is_given(flag)]:
        return given[0]
    variables = {PREFIX + each[2:].replace("-", "_").upper() for each in flags}
    return next((key for key in os.environ if key.upper() in variables), flags[0])


def _is_given(flag: str) -> bool:
    return any(argument.split("=")[0] == flag for argument in sys.argv[1:])


def _complaint(problems: Sequence[ErrorDetails]) -> str:
    """What is wrong with one value; `problems` has one for each type that it could have been."""
    first = problems[0]
    if first["type"] == "value_error":
        return str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "string_too_short" and not first["input"]:
        return "must not be empty"
    expected = dict.fromkeys(map(_expected, problems))
    value = printable(str(first["input"]))
    shown = value if len(value) <= 60 else value[:60] + "…"
    return f"must be {', or '.join(expected)}, not {shown or 'empty'}"


def _expected(problem: ErrorDetails) -> str:
    limits = {
        name: f"{limit:g}" if isinstance(limit, float) else str(limit).replace("'", "")
        for name, limit in problem.get("ctx", {}).items()
    }
    kind = problem["type"]
    if kind in EXPECTED:
        return EXPECTED[kind].format(**limits)
    return str(problem["msg"]).removeprefix("Input should be ")
