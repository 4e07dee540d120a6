"""A line for every probe at the end: how many cases, how many failed, how long; and no figures."""

from collections import defaultdict

import pytest

from tests.figures import figures_left_out


@pytest.fixture(scope="module", autouse=True)
def no_figures():
    with figures_left_out():
        yield


def pytest_terminal_summary(terminalreporter):
    found = defaultdict(lambda: [0, 0, 0.0])
    for outcome in ("passed", "failed", "error"):
        for report in terminalreporter.stats.get(outcome, []):
            if "tests/faults/" in report.nodeid and (report.when == "call" or outcome != "passed"):
                entry = found[report.nodeid.split("[")[0].removeprefix("tests/faults/test_")]
                entry[0] += 1
                entry[1] += outcome != "passed"
                entry[2] += report.duration
    if not found:
        return
    terminalreporter.section("probes")
    for name, (cases, failed, seconds) in sorted(found.items()):
        words = name.replace(".py::test_", ": ").replace("_", " ")
        state = f"{failed} of {cases} FAILED" if failed else f"{cases} held"
        terminalreporter.write_line(f"{words}: {state} ({seconds:.0f} s)")
