"""Errors as OpenAI's API answers them: a status code and an error object, nothing about this machine.

raise ApiError(404, "the model 'x' does not exist", code="model_not_found", param="model")
api_error_of(error, redacted)                # for an error of this library
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from starlette.responses import JSONResponse, Response

from adapter_hub.errors import (
    AdapterHubError,
    InvalidInputError,
    MissingExtraError,
    NotFoundError,
    OutOfMemoryError,
    StatusError,
)
from adapter_hub.isolation import UnexpectedError
from adapter_hub.serving.engine import BusyError

LONGEST = 1000  # characters of a message
SERVER_FAULT = "the server had a fault of its own; its log says which, under the id of this request"
# an absolute path, of which nothing but the last name may be told
_PATH = re.compile(r"(?<![\w.:/<])(?:[A-Za-z]:\\|/)(?:[^\s/\\:;,'\"()]+[/\\])+[^\s:;,'\"()]*")


class ApiError(Exception):
    """An answer that is an error.

    Attributes:
        status: of HTTP.
        message: for people, one line.
        code: for programs.
        param: the field that it is about.
        retry_after: seconds after which to try again.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        """Keep what it says."""
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message[:LONGEST], code, param
        self.retry_after = retry_after

    @property
    def kind(self) -> str:
        """OpenAI's `type` of the error."""
        if self.status == 429:
            return "rate_limit_error"
        return "server_error" if self.status >= 500 else "invalid_request_error"

    def to_json(self) -> dict[str, Any]:
        """Return OpenAI's error object."""
        about = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
        return {"error": about}

    def response(self) -> Response:
        """Return the answer."""
        headers = {}
        if self.retry_after is not None:
            headers["retry-after"] = str(max(1, math.ceil(self.retry_after)))
        if self.status == 401:
            headers["www-authenticate"] = "Bearer"
        return JSONResponse(self.to_json(), self.status, headers)


class Redaction:
    """Takes out of messages what clients must not learn: paths of this machine.

    Attributes:
        known: texts, each with what stands in its place.
    """

    def __init__(self, known: Mapping[str, str]) -> None:
        """Remember the texts."""
        self.known = dict(sorted(known.items(), key=lambda item: -len(item[0])))

    def __call__(self, message: str) -> str:
        """Return a message without them."""
        for text, instead in self.known.items():
            message = message.replace(text, instead)
        for instead in set(self.known.values()):  # several registries are one to a client
            while (twice := f"{instead}, {instead}") in message:
                message = message.replace(twice, instead)
        return _PATH.sub("a file of the server", message)

    def also(self, text: str, instead: str) -> Redaction:
        """Return one that takes out one more text.

        Args:
            text: that is not to be told.
            instead: what stands in its place.
        """
        return Redaction({**self.known, text: instead})


def api_error_of(
    error: AdapterHubError, redacted: Callable[[str], str] = str, param: str | None = None
) -> ApiError:
    """Return the answer to an error of this library.

    Args:
        error: whose message is for the user.
        redacted: takes out of a message what clients must not learn.
        param: the field that it is about.
    """
    message = redacted(str(error))
    if isinstance(error, BusyError):
        return ApiError(429, message, code="rate_limit_exceeded", retry_after=error.seconds)
    if isinstance(error, UnexpectedError):
        return ApiError(500, SERVER_FAULT, code="server_fault")
    if isinstance(error, StatusError):
        told = message.partition("; to use it anyway")[0]  # which is not for clients to decide
        return ApiError(404, told, code="model_retired", param=param)
    if isinstance(error, NotFoundError):
        return ApiError(404, message, code="model_not_found", param=param)
    if isinstance(error, OutOfMemoryError):
        return ApiError(503, message, code="out_of_memory", retry_after=5)
    if isinstance(error, InvalidInputError | MissingExtraError):
        return ApiError(400, message, code="invalid_value", param=param)
    return ApiError(503, message, code="unavailable", param=param, retry_after=30)
