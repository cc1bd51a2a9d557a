"""Files that are written whole: whoever looks sees each as it was before, or complete."""

import errno
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from secrets import token_hex


def write_files(contents: Mapping[Path, bytes]) -> None:
    """Write files, every one of them or none, in place of those that are there.

    All are written beside their places and brought to the disk before the first one takes its place. Whatever was
    linked to a place is left alone: the link is replaced, not what it points to.

    Args:
        contents: what is to stand at each path; the folders are there.

    Raises:
        OSError: one cannot be written, with its path; then all are as they were.
    """
    partials: dict[Path, Path] = {}
    path = Path()
    try:
        for path, content in contents.items():
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            partials[path] = path.with_name(f".{token_hex(8)}.partial")
            with open(partials[path], "xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        for path, partial in partials.items():
            os.replace(partial, path)
    except OSError as error:
        message = f"cannot be written ({error.strerror or error}); free space or choose another folder; what was there"
        raise OSError(error.errno or errno.EIO, f"{message} is as before", str(path)) from error
    finally:
        for partial in partials.values():
            with suppress(OSError):
                partial.unlink(missing_ok=True)
