"""What the benchmarks share: one result's form, medians, and where results go."""
import json
import os
import shutil
import statistics
import subprocess

from . import cli, paths

RUNS = 5


def figure(name, value, unit, baseline="", baseline_value=None, better="lower", note=""):
    """One figure in the form of the design's interfaces."""
    ratio = round(value / baseline_value, 3) if baseline_value else None
    return {"name": name, "value": value, "unit": unit, "baseline": baseline,
            "baseline_value": baseline_value, "ratio": ratio, "better": better, "note": note}


def median(values, digits=3):
    return round(statistics.median(values), digits)


def host_load():
    """Mean number of runnable tasks of the last 1, 5 and 15 minutes, ours included: with more than the machine has processors, ratios of
    times say little."""
    return "/".join(open("/proc/loadavg", encoding="ascii").read().split()[:3]) + f" on {os.cpu_count()} processors"


def folder(name):
    path = paths.BUILD / "bench" / "work" / name
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return path


def save(name, figures):
    path = paths.BUILD / "bench" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(figures, indent=1) + "\n")
    for f in figures:
        against = f" against {f['baseline_value']} ({f['baseline']}), ratio {f['ratio']}" \
            if f["baseline_value"] else ""
        print(f"{f['name']}: {f['value']} {f['unit']}{against}", flush=True)


def images(g, names):
    """Converts images into the grid's hub: name -> id."""
    layout = folder("oci")
    subprocess.run([paths.ROOT / "scripts/oci-nginx", layout], check=True)
    convert = cli.Cli({})
    return {n: convert.json("image", "convert", f"oci:{layout}:{n}", "--output", g.hub.folder,
                            timeout=300)["id"] for n in names}
