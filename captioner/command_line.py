"""Flags and environment variables to settings. Imports neither MLX nor Prefect, so that `--help`
and a wrong flag answer at once."""

import sys
from typing import NoReturn

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from captioner.settings import Settings

EPILOG_PREFIX = "CAPTION_"


class CommandLine(Settings, BaseSettings):
    """Caption every PNG, JPG and JPEG in a directory with a local MLX vision-language model.

    Every flag can also be given as an environment variable, such as CAPTION_MAX_TOKENS for
    --max-tokens.
    """

    model_config = SettingsConfigDict(
        env_prefix=EPILOG_PREFIX,
        cli_parse_args=True,
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_avoid_json=True,
        cli_hide_none_type=True,
        cli_use_class_docs_for_groups=True,
        nested_model_default_partial_update=False,
        frozen=True,
    )

    debug: bool = Field(default=False, description="Show tracebacks and Prefect's own log lines.")

    def settings(self) -> Settings:
        """The settings of the run, without what concerns the terminal alone."""
        return Settings.model_validate(self.model_dump(exclude={"debug"}))


def parse_command_line() -> CommandLine:
    """The settings that `sys.argv` and the environment ask for.

    Exits with code 2 and one sentence for each bad value, 0 after `--help`.
    """
    try:
        return CommandLine()
    except ValidationError as error:
        _refuse(error)


def _refuse(error: ValidationError) -> NoReturn:
    for problem in error.errors():
        name = str(problem["loc"][0]) if problem["loc"] else "setting"
        flag = "--" + name.replace("_", "-")
        reason = problem["msg"].removeprefix("Input ").removeprefix("Value error, ")
        print(f"{flag} {problem['input']!r}: the value {reason}.", file=sys.stderr)
    raise SystemExit(2)
