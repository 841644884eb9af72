"""Bytes of main memory that an instruction of a compiled program reads and writes."""

from collections.abc import Iterator

from metajax.targets.hlo import Buffer, Computation, Line, Module

SLICES = ("dynamic-slice", "slice", "gather")


def moved(module: Module, within: Computation, line: Line) -> int:
    """Bytes of main memory that an instruction reads and writes."""
    if line.opcode.endswith("-done"):
        return _copied(within, line)
    if line.opcode in SLICES:
        return _main(line.buffers) + _read_like(line, within, line.operands[:1])
    if line.opcode == "dynamic-update-slice":
        return 2 * _main(within[line.operands[1]].buffers)
    fused = module.computations.get(line.called("calls"), {})
    read = 0
    for index, operand in enumerate(line.operands):
        whole = _main(within[operand].buffers) if operand in within else 0
        read += min(whole, _sliced(fused, index, whole)) if fused else whole
    return read + _written(fused, line.buffers)


def _copied(within: Computation, done: Line) -> int:
    """Of an operation that began before: its result, and as much of its source."""
    written = sum(each.bytes for each in done.buffers)
    begun = within.get(done.operands[0]) if done.operands else None
    source = begun.operands if begun else ()
    from_main = any(_main(within[name].buffers) for name in source if name in within)
    return _main(done.buffers) + written * from_main


def _read_like(line: Line, within: Computation, operands: tuple[str, ...]) -> int:
    """As many bytes as the result has, of an operand in main memory."""
    from_main = any(_main(within[name].buffers) for name in operands if name in within)
    return sum(each.bytes for each in line.buffers) * from_main


def _main(buffers: tuple[Buffer, ...]) -> int:
    return sum(each.bytes for each in buffers if each.main)


def _sliced(fused: Computation, index: int, whole: int) -> int:
    """Of a fusion's operand, what is read: only slices of it, where that is so."""
    parameter = next(
        (
            x.name
            for x in fused.values()
            if x.opcode == "parameter" and x.argument == str(index)
        ),
        "",
    )
    read = 0
    for user in _users(fused, parameter):
        first = user.operands[0]
        if user.opcode in SLICES and _origin(fused, first) == parameter:
            read += sum(each.bytes for each in user.buffers)
        elif user.opcode == "dynamic-update-slice" and (
            _origin(fused, first) == parameter
        ):
            continue  # updated in place
        else:
            return whole
    return read


def _written(fused: Computation, results: tuple[Buffer, ...]) -> int:
    """Of a fusion's results in main memory, what is written: of some, only updates."""
    root = next((line for line in fused.values() if line.root), None)
    if root is None:
        return _main(results)
    names = root.operands if root.opcode == "tuple" else (root.name,)
    return sum(
        min(result.bytes, _update(fused, name))
        for name, result in zip(names, results)
        if result.main
    )


def _update(fused: Computation, name: str) -> int:
    line = fused[_origin(fused, name)]
    if line.opcode == "dynamic-update-slice":
        line = fused[line.operands[1]]
    return sum(each.bytes for each in line.buffers)


def _origin(fused: Computation, name: str) -> str:
    """What a name stands for, bitcasts apart."""
    while name in fused and fused[name].opcode == "bitcast":
        name = fused[name].operands[0]
    return name


def _users(fused: Computation, name: str) -> Iterator[Line]:
    for line in fused.values():
        if name in line.operands:
            if line.opcode == "bitcast":
                yield from _users(fused, line.name)
            else:
                yield line
