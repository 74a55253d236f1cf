"""What the product says about itself, against what its documentation says."""
import json
import re
import tomllib

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


def test_a_node_that_is_not_here_is_said(croft, tmp_path):
    done = croft.run("disk", "list", "--json", "--socket", str(tmp_path / "none"), check=False)
    assert done.status == 1 and json.loads(done.err)["error"]["code"] == "cli.no-daemon" and not done.out, done


def test_every_component_is_named_with_its_version():
    recipes = {p.parent.name: tomllib.loads(p.read_text()) for p in (paths.ROOT / "packages").glob("*/recipe.toml")}
    rows = re.findall(r"^\| `([^`]+)` \| ([^|]+) \| [^|]+ \| ([^|]+) \| [^|]+ \|$", (paths.ROOT / "docs/third-party.md").read_text(), re.M)
    assert [name for name, _, _ in rows] == sorted(recipes)
    for name, version, licence in rows:
        recipe = recipes[name]
        recipe = {**recipes.get(recipe.get("source_from"), {}), **recipe}
        assert version == recipe.get("source", recipe)["version"], name
        # The bill of materials says the same in fewer words.
        assert recipe["licence"].split("-")[0] in licence, (name, licence, recipe["licence"])
