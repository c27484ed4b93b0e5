"""`Opening`: what `open_doc` gives, to be awaited or entered; and the types that documents open as.

The package for typed documents is imported with the first document that has a type.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Literal, NoReturn, TypeVar, overload

from patches.client.coordinator import Coordinator
from patches.documents.document import Document
from patches.documents.shape import Shape
from patches.errors import ErrorContext, InvalidRequestError, NetworkError, PatchesError
from patches.model.change import Change
from patches.model.json_values import Json

if TYPE_CHECKING:
    from patches.typed.converter import Codec
    from patches.typed.migrations import Migrations

S = TypeVar("S")


class Opening(Coroutine[Any, Any, Document[S]], Generic[S]):
    """`doc = await patches.open_doc("plan")`, or `async with patches.open_doc("plan") as doc:`.

    The latter closes the document at the end of the block. Members that a document would have
    raise.
    """

    __slots__ = ("_close_doc", "_coroutine", "_doc_id")

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, Document[S]],
        doc_id: str,
        close_doc: Callable[[str], Awaitable[None]],
    ) -> None:
        self._coroutine, self._doc_id, self._close_doc = coroutine, doc_id, close_doc

    async def __aenter__(self) -> Document[S]:
        return await self._coroutine

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._close_doc(self._doc_id)

    def __await__(self) -> Generator[Any, Any, Document[S]]:
        return self._coroutine.__await__()

    def send(self, value: Any) -> Any:
        """One step."""
        return self._coroutine.send(value)

    def throw(self, *error: Any) -> Any:
        """One step that begins with an error: a cancellation."""
        return self._coroutine.throw(*error)

    def close(self) -> None:
        """End it where it is."""
        self._coroutine.close()

    if not TYPE_CHECKING:  # type checkers report these names themselves

        def __getattr__(self, name: str) -> NoReturn:
            # Reached only for a name that is no attribute.
            if name.startswith(("_", "cr_")):  # what libraries ask of any coroutine
                raise AttributeError(name)
            self._coroutine.close()
            raise PatchesError(
                f"open_doc was not awaited; write: doc = await patches.open_doc({self._doc_id!r})"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeOptions:
    """What a document is to be opened as."""

    type: Any
    default: Any = None
    check: Literal["values", "whole"] = "values"
    on_misfit: Literal["raise", "last"] = "raise"
    migrations: Migrations | None = None


class OpensTyped:
    """The part of a client that opens documents, plain or typed."""

    #: Codecs of classes beside Python's own.
    _codecs: Mapping[type, Codec]
    _encode_values: bool
    #: Who keeps the documents in sync, if anybody does.
    coordinator: Coordinator | None

    @overload
    def open_doc(
        self,
        doc_id: str,
        *,
        algorithm: str | None = None,
        metadata: Mapping[str, Json] | None = None,
    ) -> Opening[Any]: ...
    @overload
    def open_doc(
        self,
        doc_id: str,
        *,
        type: type[S],
        default: S | None = None,
        check: Literal["values", "whole"] = "values",
        on_misfit: Literal["raise", "last"] = "raise",
        migrations: Migrations | None = None,
        algorithm: str | None = None,
        metadata: Mapping[str, Json] | None = None,
    ) -> Opening[S]: ...
    def open_doc(
        self,
        doc_id: str,
        *,
        type: Any = None,
        default: Any = None,
        check: Literal["values", "whole"] = "values",
        on_misfit: Literal["raise", "last"] = "raise",
        migrations: Migrations | None = None,
        algorithm: str | None = None,
        metadata: Mapping[str, Json] | None = None,
    ) -> Opening[Any]:
        """The document, tracked from now on and in memory until as many `close_doc` calls.

        `algorithm` counts for a new document; a known one keeps its own. Without it, a document
        that is new here takes the server's if there is a connection, else the default. `metadata`
        goes onto the changes made to it. Raises `AlgorithmMismatchError`, `DeletionPendingError`,
        `StorageError`.

        `type`: a TypedDict, a dataclass, a `msgspec.Struct` or a pydantic model that the state is
        read and edited as. Missing members read as those of `default`. `check="whole"` runs rules
        across fields at each edit. `on_misfit="last"`: while a received state does not fit, show
        the last that did. `migrations` bring older documents to the newest shape. Raises
        `InvalidRequestError` for a type that cannot be converted, `StateTypeError` for such a
        default. While it is open, a document has one type.
        """
        options = None
        if type is not None:
            options = TypeOptions(
                type=type, default=default, check=check, on_misfit=on_misfit, migrations=migrations
            )
        elif default is not None or migrations is not None:
            raise InvalidRequestError("open_doc: default and migrations go with a type")
        return Opening(self._open_as(doc_id, algorithm, metadata, options), doc_id, self.close_doc)

    @abstractmethod
    async def close_doc(self, doc_id: str, *, untrack: bool = False, force: bool = False) -> None:
        """Give back one reference."""

    # ---- inside ----------------------------------------------------------------------------------

    @abstractmethod
    async def _open(
        self, doc_id: str, algorithm: str | None, metadata: Mapping[str, Json] | None
    ) -> Document:
        """Open it plain, or share the one that is open."""

    @abstractmethod
    def _report(self, error: Exception, context: ErrorContext) -> None:
        """Tell of a failure."""

    async def _open_as(
        self,
        doc_id: str,
        algorithm: str | None,
        metadata: Mapping[str, Json] | None,
        options: TypeOptions | None,
    ) -> Document[Any]:
        if options is None and not self._encode_values:
            doc = await self._open(doc_id, algorithm, metadata)
            if doc.type is not None:
                await self._refuse(doc, None)
            return doc
        shape = self._shape_of(doc_id, options)
        if options is not None and options.migrations is not None:
            metadata = {**(metadata or {}), "shape": options.migrations.current}
        is_shared = self._is_open(doc_id)
        doc = await self._open(doc_id, algorithm, metadata)
        if (doc.is_shaped or is_shared) and doc.type is not shape.type:
            await self._refuse(doc, shape.type)
        if not doc.is_shaped:
            doc.take_shape(shape, lambda error: self._report(error, ErrorContext(doc_id=doc_id)))
        return doc

    async def _fetch_changes(self, doc_id: str, since: int) -> Sequence[Change]:
        if self.coordinator is None:
            raise NetworkError(f"document {doc_id!r}: nothing keeps it in sync with a server")
        return await self.coordinator.fetch_changes(doc_id, since)

    @abstractmethod
    def _is_open(self, doc_id: str) -> bool:
        """Whether the document is in memory already, or on its way."""

    def _shape_of(self, doc_id: str, options: TypeOptions | None) -> Shape:
        from patches.typed import TypedShape, ValueShape, converter_of

        if options is None:
            return ValueShape(self._codecs)
        return TypedShape(
            doc_id,
            options.type,
            converter_of(options.type, self._codecs),
            default=options.default,
            check=options.check,
            on_misfit=options.on_misfit,
            migrations=options.migrations,
        )

    async def _refuse(self, doc: Document, type_: Any) -> None:
        await self.close_doc(doc.id)
        wanted, has = (getattr(each, "__name__", "plain JSON") for each in (type_, doc.type))
        raise InvalidRequestError(
            f"document {doc.id!r} is open as {has}, not {wanted}; a document has one type while "
            f"it is open"
        )
