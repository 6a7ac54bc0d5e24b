"""`WebServing`: functions as a small web service."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from bert4albert.errors import ConfigError


class WebServing:
    """Serve functions over HTTP with the library `bottle`; for trying things out, not for many users.

    Arguments:
        host, port: where to listen.
        server: bottle's server; 'paste' needs the library of that name, 'wsgiref' none.
    """

    def __init__(self, host: str = "0.0.0.0", port: int = 8000, server: str = "paste") -> None:
        try:
            import bottle  # type: ignore[import-not-found]
        except ImportError:
            raise ConfigError("WebServing needs the library bottle: pip install bottle paste.") from None
        self.host, self.port, self.server, self.bottle = host, port, server, bottle

    def wraps(
        self, func: Callable[..., Any], arguments: Mapping[str, tuple[Any, bool]], method: str = "GET"
    ) -> Callable[[], str]:
        """Return a function of a request: JSON with code (0 for success, 1 for a missing argument, 2 for an error).

        Arguments:
            func: the function; its result must be JSON.
            arguments: name -> (what converts the text, or None; whether it is needed).
            method: 'GET' or 'POST'.
        """

        def answer() -> str:
            given = getattr(self.bottle.request, method)
            values = {name: given.getunicode(name) for name in arguments}
            result: dict[str, Any] = {"code": 0, "desc": "succeeded", "data": {}}
            missing = [name for name, (_, needed) in arguments.items() if needed and values[name] is None]
            if missing:
                result.update(code=1, desc=f'lack of "{missing[0]}" argument')
                return json.dumps(result, ensure_ascii=False)
            try:
                kwargs = {
                    name: convert(values[name]) if convert is not None else values[name]
                    for name, (convert, _) in arguments.items()
                    if values[name] is not None
                }
                result["data"] = func(**kwargs)
            except Exception as error:  # the caller of a service gets every error as its answer
                result.update(code=2, desc=str(error))
            return json.dumps(result, ensure_ascii=False)

        return answer

    def route(self, path: str, func: Callable[..., Any], arguments: Any, method: str = "GET") -> None:
        """Serve a function under a path; arguments as for `wraps`."""
        self.bottle.route(path, method=method)(self.wraps(func, arguments, method))

    def start(self) -> None:
        """Serve until stopped."""
        self.bottle.run(host=self.host, port=self.port, server=self.server)
