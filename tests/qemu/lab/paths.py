"""Where things lie in the checkout, and how much slower than usual this machine is."""
import os
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[3]
BUILD = pathlib.Path(os.environ.get("CROFT_BUILD", ROOT / "build"))
IMAGE = pathlib.Path(os.environ.get("CROFT_IMAGE", BUILD / "image"))
KERNEL = IMAGE / "vmlinuz"
INITRAMFS = IMAGE / "initramfs.cpio.zst"
CROFT = BUILD / "bin" / "croft"
CHAIN = ROOT / "chain"
LOGS = BUILD / "test-logs"
CACHE = pathlib.Path(os.environ.get("CROFT_CACHE")
                     or pathlib.Path(os.environ.get("XDG_CACHE_HOME")
                                     or pathlib.Path.home() / ".cache") / "croft")

# Every time-out is multiplied by this; without KVM the defaults fit a 2-core machine.
SCALE = float(os.environ.get("CROFT_TEST_SCALE", "1"))


def agent() -> pathlib.Path:
    """The test agent as a static program: what `make` built, else compiled here."""
    source = ROOT / "tests/agent/agent.c"
    program = BUILD / "tests/agent"
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        program.parent.mkdir(parents=True, exist_ok=True)
        part = program.with_suffix(f".{os.getpid()}")
        subprocess.run(["gcc", "-std=gnu17", "-O2", "-static", "-s", "-o", part, source], check=True)
        part.rename(program)
    return program
