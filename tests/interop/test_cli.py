"""What `croft` says about itself, against what the documentation says."""
import re

from lab import paths


def test_the_documentation_lists_every_code(croft):
    codes = croft.json("codes")
    rows = re.findall(r"^\| `([a-z]+\.[a-z-]+)` \| (.+) \| (.+) \|$", (paths.ROOT / "docs/errors.md").read_text(), re.M)
    listed = {code: {"message": message, "hint": hint} for code, message, hint in rows}
    assert listed == codes
    assert len(rows) == len(listed) and all(len(code) <= 32 for code in codes)


def test_a_wrong_use_is_2_and_help_is_0(croft):
    for words in (["nope"], ["farm", "nope"], ["farm", "show"], ["farm", "show", "1", "--nope"], ["farm", "show", "x"],
                  ["farm", "list"]):  # the last one: no chain is set
        done = croft.run(*words, check=False)
        assert done.status == 2 and done.err.startswith("croft: ") and not done.out, (words, done)
    done = croft.run("--help")
    for line in done.out.splitlines():
        if line.startswith("  ") and (words := re.match(r"  ([a-z]+(?: [a-z]+)?)(?: |$)", line)):
            shown = croft.run(*words.group(1).split(), "--help")
            assert "example:" in shown.out.lower(), shown
            assert "--json" in shown.out or words.group(1) == "relay", shown  # a daemon prints no result
