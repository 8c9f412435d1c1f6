"""A Kaggle of our own that takes datasets, kernels and submissions, and keeps what it was sent."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pytest
from kaggle_server import COMPETITIONS, ENDPOINTS, USER, KaggleServer, Refused, serving
from kagglesdk.blobs.types import blob_api_service as blobs
from kagglesdk.competitions.types import competition_api_service as competitions
from kagglesdk.competitions.types.submission_status import SubmissionStatus
from kagglesdk.datasets.types import dataset_api_service as datasets
from kagglesdk.datasets.types.dataset_enums import DatabundleVersionStatus
from kagglesdk.kaggle_object import KaggleObject
from kagglesdk.kernels.types import kernels_api_service as kernels
from kagglesdk.kernels.types.kernels_enums import KernelWorkerStatus

from steel.competition import SLUG

Files = dict[str, bytes]
WELL = ("QUEUED", "RUNNING", "COMPLETE")


@dataclass
class Dataset:
    """What was created: the request, and the files of each version.

    For some looks Kaggle is at work on the last version; for some it says ready, and means the one before.
    """

    created: Any
    versions: list[Files] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    looks: int = 0
    late: int = 0


@dataclass
class Run:
    """How a version of a kernel goes: its states at each look, what it leaves, what it says, why it failed."""

    output: Files = field(default_factory=dict)
    states: tuple[str, ...] = WELL
    log: str = ""
    message: str = ""


@dataclass
class Verdict:
    """What comes of a submission after some looks."""

    state: str = "COMPLETE"
    public: str = "0.91000"
    private: str = "0.90000"
    error: str = ""
    looks: int = 2


class PushServer(KaggleServer):
    """Datasets by id, versions of kernels by id (request and run), submissions; `runs` and `verdict` are to come."""

    def __init__(self) -> None:
        super().__init__()
        self.uploads: dict[str, tuple[str, int, bytes | None]] = {}
        self.datasets: dict[str, Dataset] = {}
        self.kernels: dict[str, list[tuple[Any, Run]]] = {}
        self.submitted: list[Any] = []
        self.runs: list[Run] = []
        self.verdict = Verdict()
        self.looks_until_ready, self.looks_late = 2, 0
        self.unpacks = True

    def receive(self, path: str, body: bytes) -> bool:
        """Take the bytes of an upload that was begun, if they are as many as it said."""
        token = path.rpartition("/")[2]
        name, size, _ = self.uploads[token]
        self.uploads[token] = (name, size, body)
        return size == len(body)

    def stored(self, path: str) -> bytes:
        """A file that a kernel left."""
        owner, slug, version, name = path.removeprefix("/storage/output/").split("/", 3)
        return self.kernels[f"{owner}/{slug}"][int(version) - 1][1].output[unquote(name)]

    def start_blob_upload(self, request: Any) -> KaggleObject:
        """Where a file may be put."""
        answer = blobs.ApiStartBlobUploadResponse()
        answer.token = f"token-{len(self.uploads)}"
        answer.create_url = f"http://127.0.0.1:{self.server_port}/upload/{answer.token}"
        self.uploads[answer.token] = (request.name, request.content_length, None)
        return answer

    def create_dataset(self, request: Any) -> KaggleObject:
        """A new dataset, if the name is free and the owner is the token's."""
        name = f"{request.owner_slug}/{request.slug}"
        answer = datasets.ApiCreateDatasetResponse()
        if request.owner_slug != USER:
            raise Refused(403, "Permission 'datasets.create' was denied")
        if name in self.datasets:
            answer.status, answer.error = "error", f'The requested title "{request.title}" is already in use.'
            return answer
        self.datasets[name] = Dataset(request)
        return self._add(name, request.files, "")

    def create_dataset_version(self, request: Any) -> KaggleObject:
        """A version more, unless Kaggle is still at work on the last."""
        name = f"{request.owner_slug}/{request.dataset_slug}"
        if name not in self.datasets or self.datasets[name].looks:
            raise Refused(403, "Permission 'datasets.update' was denied")
        return self._add(name, request.body.files, request.body.version_notes)

    def get_dataset_status(self, request: Any) -> KaggleObject:
        """At work, ready or failed."""
        found = self._dataset(request)
        answer = datasets.ApiGetDatasetStatusResponse()
        answer.status = DatabundleVersionStatus.READY if self.unpacks else DatabundleVersionStatus.FAILED
        if found.looks:
            found.looks -= 1
            answer.status = DatabundleVersionStatus.BLOBS_RECEIVED
        return answer

    def get_dataset(self, request: Any) -> KaggleObject:
        """Its latest version that is ready; before the first, there is nothing to be seen."""
        found = self._dataset(request)
        number = len(found.versions) - (1 if found.looks or found.late else 0)
        found.late = max(0, found.late - 1)
        if not number:
            raise Refused(403, "Permission 'datasets.get' was denied")
        answer = datasets.ApiDataset()
        answer.current_version_number = number
        return answer

    def save_kernel(self, request: Any) -> KaggleObject:
        """A version more, which runs, even if some of its sources are unknown."""
        if not request.slug.startswith(f"{USER}/"):
            raise Refused(403, "Permission 'kernels.update' was denied")
        versions = self.kernels.setdefault(request.slug, [])
        versions.append((request, self.runs.pop(0) if self.runs else Run()))
        answer = kernels.ApiSaveKernelResponse()
        answer.version_number, answer.ref = len(versions), f"/code/{request.slug}"
        answer.url = f"https://www.kaggle.com/code/{request.slug}"
        answer.invalid_dataset_sources = [x for x in request.dataset_data_sources if x not in self.datasets]
        answer.invalid_competition_sources = [x for x in request.competition_data_sources if x != SLUG]
        return answer

    def get_kernel(self, request: Any) -> KaggleObject:
        """The number of its latest version."""
        versions = self._versions(request)
        answer = kernels.ApiGetKernelResponse()
        answer.metadata = kernels.ApiKernelMetadata()
        answer.metadata.current_version_number = len(versions)
        return answer

    def get_kernel_session_status(self, request: Any) -> KaggleObject:
        """The next state of a version's run."""
        run = self._run(request)
        answer = kernels.ApiGetKernelSessionStatusResponse()
        answer.status = KernelWorkerStatus[run.states[0]]
        run.states = run.states[1:] or run.states
        answer.failure_message = run.message
        return answer

    def list_kernel_session_output(self, request: Any) -> KaggleObject:
        """A page of what a version left, and on the first its log."""
        run = self._run(request)
        version = request.version_label[1:] or len(self._versions(request))
        start = int(request.page_token or 0)
        names = list(run.output)
        answer = kernels.ApiListKernelSessionOutputResponse()
        answer.files = []
        for name in names[start : start + request.page_size]:
            file = kernels.ApiKernelSessionOutputFile()
            file.file_name = name
            file.url = self.sign(f"output/{request.user_name}/{request.kernel_slug}/{version}/{quote(name, safe='')}")
            answer.files.append(file)
        end = start + request.page_size
        answer.next_page_token = str(end) if end < len(names) else ""
        answer.log = "" if start else run.log
        return answer

    def create_code_submission(self, request: Any) -> KaggleObject:
        """A submission, if the version left the file."""
        _, run = self.kernels[f"{request.kernel_owner}/{request.kernel_slug}"][request.kernel_version - 1]
        if request.file_name not in run.output:
            raise Refused(400, f"Notebook output has no {request.file_name}")
        found = competitions.ApiSubmission()
        found.ref, found.date = 1001 + len(self.submitted), datetime(2026, 11, 23, 10, len(self.submitted))
        found.description, found.file_name = request.submission_description, request.file_name
        self.submitted.append(found)
        answer = competitions.ApiCreateCodeSubmissionResponse()
        answer.message, answer.ref = f"Successfully submitted to {SLUG}", found.ref
        return answer

    def list_submissions(self, request: Any) -> KaggleObject:
        """The latest first; those that have no verdict get it after some looks."""
        answer = competitions.ApiListSubmissionsResponse()
        answer.submissions = self.submitted[::-1][: request.page_size]
        if self.submitted:
            self.verdict.looks -= 1
        if self.verdict.looks < 0:
            for one in self.submitted:
                if one.status == SubmissionStatus.PENDING:
                    one.status = SubmissionStatus[self.verdict.state]
                    one.public_score, one.private_score = self.verdict.public, self.verdict.private
                    one.error_description = self.verdict.error
        return answer

    def _add(self, name: str, tokens: Any, notes: str) -> KaggleObject:
        found = self.datasets[name]
        files = [self.uploads[file.token] for file in tokens]
        assert all(body is not None for _, _, body in files)
        found.versions.append({name: body or b"" for name, _, body in files})
        found.notes.append(notes)
        found.looks, found.late = self.looks_until_ready, self.looks_late
        answer = datasets.ApiCreateDatasetResponse()
        answer.status, answer.url = "ok", f"https://www.kaggle.com/datasets/{name}"
        return answer

    def _dataset(self, request: Any) -> Dataset:
        name = f"{request.owner_slug}/{request.dataset_slug}"
        if name not in self.datasets:
            raise Refused(403, "Permission 'datasets.get' was denied")
        return self.datasets[name]

    def _versions(self, request: Any) -> list[tuple[Any, Run]]:
        name = f"{request.user_name}/{request.kernel_slug}"
        if name not in self.kernels:
            raise Refused(403, "Permission 'kernels.get' was denied")
        return self.kernels[name]

    def _run(self, request: Any) -> Run:
        """The run of the version asked for, else of the latest."""
        versions, label = self._versions(request), request.version_label
        if label and (label[0] != "v" or int(label[1:]) > len(versions)):
            raise Refused(404, "Not found")
        return versions[int(label[1:]) - 1 if label else -1][1]


DATASETS, KERNELS = "datasets.DatasetApiService", "kernels.KernelsApiService"
ENDPOINTS |= {
    "blobs.BlobApiService/StartBlobUpload": (blobs.ApiStartBlobUploadRequest, PushServer.start_blob_upload),
    f"{DATASETS}/CreateDataset": (datasets.ApiCreateDatasetRequest, PushServer.create_dataset),
    f"{DATASETS}/CreateDatasetVersion": (datasets.ApiCreateDatasetVersionRequest, PushServer.create_dataset_version),
    f"{DATASETS}/GetDatasetStatus": (datasets.ApiGetDatasetStatusRequest, PushServer.get_dataset_status),
    f"{DATASETS}/GetDataset": (datasets.ApiGetDatasetRequest, PushServer.get_dataset),
    f"{KERNELS}/SaveKernel": (kernels.ApiSaveKernelRequest, PushServer.save_kernel),
    f"{KERNELS}/GetKernel": (kernels.ApiGetKernelRequest, PushServer.get_kernel),
    f"{KERNELS}/GetKernelSessionStatus": (
        kernels.ApiGetKernelSessionStatusRequest,
        PushServer.get_kernel_session_status,
    ),
    f"{KERNELS}/ListKernelSessionOutput": (
        kernels.ApiListKernelSessionOutputRequest,
        PushServer.list_kernel_session_output,
    ),
    f"{COMPETITIONS}/CreateCodeSubmission": (
        competitions.ApiCreateCodeSubmissionRequest,
        PushServer.create_code_submission,
    ),
    f"{COMPETITIONS}/ListSubmissions": (competitions.ApiListSubmissionsRequest, PushServer.list_submissions),
}


@contextmanager
def taking(patch: pytest.MonkeyPatch, home: Path) -> Iterator[PushServer]:
    """As `serving`, by a server that takes what is sent."""
    server = PushServer()
    with serving(patch, home, server):
        yield server
