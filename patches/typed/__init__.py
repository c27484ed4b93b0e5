"""Typed documents: a document's state as a TypedDict, a dataclass, a Struct or a model.

Converters (pure) from JSON to values and back, the drafts of typed documents, and migrations of
shape. Knows no algorithm, store or client; other libraries are used only where a class is of
theirs.
"""

from patches.typed.build import converter_of, register_converter
from patches.typed.codecs import CODECS
from patches.typed.converter import Codec, Converter
from patches.typed.marks import BigInt, Counter
from patches.typed.migrations import Migrations
from patches.typed.misfit import Misfit
from patches.typed.rich_text import RichText
from patches.typed.shape import TypedShape
from patches.typed.values import ValueShape

__all__ = [
    "CODECS",
    "BigInt",
    "Codec",
    "Converter",
    "Counter",
    "Migrations",
    "Misfit",
    "RichText",
    "TypedShape",
    "ValueShape",
    "converter_of",
    "register_converter",
]
