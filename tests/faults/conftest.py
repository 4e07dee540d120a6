"""A line for every probe at the end: how many cases, how many failed, how long."""

from collections import defaultdict


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
