"""What can go wrong between here and the Hub, as one clear line."""

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

from ecg_hf.errors import HubError

__all__ = ["hub_errors"]

_LOG_IN = "log in with `hf auth login` or set HF_TOKEN"


@contextmanager
def hub_errors(repo_id: str) -> Iterator[None]:
    """Turn what the client library raises into a :class:`~ecg_hf.errors.HubError` that names the repository."""
    try:
        yield
    except RepositoryNotFoundError as error:
        raise HubError(f"no such repository, or a private one: {_LOG_IN}", path=repo_id) from error
    except RevisionNotFoundError as error:
        raise HubError("the repository has no such revision", path=repo_id) from error
    except HfHubHTTPError as error:
        raise HubError(_reason(error), path=repo_id) from error
    except HFValidationError as error:
        raise HubError(
            f"not the name of a repository (owner/name): {_first_line(error)}", path=repo_id
        ) from error
    except OfflineModeIsEnabled as error:
        raise HubError("offline mode is on: unset HF_HUB_OFFLINE", path=repo_id) from error
    except Exception as error:
        # The client library's HTTP library differs between its versions and is none of our dependencies.
        if type(error).__module__.partition(".")[0] not in ("httpx", "httpx2", "requests"):
            raise
        raise HubError(
            f"the Hub can't be reached ({type(error).__name__}): run the same command again", path=repo_id
        ) from error


def _reason(error: HfHubHTTPError) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    said = error.server_message or _first_line(error)
    if status == 401:
        return f"the Hub does not know you: {_LOG_IN}"
    if status == 403:
        return f"your token must not do that: {said}"
    return f"the Hub refused ({status}): {said}"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
