"""From runs to figures, and from figures to a table. Knows nothing of how they were measured."""

from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Any

NAMES = {
    "a": "mlx_vlm.generate in a loop",
    "b": "mlx_vlm.batch_generate",
    "c": "mlx_vlm.server",
    "bare": "the device without Prefect, batches of ",
    "d": "this flow",
    "e": "this flow, --batch-size ",
}


@dataclass(frozen=True, slots=True)
class Run:
    """One system, one time."""

    seconds: float
    texts: list[str]  # the captions, in the order of the pictures
    summary: dict[str, Any]  # summary.json, of this flow
    spent: dict[str, float] = field(default_factory=dict)  # seconds, of the bare device


def summarised(runs: dict[str, list[Run]], pictures: int) -> dict[str, Any]:
    """Medians over the rounds; a ratio is the median of the ratios of each round."""
    seconds = {system: [run.seconds for run in many] for system, many in runs.items()}
    peers = [seconds[name] for name in ("b", "c") if name in seconds]
    peer = [min(times) for times in zip(*peers, strict=True)]
    flows = [name for name in runs if name[0] in "de"]
    best = min((n for n in flows if n[0] == "e"), key=lambda n: median(seconds[n]), default=None)
    ratios: dict[str, float] = {}
    if "a" in seconds:
        ratios |= {f"{n} ÷ a": _ratio(seconds["a"], seconds[n]) for n in runs if n != "a"}
    if best and peer:
        ratios[f"{best} ÷ the better of b and c"] = _ratio(peer, seconds[best])
    for name in flows:
        if (bare := f"bare{name[1:] or 1}") in seconds:
            ratios[f"{name} ÷ {bare}"] = _ratio(seconds[bare], seconds[name])
    return {
        "systems": {
            system: {
                "name": _name(system),
                "images_per_second": pictures / median(times),
                "device_busy_fraction": _median_of(runs[system], busy_fraction)
                if system in flows
                else None,
                "seconds": times,
                "spent": runs[system][-1].spent,
            }
            for system, times in seconds.items()
        },
        "ratios": ratios,
        "busy_share_of_caption_phase": {name: _median_of(runs[name], busy_share) for name in flows},
        "rows_on_the_device": {name: _median_of(runs[name], mean_rows) for name in flows},
        "same_captions_as_loop": {
            name: _same(runs["a"], runs[name]) for name in runs if "a" in runs and name != "a"
        },
        "pictures": pictures,
    }


def _name(system: str) -> str:
    letters = system.rstrip("0123456789")
    return NAMES[letters] + system.removeprefix(letters)


def busy_fraction(run: Run) -> float:
    """The flow's own figure: from the first picture on the device to the last."""
    return float(run.summary["device_busy_fraction"])


def busy_share(run: Run) -> float:
    """The share of the whole caption phase, its start and its end included."""
    seconds = run.summary["seconds"]
    return float(seconds["device_busy"] / seconds["captioning"])


def mean_rows(run: Run) -> float:
    """How many pictures were on the device on average while it was busy."""
    captions = sum(caption["seconds"] for caption in run.summary["captions"])
    return float(captions / run.summary["seconds"]["device_busy"])


def table(results: dict[str, Any]) -> str:
    """Everything that was measured, as Markdown."""
    settings = results["settings"]
    lines = [
        f"{settings['pictures']} pictures, {settings['new_tokens']} new tokens each, median of "
        f"{settings['rounds']} rounds. `{results['command']}`, {results['seconds']} s.",
        f"Machine: {results['machine']}.",
        "",
        "| | system | images/s | device busy | seconds spent |",
        "| --- | --- | ---: | ---: | --- |",
    ]
    for letter, system in results["systems"].items():
        busy = system["device_busy_fraction"]
        spent = ", ".join(f"{name} {value:.1f}" for name, value in system["spent"].items())
        lines.append(
            f"| {letter} | {system['name']} | {system['images_per_second']:.3f} "
            f"| {'' if busy is None else f'{busy:.3f}'} | {spent} |"
        )
    lines += ["", "| figure | measured |", "| --- | ---: |"]
    lines += [f"| {name} | {value} |" for name, value in _figures(results)]
    return "\n".join([*lines, ""])


def _figures(results: dict[str, Any]) -> list[tuple[str, str]]:
    pictures = results["pictures"]
    figures = [(name, f"{ratio:.3f}") for name, ratio in results["ratios"].items()]
    for system, share in results["busy_share_of_caption_phase"].items():
        figures.append((f"device busy, share of the whole caption phase, {system}", f"{share:.3f}"))
    for system, rows in results["rows_on_the_device"].items():
        figures.append((f"pictures on the device, mean, {system}", f"{rows:.2f}"))
    for system, same in results["same_captions_as_loop"].items():
        figures.append((f"captions of {system} equal to a's", f"{same} of {pictures}"))
    if "limits" in results:
        figures += _cost_figures(results) + _limit_figures(results["limits"])
    return figures


def _cost_figures(results: dict[str, Any]) -> list[tuple[str, str]]:
    cpu = results["cpu_per_picture"]
    empty = cpu["empty_task_runs_process_ms"], cpu["empty_task_runs_server_ms"]
    first = results["seconds_to_first_picture"]
    return [
        (
            "CPU of the flow beyond the device, per picture",
            f"{cpu['flow_beyond_device_ms']:.1f} ms (flow {cpu['flow_process_ms']:.1f} + server "
            f"{cpu['flow_server_ms']:.1f} − bare device {cpu['bare_device_process_ms']:.1f})",
        ),
        (
            "CPU of three task runs that do nothing",
            f"{sum(empty):.1f} ms (process {empty[0]:.1f} + server {empty[1]:.1f})",
        ),
        *(
            (f"model loaded → first picture, {name.replace('_', ' ')}", f"{seconds:.2f} s")
            for name, seconds in first.items()
        ),
        ("scan of 10,000 files", f"{results['scan_seconds']:.2f} s"),
    ]


def _limit_figures(limits: dict[str, float]) -> list[tuple[str, str]]:
    copy, product = limits["copy_read_gb_per_s"], limits["matmul_gflop_per_s"]
    prefill, tokens = limits["prefill_gflop_per_s"], limits["prefill_tokens"]
    seconds = limits["prefill_ms"] / 1e3
    return [
        ("memory: a copy reads (and writes as much)", f"{copy:.1f} GB/s"),
        (
            "memory: one large matrix × vector in MLX reads",
            f"{limits['matvec_gb_per_s']:.1f} GB/s",
        ),
        ("decode, one picture", _decode_figure(limits, "decode", 1)),
        (
            f"decode, {limits['batch_size']:.0f} pictures at a time",
            _decode_figure(limits, "batched_decode", limits["batch_size"]),
        ),
        ("large matrix product, in the checkpoint's numbers", f"{product:.0f} GFLOP/s"),
        (
            f"prefill of {tokens:.0f} tokens, vision tower and all",
            f"{1e3 * seconds:.0f} ms: {tokens / seconds:.0f} tokens/s, "
            f"{prefill / product:.0%} of what the matrix product allows",
        ),
    ]


def _decode_figure(limits: dict[str, float], step: str, rows: float) -> str:
    seconds, gigabytes = limits[f"{step}_step_ms"] / 1e3, limits[f"{step}_step_bytes"] / 1e9
    made = rows / seconds
    share = made / (rows * limits["copy_read_gb_per_s"] / gigabytes)
    return (
        f"{1e3 * seconds:.1f} ms a step: {made:.0f} tokens/s, {share:.0%} of what reading "
        f"{gigabytes:.2f} GB a step allows"
    )


def _ratio(slower: list[float], faster: list[float]) -> float:
    return median(a / b for a, b in zip(slower, faster, strict=True))


def _median_of(runs: list[Run], figure: Callable[[Run], float]) -> float:
    return median(figure(run) for run in runs)


def _same(left: list[Run], right: list[Run]) -> int:
    """How many captions are the same in every round."""
    rounds = [run.texts for run in (*left, *right)]
    return sum(len(set(texts)) == 1 for texts in zip(*rounds, strict=True))
