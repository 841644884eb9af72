"""Files that are written wholly or not at all."""

import os
import threading
from collections.abc import Iterable
from pathlib import Path

Block = str | bytes | memoryview


def write_whole(path: Path, content: Block) -> None:
    """Writes a file wholly or not at all."""
    write_blocks(path, [content])


def write_blocks(path: Path, blocks: Iterable[Block]) -> None:
    """The same of blocks, one after the other, which may be made as they are asked for.

    Of several that write to one path at a time, each writes it whole.
    """
    own = f"{os.getpid()}-{threading.get_ident()}"
    beside = path.with_name(f"{path.name}.{own}.tmp")
    try:
        with beside.open("wb") as file:
            for block in blocks:
                file.write(block.encode() if isinstance(block, str) else block)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
