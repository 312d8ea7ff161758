"""`/v1/files`: upload, list, retrieve, content, delete.

It knows no storage: the file store keeps the bytes.
"""

from collections.abc import Callable
from typing import Annotated, BinaryIO, Final, Literal

from fastapi import APIRouter, File, Form, Query, Request, UploadFile
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from deployments.llm.errors import ApiError
from deployments.llm.fine_tuning.examples import BadExampleError, read_lines, scan_lines
from deployments.llm.request_notes import get_notes
from deployments.llm.routes.paging import Page, PageQuery, cut_page
from deployments.llm.uploads import FileObject, FileStore
from deployments.llm.work import StoppingError

_FIELDS: Final = frozenset({"file", "purpose"})
_PURPOSES: Final = {
    "fine-tune": "training and validation files, which are checked",
    "user_data": "anything else, which is kept as it is",
}


class FilesQuery(PageQuery):
    """Which files."""

    limit: int = Field(default=10_000, ge=1, le=10_000)
    order: Literal["asc", "desc"] = "desc"
    purpose: str | None = None


class DeletedFile(BaseModel):
    """OpenAI's answer to a deletion."""

    id: str
    object: Literal["file"] = "file"
    deleted: bool


def files_router(files: FileStore, max_bytes: int) -> APIRouter:
    """File routes over a store."""
    router = APIRouter()

    def find(file_id: str) -> FileObject:
        file = files.get(file_id)
        if file is None:
            raise ApiError(404, f"No such File object: {file_id}", param="id")
        return file

    def store(content: BinaryIO, filename: str, purpose: str) -> FileObject:
        check = watch_stop()
        if purpose == "fine-tune":
            try:
                for _ in scan_lines(read_lines(content)):
                    check()
            except BadExampleError as error:
                raise ApiError(400, str(error), param="file", code="invalid_file_format") from error
            content.seek(0)
        return files.add(content, filename, purpose, check=check)

    @router.post("/files")
    async def upload_file(
        request: Request, file: Annotated[UploadFile, File()], purpose: Annotated[str, Form()]
    ) -> FileObject:
        _check_form([name for name, _ in (await request.form()).multi_items()])
        if purpose not in _PURPOSES:
            known = "; ".join(f"'{name}' for {use}" for name, use in _PURPOSES.items())
            raise ApiError(
                400, f"'{purpose[:80]}' is not a purpose known here: use {known}.", param="purpose"
            )
        if not file.size:
            raise ApiError(400, "The file is empty.", param="file")
        if file.size > max_bytes:  # the body as a whole was counted while it was read
            message = f"The file is larger than {max_bytes} bytes."
            raise ApiError(413, message, param="file", code="request_too_large")
        return await run_in_threadpool(store, file.file, file.filename or "upload", purpose)

    @router.get("/files")
    def list_files(query: Annotated[FilesQuery, Query()]) -> Page[FileObject]:
        found = [file for file in files.list() if query.purpose in (None, file.purpose)]
        return cut_page(found if query.order == "desc" else found[::-1], query.limit, query.after)

    @router.get("/files/{file_id}")
    def get_file(file_id: str) -> FileObject:
        return find(file_id)

    @router.get("/files/{file_id}/content")
    def get_content(file_id: str) -> FileResponse:
        file = find(file_id)
        return FileResponse(
            files.content_path(file_id), media_type="application/octet-stream", filename=file.filename
        )

    @router.delete("/files/{file_id}")
    def delete_file(file_id: str) -> DeletedFile:
        find(file_id)
        return DeletedFile(id=file_id, deleted=files.delete(file_id))

    return router


def watch_stop() -> Callable[[], None]:
    """A function that raises StoppingError once the request is to end as the server stops."""
    reasons: list[Exception] = []
    if notes := get_notes():
        notes.when_abandoned(reasons.append)

    def check() -> None:
        for reason in reasons:
            if isinstance(reason, StoppingError):  # a client that is gone has sent a whole file
                raise reason

    return check


def _check_form(names: list[str]) -> None:
    for name in names:
        base = name.partition("[")[0]
        if base == "expires_after":
            message = "'expires_after' is not supported here: files stay until they are deleted."
            raise ApiError(400, message, param=base)
        if name not in _FIELDS:
            raise ApiError(400, f"Unrecognized request argument supplied: {name[:80]}", param=name[:80])
        if names.count(name) > 1:
            raise ApiError(400, f"'{name}' was sent more than once.", param=name)
