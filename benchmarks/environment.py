"""What every measured process runs under: one BLAS, the same environment, no network.

Knows what machine this is; knows nothing of what is measured.
"""

import ctypes.util
import os
import platform
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
MISSING_OPENBLAS = (
    "OpenBLAS was not found. MLX's CPU build uses the reference BLAS then, which is ten to fifty "
    "times slower: THE FIGURES BELOW MEAN NOTHING. Debian and Ubuntu: "
    "apt-get install libopenblas0-pthread"
)


@dataclass(frozen=True, slots=True)
class Machine:
    """Where the figures come from."""

    system: str
    processor: str
    cores: int
    memory_gb: float
    computes_on: str  # a GPU, or a BLAS
    python: str
    packages: dict[str, str]

    def described(self) -> str:
        """One line for a table's caption."""
        packages = ", ".join(f"{name} {number}" for name, number in self.packages.items())
        return (
            f"{self.processor}, {self.cores} cores, {self.memory_gb:.0f} GB, {self.system}, "
            f"{self.computes_on}, Python {self.python}, {packages}"
        )


def openblas() -> str | None:
    """The shared library to preload: Linux only, None when there is none."""
    return ctypes.util.find_library("openblas") if sys.platform.startswith("linux") else None


def measured(threads: int | None = None, **more: str) -> dict[str, str]:
    """The environment of a measured process, with `threads` of the BLAS, or as many as it takes."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CAPTION_")}
    library = openblas()
    return {
        **kept,
        **({"LD_PRELOAD": library} if library else {}),
        **(
            {"OPENBLAS_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
            if threads
            else {}
        ),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "PYTHONUNBUFFERED": "1",
        **more,
    }


def gpu() -> str | None:
    """What MLX computes on by itself, by its name; None when that is the CPU."""
    import mlx.core as mx

    on_gpu = mx.default_device() == mx.Device(mx.gpu)
    return f"GPU: {mx.device_info()['device_name']}" if on_gpu else None


def blas_threads() -> str:
    """What OPENBLAS_NUM_THREADS says, for all systems alike; otherwise each does as it likes."""
    number = os.environ.get("OPENBLAS_NUM_THREADS")
    return f"{number} thread(s)" if number else "as many threads as each system takes"


def this_machine() -> Machine:
    """What this program runs on."""
    packages = {name: version(name) for name in ("mlx", "mlx-vlm", "prefect")}
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    blas = openblas()
    by_blas = f"BLAS: {f'{blas} with {blas_threads()}' if blas else 'reference (slow)'}"
    return Machine(
        system=f"{platform.system()} {platform.machine()}",
        processor=_processor(),
        cores=os.cpu_count() or 1,
        memory_gb=round(pages / 1e9, 1),
        computes_on=gpu() or by_blas,
        python=platform.python_version(),
        packages=packages,
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "unknown processor"
