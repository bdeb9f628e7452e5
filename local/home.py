"""The home folder of a local stack: whose it is, who runs in it, and how it is emptied."""

import contextlib
import fcntl
import shutil
from collections.abc import Iterator
from pathlib import Path

FORMAT = "2"  # of the content; another one is refused
_LOCK, _MARK = ".lock", "format"


class HomeError(Exception):
    """Why a folder cannot be the home of a stack: one line that names it."""


@contextlib.contextmanager
def claimed(home: Path) -> Iterator[None]:
    """The folder, made if need be, is ours alone and of a form that we understand."""
    home.mkdir(parents=True, exist_ok=True)
    _refuse_foreign(home)
    with _locked(home):
        _refuse_foreign(home)  # it may have changed before we held the lock
        (home / _MARK).write_text(FORMAT + "\n")
        yield


def empty(home: Path) -> None:
    """Delete what a stack, of this or an earlier version, left in the folder. Any other folder, and one in use, is left
    as it is (HomeError)."""
    if not home.exists() or {path.name for path in home.iterdir()} <= {_LOCK}:
        return
    if not (_format(home) or "").isdecimal():
        raise HomeError(f"{home} was not made by a local stack and is left as it is: choose another --home or empty it")
    with _locked(home):
        for path in home.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name not in (_LOCK, _MARK):  # while the lock file stays, everybody locks the same one
                path.unlink()
        (home / _MARK).unlink()  # last: a folder that is half empty is still known


def _refuse_foreign(home: Path) -> None:
    found = _format(home)
    others = [path.name for path in home.iterdir() if path.name not in (_LOCK, _MARK, "logs")]
    if found != FORMAT and (found or others):
        raise HomeError(f"{home} was not made by this version of the local stack: choose another --home or delete it")


def _format(home: Path) -> str | None:
    mark = home / _MARK
    return mark.read_text(errors="replace").strip() if mark.is_file() else None


@contextlib.contextmanager
def _locked(home: Path) -> Iterator[None]:
    with (home / _LOCK).open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HomeError(f"{home} is in use: another local stack runs there") from None
        yield
