"""A checkpoint's chat templates and tokenizer, tried once in a process of their own.

Both are programs of a kind: a template may loop or make gigabytes, a tokenizer's regular expression
may take for ever or end in a panic, and no thread can be called back from that. So they are given
the run's prompts once, with a bound in time and memory, before anything is loaded; what they do
wrong within those is each picture's own failure, as MLX's processor says it. Templates run in
Jinja's sandbox, as transformers has it; no code of the checkpoint ever runs. Knows nothing of MLX.

`python -m captioner.checkpoint.trial DIRECTORY SECONDS` is the process: it takes the prompts as
JSON, says what it is about to try, a line each, and last how many tokens the prompts are.
"""

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from captioner.checkpoint.files import read_object, read_text
from captioner.errors import CheckpointError, first_line
from captioner.text import gigabytes, printable

SECONDS = 30
MAX_BYTES = 2 << 30
TOO_MUCH_MEMORY = 77  # its exit code then
TEMPLATE, TOKENIZER = "chat template", "tokenizer"


def try_out(
    directory: Path, user_prompt: str, system_prompt: str | None, seconds: int = SECONDS
) -> int | None:
    """How many tokens the prompts are, with what the chat template puts around them; None when
    the tokenizer is of a kind that only MLX's processor knows.

    Raises:
        CheckpointError: the chat template or the tokenizer takes more than `seconds` or 2 GB, or
            ends its process.
    """
    command = [sys.executable, "-m", "captioner.checkpoint.trial", str(directory), str(seconds)]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"TOKENIZERS_PARALLELISM": "false"},
        start_new_session=True,  # Ctrl-C is for the run
    ) as process:
        try:
            prompts = json.dumps([user_prompt, system_prompt]).encode()
            said, errors = process.communicate(prompts)  # its own clock ends it
        except BaseException:
            process.kill()
            raise
    lines = said.decode(errors="replace").split("\n")[:-1]
    if process.returncode == 0:
        return int(lines[-1]) if lines[-1].isdigit() else None
    what = lines[-1] if lines else "start"
    if what not in (TEMPLATE, TOKENIZER):  # nothing of the checkpoint was tried yet
        raise CheckpointError(
            "The chat template and the tokenizer cannot be tried: "
            f"{first_line(Exception(errors.decode(errors='replace')[-500:]))}"
        )
    if process.returncode == -signal.SIGALRM:
        why = f"takes more than {seconds} s"
    elif process.returncode == TOO_MUCH_MEMORY:
        why = f"takes more than {gigabytes(MAX_BYTES)} of memory"
    else:
        why = "ends the process that tries it"
    raise CheckpointError(
        f"The model in {printable(str(directory))} cannot be used: its {what} {why}. "
        "Choose another with --model or --repo-id."
    )


# What follows runs in the process.


def _main(directory: Path, seconds: int) -> None:
    user_prompt, system_prompt = json.load(sys.stdin)
    from tokenizers import Tokenizer

    signal.alarm(seconds)
    _bound_memory()
    rendered = [user_prompt, system_prompt or ""]
    _say(TEMPLATE)
    names = _special_tokens(directory)
    for source in _templates(directory):
        for messages in _messages(user_prompt, system_prompt):
            try:
                rendered.append(_render(source, messages, names))
            except MemoryError:
                raise
            except Exception as error:  # each picture says it, from MLX's processor
                sys.stderr.write(f"{first_line(error)}\n")
    if not (directory / "tokenizer.json").is_file():
        return _say("")
    _say(TOKENIZER)
    try:
        tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    except Exception:  # MLX's processor says it, or knows better
        return _say("")
    _say(str(max(len(tokenizer.encode(text).ids) for text in rendered)))


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _bound_memory() -> None:
    """End the process when it takes more than its share."""
    if sys.platform == "linux":  # whose peak is no measure: it begins with that of the parent
        # libraries have reserved some for each core already, and for a GPU
        reserved = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (reserved + MAX_BYTES, reserved + MAX_BYTES))
    else:  # macOS does not enforce the limit
        threading.Thread(target=_watch_memory, daemon=True).start()


def _watch_memory() -> None:
    while resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < MAX_BYTES:  # macOS: in bytes
        time.sleep(0.1)
    os._exit(TOO_MUCH_MEMORY)


def _templates(directory: Path) -> Iterator[str]:
    """Every chat template that transformers could find in the directory."""
    for path in (directory / "chat_template.jinja", *directory.glob("additional_*/*.jinja")):
        if path.is_file():
            yield read_text(path).decode(errors="replace")
    for name in ("chat_template.json", "processor_config.json", "tokenizer_config.json"):
        found = read_object(directory / name).get("chat_template")
        if isinstance(found, str):
            yield found
        elif isinstance(found, dict):
            yield from (text for text in found.values() if isinstance(text, str))
        elif isinstance(found, list):  # of objects with a name and a template
            texts = [entry.get("template") for entry in found if isinstance(entry, dict)]
            yield from (text for text in texts if isinstance(text, str))


def _special_tokens(directory: Path) -> dict[str, str]:
    """`bos_token` and the like, which templates use."""
    tokens = {}
    for name, value in read_object(directory / "tokenizer_config.json").items():
        text = value.get("content") if isinstance(value, dict) else value
        if name.endswith("_token") and isinstance(text, str):
            tokens[name] = text
    return tokens


def _messages(user_prompt: str, system_prompt: str | None) -> Iterator[list[dict[str, Any]]]:
    """The prompts in the forms in which mlx-vlm hands them to a template."""
    image, text = {"type": "image"}, {"type": "text", "text": user_prompt}
    system = [{"role": "system", "content": system_prompt}] if system_prompt else []
    for content in ([image, text], [text, image], user_prompt):
        yield [*system, {"role": "user", "content": content}]


def _render(source: str, messages: list[dict[str, Any]], special_tokens: dict[str, str]) -> str:
    """As transformers renders it (`transformers.utils.chat_template_utils`)."""
    from jinja2.exceptions import TemplateError
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        tags = {"generation"}  # noqa: RUF012 (Jinja's own form)

        def parse(self, parser: Any) -> Any:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    def refuse(message: str) -> None:
        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = lambda value, **_: json.dumps(value, ensure_ascii=False)
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = time.strftime
    given = special_tokens | {"tools": None, "documents": None, "add_generation_prompt": True}
    return environment.from_string(source).render(given, messages=messages)


if __name__ == "__main__":
    try:
        _main(Path(sys.argv[1]), int(sys.argv[2]))
    except MemoryError:
        os._exit(TOO_MUCH_MEMORY)
