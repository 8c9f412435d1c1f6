"""What is asked of Kaggle to send a dataset and a kernel, to follow them, and to submit; in kagglesdk's types.

Each of these makes its request within `client.call` or `client.change`. A dataset is "owner/slug"; so is a kernel, or
one version of it "owner/slug/5". Kaggle answers 403 as well as 404 for what does not exist.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import requests
from kagglesdk.blobs.types.blob_api_service import ApiBlobType, ApiStartBlobUploadRequest
from kagglesdk.datasets.types.dataset_api_service import (
    ApiCreateDatasetRequest,
    ApiCreateDatasetVersionRequest,
    ApiCreateDatasetVersionRequestBody,
    ApiDatasetNewFile,
    ApiGetDatasetRequest,
    ApiGetDatasetStatusRequest,
)
from kagglesdk.kernels.types.kernels_api_service import (
    ApiGetKernelRequest,
    ApiGetKernelSessionStatusRequest,
    ApiListKernelSessionOutputRequest,
)
from requests.exceptions import HTTPError

from steel.competition import SLUG
from steel.kaggle import client

T = TypeVar("T")

PAGE = 100  # files or submissions in an answer


@dataclass(frozen=True)
class Pushed:
    """Kaggle's answer to a kernel: its version, the address of its page, and what is wrong with it, '' if nothing."""

    version: int
    url: str
    fault: str


@dataclass(frozen=True)
class Submission:
    """A submission as Kaggle tells of it.

    Attributes:
        id: its number.
        date: when it was made, ISO 8601 in UTC.
        description: the message that it was made with.
        state: pending, complete or error.
        public, private: its scores; '' as long as there are none.
        fault: what Kaggle says of an error.
    """

    id: int
    date: str
    description: str
    state: str
    public: str
    private: str
    fault: str


def upload(api: Any, path: Path) -> str:
    """Send a file to Kaggle's storage; the name by which a dataset may then claim it.

    The official client's own upload takes a failure for a file to be left out.
    """
    request = ApiStartBlobUploadRequest()
    request.type, request.name, request.content_length = ApiBlobType.DATASET, path.name, path.stat().st_size
    request.last_modified_epoch_seconds = int(path.stat().st_mtime)
    with api.build_kaggle_client() as kaggle:
        place = kaggle.blobs.blob_api_client.start_blob_upload(request)
    with path.open("rb") as file:
        answer = requests.put(place.create_url, data=file, timeout=client.TIMEOUT_S)
    answer.raise_for_status()
    if answer.status_code not in (200, 201):  # 308: not all bytes have come
        raise requests.ConnectionError(f"the upload ended with {answer.status_code}")
    return place.token


def dataset_state(api: Any, dataset: str) -> str:
    """``ready``, ``failed``, or a step on the way there, such as ``blobs received``; '' if there is no such dataset."""
    request = ApiGetDatasetStatusRequest()
    request.owner_slug, request.dataset_slug = dataset.split("/")
    with api.build_kaggle_client() as kaggle:
        found = _or_none(partial(kaggle.datasets.dataset_api_client.get_dataset_status, request))
    state = _words(found.status) if found else ""
    return "" if state == "deleted" else state


def dataset_version(api: Any, dataset: str) -> int:
    """Number of a dataset's latest version; 0 if there is none yet."""
    request = ApiGetDatasetRequest()
    request.owner_slug, request.dataset_slug = dataset.split("/")
    with api.build_kaggle_client() as kaggle:
        found = _or_none(partial(kaggle.datasets.dataset_api_client.get_dataset, request))
    return found.current_version_number if found else 0


def create_dataset(api: Any, metadata: Mapping[str, Any], tokens: Sequence[str]) -> str:
    """Make a private dataset of uploaded files; what Kaggle finds wrong with it, '' if nothing."""
    request = ApiCreateDatasetRequest()
    request.owner_slug, request.slug = metadata["id"].split("/")
    request.title, request.license_name = metadata["title"], metadata["licenses"][0]["name"]
    request.is_private, request.files = True, [_new_file(token) for token in tokens]
    with api.build_kaggle_client() as kaggle:
        return _fault(kaggle.datasets.dataset_api_client.create_dataset(request))


def create_dataset_version(api: Any, dataset: str, notes: str, tokens: Sequence[str]) -> str:
    """Make a new version, of these files alone; what Kaggle finds wrong with it, '' if nothing."""
    request, body = ApiCreateDatasetVersionRequest(), ApiCreateDatasetVersionRequestBody()
    request.owner_slug, request.dataset_slug = dataset.split("/")
    body.version_notes, body.files = notes, [_new_file(token) for token in tokens]
    request.body = body
    with api.build_kaggle_client() as kaggle:
        return _fault(kaggle.datasets.dataset_api_client.create_dataset_version(request))


def kernel_version(api: Any, kernel: str) -> int:
    """Number of a kernel's latest version; 0 if there is no such kernel."""
    request = ApiGetKernelRequest()
    request.user_name, request.kernel_slug = kernel.split("/")
    with api.build_kaggle_client() as kaggle:
        found = _or_none(partial(kaggle.kernels.kernels_api_client.get_kernel, request))
    return found.metadata.current_version_number if found else 0


def save_kernel(api: Any, folder: Path) -> Pushed:
    """Send the kernel of a folder, to be run at once."""
    answer = client.quietly(lambda: api.kernels_push(str(folder)))
    unknown = [
        f"{kind} {name}"
        for kind in ("dataset", "competition", "kernel", "model")
        for name in getattr(answer, f"invalid_{kind}_sources") or []
    ]
    fault = f"it knows no {' and no '.join(unknown)}" if unknown else ""
    if answer.invalid_competition_sources:
        fault += f": {client.ACCEPT_RULES}"
    return Pushed(answer.version_number, answer.url, answer.error or fault)


def kernel_state(api: Any, kernel: str) -> tuple[str, str]:
    """``queued``, ``running``, ``complete``, ``error``, ``cancel ...``, or '' if there is none; and why it failed."""
    request = _of_version(ApiGetKernelSessionStatusRequest(), kernel)
    with api.build_kaggle_client() as kaggle:
        found = _or_none(partial(kaggle.kernels.kernels_api_client.get_kernel_session_status, request))
    return (_words(found.status), found.failure_message or "") if found else ("", "")


def kernel_output(api: Any, kernel: str) -> tuple[dict[str, str], str]:
    """Signed address of each file that a kernel left, by its name, and the kernel's log."""
    request = _of_version(ApiListKernelSessionOutputRequest(), kernel)
    request.page_size = PAGE
    found: dict[str, str] = {}
    log = ""
    with api.build_kaggle_client() as kaggle:
        while True:
            page = kaggle.kernels.kernels_api_client.list_kernel_session_output(request)
            found |= {file.file_name: file.url for file in page.files or []}
            log = log or page.log or ""
            if not page.next_page_token:
                return found, log
            request.page_token = page.next_page_token


def submit(api: Any, kernel: str, version: int, file: str, message: str) -> int:
    """Submit what a kernel's version makes of the hidden test set; the number of the submission."""
    return api.competition_submit_code(file, message, SLUG, kernel, version, quiet=True).ref


def submissions(api: Any) -> list[Submission]:
    """The latest submissions of the account, the last one first."""
    return [_submission(found) for found in api.competition_submissions(SLUG, page_size=PAGE) or []]


def _submission(found: Any) -> Submission:
    return Submission(
        found.ref,
        found.date.replace(tzinfo=UTC).isoformat(timespec="seconds"),
        found.description or "",
        _words(found.status),
        found.public_score or "",
        found.private_score or "",
        found.error_description or "",
    )


def _or_none(ask: Callable[[], T]) -> T | None:
    """The answer; None where what is asked for does not exist, or is not there for this account."""
    try:
        return ask()
    except HTTPError as error:
        if error.response is not None and error.response.status_code in (403, 404):
            return None
        raise


def _of_version(request: Any, kernel: str) -> Any:
    """A request about a kernel, or about one version of it, which the service calls v5."""
    request.user_name, request.kernel_slug, *version = kernel.split("/")
    if version:
        request.version_label = f"v{version[0]}"
    return request


def _new_file(token: str) -> ApiDatasetNewFile:
    file = ApiDatasetNewFile()
    file.token = token
    return file


def _fault(answer: Any) -> str:
    """What an answer of status 200 says against what was asked for."""
    return answer.error or (f"status {answer.status}" if answer.status.lower() == "error" else "")


def _words(value: Any) -> str:
    """An enumeration's name as words."""
    return value.name.replace("_", " ").lower()
