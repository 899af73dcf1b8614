"""Flags and environment variables: what they mean, and one sentence for each that is wrong."""

import json
import os
import pwd
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import ValidationError

from captioner.fields import InRecipe, NotInRecipe
from captioner.settings import DEFAULTS, GROUPS, RECIPE, Settings
from flows.hosting.command_line import CommandLine, parse_command_line

ROOT = Path(__file__).resolve().parent.parent

# The flags that the product's description names, their fields and their defaults.
SEED: dict[str, tuple[str, Any]] = {
    "--input-dir": ("input_dir", Path("input")),
    "--output-dir": ("output_dir", Path("output")),
    "--system-prompt": ("system_prompt", None),
    "--user-prompt": ("user_prompt", "Describe the contents of this image."),
    "--max-tokens": ("max_tokens", 512),
    "--temperature": ("temperature", 0.0),
    "--model": ("model", None),
    "--repo-id": ("repo_id", "lmstudio-community/Qwen3-VL-30B-A3B-Instruct-MLX-8bit"),
}

# A value for each, as it is written and as it is read.
VALUES: dict[str, tuple[str, Any]] = {
    "--input-dir": ("some where/in", Path("some where/in")),
    "--output-dir": ("/out", Path("/out")),
    "--system-prompt": ("You are a cartographer.", "You are a cartographer."),
    "--user-prompt": (' ["Où?", {1}] null,\n\ntwo\t"lines\n',) * 2,
    "--max-tokens": ("7", 7),
    "--temperature": ("0.75", 0.75),
    "--model": ("models/small", Path("models/small")),
    "--repo-id": ("mlx-community/Qwen3-VL-30B-A3B-Instruct-bf16",) * 2,
}

Patch = pytest.MonkeyPatch


def parse(monkeypatch: Patch, *arguments: str) -> CommandLine:
    monkeypatch.setattr(sys, "argv", ["caption_flow.py", *arguments])
    return parse_command_line(CommandLine)


def refused(monkeypatch: Patch, capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    """The lines on stderr of a command that exits with code 2."""
    with pytest.raises(SystemExit) as ended:
        parse(monkeypatch, *arguments)
    assert ended.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    return printed.err.splitlines()


def variable(flag: str) -> str:
    return "CAPTION_" + flag[2:].upper().replace("-", "_")


# --- what is read ---


def test_the_defaults_are_those_of_the_description(monkeypatch: Patch) -> None:
    command = parse(monkeypatch)
    for name, default in SEED.values():
        assert getattr(command, name) == default
        assert getattr(DEFAULTS, name) == default
    assert command.debug is False
    assert command.settings() == DEFAULTS == Settings()


@pytest.mark.parametrize("flag", SEED)
def test_each_flag_sets_its_field_and_no_other(flag: str, monkeypatch: Patch) -> None:
    written, expected = VALUES[flag]
    for arguments in ([flag, written], [f"{flag}={written}"]):
        settings = parse(monkeypatch, *arguments).settings()
        assert settings == DEFAULTS.model_copy(update={SEED[flag][0]: expected})


@pytest.mark.parametrize("flag", SEED)
def test_each_flag_is_an_environment_variable_too(flag: str, monkeypatch: Patch) -> None:
    written, expected = VALUES[flag]
    monkeypatch.setenv(variable(flag), written)
    settings = parse(monkeypatch).settings()
    assert settings == DEFAULTS.model_copy(update={SEED[flag][0]: expected})


@pytest.mark.parametrize("flag", SEED)
def test_flags_go_before_variables(flag: str, monkeypatch: Patch) -> None:
    written, expected = VALUES[flag]
    monkeypatch.setenv(variable(flag), "3/3" if flag == "--repo-id" else "1")
    assert getattr(parse(monkeypatch, flag, written), SEED[flag][0]) == expected


def test_a_flag_hides_what_is_wrong_with_its_variable(monkeypatch: Patch) -> None:
    monkeypatch.setenv("CAPTION_MAX_TOKENS", "nonsense")
    assert parse(monkeypatch, "--max-tokens", "8").max_tokens == 8


@pytest.mark.parametrize("flag", SEED)
def test_an_empty_variable_is_as_good_as_none(flag: str, monkeypatch: Patch) -> None:
    monkeypatch.setenv(variable(flag), "")
    assert parse(monkeypatch).settings() == DEFAULTS


def test_debug_is_of_the_terminal_alone(monkeypatch: Patch) -> None:
    assert parse(monkeypatch, "--debug").debug
    assert not parse(monkeypatch, "--no-debug").debug
    assert parse(monkeypatch, "--debug").settings() == DEFAULTS
    monkeypatch.setenv("CAPTION_DEBUG", "1")
    assert parse(monkeypatch).debug


def test_a_prompt_may_begin_with_a_dash_or_look_like_a_number(monkeypatch: Patch) -> None:
    assert parse(monkeypatch, "--user-prompt=-v").user_prompt == "-v"
    assert parse(monkeypatch, "--user-prompt", "42").user_prompt == "42"
    assert parse(monkeypatch, "--system-prompt", "").system_prompt == ""


@pytest.mark.parametrize("colour", ["black", "#1e90ff", "#FFF", "hsl(210, 100%, 56%)"])
def test_the_background_is_any_opaque_colour(colour: str, monkeypatch: Patch) -> None:
    expected = DEFAULTS.model_copy(update={"background": colour})
    assert parse(monkeypatch, "--background", colour).settings() == expected
    monkeypatch.setenv("CAPTION_BACKGROUND", colour)
    assert parse(monkeypatch).settings() == expected
    assert Settings.model_validate({"background": colour}) == expected  # as the flow does


SCHEMA = '{"type":"object","properties":{"a":{"type":"boolean"}}}'


@pytest.mark.parametrize("flag", ["--schema", "--answer-schema"])
def test_a_schema_is_read_from_its_file_wherever_it_is_named(
    flag: str, monkeypatch: Patch, tmp_path: Path
) -> None:
    (tmp_path / "s.json").write_text(f"\n {SCHEMA}\n")
    expected = DEFAULTS.model_copy(update={"answer_schema": SCHEMA})
    for written in (str(tmp_path / "s.json"), SCHEMA):
        for arguments in ([flag, written], [f"{flag}={written}"]):
            assert parse(monkeypatch, *arguments).settings() == expected
        with monkeypatch.context() as within:
            within.setenv(variable(flag), written)
            assert parse(within).settings() == expected


def test_questions_may_hold_anything(monkeypatch: Patch) -> None:
    asked = ('a=What, [in] {short} = "brief"?', "b-2=' --ask c=d", "c=\\")
    expected = DEFAULTS.model_copy(update={"ask": asked})
    arguments = ["--ask", asked[0], f"--ask={asked[1]}", "--ask", asked[2]]
    assert parse(monkeypatch, *arguments).settings() == expected
    monkeypatch.setenv("CAPTION_ASK", "\n".join(asked))
    assert parse(monkeypatch).settings() == expected
    assert parse(monkeypatch, "--ask", "x=y").ask == ("x=y",)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--schema", "nowhere.json"], "--schema names no file: nowhere.json."),
        (
            ["--schema", '{"type": "object", "not": {}}'],
            '--schema asks for what no answer can be held to: Unimplemented keys: ["not"].',
        ),
        (["--ask"], "--ask must be of the form NAME=PROMPT, such as 'alt_text=Write an alt text.', "
         "not empty."),
        (["--ask", "caption=x"], "--ask cannot ask for the caption, which --user-prompt does."),
        (["--schema", SCHEMA, "--ask=a=b"], "--ask asks for a, which the schema has already."),
    ],
)  # fmt: skip
def test_a_schema_or_question_that_cannot_be_is_one_sentence(
    arguments: list[str],
    sentence: str,
    monkeypatch: Patch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert refused(monkeypatch, capsys, *arguments) == [sentence]


PATHS = [flag for flag, (name, _) in SEED.items() if name in ("input_dir", "output_dir", "model")]


@pytest.mark.parametrize("flag", PATHS)
def test_a_tilde_is_the_home_folder_wherever_it_comes_from(flag: str, monkeypatch: Patch) -> None:
    name, user = SEED[flag][0], pwd.getpwuid(os.getuid())
    monkeypatch.setenv("HOME", "/home/of/somebody")
    for written, expected in (
        ("~", Path("/home/of/somebody")),
        ("~/a b", Path("/home/of/somebody/a b")),
        (f"~{user.pw_name}/x", Path(user.pw_dir) / "x"),
        ("./~nobody-of-that-name", Path.cwd() / "~nobody-of-that-name"),
        ("a~b/~", Path("a~b/~")),
    ):
        settings = parse(monkeypatch, f"{flag}={written}").settings()
        assert getattr(settings, name) == expected
        assert Settings.of(*settings.grouped().values()) == settings
        with monkeypatch.context() as patch:
            patch.setenv(variable(flag), written)
            assert getattr(parse(patch).settings(), name) == expected
        (group,) = [kind for kind in GROUPS.values() if name in kind.model_fields]
        assert getattr(group.model_validate({name: written}), name) == expected  # the form, JSON
        assert getattr(group.model_validate({name: Path("~/p")}), name).is_absolute()


@pytest.mark.parametrize("flag", PATHS)
def test_a_home_folder_that_nobody_has_is_one_sentence(
    flag: str, monkeypatch: Patch, capsys: pytest.CaptureFixture[str]
) -> None:
    sentence = (
        "is in the home folder of a user whom this machine does not know: ~gh\\x1bost/p; "
        "for a folder of that name write ./~gh\\x1bost/p."
    )
    assert refused(monkeypatch, capsys, f"{flag}=~gh\x1bost/p") == [f"{flag} {sentence}"]
    monkeypatch.setenv(variable(flag), "~gh\x1bost/p")
    assert refused(monkeypatch, capsys) == [f"{variable(flag)} {sentence}"]
    monkeypatch.delenv(variable(flag))
    with pytest.raises(ValidationError, match="whom this machine does not know"):
        Settings.model_validate({SEED[flag][0]: "~gh\x1bost/p"})


def test_a_folder_by_itself_is_the_input_directory(
    monkeypatch: Patch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", "/home/of/somebody")
    monkeypatch.setenv("CAPTION_INPUT_DIR", "elsewhere")
    for written, expected in (("a b", "a b"), ("~/Pictures", "/home/of/somebody/Pictures")):
        for arguments in ([written, "--max-tokens=9"], ["--max-tokens", "9", written]):
            settings = parse(monkeypatch, *arguments).settings()
            assert (settings.input_dir, settings.max_tokens) == (Path(expected), 9)
    assert parse(monkeypatch, "a", "--input-dir=a").settings().input_dir == Path("a")
    assert refused(monkeypatch, capsys, "a", "--input-dir", "b") == [
        "The folder is given twice, as a and as --input-dir b: give one."
    ]
    assert refused(monkeypatch, capsys, "") == ["The folder must not be empty."]
    monkeypatch.setenv("CAPTION_FOLDER", "c")
    assert parse(monkeypatch).settings().input_dir == Path("elsewhere")
    assert capsys.readouterr().err == "CAPTION_FOLDER is no setting; --help lists them.\n"


def test_what_nobody_gave_is_known_as_such(monkeypatch: Patch) -> None:
    monkeypatch.setenv("CAPTION_SEED", "0")
    settings = parse(monkeypatch, "in", f"--repo-id={DEFAULTS.repo_id}", "--limit=3").settings()
    assert settings.model_fields_set == {"input_dir", "seed", "repo_id", "limit"}
    again = Settings.of(*settings.grouped().values())
    assert (again, again.model_fields_set) == (settings, settings.model_fields_set)


def test_bounds_are_taken(monkeypatch: Patch) -> None:
    for flag, written in (
        ("--max-tokens", "1"),
        ("--max-tokens", "32768"),
        ("--temperature", "0"),
        ("--temperature", "2"),
        ("--max-pixels", "0"),
    ):
        parse(monkeypatch, flag, written)


def test_formats_and_languages_have_one_spelling(
    monkeypatch: Patch, capsys: pytest.CaptureFixture[str]
) -> None:
    for written in ("PNG,.png,Jpg", "png, .JPG"):
        assert parse(monkeypatch, "--formats", written).settings().formats == ("png", "jpg")
        monkeypatch.setenv("CAPTION_FORMATS", written)
        assert parse(monkeypatch).settings().formats == ("png", "jpg")
    monkeypatch.delenv("CAPTION_FORMATS")
    for written in ("DE", "de-AT", "De_de"):
        assert parse(monkeypatch, "--language", written).settings().language == "de"
    for wrong in (("--formats", "..png"), ("--formats", "pngs"), ("--language", "german")):
        assert len(refused(monkeypatch, capsys, *wrong)) == 1


# --- what is refused ---

WRONG = [
    ("--max-tokens", "0", "must be 1 or more, not 0."),
    ("--max-tokens", "-5", "must be 1 or more, not -5."),
    ("--max-tokens", "40000", "must be 32768 or less, not 40000."),
    ("--max-tokens", "many", "must be a whole number, not many."),
    ("--max-tokens", "1.5", "must be a whole number, not 1.5."),
    ("--max-tokens", "1e3", "must be a whole number, not 1e3."),
    ("--max-tokens", "x" * 100, f"must be a whole number, not {'x' * 60}…."),
    ("--max-tokens", "\x1b[31m", "must be a whole number, not \\x1b[31m."),
    ("--temperature", "-1", "must be 0 or more, not -1."),
    ("--temperature", "2.5", "must be 2 or less, not 2.5."),
    ("--temperature", "warm", "must be a number, not warm."),
    ("--temperature", "nan", "must be a finite number, not nan."),
    ("--temperature", "inf", "must be a finite number, not inf."),
    ("--limit", "0", "must be 1 or more, not 0."),
    ("--max-pixels", "-1", "must be 0 or more, not -1."),
    ("--background", "blurple", "must be a colour such as white or #1e90ff, not blurple."),
    ("--background", "#12345", "must be a colour such as white or #1e90ff, not #12345."),
    ("--background", "#1e90ff80", "must be a colour such as white or #1e90ff, not #1e90ff80."),
    (
        "--background",
        "rgb(300,0,0)",
        "must be a colour such as white or #1e90ff, not rgb(300,0,0).",
    ),
    ("--repo-id", "Qwen3", "must be of the form owner/name, not Qwen3."),
    ("--repo-id", "a/b/c", "must be of the form owner/name, not a/b/c."),
    ("--repo-id", "a b/c", "must be of the form owner/name, not a b/c."),
    ("--repo-id", "a/b\n", "must be of the form owner/name, not a/b\\n."),
    ("--repo-id", "https://hf.co/a/b", "must be of the form owner/name, not https://hf.co/a/b."),
]
EMPTY = [
    ("--user-prompt", "", "must not be empty."),
    ("--input-dir", "", "must not be empty."),
    ("--output-dir", "", "must not be empty."),
    ("--model", "", "must not be empty."),
    ("--max-tokens", "", "must be a whole number, not empty."),
    ("--background", "", "must be a colour such as white or #1e90ff, not empty."),
]


@pytest.mark.parametrize(("flag", "value", "sentence"), WRONG + EMPTY)
def test_a_bad_flag_is_one_sentence(
    flag: str, value: str, sentence: str, monkeypatch: Patch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refused(monkeypatch, capsys, f"{flag}={value}") == [f"{flag} {sentence}"]


@pytest.mark.parametrize(("flag", "value", "sentence"), WRONG)
def test_a_bad_variable_is_named(
    flag: str, value: str, sentence: str, monkeypatch: Patch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(variable(flag), value)
    assert refused(monkeypatch, capsys) == [f"{variable(flag)} {sentence}"]


def test_a_bad_variable_is_named_as_it_is_written(
    monkeypatch: Patch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("caption_temperature", "9")
    assert refused(monkeypatch, capsys) == ["caption_temperature must be 2 or less, not 9."]
    monkeypatch.delenv("caption_temperature")
    monkeypatch.setenv("CAPTION_DEBUG", "perhaps")
    assert refused(monkeypatch, capsys) == ["CAPTION_DEBUG must be true or false, not perhaps."]


def test_when_both_are_bad_the_flag_is_named(
    monkeypatch: Patch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CAPTION_MAX_TOKENS", "0")
    expected = ["--max-tokens must be 1 or more, not -2."]
    assert refused(monkeypatch, capsys, "--max-tokens=-2") == expected


def test_every_bad_value_gets_its_sentence(
    monkeypatch: Patch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CAPTION_REPO_ID", "x")
    lines = refused(monkeypatch, capsys, "--max-tokens", "0", "--temperature", "3")
    assert sorted(lines) == [
        "--max-tokens must be 1 or more, not 0.",
        "--temperature must be 2 or less, not 3.",
        "CAPTION_REPO_ID must be of the form owner/name, not x.",
    ]


def test_a_variable_that_means_nothing_is_told(
    monkeypatch: Patch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CAPTION_MAX_TOKEN", "8")
    assert parse(monkeypatch).settings() == DEFAULTS
    assert capsys.readouterr().err == "CAPTION_MAX_TOKEN is no setting; --help lists them.\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--nonsense"],
        ["--max", "3"],
        ["a", "b"],
        ["--max-tokens"],
        ["--max_tokens", "3"],
        ["--MODEL"],
    ],
)
def test_unknown_flags_and_missing_values(
    arguments: list[str], monkeypatch: Patch, capsys: pytest.CaptureFixture[str]
) -> None:
    last = refused(monkeypatch, capsys, *arguments)[-1]
    assert last.startswith("caption_flow.py: error: ")
    assert arguments[-1] in last or arguments[0] in last


# --- the model behind it, which is also the form in the UI ---


def test_every_field_has_a_title_a_description_and_a_default_in_the_schema() -> None:
    schema = Settings.model_json_schema()
    properties = schema["properties"]
    assert {name for name, _ in SEED.values()} <= set(properties)
    for name, field in properties.items():
        assert field["title"] and "_" not in field["title"], name
        assert field["description"].endswith("."), name
        assert "default" in field, name
    assert "required" not in schema
    assert properties["max_tokens"]["minimum"] == 1
    assert (properties["temperature"]["minimum"], properties["temperature"]["maximum"]) == (0, 2)
    json.dumps(schema)


def test_the_groups_hold_every_setting_once() -> None:
    names = [name for group in GROUPS.values() for name in group.model_fields]
    assert names == list(Settings.model_fields)
    for group in GROUPS.values():
        schema = group.model_json_schema()
        assert schema["description"].endswith(".")
        assert not schema["additionalProperties"]


def marks(kind: type[Settings]) -> dict[str, list[object]]:
    return {
        name: [mark for mark in field.metadata if isinstance(mark, (InRecipe, NotInRecipe))]
        for name, field in kind.model_fields.items()
    }


def test_each_setting_says_once_whether_a_caption_depends_on_it() -> None:
    """A setting that does not say would leave captions as they are when it changes."""
    assert {name: found for name, found in marks(Settings).items() if len(found) != 1} == {}

    class Newer(Settings):
        says_nothing: int = 0
        says_both: Annotated[int, InRecipe("a"), NotInRecipe("b")] = 0

    wrong = {name for name, found in marks(Newer).items() if len(found) != 1}
    assert wrong == {"says_nothing", "says_both"}


def test_what_a_caption_depends_on_and_what_it_is_called() -> None:
    assert RECIPE == {
        "user_prompt": "user prompt",
        "system_prompt": "system prompt",
        "banned_phrase": "banned phrases",
        "remove_openings": "openings",
        "answer_schema": "schema",
        "ask": "further questions",
        "max_tokens": "token limit",
        "temperature": "temperature",
        "seed": "seed",
        "max_pixels": "pixel cap",
        "background": "background",
    }
    others = set(Settings.model_fields) - set(RECIPE)
    assert others == {
        *("input_dir", "recursive", "output_dir", "overwrite", "retry_flagged", "limit"),
        *("preset", "language", "model", "repo_id", "batch_size", "keep_awake", "shard"),
        "formats",
        *("gallery", "export", "beside", "include_flagged", "xmp_name"),
    }
    for (mark,) in marks(Settings).values():
        assert isinstance(mark, InRecipe) or (isinstance(mark, NotInRecipe) and mark.why)


def test_what_is_about_pictures_is_a_group_of_its_own() -> None:
    assert list(GROUPS["pictures"].model_fields) == ["formats", "max_pixels", "background"]
    assert list(GROUPS["device"].model_fields) == ["batch_size", "keep_awake"]
    with pytest.raises(ValidationError):
        GROUPS["device"].model_validate({"max_pixels": 3})


def test_settings_go_into_groups_and_come_back() -> None:
    settings = Settings(
        input_dir=Path("a b"), system_prompt="é", seed=3, model=Path("m"), batch_size="auto"
    )
    groups = settings.grouped()
    assert Settings.of(*groups.values()) == settings
    as_json = {name: group.model_dump(mode="json") for name, group in groups.items()}
    assert as_json["folders"] == {
        "input_dir": "a b",
        "recursive": False,
        "output_dir": "output",
    }
    read = [GROUPS[name].model_validate(values) for name, values in as_json.items()]
    assert Settings.of(*read) == settings
    assert Settings.of() == Settings.of(*DEFAULTS.grouped().values()) == DEFAULTS


@pytest.mark.parametrize("name", ["input_dir", "output_dir", "model"])
def test_an_empty_path_is_refused_wherever_it_comes_from(name: str) -> None:
    with pytest.raises(ValidationError, match="must not be empty"):
        Settings.model_validate({name: ""})
    with pytest.raises(ValidationError, match="must not hold a zero byte"):
        Settings.model_validate({name: "a\0b"})  # a parameter can, and a flag cannot
    assert Settings.model_json_schema()["properties"][name]["minLength"] == 1


def test_settings_travel_as_json_and_cannot_be_changed() -> None:
    settings = Settings(input_dir=Path("a b"), temperature=0.5, system_prompt="é")
    assert Settings.model_validate_json(settings.model_dump_json()) == settings
    with pytest.raises(ValidationError):
        settings.max_tokens = 3  # type: ignore[misc]
    with pytest.raises(ValidationError):
        Settings.model_validate({"max_token": 3})


# --- the real command ---


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CAPTION_")}
    return subprocess.run(
        [sys.executable, "flows/caption_flow.py", *arguments],
        cwd=ROOT,
        env=clean | {"COLUMNS": "100"} | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_help_shows_every_flag() -> None:
    run = command("--help")
    assert (run.returncode, run.stderr) == (0, "")
    for flag in [*SEED, "--limit", "--max-pixels", "--background", "--plan", "--debug", "--help"]:
        assert f"{flag} " in run.stdout or f"{flag}," in run.stdout
    for _, default in SEED.values():
        assert f"default: {default}" in run.stdout.replace("\n" + " " * 24, " ")
    assert "CAPTION_MAX_TOKENS" in run.stdout


def test_bad_flags_of_the_real_command() -> None:
    run = command("--max-tokens", "0", "--temperature=nan", CAPTION_REPO_ID="x")
    assert (run.returncode, run.stdout) == (2, "")
    assert sorted(run.stderr.splitlines()) == [
        "--max-tokens must be 1 or more, not 0.",
        "--temperature must be a finite number, not nan.",
        "CAPTION_REPO_ID must be of the form owner/name, not x.",
    ]


def test_an_unknown_flag_of_the_real_command() -> None:
    run = command("--nonsense")
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.splitlines()[-1].endswith("error: unrecognized arguments: --nonsense")
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["--max-tokens", "0"], ["--nonsense"]])
def test_neither_mlx_nor_prefect_is_imported_before_the_flags_are_right(
    arguments: list[str],
) -> None:
    script = """
import runpy, sys
sys.argv[0] = "flows/caption_flow.py"
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    heavy = {"prefect", "mlx", "mlx_vlm", "transformers", "huggingface_hub", "numpy", "PIL"}
    print("imported:", sorted(heavy & {name.split(".")[0] for name in sys.modules}))
"""
    run = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.stdout.splitlines()[-1] == "imported: []"
