"""A disk that does not read, for a process that the tests start: a library that is loaded before
the C library, in whose `read` a file named p2.png gives EIO.

`read` is what Python reads files with. Only on Linux, and with a C compiler.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int is_bad(int descriptor) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path);
    return length > 7 && memcmp(path + length - 7, "/p2.png", 7) == 0;
}

ssize_t read(int descriptor, void *buffer, size_t size) {
    static ssize_t (*real)(int, void *, size_t);
    if (!real) real = (ssize_t (*)(int, void *, size_t)) dlsym(RTLD_NEXT, "read");
    if (size > 0 && is_bad(descriptor)) { errno = EIO; return -1; }
    return real(descriptor, buffer, size);
}
"""


def faulty_disk(folder: Path) -> dict[str, str]:
    """The environment of a process that cannot read p2.png."""
    if sys.platform != "linux" or shutil.which("gcc") is None:
        pytest.skip("needs Linux and a C compiler (Debian: apt-get install gcc libc6-dev)")
    source, library = folder / "faulty.c", folder / "faulty.so"
    source.write_text(SOURCE)
    command = ["gcc", "-O1", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True)
    preloaded = os.environ.get("LD_PRELOAD", "")
    return {"LD_PRELOAD": " ".join(filter(None, [str(library), preloaded]))}
