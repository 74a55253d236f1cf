"""Everything a reservation leaves in a node's kernel and on its disks, as sets of text that can be
compared: mounts, cgroups, links, namespaces, firewall rules, subvolumes, files, processes."""
import errno
import os
import re
import struct

NETLINK_NETFILTER = 12
NFNL_SUBSYS_NFTABLES = 10
GET_TABLE, GET_CHAIN, GET_RULE, GET_SET, GET_SETELEM = 1, 4, 7, 10, 13
NLMSG_ERROR, NLMSG_DONE = 2, 3
DUMP_REQUEST = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
DUMP_INTR = 0x10
NESTED = 0x8000
# Attributes that differ between equal rules: a rule's handle and position, a set's handle.
RULE_VOLATILE = {3, 6}
SET_VOLATILE = {16}


def _attributes(data):
    at = 0
    while at + 4 <= len(data):
        size, kind = struct.unpack_from("<HH", data, at)
        if size < 4:
            return
        yield kind & ~NESTED & ~0x4000, data[at + 4:at + size], bool(kind & NESTED)
        at += (size + 3) & ~3


class Interrupted(Exception):
    """The rules were changed while they were listed, so that some may be missing from the list."""


def _messages(data):
    """The bodies of a dump's messages, without nfgenmsg. Kernel, userspace-api/netlink/intro: a dump
    marked with NLM_F_DUMP_INTR is not consistent, and is to be asked for again."""
    at, found, done = 0, [], False
    while at + 16 <= len(data):
        size, kind, flags = struct.unpack_from("<IHH", data, at)
        if size < 16:
            break
        if flags & DUMP_INTR:
            raise Interrupted
        if kind == NLMSG_ERROR:
            error = -struct.unpack_from("<i", data, at + 16)[0]
            assert error == errno.ENOENT, os.strerror(error)  # no such set in this family
            return []
        done = done or kind == NLMSG_DONE
        if kind >> 8 == NFNL_SUBSYS_NFTABLES:
            found.append(data[at + 20:at + size])
        at += (size + 3) & ~3
    assert done, "the kernel's list has no end"
    return found


def _dump(agent, kind, attributes=b"", family=0):
    body = struct.pack("<BBH", family, 0, 0) + attributes
    request = struct.pack("<IHHII", 16 + len(body), NFNL_SUBSYS_NFTABLES << 8 | kind,
                          DUMP_REQUEST, 1, 0) + body
    return _messages(agent.netlink(NETLINK_NETFILTER, request))


def _string(kind, text):
    data = text.encode() + b"\0"
    return struct.pack("<HH", 4 + len(data), kind) + data + b"\0" * (-len(data) % 4)


def _text(value):
    return value.rstrip(b"\0").decode(errors="replace")


def _expressions(value):
    """The expressions of a rule; of a counter only that it is there, not what it counted."""
    result = []
    for _, expression, _ in _attributes(value):
        parts = {kind: data for kind, data, _ in _attributes(expression)}
        name = _text(parts.get(1, b""))
        result.append(name if name == "counter" else name + ":" + parts.get(2, b"").hex())
    return " ".join(result)


def rules(agent):
    """Tables, chains, rules and the elements of sets and maps, one text each, as they were together
    at one time."""
    for _ in range(20):
        try:
            return _rules(agent)
        except Interrupted:
            continue
    raise AssertionError("the rules were changed during each of twenty lists")


def _rules(agent):
    found = []
    for message in _dump(agent, GET_RULE):
        a = {kind: data for kind, data, _ in _attributes(message) if kind not in RULE_VOLATILE}
        found.append(f"rule {_text(a.get(1, b''))} {_text(a.get(2, b''))} "
                     f"{_expressions(a.get(4, b''))}")
    for message in _dump(agent, GET_CHAIN):
        a = {kind: data for kind, data, _ in _attributes(message)}
        found.append(f"chain {_text(a.get(1, b''))} {_text(a.get(3, b''))}")
    for message in _dump(agent, GET_SET):
        a = {kind: data for kind, data, _ in _attributes(message)}
        table, name = _text(a.get(1, b"")), _text(a.get(2, b""))
        found.append(f"set {table} {name}")
        for element in _elements(agent, table, name):
            found.append(f"element {table} {name} {element}")
    return sorted(found)


def _elements(agent, table, name):
    # A message's family was cut off with its head, so every family is asked.
    for family in (1, 2, 10, 5, 7):  # inet, ip, ip6, netdev, bridge
        for message in _dump(agent, GET_SETELEM, _string(1, table) + _string(2, name), family):
            for kind, data, _ in _attributes(message):
                if kind != 3:
                    continue
                for _, element, _ in _attributes(data):
                    keep = [f"{k}={v.hex()}" for k, v, _ in _attributes(element) if k in (1, 2, 10)]
                    yield " ".join(keep)


def _lines(agent, script):
    return [line for line in agent.sh(script, timeout=60).out.splitlines() if line]


def mounts(agent):
    """Mount points of PID 1 with their types."""
    found = []
    for line in agent.text("/proc/1/mountinfo").splitlines():
        before, after = line.split(" - ")
        found.append(f"{before.split()[4]} {after.split()[0]}")
    return sorted(found)


def collect(agent):
    """What there is, by kind."""
    return {
        "mounts": mounts(agent),
        "cgroups": _lines(agent, "cd /sys/fs/cgroup && find . -type d | sort"),
        "links": _lines(agent, "ls /sys/class/net"),
        "rules": rules(agent),
        "subvolumes": _lines(agent, "for p in /run/croft/pools/*; do [ -d $p ] && "
                                    "find $p -xdev -inum 256 -type d; find $p -inum 256 -type d; "
                                    "done 2>/dev/null | sort -u"),
        # net: netd's own folder, whose file is there from the first network on.
        "run": _lines(agent, "cd /run/croft && find . -mindepth 2 -not -name '*health.pid' -not -path './pools/*' -not -path './net/*'"
                             " -not -path './*/rootfs/*' -xdev | sort"),
        "processes": sorted(_lines(
            agent, "for p in /proc/[0-9]*; do c=$(tr '\\0' ' ' < $p/cmdline 2>/dev/null); case $c in "
                   "''|*croft-test*) ;; *) echo $c ;; esac; done; true")),
    }


def difference(before, after):
    """What is there now and was not before, and what is gone, by kind; empty when nothing is."""
    result = {}
    for kind in before:
        was, now = list(before[kind]), list(after[kind])
        for item in list(now):
            if item in was:
                was.remove(item)
                now.remove(item)
        if was or now:
            result[kind] = {"new": now, "gone": was}
    return result


def plain(found):
    """With every number taken out, so that two runs with other ids and processes compare."""
    return {kind: sorted(re.sub(r"[0-9a-f]*\d[0-9a-f]*", "#", item) for item in items)
            for kind, items in found.items()}
