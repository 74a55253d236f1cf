"""Calls the command line `croft` as a person or a script would."""
import collections
import json
import os
import subprocess

from . import paths

Done = collections.namedtuple("Done", "status out err")


class CliError(AssertionError):
    pass


class Cli:
    """env: what `croft` needs (CROFT_CHAIN, CROFT_KEY_FILE, …); cwd: where it runs."""

    def __init__(self, env, cwd=None):
        self.env = {k: str(v) for k, v in env.items()}
        self.cwd = cwd

    def run(self, *args, timeout=60, check=True, cwd=None):
        command = [str(paths.CROFT), *map(str, args)]
        try:
            p = subprocess.run(command, capture_output=True, text=True, cwd=cwd or self.cwd,
                               env={**os.environ, "NO_COLOR": "1", **self.env},
                               stdin=subprocess.DEVNULL, timeout=timeout * paths.SCALE)
        except subprocess.TimeoutExpired as e:
            text = b"".join(x or b"" for x in (e.stdout, e.stderr)).decode(errors="replace")
            raise CliError(f"croft {' '.join(command[1:])}: no end within {timeout} s\n{text}") from None
        if check and p.returncode:
            raise CliError(f"croft {' '.join(command[1:])}: status {p.returncode}\n{p.stdout}{p.stderr}")
        return Done(p.returncode, p.stdout, p.stderr)

    def json(self, *args, **options):
        """The JSON that `croft … --json` prints."""
        out = self.run(*args, "--json", **options).out
        try:
            return json.loads(out)
        except ValueError:
            raise CliError(f"croft {' '.join(map(str, args))} --json: not JSON\n{out}") from None
