"""Documents in a git repository: a local one as it is, or a remote one through a bare clone in the state folder.

A document's fingerprint is the id of its blob. It knows no ledger; what is in no commit is not there.
"""

import json
import os
import stat
import subprocess
import sys
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import cast
from urllib.parse import quote, urlsplit

from dulwich.errors import ChecksumMismatch, NotGitRepository, NotTreeError
from dulwich.object_store import DiskObjectStore, iter_tree_contents, tree_lookup_path
from dulwich.objects import Blob, Commit, ObjectID, Tag, Tree
from dulwich.pack import PackFileDisappeared
from dulwich.refs import Ref
from dulwich.repo import Repo
from pydantic import field_validator

from deployments.ingest.connectors.git_fetch import FETCH_SECONDS, FETCHED
from deployments.ingest.connectors.git_objects import measure_object
from deployments.ingest.connectors.naming import is_hidden, name_document, refuse_size
from deployments.ingest.connectors.options import NonEmpty, SecretName, SourceOptions
from deployments.ingest.connectors.port import (
    MAX_BYTES,
    Connector,
    DocumentGoneError,
    DocumentUnreadableError,
    Environment,
    SourceUnavailableError,
)
from deployments.ingest.model import Problem, RawDocument, Reference

SUBMODULE = 0o160000
MAX_UNPACKED = 4 * MAX_BYTES
_BLOB = "blob:"
_NOT_WHOLE = (
    KeyError,
    OSError,
    AssertionError,
    ValueError,
    zlib.error,
    ChecksumMismatch,
    PackFileDisappeared,
)
"""A damaged repository, or one that was packed anew under the reader: the next try finds it whole, or says so again."""


class Options(SourceOptions):
    """`url`: https, or the path of a repository here. `branch`: empty for the one that HEAD names.

    `path`: a folder in it; empty for all. `credentials`: the name of a secret, `user:token` or a token alone.
    """

    url: NonEmpty
    branch: str = ""
    path: str = ""
    credentials: SecretName | None = None

    @field_validator("url")
    @classmethod
    def _is_known(cls, url: str) -> str:
        parts = urlsplit(url)
        if "://" in url and parts.scheme not in ("https", "http", "file"):
            raise ValueError("write https://…, or the path of a repository on this machine")
        if parts.username or parts.password:
            raise ValueError("leave user and password out: `credentials` names the secret that holds them")
        return url

    @property
    def remote(self) -> bool:
        return urlsplit(self.url).scheme in ("https", "http")


def build_connector(name: str, options: Options, environment: Environment) -> "GitConnector":
    """The connector of one branch of one repository."""
    secret = environment.find_secret(options.credentials) if options.credentials else ""
    if options.credentials and not secret:
        raise SourceUnavailableError(
            f"There is no secret {options.credentials}: write it into sources/{options.credentials} among the secrets"
        )
    if secret and urlsplit(options.url).scheme == "http":
        raise SourceUnavailableError("Credentials are not sent over http: use https")
    if options.remote:
        called = sha256(f"{options.url}\n{options.branch}".encode()).hexdigest()[:24]
        return GitConnector(name, environment.state_dir / "ingest" / "git" / called, options, secret)
    return GitConnector(name, environment.content_dir / options.url.removeprefix("file://"), options)


class GitConnector(Connector):
    """Visible files of a branch. Links and submodules in it are named and not followed."""

    def __init__(self, name: str, folder: Path, options: Options, secret: str = "") -> None:
        self._name, self._folder, self._options, self._secret = name, folder, options, secret
        self._branch = options.branch
        self._repo: Repo | None = None

    def list_references(self, known: Mapping[str, str]) -> Iterator[Reference | Problem]:
        if self._options.remote:
            self._fetch()
        try:
            repo, tree = self._find_tree()
            for entry in iter_tree_contents(repo.object_store, tree.id):
                path = os.fsdecode(entry.path)
                if not is_hidden(path) and self._options.wants(path):
                    yield self._list_entry(path, entry.mode, entry.sha)
        except _NOT_WHOLE as error:
            raise SourceUnavailableError(
                f"The repository {self._options.url} is not whole ({type(error).__name__})"
            ) from error

    def _list_entry(self, path: str, mode: int, blob: ObjectID) -> Reference | Problem:
        uri = name_document(self._name, path)
        if isinstance(uri, Problem):
            return uri
        if mode == SUBMODULE:
            return Problem(uri, "it is a submodule: declare it as a source of its own")
        if not stat.S_ISREG(mode):
            return Problem(uri, "links are not followed inside a repository: put the file itself there")
        fingerprint = f"{_BLOB}{blob.decode()}"
        size, message = self._measure(blob)
        if message:
            return Problem(uri, message, fingerprint=fingerprint)
        return Reference(uri, self._name, path, fingerprint, size, place=self._show_place(path))

    def _measure(self, blob: ObjectID) -> tuple[int, str | None]:
        size, largest = measure_object(cast(DiskObjectStore, self._open().object_store), blob)
        if not (message := refuse_size(size)) and largest > MAX_UNPACKED:
            message = f"it is kept as a difference to {largest:,} bytes: have git repack the repository"
        return size, message

    def open_document(self, reference: Reference) -> RawDocument:
        if self._options.remote and not self._folder.is_dir():
            self._fetch()  # this machine did not list it
        repo, tree = self._find_tree()
        try:
            mode, blob_id = tree_lookup_path(repo.__getitem__, tree.id, os.fsencode(reference.key))
        except (KeyError, NotTreeError):
            raise DocumentGoneError("it is not in the branch any more") from None
        if not stat.S_ISREG(mode):
            raise DocumentGoneError("it is no file any more")
        try:
            if message := self._measure(blob_id)[1]:
                raise DocumentUnreadableError(message)
            blob = repo[blob_id]
        except _NOT_WHOLE as error:
            raise SourceUnavailableError(
                f"The repository {self._options.url} is not whole ({type(error).__name__})"
            ) from error
        if not isinstance(blob, Blob):
            raise DocumentGoneError("it is no file any more")
        content = blob.data
        fingerprint = f"{_BLOB}{blob_id.decode()}"
        opened = replace(reference, fingerprint=fingerprint, size=len(content))
        return RawDocument(opened, content, sha256(content).hexdigest(), reference.media_type)

    def close(self) -> None:
        if self._repo:
            self._repo.close()
            self._repo = None

    def _open(self) -> Repo:
        if self._repo is None:
            try:
                self._repo = Repo(str(self._folder))
            except (NotGitRepository, OSError) as error:
                raise SourceUnavailableError(
                    f"There is no git repository {self._options.url}: check the address, or mount it again"
                ) from error
        return self._repo

    def _find_tree(self) -> tuple[Repo, Tree]:
        """The folder of the branch that holds the documents."""
        repo, options = self._open(), self._options
        branch = f"refs/heads/{options.branch}" if options.branch else "HEAD"
        ref = FETCHED if options.remote else Ref(branch.encode())
        try:
            found = repo[repo.refs[ref]]
            while isinstance(found, Tag):
                found = repo[found.object[1]]
            assert isinstance(found, Commit)
            tree = repo[found.tree]
            if path := options.path.strip("/"):
                tree = repo[tree_lookup_path(repo.__getitem__, found.tree, os.fsencode(path))[1]]
        except (KeyError, NotTreeError):
            what = f"folder {options.path} in the" if options.path else f"commit in the {options.branch}"
            raise SourceUnavailableError(
                f"There is no {what} branch of {options.url}: check branch and path"
            ) from None
        if not isinstance(tree, Tree):
            raise SourceUnavailableError(f"{options.path} in {options.url} is no folder")
        return repo, tree

    def _fetch(self) -> None:
        self.close()
        user, colon, password = self._secret.partition(":")
        order = {"url": self._options.url, "folder": str(self._folder), "branch": self._options.branch}
        if self._secret:
            # Where there is a token alone, any name will do.
            order |= (
                {"username": user, "password": password} if colon else {"username": "git", "password": user}
            )
        command = [sys.executable, "-m", "deployments.ingest.connectors.git_fetch"]
        try:
            done = subprocess.run(
                command, input=json.dumps(order), capture_output=True, text=True, timeout=FETCH_SECONDS + 5
            )
            answer = json.loads(done.stdout)
        except subprocess.TimeoutExpired:
            answer = {"error": f"it took longer than {FETCH_SECONDS} seconds"}
        except ValueError:
            answer = {"error": f"fetching ended with {done.returncode}"}
        if "error" in answer:
            raise SourceUnavailableError(f"{self._options.url} can't be fetched: {answer['error']}")
        self._branch = answer["branch"]

    def _show_place(self, path: str) -> str:
        """The page that shows the document, where the host is one that has such pages."""
        options, parts = self._options, urlsplit(self._options.url)
        full = "/".join(part for part in (options.path.strip("/"), path) if part)
        if not options.remote:
            return full
        host, page = (parts.hostname or "").split("."), options.url.rstrip("/").removesuffix(".git")
        at = f"{quote(self._branch)}/{quote(full)}"
        if "github" in host:
            return f"{page}/blob/{at}"
        if "gitlab" in host:
            return f"{page}/-/blob/{at}"
        return full
