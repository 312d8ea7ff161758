"""Which CPUs llama.cpp runs on."""

import pytest

from deployments.llm.engines.llama_cpp.cpu import find_obstacle, find_obstacle_here, read_flags

HASWELL = ("sse4_2", "avx", "avx2", "fma", "f16c")


@pytest.mark.parametrize(
    ("system", "machine", "flags", "words"),
    [
        ("Linux", "x86_64", HASWELL, None),
        ("Linux", "x86_64", ("sse4_2", "avx", "f16c"), "this CPU has no AVX2, FMA"),
        ("Linux", "x86_64", ("avx", "avx2", "fma"), "this CPU has no F16C"),
        ("Linux", "x86_64", (), "this CPU has no AVX2, FMA, F16C"),
        ("Linux", "aarch64", (), None),
        ("Linux", "riscv64", (), "xllamacpp has no wheel for riscv64"),
        ("Darwin", "arm64", (), None),
        ("Darwin", "x86_64", (), None),
        ("Windows", "AMD64", HASWELL, "xllamacpp has no wheel for Windows"),
    ],
)
def test_what_stands_in_the_way(system: str, machine: str, flags: tuple[str, ...], words: str | None) -> None:
    assert find_obstacle(system, machine, flags) == words


def test_flags_are_those_of_the_first_cpu() -> None:
    text = "processor\t: 0\nmodel name\t: X\nflags\t\t: fpu avx2 fma\n\nprocessor\t: 1\nflags\t\t: fpu\n"
    assert read_flags(text) == {"fpu", "avx2", "fma"}
    assert read_flags("Features\t: asimd\n") == frozenset()


def test_this_machine_is_told_in_words_or_fine() -> None:
    found = find_obstacle_here()
    assert found is None or found.startswith(("this CPU has no", "xllamacpp has no wheel", "the system"))
