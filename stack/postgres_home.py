"""Where Postgres' data and binaries are: in the state folder, unless the account it runs as cannot get there.

It knows no database. Only root has another account run Postgres, and only below a closed folder (root's home, a
private temporary folder) is there another place: /var/tmp, in a folder of root's own, linked from the state folder.
"""

import hashlib
import os
import pwd
import shutil
import stat
from pathlib import Path

OUTSIDE = Path("/var/tmp")  # noqa: S108 - survives a reboot; the folder in it is checked to be ours


def can_reach(path: Path, account: pwd.struct_passwd) -> bool:
    """Whether the account may pass through all folders above `path`."""
    for folder in path.resolve().parents:
        status = folder.stat()
        if status.st_uid == account.pw_uid:
            needed = stat.S_IXUSR
        elif status.st_gid == account.pw_gid:
            needed = stat.S_IXGRP
        else:
            needed = stat.S_IXOTH
        if not status.st_mode & needed:
            return False
    return True


def get_outside_folder(state_dir: Path) -> Path:
    """The place in /var/tmp that belongs to this state folder."""
    digest = hashlib.sha256(str(state_dir.resolve()).encode()).hexdigest()[:12]
    return OUTSIDE / f"ghostwriter-{digest}"


def prepare_data_folder(state_dir: Path, account: pwd.struct_passwd | None) -> Path:
    """The folder for the cluster; its parent belongs to the account."""
    parent = state_dir / "postgres"
    if account is not None and not can_reach(state_dir / "postgres.new", account):
        outside = make_outside_folder(state_dir)
        if not parent.is_symlink():
            parent.symlink_to(outside / "postgres")
        parent = outside / "postgres"
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if account is not None:
        os.chown(parent, account.pw_uid, account.pw_gid)
    return parent / "data"


def prepare_binaries(binaries: Path, state_dir: Path, account: pwd.struct_passwd | None) -> Path:
    """The binaries, or a copy of them that the account can reach."""
    if account is None or can_reach(binaries / "postgres", account):
        return binaries
    copy = make_outside_folder(state_dir) / f"{binaries.parent.name}-{int(binaries.stat().st_mtime)}"
    if not copy.is_dir():
        fresh = copy.with_name(f"{copy.name}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.copytree(binaries.parent, fresh, symlinks=True)
        fresh.rename(copy)
    return copy / binaries.name


def make_outside_folder(state_dir: Path) -> Path:
    """The folder in /var/tmp, which must be ours: anybody may make one there."""
    folder = get_outside_folder(state_dir)
    folder.mkdir(mode=0o755, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise SystemExit(
            f"{folder} belongs to someone else: remove it, or set STATE_DIR to a folder that all may pass"
        )
    folder.chmod(0o755)
    return folder


def remove_outside_folder(state_dir: Path) -> None:
    """Remove what is outside the state folder, if anything is."""
    shutil.rmtree(get_outside_folder(state_dir), ignore_errors=True)
