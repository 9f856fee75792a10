"""What model modules import and may not find: parts of DEEPaaS, webargs and aiohttp, made when they are asked for.

A module for DEEPaaS says `from webargs import fields`, `from deepaas.model.v2.wrapper import UploadedFile` and `from
aiohttp.web import HTTPBadRequest`. Where those libraries are installed it gets them; where not, it gets what stands
here in for them. `prepare()` also makes libraries as they are now take what modules were written for: see
`volvox.worker.older_fields`, and `_any_reason` below.
"""

from __future__ import annotations

import abc
import importlib
import importlib.abc
import importlib.util
import sys
import types
from collections import namedtuple
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from typing import Any

from volvox.worker import older_fields

UploadedFile = namedtuple(
    "UploadedFile", ("name", "filename", "content_type", "original_filename"), defaults=(None, None, None, None)
)
UploadedFile.__doc__ = """A file as modules get it: form field, path on disk, content type, the sender's name of it."""


def prepare() -> None:
    """Let imports of this process find what a module for DEEPaaS expects; to be called before one is loaded."""
    if not any(isinstance(finder, _Mending) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Mending())
        sys.meta_path.append(_StandingIn())
    for name, mend in _MENDED.items():
        if (loaded := sys.modules.get(name)) is not None:
            mend(loaded)


class _StandingIn(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Asked last, so only for what is not installed."""

    def find_spec(self, name: str, *_: Any) -> ModuleSpec | None:
        return ModuleSpec(name, self, is_package=True) if name in _STAND_INS else None

    def exec_module(self, module: types.ModuleType) -> None:
        _STAND_INS[module.__name__](module)


class _Mending(importlib.abc.MetaPathFinder):
    """Asked first: the real library is loaded, then mended; one that cannot be loaded here is stood in for."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: Any = None) -> ModuleSpec | None:
        if name == "deepaas" and not _deepaas_can_be_imported():
            return ModuleSpec(name, _StandingIn(), is_package=True)
        if name not in _MENDED:
            return None
        for finder in sys.meta_path:
            found = None if finder is self else finder.find_spec(name, path, target)
            if found is not None:
                if found.loader is not None and not isinstance(found.loader, _StandingIn):
                    found.loader = _MendingLoader(found.loader, _MENDED[name])
                return found
        return None


class _MendingLoader(importlib.abc.Loader):
    def __init__(self, loader: Any, mend: Callable[[types.ModuleType], None]) -> None:
        self._loader, self._mend = loader, mend

    def create_module(self, spec: ModuleSpec) -> types.ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: types.ModuleType) -> None:
        self._loader.exec_module(module)
        self._mend(module)

    def __getattr__(self, name: str) -> Any:  # what reads resources or source asks the real loader
        return getattr(self._loader, name)


def _deepaas_can_be_imported() -> bool:
    """DEEPaaS up to 2.6 cannot be imported beside marshmallow 4: a module that did not pin it does not start there."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return int(version("marshmallow").partition(".")[0]) < 4
    except PackageNotFoundError:
        return True


def _any_reason(module: types.ModuleType) -> None:
    """DEEPaaS' template says `raise HTTPBadRequest(reason=error)`; newer aiohttp takes one line of text only."""
    real = module.HTTPException.__init__
    if getattr(real, "takes_any_reason", False):
        return

    def __init__(self: Any, *positional: Any, reason: Any = None, **named: Any) -> None:
        said = reason if reason is None else " ".join(str(reason).split("\n")).replace("\r", "")
        real(self, *positional, reason=said, **named)

    __init__.takes_any_reason = True  # type: ignore[attr-defined]
    module.HTTPException.__init__ = __init__


def _nothing(_: types.ModuleType) -> None:
    """A package that only holds others."""


def _deepaas_base(module: types.ModuleType) -> None:
    methods = ("get_metadata", "predict", "get_predict_args", "train", "get_train_args", "warm")

    def method(name: str) -> Any:
        def not_implemented(self: Any, **arguments: Any) -> Any:
            raise NotImplementedError

        not_implemented.__name__ = name
        return abc.abstractmethod(not_implemented)

    body = {"__module__": module.__name__, "schema": None, **{name: method(name) for name in methods}}
    vars(module)["BaseModel"] = abc.ABCMeta("BaseModel", (object,), body)


def _deepaas_wrapper(module: types.ModuleType) -> None:
    """Ours in DEEPaaS' own as well: a module may ask whether what it got is one."""
    vars(module)["UploadedFile"] = UploadedFile
    vars(module).setdefault("ReturnedFile", UploadedFile)


def _webargs(module: types.ModuleType) -> None:
    marshmallow: Any = importlib.import_module("marshmallow")
    vars(module).update(
        fields=importlib.import_module("webargs.fields"),
        validate=importlib.import_module("marshmallow.validate"),
        ValidationError=marshmallow.ValidationError,
        missing=marshmallow.missing,
        dict2schema=older_fields.schema_class,
    )


def _webargs_core(module: types.ModuleType) -> None:
    package = importlib.import_module("webargs")
    vars(module).update({name: getattr(package, name) for name in ("ValidationError", "missing", "dict2schema")})


def _webargs_fields(module: types.ModuleType) -> None:
    """The fields of marshmallow, a `Nested` that takes a dict and a list that may come as one text with commas."""
    marshmallow: Any = importlib.import_module("marshmallow.fields")
    names = marshmallow.__all__
    vars(module).update({name: getattr(marshmallow, name) for name in names}, __all__=["DelimitedList", *names])

    class Nested(marshmallow.Nested):
        def __init__(self, nested: Any, *positional: Any, **named: Any) -> None:
            made = older_fields.schema_class(nested) if isinstance(nested, dict) else nested
            super().__init__(made, *positional, **named)

    class DelimitedList(marshmallow.List):
        def __init__(self, inner: Any, delimiter: str = ",", **named: Any) -> None:
            self.delimiter = delimiter
            super().__init__(inner, **named)

        def _deserialize(self, value: Any, attr: Any, data: Any, **more: Any) -> Any:
            parts = value.split(self.delimiter) if isinstance(value, str) else value
            return super()._deserialize(parts, attr, data, **more)

    for made in (Nested, DelimitedList):
        made.__module__, made.__qualname__ = module.__name__, made.__name__
        setattr(module, made.__name__, made)


def _aiohttp(module: types.ModuleType) -> None:
    vars(module)["web"] = importlib.import_module("aiohttp.web")


def _aiohttp_web(module: types.ModuleType) -> None:
    exceptions = importlib.import_module("aiohttp.web_exceptions")
    vars(module).update({name: value for name, value in vars(exceptions).items() if name.startswith("HTTP")})


class HTTPException(Exception):
    """aiohttp's HTTP errors, where there is no aiohttp: `status`, `reason`, `text`, `headers`."""

    status_code = -1

    def __init__(
        self, *, headers: Any = None, reason: Any = None, body: Any = None, text: Any = None, content_type: Any = None
    ) -> None:
        from http.client import responses

        self.status = self.status_code
        self.reason = responses.get(self.status, "") if reason is None else str(reason)
        self.headers, self.body, self.content_type = dict(headers or {}), body, content_type or "text/plain"
        self.text = f"{self.status}: {self.reason}" if text is None else str(text)
        super().__init__(self.reason)


_GROUPS = {
    "HTTPClientError": {
        400: "BadRequest", 401: "Unauthorized", 402: "PaymentRequired", 403: "Forbidden", 404: "NotFound",
        405: "MethodNotAllowed", 406: "NotAcceptable", 407: "ProxyAuthenticationRequired", 408: "RequestTimeout",
        409: "Conflict", 410: "Gone", 411: "LengthRequired", 412: "PreconditionFailed", 413: "RequestEntityTooLarge",
        414: "RequestURITooLong", 415: "UnsupportedMediaType", 416: "RequestRangeNotSatisfiable",
        417: "ExpectationFailed", 421: "MisdirectedRequest", 422: "UnprocessableEntity", 424: "FailedDependency",
        426: "UpgradeRequired", 428: "PreconditionRequired", 429: "TooManyRequests",
        431: "RequestHeaderFieldsTooLarge", 451: "UnavailableForLegalReasons",
    },
    "HTTPServerError": {
        500: "InternalServerError", 501: "NotImplemented", 502: "BadGateway", 503: "ServiceUnavailable",
        504: "GatewayTimeout", 505: "VersionNotSupported", 506: "VariantAlsoNegotiates", 507: "InsufficientStorage",
        510: "NotExtended", 511: "NetworkAuthenticationRequired",
    },
}  # fmt: skip


def _aiohttp_exceptions(module: types.ModuleType) -> None:
    def made(name: str, parent: type, **body: Any) -> type:
        kind = type(name, (parent,), {"__module__": module.__name__, **body})
        setattr(module, name, kind)
        return kind

    vars(module)["HTTPException"] = HTTPException
    error = made("HTTPError", HTTPException)
    for group, members in _GROUPS.items():
        parent = made(group, error)
        for status, name in members.items():
            made(f"HTTP{name}", parent, status_code=status)


_MENDED: dict[str, Callable[[types.ModuleType], None]] = {
    "marshmallow": older_fields.mend,
    "aiohttp.web_exceptions": _any_reason,
    "deepaas.model.v2.wrapper": _deepaas_wrapper,
}
_STAND_INS: dict[str, Callable[[types.ModuleType], None]] = {
    "deepaas": _nothing,
    "deepaas.model": _nothing,
    "deepaas.model.v2": _nothing,
    "deepaas.model.v2.base": _deepaas_base,
    "deepaas.model.v2.wrapper": _deepaas_wrapper,
    "webargs": _webargs,
    "webargs.core": _webargs_core,
    "webargs.fields": _webargs_fields,
    "aiohttp": _aiohttp,
    "aiohttp.web": _aiohttp_web,
    "aiohttp.web_exceptions": _aiohttp_exceptions,
}
