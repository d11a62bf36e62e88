"""Whatever the Hub answers: one line that names the repository and what to do."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from ecg_hf.errors import HubError
from ecg_hf.hub.dataset_push import push_dataset
from ecg_hf.hub.hub_errors import check_repo_id, hub_errors
from ecg_hf.hub.licences import licence_identifier
from ecg_hf.hub.push import push_model

# The HTTP client that the installed release of the library uses.
httpx = sys.modules[HfHubHTTPError.__bases__[0].__module__]


def answer(kind: Callable[..., Exception], status: int, said: str | None = None) -> Exception:
    request = httpx.Request("POST", "http://127.0.0.1/api/models/org/x/commit/main")
    response = httpx.Response(status, request=request)
    return kind(f"{status} Client Error.\n\nmore\nlines", response=response, server_message=said)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (answer(RepositoryNotFoundError, 401), ("private", "hf auth login")),
        (answer(RevisionNotFoundError, 404), ("revision",)),
        (answer(HfHubHTTPError, 401, "Invalid username or password."), ("hf auth login",)),
        (answer(HfHubHTTPError, 403, "You may not"), ("token", "You may not")),
        (answer(HfHubHTTPError, 500, None), ("500",)),
        (HFValidationError("Repo id must be\nin the form"), ("owner/name",)),
        (OfflineModeIsEnabled("offline"), ("HF_HUB_OFFLINE",)),
        (httpx.ConnectError("refused"), ("can't be reached", "again")),
        (httpx.ReadTimeout("slow"), ("can't be reached", "ReadTimeout")),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_one_line(error: Exception, words: tuple[str, ...]) -> None:
    with pytest.raises(HubError) as caught, hub_errors("org/x"):
        raise error
    assert caught.value.__cause__ is error
    assert caught.value.path == "org/x"
    for word in ("org/x", *words):
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["owner/", "a/b/c", "owner/two words", "../escape", "owner/x.git"])
def test_what_is_no_repository_is_refused_before_anything_is_read(name: str, tmp_path: Path) -> None:
    for push in (push_model, push_dataset):
        with pytest.raises(HubError, match="not the name of a repository"):
            push(tmp_path / "absent", name, dry_run=True)
    check_repo_id("owner/name")


def test_what_an_upload_wraps_is_unwrapped() -> None:
    with pytest.raises(HubError, match="403"), hub_errors("org/x"):
        raise RuntimeError("Error while uploading") from answer(
            HfHubHTTPError, 400, "quota of 403 GB used up"
        )


def test_our_own_faults_are_not_blamed_on_the_hub() -> None:
    for mistake in (KeyError("x"), ZeroDivisionError(), RuntimeError("ours")):
        with pytest.raises(type(mistake)), hub_errors("org/x"):
            raise mistake


@pytest.mark.parametrize(
    ("text", "identifier"),
    [
        ("CC BY 4.0", "cc-by-4.0"),
        ("CC BY 4.0 (as part of the PhysioNet Challenges)", "cc-by-4.0"),
        ("ODbL 1.0", "odbl"),
        ("ODC-By 1.0", "odc-by"),
        ("apache-2.0", "apache-2.0"),
        ("unknown", "unknown"),
        ("that of the folder's data", "other"),
    ],
)
def test_licences_in_the_hubs_words(text: str, identifier: str) -> None:
    assert licence_identifier(text) == identifier
