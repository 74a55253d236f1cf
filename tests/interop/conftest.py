"""Fixtures of the tests against other people's programs: our daemons on the host, and Debian's tools."""
import pathlib
import shutil
import subprocess
import sys
import tempfile

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import debian  # noqa: E402
from lab import cli, paths, process  # noqa: E402


@pytest.fixture(scope="session")
def systemd():
    return debian.Unpacked("trixie", "systemd", "libsystemd-shared", "libc6", "libacl1", "libaudit1", "libblkid1",
                           "libcap2", "libcap-ng0", "libcrypt1", "libmount1", "libpam0g", "libpcre2-8-0",
                           "libseccomp2", "libselinux1", "libssl3t64", "libzstd1", "zlib1g", "libgcc-s1")


@pytest.fixture(scope="session")
def composefs():
    return debian.Unpacked("sid", "composefs", "libcomposefs1", "libc6", "libssl3t64", "libzstd1", "zlib1g", "libgcc-s1")


@pytest.fixture(scope="session")
def folder():
    """A folder of the session's own, as short as a socket's path has to be."""
    made = pathlib.Path(tempfile.mkdtemp(prefix="croft-io-"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(scope="session")
def croft(folder):
    home = folder / "home"
    home.mkdir()
    return cli.Cli({"HOME": home, "XDG_CONFIG_HOME": home}, home)


@pytest.fixture(scope="session")
def layout():
    """The OCI layout that umoci made: nginx and busybox."""
    made = paths.BUILD / "tests/oci-interop"
    subprocess.run([paths.ROOT / "scripts/oci-nginx", made], check=True)
    return made


@pytest.fixture(scope="session")
def spawn(folder):
    """spawn(name, command…) starts a daemon for the session."""
    started = []

    def start(name, *command, **options):
        started.append(process.Process(name, command, folder / f"{name}.log", **options))
        return started[-1]
    yield start
    for one in reversed(started):
        one.stop()
