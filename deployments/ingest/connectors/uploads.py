"""Documents that people uploaded at the desk or through its API.

It knows not how they are kept; `shared.uploads` does.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from deployments.ingest.connectors.naming import name_document
from deployments.ingest.connectors.options import SourceOptions
from deployments.ingest.connectors.port import (
    Connector,
    DocumentGoneError,
    DocumentUnreadableError,
    Environment,
    SourceUnavailableError,
)
from deployments.ingest.model import Problem, RawDocument, Reference
from shared.uploads import Upload, UploadError, Uploads, UploadsUnavailableError


class Options(SourceOptions):
    """Uploads need no declaration."""


def build_connector(name: str, options: Options, environment: Environment) -> "UploadsConnector":
    """The connector of what was uploaded."""
    return UploadsConnector(name, Uploads(environment.uploads_url), options)


class UploadsConnector(Connector):
    """The newest version of each upload; its digest is its fingerprint."""

    def __init__(self, name: str, uploads: Uploads, options: SourceOptions) -> None:
        self._name, self._uploads, self._options = name, uploads, options

    def list_references(self, known: Mapping[str, str]) -> Iterator[Reference | Problem]:
        try:
            for upload in self._uploads.list_current():
                if self._options.wants(upload.name):
                    uri = name_document(self._name, upload.name)
                    yield uri if isinstance(uri, Problem) else self._refer(uri, upload)
        except UploadsUnavailableError as error:
            raise SourceUnavailableError(str(error)) from error

    def _refer(self, uri: str, upload: Upload) -> Reference:
        return Reference(uri, self._name, upload.name, _mark(upload), place=f"uploaded as {upload.name}")

    def open_document(self, reference: Reference) -> RawDocument:
        try:
            upload = self._uploads.find_current(reference.key)
            if upload is None:
                raise DocumentGoneError("it was deleted")
            content = self._uploads.read(upload)
        except UploadsUnavailableError as error:
            raise SourceUnavailableError(str(error)) from error
        except UploadError as error:
            raise DocumentUnreadableError(str(error)) from error
        opened = replace(reference, fingerprint=_mark(upload), size=len(content))
        return RawDocument(opened, content, upload.sha256, reference.media_type)


def _mark(upload: Upload) -> str:
    return f"sha256:{upload.sha256}"
