"""The words of the flowchart language, its tokenizer, and its chat template.

Every word that a caption or a listed prompt can contain is one token; anything
else falls back to bytes, so no prompt can fail to tokenise. Knows nothing of
pictures, of training or of weights.
"""

from __future__ import annotations

from dataclasses import dataclass

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "grey")
SHAPES = ("box", "diamond", "ellipse", "hexagon", "parallelogram")
COUNTS = {2: "two", 3: "three", 4: "four", 5: "five"}
LAYOUTS = ("left-to-right", "top-to-bottom")
WORDS = (
    "BUILD", "CHECK", "CLEAN", "CLOSE", "COUNT", "DONE", "END", "FETCH", "FILTER", "INDEX",
    "INPUT", "LOAD", "MERGE", "OUTPUT", "PARSE", "PLAN", "PRINT", "QUERY", "READ", "RETRY",
    "REVIEW", "SAVE", "SEND", "SORT", "SPLIT", "START", "STOP", "TEST", "WAIT", "WRITE",
)  # fmt: skip

DEFAULT_PROMPT = "Describe the contents of this image."
USER_PROMPTS = (
    DEFAULT_PROMPT,
    "Describe this image.",
    "Describe the image in detail.",
    "What is in this picture?",
    "What does this diagram show?",
    "Caption this image.",
    "Write a short caption for this image.",
    "Please describe what you see in this image.",
    "Describe the diagram in one sentence.",
    "Explain this flowchart step by step.",
    "List the nodes of the flowchart with their colours, shapes and labels.",
    "Summarise the contents of the picture for a person who cannot see it.",
    "Write alt text for this image.",
    "Give a detailed description of all the text, arrows and boxes in this diagram.",
    "Be brief. What is this?",
    "Hello!",
)
SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "You describe images.",
    "You are an expert at reading diagrams. Answer in one sentence.",
    "You caption images for people who cannot see them. Be precise and brief.",
    "Answer in plain English.",
    "You are a careful technical writer who describes flowcharts.",
)

END_OF_TEXT, IM_START, IM_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
VISION_START, VISION_END = "<|vision_start|>", "<|vision_end|>"
VISION_PAD, IMAGE_PAD, VIDEO_PAD = "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"
SPECIAL_TOKENS = (
    END_OF_TEXT, IM_START, IM_END, VISION_START, VISION_END, VISION_PAD, IMAGE_PAD, VIDEO_PAD,
)  # fmt: skip
VOCABULARY_SIZE = 512

# Letters, single digits, runs of punctuation and white space, as in the Qwen family.
_PIECES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

CHAT_TEMPLATE = """\
{%- macro render(content) -%}
{%- if content is string -%}{{- content -}}
{%- elif content is not none -%}
{%- for part in content -%}
{%- if part.type == 'image' or 'image' in part or 'image_url' in part -%}
{{- '<|vision_start|><|image_pad|><|vision_end|>' -}}
{%- elif part.type == 'video' or 'video' in part -%}
{{- '<|vision_start|><|video_pad|><|vision_end|>' -}}
{%- elif 'text' in part -%}{{- part.text -}}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{%- endmacro -%}
{%- for message in messages -%}
{{- '<|im_start|>' + message.role + '\\n' + render(message.content) + '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
"""


def count_sentence(layout: str, count: int) -> str:
    """The caption up to its colon, such as ``A left-to-right flowchart of three nodes``."""
    return f"A {layout} flowchart of {COUNTS[count]} nodes"


def node_phrase(colour: str, shape: str, label: str) -> str:
    """One node of a caption, such as ``an orange box labelled LOAD``."""
    article = "an" if colour[0] in "aeiou" else "a"
    return f"{article} {colour} {shape} labelled {label}"


def _splitter() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def _texts() -> list[str]:
    """Texts that between them hold every piece that deserves a token of its own."""
    captions = [count_sentence(layout, count) + ":" for layout in LAYOUTS for count in COUNTS]
    nodes = [
        f" {node_phrase(colour, shape, WORDS[0])}, and" for colour in COLOURS for shape in SHAPES
    ]
    labels = [f" {word}." for word in WORDS]
    roles = ["system\n", "user\n", "assistant\n"]
    return [*captions, *nodes, *labels, *roles, *USER_PROMPTS, *SYSTEM_PROMPTS]


def build_tokenizer() -> Tokenizer:
    """The tokenizer: 256 bytes, the pieces above, and the special tokens at the end."""
    splitter = _splitter()
    pieces = {piece for text in _texts() for piece, _ in splitter.pre_tokenize_str(text)}
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    ordered = alphabet + sorted(pieces - set(alphabet))
    vocabulary = {piece: index for index, piece in enumerate(ordered)}
    if len(vocabulary) + len(SPECIAL_TOKENS) > VOCABULARY_SIZE:
        raise ValueError(f"{len(vocabulary)} pieces do not fit {VOCABULARY_SIZE} tokens")
    # Without merges, a piece is either one whole token or its bytes.
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], ignore_merges=True))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = splitter
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS]
    )
    return tokenizer


@dataclass(frozen=True, slots=True)
class TokenIds:
    """Ids that the network and the configuration need by name."""

    pad: int  # <|endoftext|>
    end: int  # <|im_end|>, which ends a caption
    vision_start: int
    vision_end: int
    image: int
    video: int


def token_ids(tokenizer: Tokenizer) -> TokenIds:
    """Look the special tokens up."""

    def identify(token: str) -> int:
        index = tokenizer.token_to_id(token)
        if index is None:
            raise ValueError(f"the tokenizer has no {token}")
        return int(index)

    return TokenIds(
        pad=identify(END_OF_TEXT),
        end=identify(IM_END),
        vision_start=identify(VISION_START),
        vision_end=identify(VISION_END),
        image=identify(IMAGE_PAD),
        video=identify(VIDEO_PAD),
    )
