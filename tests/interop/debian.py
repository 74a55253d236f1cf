"""Programs of newer Debian releases, unpacked into the cache and run there with their own loader and
libraries. Nothing is installed, and a release's current version is good enough: apt verifies it."""
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "scripts"))
import packages  # noqa: E402

LIBRARIES = "usr/lib/x86_64-linux-gnu"


class Apt(packages.Apt):
    """The build's own apt; a suite that the build takes nothing from gets lists of its own, for once."""

    def __init__(self, suite):
        super().__init__("deb")
        self.suite = suite
        self.alone = suite not in ("trixie", "bookworm")

    def fetch(self, names, folder):
        with packages.lock("apt"):
            if self.alone:
                self._lists_of_its_own(folder)
                self._apt("update", cwd=folder)
            else:
                self.update()
            self._apt("download", *(f"{name}/{self.suite}" for name in names), cwd=folder)

    def _lists_of_its_own(self, folder):
        home = folder.parent / "apt"
        for sub in ("lists/partial", "cache/archives/partial"):
            (home / sub).mkdir(parents=True)
        (home / "sources.list").write_text(f"deb {self.mirrors()[0]} {self.suite} main\n")
        self.options = [o.replace(str(self.folder), str(home)) for o in self.options]
        self.options += ["-oAPT::Architectures=amd64", "-oAcquire::Languages=none"]

    def _apt(self, *command, cwd):
        done = subprocess.run(["apt-get", *self.options, "-qq", *command], cwd=cwd, capture_output=True, text=True, timeout=300)
        if done.returncode:
            raise RuntimeError(f"apt-get {' '.join(command)}:\n{done.stdout}{done.stderr}")


class Unpacked:
    """The packages `names` of a suite in one folder: run("usr/bin/x", …) runs a program of it. `names` must hold every
    library that the programs need; the first run of a program checks that none comes from the machine."""

    def __init__(self, suite, *names):
        key = hashlib.sha256("\n".join([suite, *sorted(names)]).encode()).hexdigest()[:16]
        self.folder = packages.CACHE / "tools" / f"{suite}-{names[0]}-{key}"
        with packages.lock("tools"):
            if not self.folder.exists():
                self._make(suite, names)
        self._closed = set()

    def _make(self, suite, names):
        (packages.CACHE / "work").mkdir(parents=True, exist_ok=True)
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=packages.CACHE / "work") as name:
            work = pathlib.Path(name)
            (work / "debs").mkdir()
            Apt(suite).fetch(names, work / "debs")
            for deb in sorted((work / "debs").iterdir()):
                subprocess.run(["dpkg-deb", "-x", deb, work / "root"], check=True)
            for unused in ("usr/share", "usr/lib/systemd", "usr/lib/udev", "etc", "var", f"{LIBRARIES}/gconv"):
                shutil.rmtree(work / "root" / unused, ignore_errors=True)
            (work / "root").rename(self.folder)

    def command(self, program, *args):
        libraries = f"{self.folder}/{LIBRARIES}:{self.folder}/{LIBRARIES}/systemd"
        loader = [f"{self.folder}/{LIBRARIES}/ld-linux-x86-64.so.2", "--library-path", libraries]
        if program not in self._closed:
            out = subprocess.run([*loader, "--list", self.folder / program], capture_output=True, text=True, check=True).stdout
            foreign = [path for path in re.findall(r"=> (/\S+)", out) if not path.startswith(f"{self.folder}/")]
            assert not foreign and "not found" not in out, f"{program}: libraries of the machine: {out}"
            self._closed.add(program)
        return [*loader, str(self.folder / program), *map(str, args)]

    def run(self, program, *args, timeout=60, **options):
        return subprocess.run(self.command(program, *args), capture_output=True, text=True, timeout=timeout,
                              stdin=subprocess.DEVNULL, env={**os.environ, "SYSTEMD_COLORS": "0", "LC_ALL": "C.UTF-8"}, **options)
