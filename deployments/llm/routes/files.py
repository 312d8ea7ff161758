"""`/v1/files`: upload, list, retrieve, content, delete.

It knows no storage: the file store keeps the bytes.
"""

from typing import Annotated, Any

from fastapi import APIRouter, File, Form, UploadFile
from fastapi.responses import FileResponse
from starlette.concurrency import run_in_threadpool

from deployments.llm.errors import ApiError
from deployments.llm.uploads import FileObject, FileStore


def files_router(files: FileStore, max_bytes: int) -> APIRouter:
    """File routes over a store."""
    router = APIRouter()

    def find(file_id: str) -> FileObject:
        file = files.get(file_id)
        if file is None:
            raise ApiError(404, f"No such File object: {file_id}", param="id")
        return file

    @router.post("/files")
    async def upload_file(file: Annotated[UploadFile, File()], purpose: Annotated[str, Form()]) -> FileObject:
        if purpose not in ("fine-tune", "user_data"):
            raise ApiError(400, f"'{purpose}' is not a purpose known here: use 'fine-tune'.", param="purpose")
        if not file.size:
            raise ApiError(400, "The file is empty.", param="file")
        if file.size > max_bytes:  # the body as a whole was counted while it was read
            message = f"The file is larger than {max_bytes} bytes."
            raise ApiError(413, message, param="file", code="request_too_large")
        return await run_in_threadpool(files.add, file.file, file.filename or "upload", purpose)

    @router.get("/files")
    def list_files(
        purpose: str | None = None, limit: int = 10_000, after: str | None = None
    ) -> dict[str, Any]:
        found = [file for file in files.list() if purpose in (None, file.purpose)]
        if after:
            ids = [file.id for file in found]
            found = found[ids.index(after) + 1 :] if after in ids else []
        page = [file.model_dump() for file in found[:limit]]
        edges = {"first_id": page[0]["id"] if page else None, "last_id": page[-1]["id"] if page else None}
        return {"object": "list", "data": page, "has_more": len(found) > limit, **edges}

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
    def delete_file(file_id: str) -> dict[str, Any]:
        find(file_id)
        return {"id": file_id, "object": "file", "deleted": files.delete(file_id)}

    return router
