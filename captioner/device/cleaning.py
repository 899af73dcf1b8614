"""What a model says that is no caption: thinking blocks, special tokens, half a sentence.

Works on text alone; knows nothing of MLX or of tokenizers. The time is linear in the text.
"""

import re

# Qwen, DeepSeek and GLM write `<think>`, Kimi `◁think▷`. Fences matter too: what is within them is
# a quotation from the picture.
_TAG = re.compile(r"(?P<fence>^[ \t]{0,3}```)|[<◁](?P<close>/?)think[>▷]", re.MULTILINE)
_SPECIAL = re.compile(
    r"<\|[^<>|]{1,64}\|>"  # Qwen, Llama, Phi
    r"|<｜[^<>｜]{1,64}｜>"  # DeepSeek
    r"|</?s>|<(?:pad|bos|eos|unk|start_of_turn|end_of_turn|end_of_utterance)>"
)
_QUOTES = frozenset("`'\"‘’“”«»")
_SENTENCE_END = re.compile(r"[.!?…][\"'”’)\]*_`]{0,3}(?=\s|\Z)|[。！？]|\n")
_BROKEN = "\ufffd"  # what the bytes of half a character decode to


def without_thinking(text: str) -> str:
    """`text` without thinking blocks and without white space around it.

    A block that is never closed reaches to the end. A first tag that closes ends a block that the
    chat template has opened (Qwen3-VL-Thinking), so all before it goes. Tags in quotes, in
    backticks or in a fenced block are something that the picture shows, and stay.
    """
    kept: list[str] = []
    position = 0  # up to here it is kept or dropped
    thinking = fenced = seen = False
    for tag in _TAG.finditer(text):
        if thinking:
            if tag["close"]:
                thinking, position = False, tag.end()
        elif tag["fence"]:
            fenced = not fenced
        elif not fenced and not _is_quoted(text, tag):
            if seen or not tag["close"]:
                kept.append(text[position : tag.start()])
            thinking, position, seen = not tag["close"], tag.end(), True
    if not thinking:
        kept.append(text[position:])
    return "".join(kept).strip()


def is_empty(text: str) -> bool:
    """Whether there is nothing in `text` but thinking, special tokens and what cannot be seen."""
    rest = _SPECIAL.sub("", without_thinking(text))
    return not any(c.isprintable() and not c.isspace() and c != _BROKEN for c in rest)


def to_sentence_end(kept: str, longer: str) -> str:
    """`kept`, and as much of `longer` as its last sentence or line still needs.

    For a caption that was cut where a loop begins (`Loop.kept`), which may be within a sentence:
    `longer` is the same caption with the loop's second time round. When neither a sentence nor a
    line ends in what it has more, `kept` stays as it is.
    """
    kept = kept.rstrip(_BROKEN)
    body = kept.rstrip()
    last = _SENTENCE_END.search(kept, max(0, len(body) - 4))
    while last and last.end() < len(body):
        last = _SENTENCE_END.search(kept, last.end())
    if last or not body or not longer.startswith(kept):
        return body
    end = _SENTENCE_END.search(longer, len(kept))
    return longer[: end.end()].rstrip() if end else body


def _is_quoted(text: str, tag: re.Match[str]) -> bool:
    before, after = text[max(0, tag.start() - 1) : tag.start()], text[tag.end() : tag.end() + 1]
    return before in _QUOTES and after in _QUOTES
