"""core0 as PID 1 of a whole machine: services, logs, watchdog, power, boot parameters."""
import re
import time

import pytest

from lab import agent, machine, paths

SECONDS = 75  # about, for the order in which files start

BUSYBOX = "/croft-test/busybox"


def service(body, unit=""):
    return (f"[Unit]\n{unit}\n[Service]\n{body}\n".encode(), 0o644)


def script(command, **keys):
    lines = "".join(f"{k}={v}\n" for k, v in keys.items())
    return f"ExecStart={BUSYBOX} sh -c '{command}'\n{lines}"


def at(name):
    return f"etc/croft/services/{name}.service"


def states(m, name, since=0):
    return [e["state"] for e in m.events[since:] if e["event"] == "service" and e.get("name") == name]


def wait_state(m, name, state, timeout=30, since=0):
    return m.wait("service", timeout, since, name=name, state=state)


@pytest.fixture(scope="module")
def node_alone(tmp_path_factory):
    """A machine without farm or chain, with services of every kind; shared by the tests below."""
    from lab import machine
    files = {
        at("first"): service(script("echo first >> /run/order", Type="oneshot")),
        at("second"): service(script("echo second >> /run/order", Type="oneshot"), "After=first"),
        at("third"): service(script("echo third >> /run/order", Type="oneshot"),
                             "Requires=second\nAfter=second"),
        at("broken"): service(script("exit 1", Type="oneshot")),
        at("needs-broken"): service(script("echo never > /run/never", Type="oneshot"),
                                    "Requires=broken\nAfter=broken"),
        at("ring-a"): service(script("true", Type="oneshot"), "After=ring-b"),
        at("ring-b"): service(script("true", Type="oneshot"), "After=ring-a"),
        at("misspelt"): service(script("true", Type="oneshot", Memorymax="1M")),
        at("crash"): service(script("exit 3", Restart="on-failure", RestartSec="100ms",
                                    StartLimitBurst=5, StartLimitIntervalSec="60s")),
        at("tied"): service(script("grep -E \"^(Cap|NoNew|Uid|Seccomp:)\" /proc/self/status; "
                                   "cat /proc/self/cgroup; sleep 100000",
                                   CapabilityBoundingSet="CAP_KILL", NoNewPrivileges="yes",
                                   MemoryMax="16M", StandardOutput="ring")),
        at("hungry"): service(script("x=x; while :; do x=$x$x; done", MemoryMax="8M", Restart="no")),
        at("talker"): service(script("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); echo line $i; done",
                                     Type="oneshot", StandardOutput="ring")),
    }
    folder = tmp_path_factory.mktemp("alone")
    with machine.Machine(folder, ["runmode=dev"], files=files) as m:
        m.wait("boot", 90, step="ready")
        yield m


def core(m, method, **parameters):
    return m.agent.varlink("core0", method, **parameters)


def ring(m, name):
    return "\n".join(line["text"] for line in core(m, "GetLog", service=name)["lines"])


def test_order_and_requirements(node_alone):
    m = node_alone
    wait_state(m, "third", "done")
    assert m.agent.text("/run/order").split() == ["first", "second", "third"]
    assert not m.agent.exists("/run/never")


def test_a_cycle_and_a_misspelt_key_are_named_and_the_rest_boots(node_alone):
    status = str(core(node_alone, "GetStatus")) + str(core(node_alone, "ListServices"))
    assert "ring-a" in status and "cycle" in status
    assert "misspelt" in status and "Memorymax" in status


def test_a_crash_is_restarted_with_back_off_until_the_limit(node_alone):
    m = node_alone
    wait_state(m, "crash", "failed", 60)
    starts = [e["t"] for e in m.events if e["event"] == "service" and e.get("name") == "crash"
              and e["state"] == "running"]
    gaps = [(b - a) / 1e6 for a, b in zip(starts, starts[1:])]
    assert len(gaps) == 4 and all(gap >= 0.1 * 2 ** i for i, gap in enumerate(gaps)), gaps


def test_privileges_and_limits_are_as_the_file_says(node_alone):
    m = node_alone
    text = ring(m, "tied")
    seen = dict(line.split(":", 1) for line in text.splitlines() if ":\t" in line)
    assert int(seen["CapBnd"], 16) == 1 << 5
    assert seen["NoNewPrivs"].strip() == "1"
    assert "0::/system/tied" in text
    assert m.agent.text("/sys/fs/cgroup/system/tied/memory.max").strip() == str(16 << 20)
    assert wait_state(m, "hungry", "failed", 60)


def test_a_log_is_bounded_and_readable_while_the_service_is_down(node_alone):
    wait_state(node_alone, "talker", "done", 60)
    lines = ring(node_alone, "talker").splitlines()
    assert lines[-1] == "line 20000" and 100 < len(lines) < 20000
    numbers = [int(line.split()[1]) for line in lines]
    assert numbers == list(range(numbers[0], 20001))


def test_without_a_farm_it_says_so(node_alone):
    assert "unregistered" in node_alone.console


def test_any_input_on_its_socket_is_survived(node_alone):
    m = node_alone
    import random
    rng = random.Random(3)
    for data in (b"\0", b"{}\0", b"[" * 100_000, b"{\"method\":1}\0", b'{"method":"org.croft.core.Nope"}\0',
                 *(rng.randbytes(rng.randint(1, 5000)) for _ in range(50))):
        try:
            m.agent.unix("/run/croft/core0", data, timeout=0.2)
        except Exception:
            pass  # an error or a closed connection are both right; a dead PID 1 is not
    assert core(m, "GetStatus")


def test_a_screen_without_graphics_shows_the_page(boot):
    """A PC started by its BIOS: text mode, no frame buffer. The page has to be there, and the token nowhere."""
    token = "00112233445566778899aabbccddeeff" * 2
    m = boot("console=tty0", "runmode=dev", f"croft.join={token}", screen=True,
             base_params=("console=ttyS0", *machine.EMULATED))
    end = time.monotonic() + 60 * paths.SCALE
    while not re.search(r"Croft.*\n(.*\n)*.*10\.0\.2\.15", text := m.screen_text()):
        assert time.monotonic() < end, text
        time.sleep(0.5)
    assert "unregistered" in text and token[:8] not in text + m.console


def test_power_button_and_order_of_stopping(boot):
    stay = "trap \"echo stopped-{0} > /dev/console; exit 0\" TERM; while :; do sleep 0.2; done"
    m = boot("runmode=dev", files={
        at("base"): service(script(stay.format("base"))),
        at("upper"): service(script(stay.format("upper")), "Requires=base\nAfter=base"),
        at("deaf"): service(script("trap \"\" TERM; while :; do sleep 0.2; done", TimeoutStopSec="2s")),
    })
    m.wait("boot", 90, step="ready")
    wait_state(m, "upper", "running")
    m.power_off(60)
    assert m.find("boot", step="power-off"), "the end is an event too"
    assert 0 < m.console.index("stopped-upper") < m.console.index("stopped-base")


def test_reboot_by_the_control_socket(boot):
    m = boot("runmode=dev")
    m.wait("boot", 90, step="ready")
    first, mark = m.agent.boot_id(), m.mark()
    try:
        core(m, "Reboot")
    except Exception:
        pass  # the answer may not make it
    m.wait_reset()
    assert m.find("boot", mark, step="reboot"), "the end is an event too"
    m.wait("boot", 90, mark, step="ready")
    assert m.agent.boot_id() != first


def test_the_watchdog_resets_a_stopped_core0_and_the_cause_is_shown(boot):
    m = boot("runmode=dev", watchdog=True)
    m.wait("boot", 90, step="ready")
    assert m.agent.sh("cat /sys/class/watchdog/watchdog0/identity").out.strip() == "i6300ESB timer"
    mark = m.mark()
    try:
        m.agent.varlink("core0", "Hang", timeout=2)
    except agent.AgentError:
        pass  # it hangs, as it should
    m.qmp.wait("WATCHDOG", 120 * paths.SCALE)
    m.wait("boot", 120, mark, step="ready")
    assert "watchdog" in core(m, "GetStatus")["previousEnd"]
    assert "watchdog" in m.console


@pytest.mark.parametrize("word,code", [
    ("runmod=dev", "runmod"), ("croft.nonsense=1", "croft.nonsense"), ("runmode=fast", "runmode"),
    ("croft.chainid=zero", "croft.chainid"), ("farmer_id=-1", "farmer_id"),
])
def test_a_bad_boot_parameter_is_shown_and_keeps_the_node_out(boot, grid, word, code):
    good = [p for p in grid.params(grid.token()) if p.split("=")[0] != word.split("=")[0]]
    before = len(grid.farmer.json("node", "list", "--farm", grid.farm))
    m = boot(*good, word)
    m.wait("boot", 90, step="ready")
    m.wait_console(code, 30)
    errors = m.agent.json("/run/croft/boot.json")["errors"]
    assert any(code in e["message"] for e in errors), errors
    time.sleep(5 * paths.SCALE)
    assert not m.find("registered")
    assert len(grid.farmer.json("node", "list", "--farm", grid.farm)) == before
