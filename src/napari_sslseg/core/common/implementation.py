"""Classes and functions that are named by a dotted string and imported on first use.

Settings and file formats name what they need in this way, so that reading their tables loads no
heavy library, and so that a class from outside the package works as well.
"""

from collections.abc import Callable
from pkgutil import resolve_name
from typing import Any

Implementation = str | Callable[..., Any]
"""``"package.module:name"``, or the class or function itself."""


def resolve(implementation: Implementation) -> Callable[..., Any]:
    """Import the class or function."""
    return resolve_name(implementation) if isinstance(implementation, str) else implementation
