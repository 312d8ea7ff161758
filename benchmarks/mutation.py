"""`make mutation`: what the tests notice of small changes to the rules and to what deletes, kills, pays or promotes.

mutmut changes every function of the modules named in pyproject.toml's `[tool.mutmut]`, one change at a time, and runs
the tests that reach it; numbers at the top of a module, which mutmut leaves alone, are changed here by one up and one
down. `equivalent_mutants.toml` names the changes that no test could notice, each with its reason. The table goes to
docs/mutation.md; it ends with 1 where a module's tests notice fewer than nine in ten.

Changed code that ends processes and removes folders is run, too. The tests hold it to what is theirs, but a machine on
which nothing else of yours runs (a container will do) is the place for it.

Usage: python -m benchmarks.mutation [MODULE.py]...   (default: all; only a run of all writes the table)
       python -m benchmarks.mutation --resume         (all, from where an earlier run stopped)
"""

import ast
import shutil
import subprocess
import sys
import tomllib
from collections import defaultdict
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

ENOUGH = 0.9
NOTICED = {"killed", "timeout", "caught by type check"}
EQUIVALENT = Path(__file__).with_name("equivalent_mutants.toml")
TABLE = Path("docs/mutation.md")
COPY = Path("mutants")
ONE_TEST_RUN = 300  # seconds


@dataclass
class Tally:
    """What became of a module's mutants."""

    noticed: int = 0
    equivalent: int = 0
    survivors: list[str] = field(default_factory=list)  # as differences, for reading

    @property
    def share(self) -> float:
        """Noticed, of those that could be."""
        total = self.noticed + len(self.survivors)
        return self.noticed / total if total else 1.0


def read_config() -> dict[str, list[str]]:
    """mutmut's settings: modules and tests."""
    return tomllib.loads(Path("pyproject.toml").read_text())["tool"]["mutmut"]


def ask_mutmut(*arguments: str) -> str:
    """What a mutmut command prints."""
    command = [sys.executable, "-m", "mutmut", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=True).stdout


def module_of(mutant: str) -> str:
    """`a.b.x_decide__mutmut_8` -> `a/b.py`."""
    return mutant.rsplit(".", 1)[0].replace(".", "/") + ".py"


def function_of(mutant: str) -> str:
    """`a.b.x_decide__mutmut_8` -> `a.b.decide`; of a method `a.b.xǁStoreǁclear__mutmut_1` -> `a.b.Store.clear`."""
    module, _, name = mutant.rpartition("__mutmut_")[0].rpartition(".")
    return f"{module}.{name.removeprefix('x').removeprefix('_').replace('ǁ', '.').strip('.')}"


def read_change(mutant: str) -> tuple[str, str]:
    """The lines that a mutant puts in, else `- ` and those that it only takes out; and the whole difference."""
    difference = ask_mutmut("show", mutant)
    changes = {"+": "", "-": "-"}
    for line in difference.splitlines():
        if line[:1] in changes and line[:3] not in ("+++", "---"):
            changes[line[0]] += f" {line[1:].strip()}"
    return (changes["+"] or changes["-"]).strip(), difference


def tally_functions(wanted: list[str], equivalent: set[tuple[str, str]]) -> dict[str, Tally]:
    """Results of the mutants that mutmut has tried, by module."""
    tallies: dict[str, Tally] = defaultdict(Tally)
    for line in ask_mutmut("results", "--all", "true").splitlines():
        mutant, _, status = line.strip().rpartition(": ")
        if not any(fnmatch(module_of(mutant), pattern) for pattern in wanted):
            continue
        tally = tallies[module_of(mutant)]
        if status in NOTICED:
            tally.noticed += 1
            continue
        becomes, difference = read_change(mutant)
        if (function_of(mutant), becomes) in equivalent:
            tally.equivalent += 1
        else:
            tally.survivors.append(difference)
    return tallies


def find_constants(source: str) -> list[tuple[ast.Constant, str]]:
    """The numbers that are assigned to names at the top of a module, `timedelta(minutes=2)` included."""
    found = []
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.Assign | ast.AnnAssign):
            target = statement.targets[0] if isinstance(statement, ast.Assign) else statement.target
            values: list[ast.expr | None] = [statement.value]
            if isinstance(statement.value, ast.Call):
                values = [*statement.value.args, *(keyword.value for keyword in statement.value.keywords)]
            for value in values:
                if isinstance(value, ast.Constant) and type(value.value) in (int, float):
                    found.append((value, ast.unparse(target)))
    return found


def try_constants(module: str, tests: list[str], equivalent: set[tuple[str, str]], tally: Tally) -> None:
    """Change each number up and down in mutmut's copy of the project, and run the tests that name the module."""
    source = Path(module).read_text()
    copy = COPY / module
    mutated = copy.read_text()
    name = module.removesuffix(".py").replace("/", ".")
    chosen = [path for folder in tests for path in find_tests(Path(folder), name)] or tests
    try:
        for number, constant in find_constants(source):
            for step in (1, -1):
                # A small number in its last place, 0.025 to 0.026; another by one.
                change = step if abs(number.value) >= 1 or number.value == 0 else step * number.value / 25
                lines = source.splitlines(keepends=True)
                line = lines[number.lineno - 1]
                value = repr(number.value + change)
                lines[number.lineno - 1] = line[: number.col_offset] + value + line[number.end_col_offset :]
                becomes = lines[number.lineno - 1].split("#")[0].strip()
                if (f"{name}.{constant}", becomes) in equivalent:
                    tally.equivalent += 1
                    continue
                copy.write_text("".join(lines))
                command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *chosen]
                code = subprocess.run(command, cwd=COPY, capture_output=True, timeout=ONE_TEST_RUN).returncode
                if code:
                    tally.noticed += 1
                else:
                    tally.survivors.append(f"--- {module}\n-{line}+{lines[number.lineno - 1]}")
    finally:
        copy.write_text(mutated)


def find_tests(folder: Path, module: str) -> list[str]:
    """Test files that import something of the module."""
    package, _, name = module.rpartition(".")
    wanted = (module, f"from {package} import")
    return [
        str(path)
        for path in sorted(folder.rglob("test_*.py"))
        if any(text in (source := path.read_text()) for text in wanted) and name in source
    ]


HEAD = """# What the tests notice

Written by `make mutation`. It makes one small change at a time (a comparison, a number, `and` for `or`, a dropped
argument or call) to the pure rules and to whatever deletes, kills, pays or promotes, and asks whether the unit tests
fail. Changes that no test could notice are named in `benchmarks/equivalent_mutants.toml`, each with its reason; lines
that only write a log are left out.

| Module | Changes | Noticed | Share | Equivalent |
|---|---|---|---|---|
"""


def write_table(tallies: dict[str, Tally]) -> None:
    """docs/mutation.md."""
    whole = Tally(
        sum(tally.noticed for tally in tallies.values()),
        sum(tally.equivalent for tally in tallies.values()),
        [text for tally in tallies.values() for text in tally.survivors],
    )
    rows = [(f"`{module}`", tally) for module, tally in sorted(tallies.items())]
    lines = []
    for name, tally in [*rows, ("**all**", whole)]:
        changes = tally.noticed + len(tally.survivors)
        lines.append(f"| {name} | {changes} | {tally.noticed} | {tally.share:.0%} | {tally.equivalent} |\n")
    TABLE.write_text(HEAD + "".join(lines))


def main(wanted: list[str]) -> int:
    """Run, print the survivors, write the table after a full run."""
    config = read_config()
    resumed = wanted == ["--resume"]
    wanted = [] if resumed else wanted
    modules = wanted or config["only_mutate"]
    named = tomllib.loads(EQUIVALENT.read_text()).get("equivalent", [])
    equivalent = {(row["function"], row["becomes"]) for row in named}
    if not wanted and not resumed:
        shutil.rmtree(COPY, ignore_errors=True)  # its results are of earlier code
    filters = [f"{module.removesuffix('.py').replace('/', '.')}.*" for module in wanted]
    run = subprocess.run([sys.executable, "-m", "mutmut", "run", *filters], timeout=4 * 3600)
    if run.returncode:
        return run.returncode
    tallies = tally_functions(modules, equivalent)
    for module in modules:
        print(f"numbers at the top of {module}", flush=True)
        try_constants(module, config["pytest_add_cli_args_test_selection"], equivalent, tallies[module])
    weak = []
    for module, tally in sorted(tallies.items()):
        print("\n".join(tally.survivors))
        print(
            f"{module}: {tally.share:.0%} noticed, {len(tally.survivors)} not, {tally.equivalent} equivalent"
        )
        if tally.share < ENOUGH:
            weak.append(module)
    if not wanted:
        write_table(tallies)
    if weak:
        print(
            f"fewer than {ENOUGH:.0%} noticed: {', '.join(weak)}: test the survivors, or name them in {EQUIVALENT.name}"
        )
    return int(bool(weak))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
