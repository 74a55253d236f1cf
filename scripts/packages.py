#!/usr/bin/env python3
"""Builds third-party packages into a cache that is keyed by everything that went into them.

A package is a folder `packages/<name>/` with
  recipe.toml   what it is, where its source comes from (pinned version and SHA-256), what it needs
  build.sh      the steps, run by bash with the environment described in packages/README.md
and any patches or configuration files the steps use.

A finished package lies in `$CACHE/<name>[-host]-<key>/{include,lib,bin}` and is never changed again. The key is a
hash over the recipe (without comments), the steps, every other file of the folder, the hash of the source, the
compiler flags, the compiler, and the keys of the packages it needs: so two checkouts share what is equal and nothing else.
"""

import argparse
import contextlib
import fcntl
import functools
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RECIPES = ROOT / "packages"
LINKS = ROOT / "build" / "pkg"
CACHE = Path(os.environ.get("CROFT_CACHE")
             or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "croft").absolute()
STRICT = os.environ.get("STRICT") == "1"
JOBS = os.environ.get("JOBS") or str(len(os.sched_getaffinity(0)))

# OpenSSF's hardening guide, less what musl (no fortify) and its assembler (no CET markers) lack.
HARDEN = ("-O2 -pipe -fPIE -fstack-protector-strong -fstack-clash-protection -ftrivial-auto-var-init=zero "
          "-fno-delete-null-pointer-checks -fno-strict-overflow -ffunction-sections -fdata-sections")
FLAGS = {
    "target": {"CFLAGS": HARDEN, "LDFLAGS": "-Wl,-z,relro,-z,now,-z,noexecstack,-z,separate-code -Wl,--gc-sections"},
    # The same library for tests under the sanitizers, against the machine's own C library.
    "host": {"CFLAGS": "-O1 -g -fPIC", "LDFLAGS": ""},
    "tool": {"CFLAGS": "-O2 -pipe", "LDFLAGS": ""},
}
EPOCH = "1700000000"  # any fixed moment: build times must not reach the bytes


class Failure(Exception):
    """Something a person has to know about; its text is shown and the program ends with 1."""


def say(text):
    print(text, file=sys.stderr, flush=True)


def sha256_file(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def strip_comments(text):
    """Comments and blank lines never change what is built, so they never change a key."""
    kept = (line.rstrip() for line in text.splitlines())
    return "\n".join(line for line in kept if line and not re.match(r"\s*#(?! CONFIG_\w+ is not set)", line))


class Package:
    """One recipe in one variant: `target` (musl, ships), `host` (glibc, for tests) or `tool` (runs during the build)."""

    def __init__(self, name, variant=None):
        self.name = name
        self.folder = RECIPES / name
        try:
            self.recipe = tomllib.loads((self.folder / "recipe.toml").read_text())
        except FileNotFoundError:
            raise Failure(f"packages/{name}/recipe.toml: no such package") from None
        variants = self.recipe.get("variants", ["target"])
        self.variant = variant or variants[0]
        if self.variant not in variants:
            raise Failure(f"packages/{name}: no variant '{self.variant}' (has {', '.join(variants)})")

    @property
    def label(self):
        return self.name + ("-host" if self.variant == "host" else "")

    @functools.cached_property
    def needs(self):
        """The packages this one is built with: those it names, and the C library for what ships."""
        names = list(self.recipe.get("needs", []))
        if self.variant == "target" and self.recipe.get("libc", True):
            names.insert(0, "musl")
        result = []
        for name in names:
            needed = package(name)
            if self.variant == "host" and "host" in needed.recipe.get("variants", []):
                needed = package(name, "host")
            result.append(needed)
        return result

    @functools.cached_property
    def source(self):
        """Its own, or that of the package whose source it shares (`source_from`)."""
        if "source_from" in self.recipe:
            return package(self.recipe["source_from"]).source
        return Source(self.recipe["source"]) if "source" in self.recipe else None

    @property
    def version(self):
        return self.source.version if self.source else self.recipe.get("version", "-")

    @functools.cached_property
    def key(self):
        digest = hashlib.sha256()

        def put(*values):
            for value in values:
                data = value if isinstance(value, bytes) else str(value).encode()
                digest.update(len(data).to_bytes(8, "big") + data)

        recipe = {k: v for k, v in self.recipe.items() if k not in ("about", "licence", "source", "libs", "image")}
        put(self.name, self.variant, json.dumps(recipe, sort_keys=True), json.dumps(FLAGS[self.variant]), compiler_id())
        files = [p for p in sorted(self.folder.rglob("*")) if p.is_file() and p.name != "recipe.toml"]
        for extra in self.recipe.get("inputs", []):
            files += sorted(ROOT.glob(extra))
        # Kernel fragments count as one set of symbols: moving a symbol or explaining it builds nothing anew.
        symbols = [line for path in files if path.suffix == ".config" for line in strip_comments(path.read_text()).splitlines()]
        put("\n".join(sorted(set(symbols))))
        for path in files:
            if path.suffix != ".config":
                put(path.relative_to(ROOT), strip_comments(path.read_text()) if path.suffix == ".sh" else path.read_bytes())
        if self.source:
            put(self.source.id)
        for needed in self.needs:
            put(needed.key)
        return digest.hexdigest()[:20]

    @property
    def path(self):
        return CACHE / f"{self.label}-{self.key}"

    @property
    def done(self):
        return (self.path / ".done").exists()

    def closure(self):
        """Everything needed, in the order it must be built, this package last."""
        order = []
        for needed in self.needs:
            order += [p for p in needed.closure() if p not in order]
        return order + [self]


@functools.cache
def package_cached(name, variant):
    return Package(name, variant)


def package(name, variant=None):
    found = package_cached(name, variant)
    return package_cached(name, found.variant) if variant is None else found


def all_names():
    return sorted(path.parent.name for path in RECIPES.glob("*/recipe.toml"))


@functools.cache
def compiler_id():
    versions = [subprocess.run(cmd, capture_output=True, text=True, check=True).stdout.splitlines()[0]
                for cmd in (["gcc", "--version"], ["ld", "--version"])]
    return "\n".join(versions)


class Source:
    """The upstream tarball of a Debian source package, with Debian's patches where the recipe names their file; or a
    Debian binary package (`kind = "deb"`). Every file is pinned by its SHA-256.

    Debian keeps current versions only, so a pin can disappear. Then the first suite that still has the package is
    taken, its current version, verified by apt's signature alone; that is remembered in the cache and said aloud, and
    everything made from it is marked as a fall-back. STRICT=1 refuses instead.
    """

    def __init__(self, recipe):
        self.kind = recipe.get("kind", "tar")
        self.name = recipe["name"]
        self.version = recipe["version"]
        self.files = recipe["files"]
        self.suites = recipe["suites"]
        self.pin = self.identity(self.files.values())
        self.record = CACHE / "fallback" / f"{self.name}-{self.pin[:12]}.json"

    @staticmethod
    def identity(sums):
        first, *more = sorted(sums)
        return hashlib.sha256("".join([first, *more]).encode()).hexdigest() if more else first

    @functools.cached_property
    def fallback(self):
        if STRICT or self.store(self.pin).exists() or not self.record.exists():
            return None
        return json.loads(self.record.read_text())

    @property
    def id(self):
        return self.fallback["id"] + " fall-back" if self.fallback else self.pin

    def store(self, identity):
        return CACHE / "sources" / f"{self.name}-{identity[:16]}"

    def fetch(self):
        """Returns the folder of verified files; downloads to a temporary name and renames after the check."""
        folder = self.store(self.fallback["id"] if self.fallback else self.pin)
        if folder.exists():
            return folder
        with lock("apt"):
            if folder.exists():
                return folder
            apt = Apt(self.kind)
            patched = any(".debian.tar." in name for name in self.files)
            with tempfile.TemporaryDirectory(dir=CACHE / "work", prefix=f"fetch-{self.name}-") as name:
                temporary = Path(name)
                if apt.download(self.name, f"={self.version}", temporary, patched) or \
                        apt.download_files(self.name, self.files, temporary):
                    self.check(temporary)
                    return self.keep(temporary, self.pin)
            if STRICT:
                raise Failure(f"{self.name} {self.version} is gone from the archive, and STRICT=1 refuses a fall-back")
            return self.fetch_fallback(apt, patched)

    def fetch_fallback(self, apt, patched):
        for suite in self.suites:
            with tempfile.TemporaryDirectory(dir=CACHE / "work", prefix=f"fetch-{self.name}-") as name:
                temporary = Path(name)
                if not apt.download(self.name, f"/{suite}", temporary, patched):
                    continue
                identity = self.identity(sha256_file(path) for path in temporary.iterdir())
                say(f"warning: {self.name} {self.version} is gone: building the version of {suite} instead "
                    f"({', '.join(sorted(p.name for p in temporary.iterdir()))}). This build is not releasable.")
                self.record.parent.mkdir(parents=True, exist_ok=True)
                self.record.write_text(json.dumps({"suite": suite, "id": identity}))
                self.keep(temporary, identity)
                raise Retry()
        raise Failure(f"{self.name} {self.version}: not to be had from {', '.join(self.suites)} either; see {CACHE}/log/apt.log")

    def keep(self, temporary, identity):
        folder = self.store(identity)
        folder.parent.mkdir(exist_ok=True)
        if folder.exists():  # a fall-back may be what another recipe pins
            return folder
        part = Path(f"{folder}.part")
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(temporary, part)
        part.rename(folder)
        return folder

    def check(self, folder):
        got = {path.name: sha256_file(path) for path in folder.iterdir()}
        for name, sha256 in self.files.items():
            if got.get(name) != sha256:
                raise Failure(f"{self.name} {self.version}: SHA-256 of {name} is {got.get(name, 'missing')}, the recipe pins {sha256}")
        for name in got.keys() - self.files.keys():
            (folder / name).unlink()

    def unpack(self, target):
        """Fills `target` with the tarball's files (without its top folder), patched as Debian does."""
        folder = self.fetch()
        target.mkdir()
        if self.kind == "deb":
            subprocess.run(["dpkg-deb", "-x", str(next(folder.glob("*.deb"))), str(target)], check=True)
            return
        for path in sorted(folder.glob("*.orig*.tar.*")):
            component = re.search(r"\.orig-([^.]+)\.tar", path.name)
            inside = target / component[1] if component else target
            inside.mkdir(exist_ok=True)
            subprocess.run(["tar", "-xf", str(path), "--strip-components=1", "--no-same-owner", "-C", str(inside)], check=True)
        for path in folder.glob("*.debian.tar.*"):
            subprocess.run(["tar", "-xf", str(path), "--no-same-owner", "-C", str(target)], check=True)
            series = target / "debian" / "patches" / "series"
            for line in series.read_text().splitlines() if series.exists() else []:
                if patch := line.split("#")[0].strip():
                    with open(series.parent / patch.split()[0], "rb") as file:
                        done = subprocess.run(["patch", "-p1", "-s", "-f", "--no-backup-if-mismatch"], cwd=target, stdin=file, capture_output=True, text=True)
                    if done.returncode:
                        raise Failure(f"{self.name}: Debian's patch {patch} does not apply:\n{done.stdout}")
        # One time for all: a patched configure.ac is not newer than its configure, so nothing is generated anew.
        for path in target.rglob("*"):
            if not path.is_symlink():
                os.utime(path, (int(EPOCH), int(EPOCH)))


class Retry(Exception):
    """A fall-back was recorded: keys have changed, everything is computed anew."""


class Apt:
    """apt with lists and cache of our own: the machine's configuration gives mirror and keys, nothing of it is touched."""

    def __init__(self, kind):
        self.folder = CACHE / "apt"
        for sub in ("lists/partial", "cache/archives/partial"):
            (self.folder / sub).mkdir(parents=True, exist_ok=True)
        self.kind = "deb" if kind == "deb" else "deb-src"
        self.options = [f"-oDir::Etc::SourceList={self.folder}/sources.list", "-oDir::Etc::SourceParts=/nonexistent",
                        f"-oDir::State::Lists={self.folder}/lists", f"-oDir::Cache={self.folder}/cache",
                        "-oAPT::Sandbox::User=root", "-oDebug::NoLocking=1"]

    def mirrors(self):
        """The addresses of the distribution and of its security suites, as the machine has them."""
        out = subprocess.run(["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(CREATED_BY)"],
                             capture_output=True, text=True, check=True).stdout
        main = security = None
        for line in out.splitlines():
            uri, release, made_by = line.split()[:3]
            if made_by != "Packages":
                continue
            if release.endswith("-security"):
                security = security or uri
            elif re.fullmatch(r"bookworm|trixie|forky|sid|stable|testing|unstable|oldstable", release):
                main = main or uri
        if not main:
            raise Failure("the machine's apt configuration names no Debian mirror")
        return main, security

    def update(self):
        main, security = self.mirrors()
        lines = [f"{kind} {main} {suite} main" for kind, suites in
                 (("deb-src", ("trixie", "sid", "bookworm")), ("deb", ("trixie", "bookworm"))) for suite in suites]
        if security:
            lines += [f"{kind} {security} {suite}-security main" for kind in ("deb-src", "deb") for suite in ("trixie", "bookworm")]
        text = "\n".join(lines) + "\n"
        stamp = self.folder / "updated"
        current = self.folder / "sources.list"
        fresh = stamp.exists() and time.time() - stamp.stat().st_mtime < 3600
        if fresh and current.exists() and current.read_text() == text:
            return
        current.write_text(text)
        say("  apt: reading the package lists")
        done = subprocess.run(["apt-get", *self.options, "-q", "update"], capture_output=True, text=True)
        if done.returncode:
            raise Failure("apt-get update failed:\n" + done.stdout + done.stderr)
        stamp.touch()

    def download(self, name, which, folder, patched):
        """Fetches NAME=VERSION or NAME/SUITE into the folder: False when the archive does not have it (any more)."""
        self.update()
        if self.kind == "deb":
            commands = [["download", name + which]]
        else:
            commands = [["source", "--only-source", "--download-only", part, name + which]
                        for part in ("--tar-only", *(["--diff-only"] if patched else []))]
        for command in commands:
            done = subprocess.run(["apt-get", *self.options, "-qq", *command], cwd=folder, capture_output=True, text=True)
            if done.returncode:
                (CACHE / "log").mkdir(exist_ok=True)
                (CACHE / "log" / "apt.log").write_text(done.stdout + done.stderr)
                if not re.search(r"404 +Not Found|was not found|Unable to find|[Cc]an not find|Can't find|No available", done.stdout + done.stderr):
                    raise Failure(f"apt could not fetch {name}{which}:\n{done.stderr}")
                return False
        return True

    def download_files(self, name, files, folder):
        """Fetches the pinned files {name: SHA-256} by their place in the archive's pool, where a version stays for a while
        after the index has gone over to the next one: False when one of them is not there (any more)."""
        main, security = self.mirrors()
        place = f"{name[:4] if name.startswith('lib') else name[0]}/{name}"
        pools = [f"{main}pool/main/{place}", *([f"{security}pool/updates/main/{place}"] if security else [])]
        for pool in pools:
            commands = [["/usr/lib/apt/apt-helper", *self.options, "-q", "download-file", f"{pool}/{file}", str(folder / file), f"SHA256:{sha256}"]
                        for file, sha256 in files.items()]
            if all(subprocess.run(command, capture_output=True).returncode == 0 for command in commands):
                return True
            for path in folder.iterdir():
                path.unlink()
        return False


@contextlib.contextmanager
def lock(name, how=fcntl.LOCK_EX):
    path = CACHE / "lock"
    path.mkdir(parents=True, exist_ok=True)
    with open(path / name, "w") as file:
        fcntl.flock(file, how)
        yield


def environment(pkg, work):
    """What build.sh sees; packages/README.md describes it."""
    flags = FLAGS[pkg.variant]
    env = {key: os.environ[key] for key in ("PATH", "HOME", "GOPROXY", "GOSUMDB", "GONOSUMDB", "GOFLAGS", "http_proxy", "https_proxy", "no_proxy",
                                            "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "npm_config_registry") if key in os.environ}
    closure = pkg.closure()[:-1]
    include = [p.path / "include" for p in closure if (p.path / "include").is_dir() and p.name not in ("musl", "linux-headers")]
    lib = [p.path / "lib" for p in closure if (p.path / "lib").is_dir() and p.name not in ("musl", "linux-headers")]
    maps = f" -ffile-prefix-map={work}=/usr/src -ffile-prefix-map={CACHE}=/usr/cache"
    env |= {
        "LC_ALL": "C", "TZ": "UTC", "SOURCE_DATE_EPOCH": EPOCH, "JOBS": JOBS, "ROOT": str(ROOT), "CACHE": str(CACHE), "NAME": pkg.name,
        "VARIANT": pkg.variant, "SRC": str(work / "src"), "WORK": str(work), "OUT": str(work / "out"), "FINAL": str(pkg.path), "HERE": str(pkg.folder),
        "CC": "gcc", "AR": "ar", "RANLIB": "ranlib", "ARFLAGS": "rcD", "HOST": "x86_64-linux-gnu",
        "CFLAGS": flags["CFLAGS"] + maps, "LDFLAGS": " ".join([flags["LDFLAGS"], *(f"-L{p}" for p in lib)]).strip(),
        "CPPFLAGS": " ".join(f"-I{p}" for p in include), "PKG_CONFIG_LIBDIR": ":".join(f"{p}/pkgconfig" for p in lib), "PKG_CONFIG_PATH": "",
    }
    for needed in closure:
        env["DEP_" + needed.name.replace("-", "_")] = str(needed.path)
        if pkg.variant == "target" and needed.name == "musl":
            env |= {"CC": str(needed.path / "bin" / "croft-cc"), "HOST": "x86_64-linux-musl"}
    return env


def left():
    names = [name for name in all_names() if package(name).recipe.get("image", True) and not package(name).done]
    return f"left: {len(names)} ({' '.join(names[:6])}{' …' if len(names) > 6 else ''})" if names else "left: none"


def build_one(pkg):
    if pkg.done:
        return
    # One package at a time keeps its processors to itself; the kernel is long and gets on alone beside the others.
    with lock(pkg.path.name), lock("build-" + pkg.recipe.get("lane", "main")):
        if pkg.done:
            return
        if pkg.source:
            pkg.source.fetch()
        version = pkg.version
        fallback = any(p.source and p.source.fallback for p in pkg.closure())
        say(f"  build {pkg.label} {version}{' (fall-back)' if fallback else ''} …")
        start = time.monotonic()
        (CACHE / "log").mkdir(exist_ok=True)
        log = CACHE / "log" / f"{pkg.path.name}.log"
        work = CACHE / "work" / pkg.path.name
        shutil.rmtree(work, ignore_errors=True)
        sweep(pkg.label)
        (work / "out").mkdir(parents=True)
        if pkg.source:
            pkg.source.unpack(work / "src")
        else:
            (work / "src").mkdir()
        with open(log, "w") as out:
            status = subprocess.run(["nice", "-n", "5", "bash", "-euo", "pipefail", str(pkg.folder / "build.sh")], cwd=work / "src",
                                    env=environment(pkg, work), stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT).returncode
        if status:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-25:])
            raise Failure(f"{pkg.label}: build failed; the end of {log}:\n{tail}")
        finish(pkg, work / "out", fallback)
        subprocess.run(["chmod", "-R", "u+w", str(work)], check=False)  # Go's module cache is read-only
        shutil.rmtree(work, ignore_errors=True)
        say(f"  built {pkg.label} {version} in {time.monotonic() - start:.0f} s, {left()}")


def sweep(label):
    """Removes what interrupted builds of other keys left behind, unless one of them is still at work."""
    for stale in (CACHE / "work").glob(f"{label}-" + "?" * 20):
        with contextlib.suppress(BlockingIOError), lock(stale.name, fcntl.LOCK_EX | fcntl.LOCK_NB):
            shutil.rmtree(stale, ignore_errors=True)


def finish(pkg, out, fallback):
    """Puts the result at its final name. `usr/` is taken off, and pkg-config files are made to follow their folder."""
    if (out / "usr").is_dir():
        for entry in list((out / "usr").iterdir()):
            entry.rename(out / entry.name)
        (out / "usr").rmdir()
    for pc in out.glob("*/pkgconfig/*.pc"):
        text = re.sub(r"^prefix=.*$", "prefix=${pcfiledir}/../..", pc.read_text(), flags=re.M)
        pc.write_text(re.sub(r"^(exec_prefix|libdir|includedir)=/usr", r"\1=${prefix}", text, flags=re.M))
    for archive in out.rglob("*.la"):
        archive.unlink()
    if fallback:
        (out / "FALLBACK").touch()
    (out / ".done").touch()
    shutil.rmtree(pkg.path, ignore_errors=True)
    os.rename(out, pkg.path)


def link(pkg):
    """build/pkg/<label> points at the package; <label>.key changes only when the package does, so make can depend on it."""
    LINKS.mkdir(parents=True, exist_ok=True)
    name = LINKS / pkg.label
    if not name.is_symlink() or os.readlink(name) != str(pkg.path):
        temporary = LINKS / f".{pkg.label}.{os.getpid()}"
        temporary.symlink_to(pkg.path)
        temporary.rename(name)
    key = LINKS / f"{pkg.label}.key"
    if not key.exists() or key.read_text() != pkg.key:
        key.write_text(pkg.key)


def command_build(names):
    (CACHE / "work").mkdir(parents=True, exist_ok=True)
    done = set()
    for label in names:
        for pkg in package(label.removesuffix(":host"), "host" if label.endswith(":host") else None).closure():
            if pkg not in done:
                build_one(pkg)
                link(pkg)
                done.add(pkg)


def command_makefile():
    """Variables for the Makefile: what a program links when it names a package."""
    for name in all_names():
        pkg = package(name)
        deps = [p for p in pkg.closure()[:-1] if p.recipe.get("libs")]
        libs = [f"-l{lib}" for p in [pkg, *reversed(deps)] for lib in p.recipe.get("libs", [])]
        print(f"PKG_LIBS_{name} := {' '.join(libs)}")
        print(f"PKG_CLOSURE_{name} := {' '.join([name, *(p.name for p in deps)])}")
        print(f"PKG_VARIANTS_{name} := {' '.join(pkg.recipe.get('variants', ['target']))}")
    print("PKG_ALL :=", *all_names())
    print("PKG_IMAGE :=", *(n for n in all_names() if package(n).recipe.get("image")))


def command_pin(args):
    (CACHE / "work").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE / "work") as name:
        if not any(Apt(args.kind).download(args.name, f"={args.version}", Path(name), patched) for patched in (True, False)):
            raise Failure(f"{args.name} {args.version}: not in the archive; see {CACHE}/log/apt.log")
        print("[source.files]")
        for path in sorted(Path(name).iterdir()):
            print(f'"{path.name}" = "{sha256_file(path)}"')


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    sub = parser.add_subparsers(dest="command", required=True)
    build = sub.add_parser("build", help="build packages (NAME or NAME:host) and what they need")
    build.add_argument("names", nargs="+")
    path = sub.add_parser("path", help="where a package lies")
    path.add_argument("name")
    pin = sub.add_parser("pin", help="print the `files` table of a version, for a recipe")
    pin.add_argument("name")
    pin.add_argument("version")
    pin.add_argument("--kind", default="tar", choices=["tar", "deb"])
    sub.add_parser("makefile", help="print variables for the Makefile")
    sub.add_parser("list", help="every package, version, key, and whether it is built")
    args = parser.parse_args()
    for _ in range(5):
        try:
            if args.command == "build":
                command_build(args.names)
            elif args.command == "path":
                print(package(args.name.removesuffix(":host"), "host" if args.name.endswith(":host") else None).path)
            elif args.command == "pin":
                command_pin(args)
            elif args.command == "makefile":
                command_makefile()
            else:
                for name in all_names():
                    for variant in package(name).recipe.get("variants", ["target"]):
                        pkg = package(name, variant)
                        print(f"{pkg.label:24} {pkg.version:34} {pkg.key} {'built' if pkg.done else '-'}")
            return 0
        except Retry:
            package_cached.cache_clear()
        except Failure as failure:
            say(f"error: {failure}")
            return 1
    return 1


if __name__ == "__main__":
    sys.exit(main())
