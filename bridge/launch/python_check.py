# Run by any Python, an old one too: prints why it can't run the demo, and nothing when it can.
# ruff: noqa: UP031, UP036
import os
import platform
import sys


def why_not():
    if sys.version_info < (3, 11):
        return "is Python %d.%d, older than 3.11" % sys.version_info[:2]
    if platform.python_implementation() != "CPython":
        return "is %s: perspective-python has wheels for CPython only" % platform.python_implementation()
    machine = platform.machine().lower()
    if sys.platform == "darwin":
        version = platform.mac_ver()[0]
        if machine != "arm64" or int(version.split(".")[0]) < 14:
            return "is on macOS %s, %s: perspective-python needs macOS 14 or newer on Apple silicon" % (
                version,
                machine,
            )
    elif sys.platform.startswith("linux"):
        try:
            libc = os.confstr("CS_GNU_LIBC_VERSION") or ""
        except (ValueError, OSError):
            libc = ""
        if not libc.startswith("glibc"):
            return "is on Linux without glibc (musl, as in Alpine): perspective-python has no wheel for it"
        if tuple(int(number) for number in libc.split()[1].split(".")[:2]) < (2, 28):
            return "is on %s: perspective-python needs glibc 2.28 or newer" % libc
        if machine not in ("x86_64", "amd64", "aarch64", "arm64") or sys.maxsize < 2**32:
            return "is on %s: perspective-python has wheels for 64-bit x86_64 and arm64" % machine
    else:
        return "is on %s: use Linux, macOS, or WSL on Windows" % sys.platform
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        return "has no venv module (Debian, Ubuntu: apt install python3-venv)"
    return ""


sys.stdout.write(why_not())
