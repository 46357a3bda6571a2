"""What a compiled module consists of, read from its text: kernels, launches, collectives."""

import collections
import math
import re

KERNEL = re.compile(r"^\s*(?:ROOT )?%?([\w.-]+) = (.+?) ([a-z][\w-]*)\((.*)$")
PART = re.compile(r" (?:fusion|reduce|reduce-window|sort|scatter|select-and-scatter|map|custom-call|all-reduce\S*)\(")
LOOP = re.compile(r' while\(.*condition=%?([\w.-]+), body=%?([\w.-]+)(?:.*"known_trip_count":\{"n":"(\d+)")?')
LIMIT = re.compile(r" = s32\[\]\S* constant\((\d+)\)")  # in the condition of a loop that counts
HEAD = re.compile(r"(?:ENTRY )?%?([\w.-]+) .*\{$")  # of a computation: a part of a kernel, or a sequence of them
CALLED = re.compile(r"(?:calls|to_apply)=%?([\w.-]+)")
NO_KERNEL = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional", "call"}
NO_KERNEL |= {"after-all", "partition-id", "replica-id", "opt-barrier"}
COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
BYTES = {"f32": 4, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "pred": 1, "u8": 1, "s8": 1}


def _turns(lines: list[str]) -> dict[str, int]:
    """How often a computation of a compiled module runs, by the loop that it is the body of (callers come after it)."""
    name, limits, loops = "", {}, {}
    for line in lines:
        if head := HEAD.match(line):
            name = head[1]
        elif limit := LIMIT.search(line):
            limits[name] = int(limit[1])
        elif loop := LOOP.search(line):
            loops[loop[2]] = name, int(loop[3] or limits.get(loop[1], 1))
    turns = collections.defaultdict(lambda: 1)
    for body, (caller, times) in reversed(loops.items()):
        turns[body] = turns[caller] * times
    return turns


def instructions(text: str) -> tuple[collections.Counter, collections.Counter, dict[str, tuple[int, int]], int]:
    """Of a compiled module: kernels by kind and by origin, each loop's body once; collectives with their bytes, and
    launches of kernels, each loop's body as often as it runs (where the compiler says so)."""
    kinds, origins, collectives, inside, launches = collections.Counter(), collections.Counter(), {}, False, 0
    parts = {name for line in text.splitlines() if PART.search(line) for name in CALLED.findall(line)}
    turns = _turns(text.splitlines())
    for line in text.splitlines():
        if head := HEAD.match(line):
            name = head[1]
            inside = name not in parts
            continue
        match = KERNEL.match(line) if inside else None
        if not match or match[3] in NO_KERNEL or match[3].endswith("-done"):
            continue
        if re.fullmatch(r"\w+\[\]\S*", match[2]) and match[3] != "fusion":  # one number, of a TPU's scalar unit
            continue
        kind = match[3].removesuffix("-start")
        if kind in COLLECTIVES:
            arrays = re.findall(r"(\w+)\[([\d,]*)\]", match[2])
            size = sum(BYTES.get(t, 4) * math.prod(int(d) for d in s.split(",") if d) for t, s in arrays)
            n, total = collectives.get(kind, (0, 0))
            collectives[kind] = n + turns[name], total + turns[name] * size
            continue
        called = re.search(r'custom_call_target="([^"]+)"', line)
        kinds[called[1] if called else kind] += 1
        launches += turns[name]
        origin = (re.search(r'op_name="([^"]*)"', line) or ("", ""))[1]
        origins["backward" if "transpose(" in origin else "forward" if "jvp(" in origin else "update and others"] += 1
    return kinds, origins, collectives, launches
