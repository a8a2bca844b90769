#!/usr/bin/env python3
"""Runs every test of the project and counts them; called by ./test, which installs what they need.

Parts, in order: unit (CTest, release build), suites (tests/{integration,e2e,crash,compat}/*_test.{py,sh}, two at
a time: they mostly wait for guests and servers), asan and tsan (CTest in the sanitizer builds), fuzz (each
target for a few seconds).

A suite is a program that prints one line a test, `PASS name`, `FAIL name: why` or `SKIP name: why`, and
ends with 0 when none failed. Two comments near its top are read here: `time-limit: SECONDS` (default
600; the suite and all it started are killed after it) and `quick-suite` (it runs in ./test --quick too).
"""

import argparse
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ElementTree
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

ROOT = pathlib.Path(__file__).resolve().parent.parent
LOGS = ROOT / "build" / "test-logs"
JOBS = "2"
SUITE_FOLDERS = ("integration", "e2e", "crash", "compat")
DEFAULT_TIME_LIMIT_S = 600
BUILD_TIME_LIMIT_S = 3000
UNIT_TIME_LIMIT_S = 1500
FUZZ_TOTAL_S = 30
CLEANUP_LIMIT_S = 30
SHOWN_LOG_LINES = 60
# The thread sanitizer is slow to build; these modules are where several threads share state.
TSAN_MODULES = ("base", "net", "store", "cloud", "backup", "image")
SUITES_AT_ONCE = 2
RESULT_LINE = re.compile(r"^(PASS|FAIL|SKIP) (\S.*)$")

held = threading.local()  # what a suite beside others has to say, until it has ended


def say(text):
    """Prints a line; a suite's lines stay together."""
    if getattr(held, "lines", None) is None:
        print(text, flush=True)
    else:
        held.lines.append(text)


@dataclass
class Counts:
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    failures: list = field(default_factory=list)

    def fail(self, name, why):
        self.failed += 1
        self.failures.append(f"{name}: {why}")
        say(f"  FAIL {name}: {why}")

    def add(self, other):
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped
        self.failures += other.failures

    def line(self):
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


def show_log(path):
    """Prints the end of a failing part's log, so that CI's output alone tells what happened."""
    lines = path.read_text(errors="replace").splitlines()
    say(f"  --- {path.relative_to(ROOT)}, its last {min(len(lines), SHOWN_LOG_LINES)} lines ---")
    for line in lines[-SHOWN_LOG_LINES:]:
        say("  | " + line)
    say("  ---")


def run_logged(command, log_path, time_limit_s, env=None, on_line=None):
    """Runs a command in a process group of its own, its output to a file; on_line sees each line.

    Returns the exit code, or None when the time limit ended it. The whole group is killed at the end:
    a suite that forgot a server must not hold ports or memory of the next one.
    """
    log_path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + time_limit_s
    with open(log_path, "wb") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            start_new_session=True)
        seen = 0
        try:
            while True:
                ended = process.poll() is not None
                if on_line:
                    seen = feed_new_lines(log_path, seen, on_line, ended)
                if ended:
                    return process.returncode
                if time.monotonic() > deadline:
                    process.terminate()  # its own clean-up knows of processes outside its group
                    try:
                        process.wait(CLEANUP_LIMIT_S)
                    except subprocess.TimeoutExpired:
                        pass
                    return None
                time.sleep(0.1)
        finally:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()


def feed_new_lines(path, offset, on_line, ended):
    """Gives on_line the whole lines of a growing file from offset on; returns the next offset."""
    with open(path, "rb") as file:
        file.seek(offset)
        data = file.read()
    if not ended:
        data = data[: data.rfind(b"\n") + 1]
    for line in data.decode(errors="replace").splitlines():
        on_line(line)
    return offset + len(data)


def build(preset, targets=()):
    """Configures and builds a preset; returns Counts with one failure when it does not build."""
    counts = Counts()
    log = LOGS / f"build-{preset}.log"
    started = time.monotonic()
    for command in (["cmake", "--preset", preset],
                    ["cmake", "--build", "--preset", preset, "-j", JOBS]
                    + (["--target", *targets] if targets else [])):
        if run_logged(command, log, BUILD_TIME_LIMIT_S) != 0:
            show_log(log)
            counts.fail(f"build.{preset}", " ".join(command) + " failed")
            return counts
    print(f"  built {preset} in {time.monotonic() - started:.0f} s", flush=True)
    return counts


def read_junit(path, prefix):
    """CTest's own record of its cases."""
    counts = Counts()
    for case in ElementTree.parse(path).getroot().iter("testcase"):
        name = prefix + case.get("name")
        failure = case.find("failure")
        if failure is not None:
            counts.fail(name, failure.get("message") or "failed")
        elif case.find("skipped") is not None or case.get("status") in ("notrun", "disabled"):
            counts.skipped += 1
            print(f"  SKIP {name}", flush=True)
        else:
            counts.passed += 1
    return counts


def unit_tests(preset, modules=()):
    counts = build(preset, [f"{module}_test" for module in modules])
    if counts.failed:
        return counts
    log = LOGS / f"unit-{preset}.log"
    junit = LOGS / f"unit-{preset}.xml"
    junit.unlink(missing_ok=True)
    command = ["ctest", "--test-dir", f"build/{preset}", "-j", JOBS, "--output-on-failure",
               "--output-junit", str(junit)]
    if modules:
        command += ["-R", "^(" + "|".join(modules) + r")\."]
    env = dict(os.environ, ASAN_OPTIONS="detect_leaks=1", UBSAN_OPTIONS="print_stacktrace=1",
               TSAN_OPTIONS="halt_on_error=1 second_deadlock_stack=1")
    code = run_logged(command, log, UNIT_TIME_LIMIT_S, env)
    prefix = "" if preset == "release" else preset + ":"
    if junit.exists():
        counts = read_junit(junit, prefix)
    if code != 0 and counts.failed == 0:
        counts.fail(f"{prefix}ctest", "ran out of time" if code is None else f"ended with {code}")
    if counts.passed + counts.failed == 0:
        counts.fail(f"{prefix}ctest", "ran no test")
    if counts.failed:
        show_log(log)
    return counts


def suite_setting(path, pattern):
    """A comment near the top of a suite's file."""
    with open(path, errors="replace") as file:
        head = "".join(file.readline() for _ in range(25))
    return re.search(pattern, head)


def suite_limit_s(path):
    limit = suite_setting(path, r"time-limit: (\d+)")
    return int(limit.group(1)) if limit else DEFAULT_TIME_LIMIT_S


def run_reporting(name, command, log, limit_s, env):
    """Runs a program that prints PASS, FAIL and SKIP lines, and counts them."""
    counts = Counts()
    started = time.monotonic()

    def on_line(line):
        result = RESULT_LINE.match(line)
        if not result:
            return
        word, rest = result.groups()
        if word == "PASS":
            counts.passed += 1
            say(f"    PASS {rest}")
        elif word == "SKIP":
            counts.skipped += 1
            say(f"    SKIP {rest}")
        else:
            counts.fail(name, rest)

    code = run_logged(command, log, limit_s, env, on_line)
    if code is None:
        counts.fail(name, f"did not end within {limit_s} s")
    elif code != 0 and counts.failed == 0:
        counts.fail(name, f"ended with {code}")
    elif counts.passed + counts.failed + counts.skipped == 0:
        counts.fail(name, "printed no result")
    if counts.failed:
        show_log(log)
    say(f"    {counts.line()} in {time.monotonic() - started:.0f} s")
    return counts


def run_suite(path):
    name = f"{path.parent.name}/{path.stem.removesuffix('_test')}"
    say(f"  {name}")
    command = [sys.executable, str(path)] if path.suffix == ".py" else ["bash", str(path)]
    return run_reporting(name, command, LOGS / f"{path.parent.name}-{path.stem}.log",
                         suite_limit_s(path), dict(os.environ, PYTHONUNBUFFERED="1"))


def find_suites():
    return sorted(path for folder in SUITE_FOLDERS
                  for path in (ROOT / "tests" / folder).glob("*_test.*") if path.suffix in (".py", ".sh"))


def run_held(path):
    """A suite's counts, and what it has to say."""
    held.lines = []
    try:
        return run_suite(path), held.lines
    finally:
        held.lines = None


def suites(paths):
    counts = Counts()
    with ThreadPoolExecutor(SUITES_AT_ONCE) as pool:
        # The longest first, as far as their limits tell: the end then is not one suite alone.
        for ran, lines in pool.map(run_held, sorted(paths, key=suite_limit_s, reverse=True)):
            print(*lines, sep="\n", flush=True)
            counts.add(ran)
    return counts


def fuzz_targets():
    """Each target runs on its committed corpus and a few seconds of new inputs."""
    counts = build("fuzz", ["fuzzers"])
    if counts.failed:
        return counts
    targets = len(list((ROOT / "build/fuzz/bin").glob("fuzz_*")))
    each_s = max(2, FUZZ_TOTAL_S // max(1, targets))
    env = dict(os.environ, FUZZ_LOGS=str(LOGS / "fuzz"))
    return run_reporting("fuzz", ["bash", "fuzz/run_short.sh", str(each_s)], LOGS / "fuzz.log",
                         targets * (each_s + 60), env)


def wanted_parts(options):
    """The parts to run as (title, function), in order."""
    found = find_suites()
    if options.quick:
        quick = [path for path in found if suite_setting(path, r"quick-suite")]
        return [("unit", lambda: unit_tests("release")), ("suites", lambda: suites(quick))]
    parts = {
        "unit": lambda: unit_tests("release"),
        "suites": lambda: suites(found),
        "asan": lambda: unit_tests("asan"),
        "tsan": lambda: unit_tests("tsan", TSAN_MODULES),
        "fuzz": fuzz_targets,
    }
    if not options.only:
        return list(parts.items())
    chosen = [(name, parts[name]) for name in options.only if name in parts]
    paths = [ROOT / name for name in options.only if name not in parts]
    for path in paths:
        if path not in found:
            sys.exit(f"test: no part or suite is called {path.relative_to(ROOT)}")
    return chosen + ([("suites", lambda: suites(paths))] if paths else [])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", nargs="+", metavar="PART")
    options = parser.parse_args()
    LOGS.mkdir(parents=True, exist_ok=True)
    total, times = Counts(), []
    for title, part in wanted_parts(options):
        print(f"== {title}", flush=True)
        started = time.monotonic()
        counts = part()
        total.add(counts)
        times.append((title, time.monotonic() - started))
        print(f"  {title}: {counts.line()} in {times[-1][1]:.0f} s", flush=True)
        if title == "unit" and any(name.startswith("build.release") for name in counts.failures):
            break  # nothing else can be built either
    if total.failures:
        print("\nFailed:")
        for failure in total.failures:
            print("  " + failure)
    print("\nTime: " + ", ".join(f"{title} {seconds:.0f} s" for title, seconds in times)
          + f"; together {sum(seconds for _, seconds in times):.0f} s")
    print(total.line())
    return 1 if total.failed or total.passed == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
