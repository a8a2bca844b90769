#!/usr/bin/env python3
"""The rules of the house as a test: floors, lengths, banned calls, comments, libraries in their places.

It reads text only; nothing is built or run. What a rule means stands in its function's docstring, and
docs/architecture.md says why. Prints `PASS name` or `FAIL name: why`, and the findings before it.
"""
# quick-suite
# time-limit: 60

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
SRC = ROOT / "src"

FILE_LINES_MAX = 600
FILE_LINES_WARN = 400
FUNCTION_LINES_MAX = 90
LINE_COLUMNS_MAX = 100

# What may not be called, and what to use instead. Matched in code without comments and strings.
BANNED = [
    (r"\b(?:atoi|atol|atoll|atof)\s*\(", "std::from_chars tells failure"),
    (r"\b(?:strcpy|strcat|sprintf|vsprintf|strtok)\s*\(", "bounds: use std::string and fmt"),
    (r"\b(?:system|popen)\s*\(", "no shell: os/subprocess.h"),
    (r"\bstd::thread\b|\bstd::async\b|\.detach\(\)", "threads come from base/task_pool.h"),
    (r"\bco_(?:await|return|yield)\b", "coroutines: g++ 12 miscompiles them"),
    (r"\bgoto\b", "RAII"),
    (r"\bthrow\b", "errors are values: base/result.h"),
    (r"\busing\s+namespace\s+std\b", "name what you use"),
]
# Ownership is in the type from the first moment: `std::unique_ptr<X>(new X(...))` where a constructor
# is private, std::make_unique elsewhere. Tests may hand a bare pointer on; what is never destroyed is
# a `static X* const`.
RAW_NEW = re.compile(r"\bnew\s+(?:\([^)]*\)\s*)?[A-Za-z_:]")
OWNED_NEW = re.compile(r"_ptr<|\.reset\(|\bstatic\s+\w+\*\s*const\b")
RAW_NEW_FILES = {"src/image/nbd_plugin.cc"}  # load() and unload() are nbdkit's, in C

# Which modules may include a library's headers. A library that is not here may be used anywhere.
LIBRARY_HOMES = {
    r"CLI/": {"cli"},
    r"boost/": {"net"},
    r"Q[A-Z]\w+$": {"tray"},
    r"(?:soci|sqlite3|libpq)": {"sql"},
    r"curl/": {"net"},
    r"openssl/": {"crypto", "net"},
    r"sodium": {"crypto"},
    r"zstd\.h": {"repo"},
    r"pugixml": {"store", "cloud"},
    r"libnbd": {"disk", "image", "recovery"},
    r"nbdkit": {"image"},
    r"(?:ext2fs|et|blkid)/": {"disk"},
}

# Written in two parts, so that this file does not find itself.
UNFINISHED = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|XX" r"X)\b")
MACHINE_PATHS = re.compile(r"(?<![\w.$})])/wo" r"rk/|(?<![\w.$})])/tmp/" r"w(?![\w-])")


def relative(path):
    return path.relative_to(ROOT).as_posix()


def module_of(path):
    return path.relative_to(SRC).parts[0]


def sources():
    """Every C++ file of the product, its tests included."""
    return sorted(path for path in SRC.rglob("*") if path.suffix in (".cc", ".h"))


def is_test(path):
    return path.name.endswith("_test.cc") or path.name.startswith("test_") or path.parent.name == "testing" \
        or path.name.endswith(("_test_util.h", "_test_suite.h"))


def read(path):
    return path.read_text(encoding="utf-8", errors="replace")


def tracked_files():
    """What git tracks; in an unpacked release, everything outside build folders."""
    listed = subprocess.run(["git", "-C", ROOT, "ls-files", "-z"], capture_output=True, check=False)
    if listed.returncode == 0:
        names = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    else:
        names = [path for path in ROOT.rglob("*") if "build" not in path.relative_to(ROOT).parts]
    return [path for path in names if path.is_file() and not path.is_symlink()]


def code_only(text):
    """The text with comments, string and character contents, and preprocessor lines blanked; lines stay."""
    pattern = re.compile(
        r'R"(?P<mark>[^(\s"\\]{0,16})\(.*?\)(?P=mark)"'  # raw strings
        r"|//[^\n]*|/\*.*?\*/"
        r'|"(?:\\.|[^"\\\n])*"'
        r"|(?<![0-9a-fA-F_])'(?:\\.|[^'\\\n])+'"  # not a digit separator
        r"|^[ \t]*#(?:[^\n\\]|\\\n|\\.)*", re.DOTALL | re.MULTILINE)

    def blank(match):
        found = match.group(0)
        lines = "\n" * found.count("\n")
        return '""' + lines if found[0] in "\"'R" else lines

    return pattern.sub(blank, text)


def floors():
    """Floors and the arrows between siblings that are allowed, from cmake/module.cmake: one truth."""
    text = read(ROOT / "cmake" / "module.cmake")
    floor = {name: int(number) for name, number in re.findall(r"set\(RECLO_FLOOR_(\w+) (\d+)\)", text)}
    siblings = set(re.findall(r'STREQUAL "(\w+):(\w+)"', text))
    return floor, siblings


def declared_dependencies(module):
    match = re.search(r"reclo_module\(\s*" + module + r"\b(.*?)\)", read(SRC / module / "CMakeLists.txt"),
                      re.DOTALL)
    depends = re.search(r"DEPENDS((?:\s+[a-z_0-9]+)*)", match.group(1)) if match else None
    return set(depends.group(1).split()) if depends else set()


def check_floors():
    """A module includes from itself, from lower floors, and from siblings that cmake/module.cmake allows;
    and only from modules that its own CMakeLists.txt names."""
    floor, siblings = floors()
    declared = {module: declared_dependencies(module) for module in floor
                if (SRC / module / "CMakeLists.txt").exists()}
    for path in sources():
        module = module_of(path)
        if module not in floor:
            yield f"{relative(path)}: module {module} has no floor in cmake/module.cmake"
            continue
        for number, line in enumerate(read(path).splitlines(), 1):
            included = re.match(r'\s*#\s*include\s+"([a-z_0-9]+)/', line)
            if not included:
                if re.match(r'\s*#\s*include\s+"', line):
                    yield f'{relative(path)}:{number}: include as "module/file.h"'
                continue
            other = included.group(1)
            if other == module:
                continue
            if other not in floor:
                yield f"{relative(path)}:{number}: there is no module {other}"
            elif floor[other] >= floor[module] and (module, other) not in siblings:
                yield f"{relative(path)}:{number}: {module} (floor {floor[module]}) must not use {other} " \
                      f"(floor {floor[other]})"
            elif other not in declared.get(module, set()):
                yield f"{relative(path)}:{number}: src/{module}/CMakeLists.txt does not name {other}"


def check_libraries():
    """Each outside library is known to the modules that are there to hide it, and to no other."""
    for path in sources():
        for number, line in enumerate(read(path).splitlines(), 1):
            included = re.match(r"\s*#\s*include\s+<([^>]+)>", line)
            for pattern, homes in LIBRARY_HOMES.items():
                if included and re.match(pattern, included.group(1)) and module_of(path) not in homes:
                    yield f"{relative(path)}:{number}: <{included.group(1)}> belongs in {', '.join(sorted(homes))}"


def check_file_length():
    """One idea a file. More than 400 lines is worth a look (it is printed), more than 600 fails."""
    for path in sources():
        lines = read(path).count("\n")
        if lines > FILE_LINES_MAX:
            yield f"{relative(path)}: {lines} lines, at most {FILE_LINES_MAX}"
        elif lines > FILE_LINES_WARN:
            print(f"  note: {relative(path)} has {lines} lines", flush=True)


def functions(code):
    """(line, length) of each function body at namespace or class level; lambdas count for their owner."""
    kinds, starts, found = [], [], []
    header_at, line = 0, 1
    position_line = []
    for character in code:
        position_line.append(line)
        line += character == "\n"
    for match in re.finditer(r"[{};]", code):
        at, mark = match.start(), match.group(0)
        if mark == "{":
            header = code[header_at:at].strip()
            outside = all(kind != "body" for kind in kinds)
            if re.search(r"\bnamespace\b[^()]*$", header) or header.startswith("extern "):
                kind = "open"
            elif re.match(r"(?:template\s*<.*>\s*)?(?:typedef\s+)?(?:class|struct|union|enum)\b", header,
                          re.DOTALL) and not header.endswith(")"):
                kind = "open" if "enum" not in header.split() else "other"
            elif outside and (")" in header or not header) and not header.endswith("="):
                kind = "body"
            else:
                kind = "other"
            kinds.append(kind)
            lead = len(code[header_at:at]) - len(code[header_at:at].lstrip())
            starts.append(position_line[min(header_at + lead, at)])
        elif mark == "}" and kinds:
            start, kind = starts.pop(), kinds.pop()
            if kind == "body":
                found.append((start, position_line[at] - start + 1))
        header_at = at + 1
    return found


def check_function_length():
    """A function fits on a screen or two. Tests and their tables may be longer."""
    for path in sources():
        if is_test(path):
            continue
        for start, length in functions(code_only(read(path))):
            if length > FUNCTION_LINES_MAX:
                yield f"{relative(path)}:{start}: a function of {length} lines, at most {FUNCTION_LINES_MAX}"


def check_line_length():
    """100 columns, counted in characters."""
    for path in sources():
        for number, line in enumerate(read(path).splitlines(), 1):
            if len(line) > LINE_COLUMNS_MAX:
                yield f"{relative(path)}:{number}: {len(line)} columns, at most {LINE_COLUMNS_MAX}"


def check_banned_calls():
    """Calls that have a better place in this house; see BANNED."""
    for path in sources():
        lines = code_only(read(path)).splitlines()
        for number, line in enumerate(lines, 1):
            for pattern, instead in BANNED:
                found = re.search(pattern, line)
                if found and not (path.name.startswith("task_pool") and "std::thread::" in line):
                    yield f"{relative(path)}:{number}: {found.group(0).strip()} ({instead})"
            if is_test(path) or relative(path) in RAW_NEW_FILES or not RAW_NEW.search(line):
                continue
            if not OWNED_NEW.search((lines[number - 2] if number > 1 else "") + line):
                yield f"{relative(path)}:{number}: new without an owner (std::make_unique)"


def check_unfinished():
    """Nothing is left for later in the code: it is done, or it is an issue."""
    folders = ("src", "tests", "cmake", "fuzz", "bench")
    for path in tracked_files():
        if path.relative_to(ROOT).parts[0] not in folders or path.suffix not in (
                ".cc", ".h", ".py", ".sh", ".cmake", ".txt"):
            continue
        for number, line in enumerate(read(path).splitlines(), 1):
            if UNFINISHED.search(line):
                yield f"{relative(path)}:{number}: {line.strip()}"


def check_machine_paths():
    """No tracked file names a folder of the machine it was written on."""
    for path in tracked_files():
        data = path.read_bytes()
        if b"\0" in data:
            continue
        for number, line in enumerate(data.decode(errors="replace").splitlines(), 1):
            if MACHINE_PATHS.search(line):
                yield f"{relative(path)}:{number}: {line.strip()[:100]}"


def check_module_readme():
    """Each module says in its README.md what it is for."""
    for folder in sorted(path for path in SRC.iterdir() if path.is_dir()):
        if not (folder / "README.md").is_file():
            yield f"{relative(folder)}: no README.md"


def check_headers():
    """A header opens with what its types are for, and is included once."""
    for path in sources():
        if path.suffix != ".h":
            continue
        text = read(path)
        if not text.startswith("//"):
            yield f"{relative(path)}: does not open with a comment"
        if not re.search(r"^#pragma once$", text, re.MULTILINE):
            yield f"{relative(path)}: no #pragma once"


def check_links():
    """A relative link in a document leads to a file."""
    for path in tracked_files():
        if path.suffix != ".md":
            continue
        for target in re.findall(r"\]\(([^)\s#]+)(?:#[^)\s]*)?\)", read(path)):
            if "://" not in target and not target.startswith("mailto:") and not (path.parent / target).exists():
                yield f"{relative(path)}: leads to {target}, which is not there"


CHECKS = [check_floors, check_libraries, check_file_length, check_function_length, check_line_length,
          check_banned_calls, check_unfinished, check_machine_paths, check_module_readme, check_headers,
          check_links]


def main():
    failed = 0
    for check in CHECKS:
        name = "tidy." + check.__name__.removeprefix("check_")
        findings = list(check())
        for finding in findings:
            print("  " + finding, flush=True)
        if findings:
            failed += 1
            print(f"FAIL {name}: {len(findings)} findings, the first: {findings[0]}", flush=True)
        else:
            print(f"PASS {name}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
