"""What a person is told when a run is over: what became of the pictures, and what to do next.

Knows nothing of terminals.
"""

from captioner.groups import MAX_TOKENS
from captioner.run import Run


def figures(run: Run) -> list[tuple[str, str]]:
    """The rows of the table: what is counted, and how many."""
    rows = [
        ("captioned", f"{len(run.captioned)}"),
        ("up to date", f"{len(run.plan.up_to_date)}"),
        ("skipped", f"{len(run.all_skipped)}"),
        ("flagged", f"{len(_flags(run))}"),
        ("failed", f"{len(run.failures)}"),
        ("seconds", f"{run.seconds:.1f}"),
    ]
    if run.a_minute:
        rows.append(("pictures a minute", f"{run.a_minute:.1f}"))
    return rows


def sentence(run: Run) -> str:
    """The same in one line."""
    pace = f", {run.a_minute:.1f} pictures a minute" if run.a_minute else ""
    return f"{run.counts()} in {run.seconds:.1f} s{pace}"


def advice(run: Run) -> list[str]:
    """What can be done about captions that were flagged, a line for each cause."""
    flags, limit = _flags(run), run.settings.max_tokens
    lines = []
    if cut := sum("truncated" in each for each in flags):
        more = min(4 * limit, MAX_TOKENS)
        lines.append(f"{cut} cut at {limit} tokens: --retry-flagged --max-tokens {more}")
    if stuck := sum("repetitive" in each for each in flags):
        lines.append(
            f"{stuck} repetitive: --retry-flagged with another --temperature or --user-prompt"
        )
    if empty := sum("empty" in each for each in flags):
        lines.append(f"{empty} empty: --retry-flagged with another --user-prompt")
    if banned := sum("banned" in each for each in flags):
        lines.append(f"{banned} with a banned phrase: --retry-flagged with another --user-prompt")
    if other := sum("language" in each for each in flags):
        lines.append(f"{other} in another language: --retry-flagged with another --user-prompt")
    return lines


def _flags(run: Run) -> list[tuple[str, ...]]:
    """Those of each caption that was flagged."""
    return [caption.generation.flags for caption in run.captioned if caption.generation.flags]
