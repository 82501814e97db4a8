"""Follow a pickle of weights without building anything, and refuse what is more than that.

PyTorch's reader for weights alone runs no code, but it would still build what takes any memory or
any time: tensors that are not stored in the file, NumPy values of any size, tuples within tuples
as keys, whose hashes take twice as long with each. So the steps of a pickle are gone through once
before, with a stand-in for each value, and allowed are those that tensors, plain containers and
plain values need.
"""

import pickletools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

MOST_STEPS = 1_000_000
"""Of a pickle; a tensor takes some 60."""

KINDS = {
    "Float": 4, "Double": 8, "Half": 2, "BFloat16": 2, "Long": 8, "Int": 4, "Short": 2, "Char": 1,
    "Byte": 1, "Bool": 1, "ComplexFloat": 8, "ComplexDouble": 16,
}  # fmt: skip
"""Bytes of a number, by the kind of storage."""

DTYPES = {"f2": 2, "f4": 4, "f8": 8, "i4": 4, "i8": 8, "b1": 1}
"""Bytes of a single NumPy number, which nnU-Net keeps beside the weights."""

LONGEST_TUPLE = 16
LONGEST_BYTES = 64
"""Of what functions are called with; axes of tensors, and bytes of a number."""

DTYPE = re.compile(r"torch (bool|u?int\d+|b?float\d+|complex\d+)")
STORAGE = re.compile(r"torch (\w+)Storage")
PLAIN = (str, bytes, int, float, bool, type(None))

Sizes = Callable[[str, int], None]
"""Told the name of a storage and its bytes; raises a ValueError if the file has others."""


class NotWeightsError(ValueError):
    """A pickle asks for something that weights do not need; the argument names it.

    ``code`` says whether it is a function or a class, which would be run.
    """

    code = False


class CodeError(NotWeightsError):
    """It is a function or a class."""

    code = True


@dataclass(frozen=True, eq=False)
class _Named:
    name: str


@dataclass(frozen=True, eq=False)
class _Storage:
    numbers: int


@dataclass(frozen=True, eq=False)
class _Bytes:
    count: int


@dataclass(frozen=True, eq=False)
class _Number:
    size: int


@dataclass(eq=False)
class _Dict:
    names: set[Any] = field(default_factory=set)


class _List:
    pass


class _Value:
    """What nothing more is done with: a tensor, a device, a shape."""


def check_pickle(file: BytesIO, sizes: Sizes) -> None:
    """Go through one pickle, from where the file is to the end of the pickle.

    Raises
    ------
    NotWeightsError
        If it asks for more than weights.
    ValueError, IndexError, KeyError, TypeError
        If it is damaged.
    """
    _Checker(sizes).run(file)


class _Checker:
    def __init__(self, sizes: Sizes) -> None:
        self.sizes = sizes
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def run(self, file: BytesIO) -> None:
        argument: Any
        for number, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            if number > MOST_STEPS:
                raise ValueError("too many steps")
            if opcode.name in _CONSTANTS:
                self.stack.append(_CONSTANTS[opcode.name])
            elif opcode.name in _ARGUMENTS:
                self.stack.append(argument)
            elif opcode.name in ("BINPUT", "LONG_BINPUT"):
                self.memo[argument] = self.stack[-1]
            elif opcode.name in ("BINGET", "LONG_BINGET"):
                self.stack.append(self.memo[argument])
            elif opcode.name in ("PROTO", "STOP"):
                continue
            elif opcode.name == "GLOBAL":
                self.stack.append(_Named(_known(argument)))
            else:
                step = getattr(self, f"_{opcode.name.lower()}", None)
                if step is None or opcode.name not in _STEPS:
                    raise ValueError(f"the step {opcode.name}")
                step()

    def _mark(self) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def _popped(self) -> list[Any]:
        items, self.stack = self.stack, self.marks.pop()
        return items

    def _empty_list(self) -> None:
        self.stack.append(_List())

    def _empty_dict(self) -> None:
        self.stack.append(_Dict())

    def _tuple(self) -> None:
        items = self._popped()
        self.stack.append(tuple(items))

    def _tuple1(self) -> None:
        self.stack[-1:] = [(self.stack[-1],)]

    def _tuple2(self) -> None:
        self.stack[-2:] = [(self.stack[-2], self.stack[-1])]

    def _tuple3(self) -> None:
        self.stack[-3:] = [(self.stack[-3], self.stack[-2], self.stack[-1])]

    def _append(self) -> None:
        self.stack.pop()
        _expect(self.stack[-1], _List)

    def _appends(self) -> None:
        self._popped()
        _expect(self.stack[-1], _List)

    def _setitem(self) -> None:
        self.stack.pop()
        self._keys([self.stack.pop()])

    def _setitems(self) -> None:
        self._keys(self._popped()[::2])

    def _keys(self, keys: list[Any]) -> None:
        target = self.stack[-1]
        _expect(target, _Dict)
        for key in keys:
            if type(key) not in PLAIN:
                raise NotWeightsError("a key that is no text or number")
            target.names.add(key)

    def _binpersid(self) -> None:
        place = self.stack.pop()
        _expect(place, tuple)
        _, kind, name, _, count, *view = place
        if not isinstance(kind, _Named) or not STORAGE.fullmatch(kind.name):
            raise NotWeightsError("a storage of another kind")
        _expect(name, str, int)
        _count(count)
        self.sizes(str(name), count * KINDS[kind.name[len("torch ") : -len("Storage")]])
        if view and view[0] is not None:
            _, offset, count = view[0]
            _count(offset)
            _count(count)
        self.stack.append(_Storage(count))

    def _reduce(self) -> None:
        arguments, made = self.stack.pop(), self.stack.pop()
        if not isinstance(made, _Named) or made.name not in _MADE or type(arguments) is not tuple:
            raise NotWeightsError("a call of what is no function")
        if len(arguments) > LONGEST_TUPLE:
            raise ValueError("too many arguments")
        self.stack.append(_MADE[made.name](*arguments))

    def _build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, _Dict) and isinstance(state, _Dict):
            # As PyTorch keeps the versions of layers beside a state dict.
            if state.names - {"_metadata"}:
                raise NotWeightsError("a dictionary with attributes")
        elif isinstance(target, _Number):
            if type(state) is not tuple or len(state) != 8 or state[1:] not in _ORDERS:
                raise NotWeightsError("a type of numbers with fields")
        else:
            raise NotWeightsError("an object with attributes")


_CONSTANTS: Mapping[str, Any] = {
    "NONE": None,
    "NEWTRUE": True,
    "NEWFALSE": False,
    "EMPTY_TUPLE": (),
}
_ARGUMENTS = {
    "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINSTRING"
}  # fmt: skip
_STEPS = {
    "MARK", "EMPTY_LIST", "EMPTY_DICT", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "APPEND", "APPENDS",
    "SETITEM", "SETITEMS", "BINPERSID", "REDUCE", "BUILD",
}  # fmt: skip
_ORDERS = [(order, None, None, None, -1, -1, 0) for order in "<|="]


def _known(argument: str) -> str:
    """Name of what a pickle refers to, if weights may need it."""
    kind = STORAGE.fullmatch(argument)
    if argument in _MADE or DTYPE.fullmatch(argument) or (kind and kind[1] in KINDS):
        return argument
    raise CodeError(argument.replace(" ", "."))


def _expect(value: Any, *kinds: type) -> None:
    if type(value) not in kinds:
        raise TypeError("another kind of value")
    # Nothing long may be gone through again and again.
    if type(value) is tuple and len(value) > LONGEST_TUPLE:
        raise ValueError("a tuple that is too long")


def _count(value: Any) -> None:
    if type(value) is not int or not 0 <= value < 2**48:
        raise ValueError("no count")


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *more: Any) -> _Value:
    _expect(storage, _Storage)
    _expect(size, tuple)
    _expect(stride, tuple)
    for value in (offset, *size, *stride):
        _count(value)
    last = sum((s - 1) * t for s, t in zip(size, stride, strict=True))
    # Else PyTorch would make the storage larger.
    if 0 not in size and offset + last >= storage.numbers:
        raise ValueError("a tensor beyond its storage")
    return _Value()


def _parameter(data: Any, *more: Any) -> _Value:
    _expect(data, _Value)
    return _Value()


def _flat(*arguments: Any) -> _Value:
    """Something small of plain values."""
    for value in arguments:
        inner = value if type(value) is tuple else (value,)
        if len(inner) > LONGEST_TUPLE or any(type(part) not in PLAIN for part in inner):
            raise NotWeightsError("a value within values")
    return _Value()


def _dtype(name: Any, *more: Any) -> _Number:
    # A text, since anything else might take for ever to look up.
    if (
        type(name) is not str
        or name not in DTYPES
        or any(type(value) is not bool for value in more)
    ):
        raise NotWeightsError("NumPy values of another type")
    return _Number(DTYPES[name])


def _scalar(kind: Any, data: Any) -> _Value:
    _expect(kind, _Number)
    _expect(data, _Bytes)
    if data.count != kind.size:
        raise ValueError("a number of another size")
    return _Value()


def _encode(text: Any, encoding: Any) -> _Bytes:
    _expect(text, str)
    if encoding != "latin1" or len(text) > LONGEST_BYTES or len(text.encode("latin1")) == 0:
        raise NotWeightsError("bytes in another encoding")
    return _Bytes(len(text))


def _ordered() -> _Dict:
    return _Dict()


_MADE: Mapping[str, Callable[..., Any]] = {
    "torch._utils _rebuild_tensor": _tensor,
    "torch._utils _rebuild_tensor_v2": _tensor,
    "torch._utils _rebuild_parameter": _parameter,
    "collections OrderedDict": _ordered,
    "torch device": _flat,
    "torch Size": _flat,
    "numpy dtype": _dtype,
    "numpy.core.multiarray scalar": _scalar,
    "numpy._core.multiarray scalar": _scalar,
    "_codecs encode": _encode,
}
