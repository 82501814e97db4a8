"""Scan a pickle of weights before PyTorch reads it.

``torch.load(weights_only=True)`` runs no code. But it allocates tensors that are not in the file
(``torch.FloatTensor(10**9)``), and it hashes keys, which never ends for a tuple of 60 levels that
each contain the level below twice. The scan allows the names that weights need, and limits the
number of steps and the size of tuples. It builds nothing.
"""

import pickletools
import re
from io import BytesIO

MAX_STEPS = 1_000_000
"""Steps of a pickle; a tensor takes about 60."""

MAX_TUPLE = 100_000
"""Values in a tuple, counted through nested tuples."""

ALLOWED = re.compile(
    r"torch ((Float|Double|Half|BFloat16|Long|Int|Short|Char|Byte|Bool|ComplexFloat|ComplexDouble)"
    r"Storage|bool|u?int\d+|b?float\d+|complex\d+|device|Size)"
    r"|torch\._utils _rebuild_(tensor|tensor_v2|parameter)"
    r"|collections OrderedDict"
    r"|numpy dtype|numpy\._?core\.multiarray scalar|_codecs encode"
)
"""Names that may occur, as module and name; NumPy numbers are in checkpoints of nnU-Net."""

VALUES = {
    "NONE", "NEWTRUE", "NEWFALSE", "EMPTY_TUPLE", "EMPTY_LIST", "EMPTY_DICT", "BININT", "BININT1",
    "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINSTRING",
}  # fmt: skip
"""Steps that push one value."""


class ForbiddenNameError(ValueError):
    """A pickle refers to a function or class that weights do not need; the argument names it."""


def scan_pickle(file: BytesIO) -> None:
    """Scan one pickle, from the position of the file to the end of the pickle.

    Raises
    ------
    ForbiddenNameError
        If the pickle refers to a name that is not allowed.
    ValueError, IndexError, KeyError
        If the pickle is damaged, too long, or has too large tuples.
    """
    # For each value on the stack the number of values in it, if it is a tuple, else 1.
    stack: list[int] = []
    marks: list[list[int]] = []
    memo: dict[int, int] = {}
    for number, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        if number > MAX_STEPS:
            raise ValueError("the pickle has too many steps")
        match opcode.name:
            case "PROTO" | "STOP":
                pass
            case "GLOBAL":
                if not ALLOWED.fullmatch(str(argument)):
                    raise ForbiddenNameError(str(argument).replace(" ", "."))
                stack.append(1)
            case "MARK":
                marks.append(stack)
                stack = []
            case "TUPLE":
                items, stack = stack, marks.pop()
                stack.append(_tuple_size(items))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                length = int(opcode.name[-1])
                stack[-length:] = [_tuple_size(stack[-length:])]
            case "APPENDS" | "SETITEMS":
                stack = marks.pop()
            case "APPEND" | "BUILD":
                stack.pop()
            case "SETITEM":
                del stack[-2:]
            case "REDUCE":
                stack[-2:] = [1]
            case "BINPERSID":
                stack[-1] = 1
            case "BINPUT" | "LONG_BINPUT":
                memo[int(str(argument))] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[int(str(argument))])
            case name if name in VALUES:
                stack.append(1)
            case name:
                raise ValueError(f"the pickle has the step {name}")


def _tuple_size(items: list[int]) -> int:
    size = 1 + sum(items)
    if size > MAX_TUPLE:
        raise ValueError("the pickle has a tuple that is too large")
    return size
