"""From runs to figures, and from figures to a table. Knows nothing of how they were measured."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

SYSTEMS = {
    "a": "mlx_vlm.generate in a loop",
    "b": "mlx_vlm.batch_generate",
    "c": "mlx_vlm.server, 8 in flight",
    "d": "this flow",
    "e": "this flow, --batch-size 8",
}


@dataclass(frozen=True, slots=True)
class Run:
    """One system, one time."""

    seconds: float
    texts: list[str]  # the captions, in the order of the pictures
    summary: dict[str, Any]  # summary.json, of this flow


def summarised(runs: dict[str, list[Run]], pictures: int) -> dict[str, Any]:
    """Medians over the rounds; a ratio is the median of the ratios of each round."""
    seconds = {system: [run.seconds for run in many] for system, many in runs.items()}
    peer = [min(pair) for pair in zip(seconds["b"], seconds["c"], strict=True)]
    busy = {system: _median_of(runs[system], busy_fraction) for system in ("d", "e")}
    return {
        "systems": {
            system: {
                "name": SYSTEMS[system],
                "images_per_second": pictures / median(times),
                "over_loop": _ratio(seconds["a"], times),
                "device_busy_fraction": busy.get(system),
                "seconds": times,
            }
            for system, times in seconds.items()
        },
        "ratios": {
            "flow_over_loop": _ratio(seconds["a"], seconds["d"]),
            "batch_over_loop": _ratio(seconds["a"], seconds["e"]),
            "batch_over_best_peer": _ratio(peer, seconds["e"]),
            "busy_fraction": busy["e"],
            "busy_fraction_one_by_one": busy["d"],
        },
        "busy_share_of_caption_phase": {
            system: _median_of(runs[system], busy_share) for system in ("d", "e")
        },
        "rows_on_the_device": {
            system: _median_of(runs[system], mean_rows) for system in ("d", "e")
        },
        "same_captions_as_loop": {
            system: _same(runs["a"], runs[system]) for system in ("b", "c", "d", "e")
        },
        "pictures": pictures,
    }


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
        "| | system | images/s | ÷ a | device busy |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    for letter, system in results["systems"].items():
        busy = system["device_busy_fraction"]
        lines.append(
            f"| {letter} | {system['name']} | {system['images_per_second']:.3f} "
            f"| {system['over_loop']:.2f} | {'' if busy is None else f'{busy:.3f}'} |"
        )
    lines += ["", "| figure | measured |", "| --- | ---: |"]
    lines += [f"| {name} | {value} |" for name, value in _figures(results)]
    return "\n".join([*lines, ""])


def _figures(results: dict[str, Any]) -> list[tuple[str, str]]:
    ratios = results["ratios"]
    pictures = results["pictures"]
    figures = [
        ("d ÷ a", f"{ratios['flow_over_loop']:.3f}"),
        ("e ÷ a", f"{ratios['batch_over_loop']:.3f}"),
        ("e ÷ the better of b and c", f"{ratios['batch_over_best_peer']:.3f}"),
    ]
    for system in ("d", "e"):
        share = results["busy_share_of_caption_phase"][system]
        figures.append((f"device busy, share of the whole caption phase, {system}", f"{share:.3f}"))
    figures.append(("pictures on the device, mean, e", f"{results['rows_on_the_device']['e']:.2f}"))
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
    matvec = limits["matvec_gb_per_s"]
    one, eight = limits["decode_gb_per_s"], limits["batched_decode_gb_per_s"]
    prefill = limits["prefill_gflop_per_s"]
    return [
        ("memory: a copy reads (and writes as much)", f"{copy:.1f} GB/s"),
        ("memory: one large matrix × vector in MLX reads", f"{matvec:.1f} GB/s"),
        (
            "decode step, one picture",
            f"{limits['decode_step_ms']:.1f} ms: {one:.1f} GB/s of weights, "
            f"{one / copy:.0%} of the copy, {one / matvec:.0%} of the matrix × vector",
        ),
        (
            "decode step, eight pictures",
            f"{limits['batched_decode_step_ms']:.1f} ms: {eight:.1f} GB/s, {eight / copy:.0%}",
        ),
        ("large float32 matrix product", f"{product:.0f} GFLOP/s"),
        (
            f"prefill of {limits['prefill_tokens']:.0f} tokens",
            f"{limits['prefill_ms']:.0f} ms: {prefill:.0f} GFLOP/s, {prefill / product:.0%}",
        ),
    ]


def _ratio(slower: list[float], faster: list[float]) -> float:
    return median(a / b for a, b in zip(slower, faster, strict=True))


def _median_of(runs: list[Run], figure: Callable[[Run], float]) -> float:
    return median(figure(run) for run in runs)


def _same(left: list[Run], right: list[Run]) -> int:
    """How many captions are the same in every round."""
    rounds = [run.texts for run in (*left, *right)]
    return sum(len(set(texts)) == 1 for texts in zip(*rounds, strict=True))
