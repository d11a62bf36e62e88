"""Errors of talking to the Hub, each as one clear line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import validate_repo_id

from ecg_hf.errors import HubError

__all__ = ["check_repo_id", "hub_errors"]

_LOG_IN = "log in with `hf auth login` or set HF_TOKEN"


def check_repo_id(repo_id: str) -> None:
    """Refuse an impossible repository name before anything is read or sent.

    Raises:
        HubError: naming what is wrong with it.
    """
    with hub_errors(repo_id):
        validate_repo_id(repo_id)


@contextmanager
def hub_errors(repo_id: str) -> Iterator[None]:
    """Turn what the client library raises into a :class:`~ecg_hf.errors.HubError` that names the repository."""
    try:
        yield
    except Exception as error:
        # A failed upload is reported as a RuntimeError whose cause is the actual error.
        wrapped = type(error) is RuntimeError and isinstance(error.__cause__, Exception)
        reason = _reason(error.__cause__ if wrapped else error)
        if reason is None:
            raise
        raise HubError(reason, path=repo_id) from error


def _reason(error: BaseException | None) -> str | None:
    """What to tell the user; None for errors unrelated to the Hub."""
    match error:
        case RepositoryNotFoundError():
            return f"no such repository, or a private one: {_LOG_IN}"
        case RevisionNotFoundError():
            return "the repository has no such revision"
        case HfHubHTTPError():
            return _refusal(error)
        case HFValidationError():
            return f"not the name of a repository (owner/name): {_first_line(error)}"
        case OfflineModeIsEnabled():
            return "offline mode is on: unset HF_HUB_OFFLINE"
    # The client library's HTTP library differs between versions and is not one of our dependencies.
    if type(error).__module__.partition(".")[0] in ("httpx", "httpx2", "requests"):
        return f"the Hub can't be reached ({type(error).__name__}): run the same command again"
    return None


def _refusal(error: HfHubHTTPError) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    message = error.server_message or _first_line(error)
    if status == 401:
        return f"the Hub does not recognise your token: {_LOG_IN}"
    if status == 403:
        return f"your token lacks the permission for this: {message}"
    return f"the Hub refused ({status}): {message}"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
