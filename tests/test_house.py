"""The plan of the house: who may import whom, and what may be in no room. Read from the sources."""

import ast
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.conftest import ROOT

# each room of captioner/, with the rooms that it may import besides itself and the base
ROOMS: dict[str, set[str]] = {
    "pictures": set(),
    "asking": {"pictures"},
    "checkpoint": set(),
    "device": {"pictures", "checkpoint"},
    "output": {"pictures"},
    "forecast": {"pictures", "asking", "checkpoint", "output"},
    "pages": {"pictures", "output"},
    "export": {"pictures", "output", "pages"},
    "review": {"pictures", "output", "pages"},
}
BASE = (
    "text",
    "macos",
    "errors",
    "answers",
    "fields",
    "groups",
    "settings",
    "records",
    "plan",
    "run",
)  # each may import those before it
# what the flow needs of its host: errors without a traceback, and the command that it is
FOR_THE_FLOW = {"flows.hosting.log_lines", "flows.hosting.terminal"}
PRIVATE = re.compile(r"(?<!\w)(_client|_internal|run_results|_cancel_events|ResultRecord)\b")
MAX_LINES = 300
# methods of a Path that lead to no file of the directory that it names
HARMLESS = {"resolve"}


def files_of(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


PRODUCT = files_of("flows", "tasks", "captioner")
CAPTIONER = files_of("captioner")
TRAINING = files_of("models/training")


def module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module(path): path for path in PRODUCT}


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def imported(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """The full names of the modules that the nodes import, without those of their contents."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, "an import that is relative"
            for alias in node.names:  # `from captioner import settings` imports a module of ours
                full = f"{node.module}.{alias.name}"
                yield full if full in MODULES else node.module


@cache
def imports(path: Path) -> frozenset[str]:
    """All imports of a file, also those inside functions."""
    return frozenset(imported(ast.walk(tree_of(path))))


def at_import(node: ast.AST) -> Iterator[ast.AST]:
    """All that runs when the module is imported, in classes and conditions too."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield child
            yield from at_import(child)


def of(packages: tuple[str, ...], names: Iterable[str]) -> set[str]:
    """Those of the names that are in one of the packages."""
    return {
        n for n in names if any(n == package or n.startswith(f"{package}.") for package in packages)
    }


def offenders(
    files: Iterable[Path], found: Callable[[Path], Collection[object]]
) -> dict[str, object]:
    """What is found in files where nothing should be."""
    return {str(path.relative_to(ROOT)): wrong for path in files if (wrong := found(path))}


def test_every_room_is_on_the_plan() -> None:
    folders = {path.parent.name for path in (ROOT / "captioner").glob("*/*.py")}
    assert folders == set(ROOMS)
    assert all((ROOT / "captioner" / room / "__init__.py").is_file() for room in ROOMS)
    files = {path.stem for path in (ROOT / "captioner").glob("*.py")} - {"__init__"}
    assert files == set(BASE)
    list(TopologicalSorter(ROOMS).static_order())  # without a circle


def test_imports_run_one_way() -> None:
    above = {
        "flows": ("tests", "benchmarks"),
        "tasks": ("tests", "benchmarks", "flows"),
        "captioner": ("tests", "benchmarks", "flows", "tasks"),
    }

    def wrong_way(path: Path) -> set[str]:
        return of(above[path.relative_to(ROOT).parts[0]], imports(path))

    assert offenders(PRODUCT, wrong_way) == {}


def test_rooms_import_what_is_below_them() -> None:
    def too_high(path: Path) -> set[str]:
        room = path.parent.name
        below = {*BASE, room, *ROOMS[room]} if room in ROOMS else set(BASE[: order(path)])
        return {n for n in of(("captioner",), imports(path)) if n.split(".")[1] not in below}

    def order(path: Path) -> int:
        return BASE.index(path.stem) if path.stem in BASE else 0

    assert offenders(CAPTIONER, too_high) == {}


def test_no_module_imports_itself_in_a_circle() -> None:
    for files in (CAPTIONER, files_of("tasks")):
        names = {module(path) for path in files}
        graph = {module(path): imports(path) & names for path in files}
        list(TopologicalSorter(graph).static_order())


def test_states_do_not_know_one_another() -> None:
    found = offenders(
        files_of("tasks"), lambda path: of(("tasks",), imports(path)) - {"tasks.artifacts"}
    )
    assert found == {}


def test_mlx_is_the_device_s_alone_and_imported_when_it_is_needed() -> None:
    mlx, device = ("mlx", "mlx_vlm"), files_of("captioner/device")
    assert any(of(mlx, imports(path)) for path in device)
    assert offenders(set(PRODUCT) - set(device), lambda path: of(mlx, imports(path))) == {}
    assert offenders(device, lambda path: of(mlx, imported(at_import(tree_of(path))))) == {}


def test_prefect_is_not_known_in_captioner() -> None:
    assert offenders(CAPTIONER, lambda path: of(("prefect",), imports(path))) == {}


def test_the_flow_knows_little_of_its_host() -> None:
    def hosts(path: Path) -> set[str]:
        return of(("flows.hosting",), imports(path))

    assert hosts(MODULES["flows.caption_flow"]) == FOR_THE_FLOW
    # the commands of modules of the same name
    names = ("serve", "notify", "fleet")
    commands = {f"flows.{name}": {f"flows.hosting.{name}"} for name in names}
    commands["flows.fleet_flow"] = FOR_THE_FLOW - {"flows.hosting.terminal"}
    for name, path in MODULES.items():
        if name != "flows.caption_flow" and not of(("flows.hosting",), [name]):
            assert hosts(path) == commands.get(name, set()), name


def joins_to_the_output(path: Path) -> list[int]:
    """The lines in which something is done with `output_dir` besides naming it."""
    lines = []
    for node in ast.walk(tree_of(path)):
        match node:
            case ast.BinOp(left=left, op=ast.Div()) if is_output(left):
                lines.append(node.lineno)
            case ast.Attribute(value=value, attr=attr) if is_output(value) and attr not in HARMLESS:
                lines.append(node.lineno)
    return lines


def is_output(node: ast.AST) -> bool:
    match node:
        case ast.Name(id="output_dir") | ast.Attribute(attr="output_dir"):
            return True
        case ast.Call(func=ast.Attribute(value=value, attr=attr)) if attr in HARMLESS:
            return is_output(value)
    return False


def test_only_those_who_write_there_join_paths_to_the_output_directory() -> None:
    others = set(PRODUCT) - set(files_of("captioner/output", "captioner/export"))
    assert offenders(others, joins_to_the_output) == {}


@pytest.mark.parametrize(
    ("line", "joins"),
    [
        ("x = settings.output_dir / 'a.json'", True),
        ("x = output_dir.resolve() / 'a.json'", True),
        ("x = run.settings.output_dir.joinpath('a')", True),
        ("output_dir.mkdir()", True),
        ("OutputFolder(settings.output_dir)", False),
        ("x = f'{settings.output_dir.resolve()}'", False),
        ("x = settings.input_dir / 'a.png'", False),
    ],
)
def test_a_join_is_noticed(line: str, joins: bool, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(line)
    assert bool(joins_to_the_output(tmp_path / "a.py")) is joins


def test_nothing_private_of_prefect_is_used() -> None:
    assert offenders(PRODUCT, lambda path: PRIVATE.findall(path.read_text("utf-8"))) == {}


def test_a_file_can_be_read_in_one_go_and_says_what_it_does() -> None:
    lengths = {path: len(path.read_text("utf-8").splitlines()) for path in PRODUCT}
    assert {path: lines for path, lines in lengths.items() if lines > MAX_LINES} == {}
    assert [path for path in PRODUCT if not ast.get_docstring(tree_of(path))] == []


COMMANDS = files_of("flows/hosting") + sorted(ROOT.glob("captioner/*/__main__.py"))


def test_only_commands_print() -> None:
    def prints(path: Path) -> list[int]:
        calls = [node for node in ast.walk(tree_of(path)) if isinstance(node, ast.Call)]
        return [c.lineno for c in calls if isinstance(c.func, ast.Name) and c.func.id == "print"]

    assert offenders(set(PRODUCT) - set(COMMANDS), prints) == {}


def test_no_circle_in_the_training() -> None:
    names = {path.stem for path in TRAINING}
    list(TopologicalSorter({p.stem: imports(p) & names for p in TRAINING}).static_order())
