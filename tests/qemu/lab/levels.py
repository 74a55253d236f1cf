"""What grows when something leaks: memory and descriptors of every program of ours, objects of the kernel, files on the disk."""
import re

from . import traces

DAEMONS = ("core0", "netd", "storaged", "imaged", "contd", "noded", "provd", "kvd", "gated")
# One object for each thing that a container has; caches that only grow because memory is free are not among them.
SLABS = ("net_namespace", "pid_namespace", "user_namespace", "uts_namespace", "task_struct", "sock_inode_cache", "nf_conntrack",
         "mm_struct", "mnt_cache", "cgroup", "tcp_bind_bucket")
WAIT_S = 60  # for what the kernel lets go by itself

_PROGRAMS = r"""
for p in /proc/[0-9]*; do
  e=$(readlink $p/exe 2>/dev/null) || continue
  case $e in */init|*/core0|/usr/lib/croft/*) ;; *) continue ;; esac
  [ ${p#/proc/} = 1 ] && e=core0
  echo "${e##*/} ${p#/proc/} $(sed -n 's/^RssAnon:[^0-9]*\([0-9]*\).*/\1/p' $p/status 2>/dev/null) $(ls $p/fd 2>/dev/null | wc -l)"
done; true
"""


def programs(agent):
    """{(name, pid): {"memory": KiB of anonymous memory, "descriptors": number}}."""
    found = {}
    for line in agent.sh(_PROGRAMS, timeout=60).out.splitlines():
        words = line.split()
        if len(words) == 4 and words[0] in DAEMONS:
            found[words[0], int(words[1])] = {"memory": int(words[2]), "descriptors": int(words[3])}
    return found


def kernel(agent):
    """Numbers of the kernel's objects, after what it keeps only as a cache was dropped. A memory cgroup that was removed stays
    until its last page has left the cache, and such a page may not leave before the writer of its cgroup has handed its file
    over and btrfs has committed, which both do within half a minute: so that is waited for, and what stays longer counts."""
    for _ in range(WAIT_S):
        agent.sh("sync; echo 3 >/proc/sys/vm/drop_caches; sleep 1", timeout=120)
        if "nr_dying_subsys_memory 0\n" in agent.text("/sys/fs/cgroup/cgroup.stat"):
            break
    found = {}
    for line in agent.text("/proc/slabinfo").splitlines()[2:]:
        words = line.split()
        if words[0] in SLABS:
            found[words[0]] = int(words[1])
    for line in agent.text("/proc/meminfo").splitlines():
        name, value = line.split(":")
        if name in ("SUnreclaim", "KernelStack", "PageTables", "Percpu", "VmallocUsed"):
            found[name] = int(value.split()[0])
    found["files"] = int(agent.text("/proc/sys/fs/file-nr").split()[0])
    for line in agent.text("/sys/fs/cgroup/cgroup.stat").splitlines():
        found["cgroup " + line.split()[0]] = int(line.split()[1])
    namespaces = agent.sh("ls -l /proc/[0-9]*/ns 2>/dev/null | sed -n 's/.*-> //p' | sort -u", timeout=60).out.split()
    for kind in ("net", "mnt", "pid", "user", "uts", "ipc", "cgroup"):
        found[f"{kind} namespaces"] = sum(n.startswith(f"{kind}:[") for n in namespaces)
    return found


def files(agent):
    """Names of all files and folders on the pools, numbers taken out, but the objects of images, which stay for the next time."""
    out = agent.sh("for p in /run/croft/pools/*; do cd $p && find . -path ./images/objects -prune -o -print; done", timeout=120).out
    return sorted(re.sub(r"[0-9a-f]*\d[0-9a-f]*", "#", line) for line in out.splitlines())


def everything(agent):
    """All of it together, with the traces that a reservation leaves."""
    return {"programs": programs(agent), "kernel": kernel(agent), "traces": {**traces.plain(traces.collect(agent)), "files": files(agent)}}
