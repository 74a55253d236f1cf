"""One virtual machine: QEMU with our kernel and initramfs, a console in a file, the events that
core0 writes, and the test agent."""
import collections
import functools
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
import weakref

from . import agent as agent_module
from . import cpio, paths, process, qmp

# The kernel counts timer ticks against a busy loop and panics when none came; an emulator that the host does not run for a
# moment delivers none. Under KVM the kernel leaves the check out by itself; this is the same for emulation.
EMULATED = ("no_timer_check",)

# options: what else the device is to be, as QEMU writes it ("rotation_rate=7200").
Disk = collections.namedtuple("Disk", "path serial kind options", defaults=("virtio", ""))
DRIVERS = {"virtio": "virtio-blk-pci", "nvme": "nvme", "sata": "ide-hd", "scsi": "scsi-hd", "usb": "usb-storage"}
CONTROLLERS = {"scsi": "virtio-scsi-pci,id=sas", "usb": "qemu-xhci,id=usb"}
BUSES = {"scsi": "sas.0", "usb": "usb.0"}  # where further disks find a place; an AHCI port takes one, and none while it runs

# QEMU 7.2 without KVM corrupts memory of guests that use cmpxchg16b. With a thread per processor, one of them may still
# run the int3 that Linux puts into code while it patches it on another, after the patching has ended: the first CPU limit
# of a container switches the scheduler's static key, and once in some 15 runs that ended in "Oops: int3" and a panic.
TCG = ("-accel", "tcg,thread=single", "-cpu", "max,-cx16")
KVM = ("-accel", "kvm", "-cpu", "host")
# Whether the initramfs is the compressed one that ships, or the same archive before it was packed: to unpack it takes an emulated
# processor 0.4 s of a boot's 4.5 s. Tests boot the latter (tests/conftest.py), but for what lies in croft.efi (test_media.py).
PACKED = True
RUNNING = weakref.WeakSet()  # the machines that are on: asked for their last words when a test fails
LOGS = ("core0", "netd", "storaged", "imaged", "contd", "noded", "provd", "gated")
# A boot sector that writes "K" to the first serial port and halts.
KVM_PROBE = bytes.fromhex("baf803b04beef4ebfd") + b"\0" * 501 + b"\x55\xaa"


class MachineError(AssertionError):
    """The machine did not do what was expected; the message carries the end of its console."""


@functools.lru_cache(maxsize=None)
def accelerator():
    """Emulation, unless CROFT_ACCEL=kvm and a tiny guest really runs: a /dev/kvm that opens may
    still be one on which guests die or crawl."""
    if os.environ.get("CROFT_ACCEL") != "kvm":
        return TCG
    image = paths.BUILD / "tests/kvm-probe"
    image.parent.mkdir(parents=True, exist_ok=True)
    image.write_bytes(KVM_PROBE)
    command = ["qemu-system-x86_64", "-nodefaults", "-display", "none", *KVM, "-m", "32", "-serial",
               "stdio", "-drive", f"file={image},format=raw"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as probe:
        timer = threading.Timer(10, probe.kill)
        timer.start()
        works = probe.stdout.read(1) == b"K"
        timer.cancel()
        probe.kill()
    return KVM if works else TCG


def disk_create(path, megabytes, serial, kind="virtio", options=""):
    """An empty sparse disk."""
    with open(path, "wb") as f:
        f.truncate(megabytes << 20)
    return Disk(pathlib.Path(path), serial, kind, options)


class Machine:
    """folder: logs and sockets. params: words of the kernel's command line. forwards: host port on
    loopback -> guest TCP port. files: {path: (content, mode)} put into the initramfs. net: QEMU
    arguments that replace the user network. screen: it has a graphics card, as a PC does. slots: into so many virtio and NVMe disks can be
    plugged while it runs, beside any number of SCSI and USB ones. volatile: disks (lab.volatile) that lose what was not flushed at
    cut(). prefix: command put in front of QEMU. firmware: instead of
    being given kernel and parameters, the machine starts with it and boots from a disk."""

    def __init__(self, folder, params=(), forwards=None, disks=(), files=None, memory=1024, cpus=2, slots=0, volatile=(),
                 watchdog=False, screen=False, net=None, prefix=(), kernel=None, initramfs=None, agent=True, firmware=None,
                 base_params=("console=ttyS0", "quiet", *EMULATED)):
        self.folder = pathlib.Path(folder)
        self.params = [*base_params, *params]
        self.forwards = dict(forwards or {})
        self.disks = list(disks)
        self.files = dict(files or {})
        self.memory, self.cpus, self.watchdog, self.screen = memory, cpus, watchdog, screen
        self.slots = slots
        self.volatile = list(volatile)
        self.net, self.prefix = net, list(prefix)
        self.kernel = pathlib.Path(kernel or paths.KERNEL)
        self.initramfs = pathlib.Path(initramfs or paths.INITRAMFS)
        self.with_agent, self.firmware = agent, firmware
        self.agent = None
        self.events = []
        self.garbled = []
        self.process = None
        self._changed = threading.Condition()
        self._sockets = None

    # -- start and stop

    def _initramfs(self):
        archive = cpio.Archive()
        if self.with_agent:
            tests = paths.ROOT / "tests/agent"
            archive.file("croft-test/agent", paths.agent().read_bytes(), 0o755)
            archive.file("croft-test/busybox", pathlib.Path("/bin/busybox").read_bytes(), 0o755)
            archive.file("etc/croft/services/test-agent.service",
                         (tests / "test-agent.service").read_text())
        for path, (content, mode) in self.files.items():
            archive.file(path, content, mode)
        plain = self.initramfs.with_suffix("")
        base = plain if not PACKED and plain.exists() else self.initramfs
        return cpio.append(base.read_bytes(), archive)

    def _command(self):
        # The path of a Unix socket has at most 107 bytes, so they lie apart from the logs.
        sock, log = self._sockets, self.folder
        command = [*self.prefix, "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display",
                   "none", "-machine", "q35", *accelerator(), "-smp", str(self.cpus), "-m",
                   str(self.memory), *(["-bios", str(self.firmware)] if self.firmware else
                                       ["-kernel", str(self.kernel), "-initrd", str(log / "initramfs"),
                                        "-append", " ".join(self.params)]),
                   "-chardev", f"file,id=console,path={log}/console.log,append=on", "-serial",
                   "chardev:console", "-qmp", f"unix:{sock}/qmp,server=on,wait=off",
                   "-device", "virtio-rng-pci", "-device", "virtio-serial-pci"]
        for name in ("events", "agent"):
            command += ["-chardev", f"socket,id={name},path={sock}/{name},server=on,wait=off",
                        "-device", f"virtserialport,chardev={name},name=org.croft.{name}"]
        if self.net is None:
            forwards = "".join(f",hostfwd=tcp:127.0.0.1:{host}-:{guest}"
                               for host, guest in self.forwards.items())
            command += ["-netdev", f"user,id=net0{forwards}", "-device",
                        "virtio-net-pci,netdev=net0,mac=52:54:00:12:34:56"]
        else:
            command += self.net
        for kind, controller in CONTROLLERS.items():
            if self.slots or any(d.kind == kind for d in self.disks) or any(d.device.startswith(kind) for d in self.volatile):
                command += ["-device", controller]
        for i in range(self.slots):
            command += ["-device", f"pcie-root-port,id=slot{i},chassis={i + 1}"]
        for i, disk in enumerate(self.disks):
            options = f",{disk.options}" if disk.options else ""
            bus = f"ide.{sum(d.kind == 'sata' for d in self.disks[:i])}" if disk.kind == "sata" else BUSES.get(disk.kind)
            options += f",bus={bus}" if bus else ""
            command += ["-drive", f"file={disk.path},if=none,id=disk{i},format=raw,cache=unsafe,discard=unmap",
                        "-device", f"{DRIVERS[disk.kind]},drive=disk{i},serial={disk.serial}{options}"]
        for i, disk in enumerate(self.volatile):
            command += [*disk.drive(f"volatile{i}"), "-device",
                        f"{disk.device},drive=volatile{i},serial=volatile{i},id=volatile{i},write-cache=on"]
        if self.screen:
            command += ["-device", "VGA"]
        if self.watchdog:
            command += ["-device", "i6300esb", "-action", "watchdog=reset"]
        return command

    def start(self):
        assert not self.process or self.process.poll() is not None, "it runs already"
        self.folder.mkdir(parents=True, exist_ok=True)
        RUNNING.add(self)
        self._sockets = pathlib.Path(subprocess.check_output(
            ["mktemp", "-d", "-t", "croft-vm.XXXXXX"], text=True).strip())
        (self.folder / "initramfs").write_bytes(self._initramfs())
        self._console_start = len(self.console)
        command = self._command()
        (self.folder / "command.json").write_text(json.dumps(command, indent=1))
        with open(self.folder / "qemu.log", "ab") as log:
            self.started = time.monotonic()
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, preexec_fn=process.die_with_parent)
        try:
            self._connect()
        except OSError:  # it went away while we connected
            self.stop()
            raise self._not_started() from None
        except BaseException:
            self.stop()
            raise
        return self

    def _not_started(self):
        return MachineError("QEMU did not start:\n"
                            + (self.folder / "qemu.log").read_text(errors="replace"))

    def _connect(self):
        end = time.monotonic() + 30 * paths.SCALE
        while not all((self._sockets / n).exists() for n in ("qmp", "events", "agent")):
            if self.process.poll() is not None or time.monotonic() > end:
                raise self._not_started()
            time.sleep(0.01)
        self.qmp = qmp.Qmp(self._sockets / "qmp", self._on_qmp)
        events = socket.socket(socket.AF_UNIX)
        events.connect(str(self._sockets / "events"))
        threading.Thread(target=self._read_events, args=(events,), daemon=True).start()
        port = socket.socket(socket.AF_UNIX)
        port.connect(str(self._sockets / "agent"))
        self.agent = agent_module.Agent(port, paths.SCALE)

    def _on_qmp(self, event):
        if event["event"] == "RESET" and self.agent:
            self.agent.forget()
        with self._changed:
            self._changed.notify_all()

    def stop(self):
        """Switches the machine off like a pulled plug. Safe to call again."""
        RUNNING.discard(self)
        if self.process:
            if self.process.poll() is None:
                self.process.kill()
            self.process.wait()
        if self._sockets:
            shutil.rmtree(self._sockets, ignore_errors=True)
            self._sockets = None
            (self.folder / "initramfs").unlink(missing_ok=True)

    def cut(self):
        """The power goes: the machine is off at once, and its volatile disks lose what they had not written. start() is the power's
        return. Returns (written, lost) of the writes since each disk's last flush."""
        self.stop()
        return [disk.cut() for disk in self.volatile]

    def __enter__(self):
        return self.start()

    def __exit__(self, *exc):
        self.stop()

    def power_off(self, timeout=60):
        """Has the guest switch itself off in good order, and waits until it has. start() boots it
        again, from the same disks."""
        mark = self.mark()
        if self.with_agent:
            try:
                self.agent.varlink("core0", "PowerOff")
            except agent_module.AgentError:
                pass  # the agent is one of the services that end: what the machine says decides
        else:
            self.qmp("system_powerdown")
        self.wait_off(timeout)
        with self._changed:
            self._changed.wait_for(lambda: self.find("boot", mark, step="power-off"), 2)
        if not self.find("boot", mark, step="power-off"):
            raise self._error("the machine went off without saying so")
        self.stop()

    def wait_off(self, timeout=60):
        """Waits until the guest has switched itself off."""
        try:
            self.process.wait(timeout * paths.SCALE)
        except subprocess.TimeoutExpired:
            raise self._error(f"the machine did not switch off within {timeout} s") from None

    def wait_reset(self, since=0, timeout=60):
        """Waits until the machine was reset, by itself or by the watchdog."""
        return self.qmp.wait("RESET", timeout * paths.SCALE, since)

    def pause(self):
        """SIGSTOP for the whole machine: to its peers it is a black hole."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    def plug(self, disk, slot=None):
        """Puts a disk into the running machine; it is known to QEMU by its serial number."""
        self.qmp("blockdev-add", driver="raw", **{"node-name": f"node-{disk.serial}", "discard": "unmap",
                 "cache": {"no-flush": True}, "file": {"driver": "file", "filename": str(disk.path)}})
        words = dict(o.split("=") for o in disk.options.split(",") if o)
        options = {k: int(v) if v.isdigit() else v for k, v in words.items()}
        self.qmp("device_add", driver=DRIVERS[disk.kind], id=disk.serial, drive=f"node-{disk.serial}",
                 serial=disk.serial, bus=BUSES.get(disk.kind, f"slot{slot}"), **options)

    def pull(self, disk, timeout=60):
        """Takes a disk out that was plugged in (or began in a slot, by its options "bus=slot0,id=SERIAL"); waits until
        the guest has let it go."""
        since = len(self.qmp.events)
        self.qmp("device_del", id=disk.serial)
        self.qmp.wait("DEVICE_DELETED", timeout * paths.SCALE, since)
        if disk not in self.disks:
            self.qmp("blockdev-del", **{"node-name": f"node-{disk.serial}"})

    def forward(self, host, guest):
        """Adds a forward of a loopback port to the running machine."""
        answer = self.qmp.monitor(f"hostfwd_add net0 tcp:127.0.0.1:{host}-:{guest}")
        if answer.strip():
            raise MachineError(answer)
        self.forwards[host] = guest

    # -- what the machine says

    def screen_text(self):
        """What a graphics card in text mode shows: 25 lines of 80 cells, a character and its colour each."""
        cells = re.findall(r"0x([0-9a-f]{2})", self.qmp.monitor("xp /4000xb 0xb8000"))[::2]
        text = "".join(chr(int(c, 16)) if 0x20 <= int(c, 16) < 0x7f else " " for c in cells)
        return "\n".join(text[i:i + 80].rstrip() for i in range(0, len(text), 80))

    @property
    def console(self):
        try:
            return (self.folder / "console.log").read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def _error(self, text):
        tail = "\n".join(self.console.splitlines()[-40:])
        last = "\n".join(json.dumps(e) for e in self.events[-15:])
        return MachineError(f"{text}\n-- console ({self.folder})\n{tail}\n-- last events\n{last}")

    def last_words(self, lines=20):
        """The last events, and what each daemon wrote last, as far as the machine still says so: for the report of a failed test."""
        said = [f"-- events ({self.folder})"] + [json.dumps(e)[:300] for e in self.events[-lines:]]
        for service in LOGS if self.agent and self.process and self.process.poll() is None else ():
            try:
                log = self.agent.varlink("core0", "GetLog", 5, service=service, tail=lines)["lines"]
            except (agent_module.AgentError, agent_module.Varlink, OSError) as e:
                said.append(f"-- {service}: {e}")
                if not isinstance(e, agent_module.Varlink):
                    break  # the machine does not answer: neither would it the next time
                continue
            said += [f"-- {service}"] + [f"{line.get('time', '')} {line['text']}"[:300] for line in log]
        return "\n".join(said)

    def _read_events(self, sock):
        with open(self.folder / "events.jsonl", "ab", buffering=0) as log:
            for line in sock.makefile("rb"):
                log.write(line)
                with self._changed:
                    try:
                        event = json.loads(line)
                        event["host"] = time.monotonic()
                        self.events.append(event)
                    except (ValueError, TypeError):
                        self.garbled.append(line)
                    self._changed.notify_all()

    def mark(self):
        """A position in the list of events, to wait for later ones only."""
        return len(self.events)

    def find(self, event, since=0, **fields):
        """The first event of that name (and with those fields) at or after a mark."""
        for e in self.events[since:]:
            if e.get("event") == event and all(e.get(k) == v for k, v in fields.items()):
                return e
        return None

    def wait(self, event, timeout=60, since=0, **fields):
        """Waits for an event. Fails at once when the machine is off or its kernel panicked."""
        limit = timeout * paths.SCALE
        end = time.monotonic() + limit
        while True:
            with self._changed:
                found = self.find(event, since, **fields)
                if found:
                    return found
                self._changed.wait(min(1, max(0, end - time.monotonic())))
                if self.find(event, since, **fields):
                    continue
            wanted = f"event {event} {fields or ''}"
            if self.process.poll() is not None:
                raise self._error(f"the machine went off before {wanted}")
            if "Kernel panic" in self.console[self._console_start:]:
                raise self._error(f"kernel panic before {wanted}")
            if time.monotonic() > end:
                raise self._error(f"no {wanted} within {limit:.0f} s")

    def wait_service(self, name, timeout=60, since=0, state="running"):
        """Waits until core0 says that a service is in that state (running: it is ready)."""
        return self.wait("service", timeout, since, name=name, state=state)

    def wait_console(self, text, timeout=60):
        end = time.monotonic() + timeout * paths.SCALE
        while text not in self.console:
            if self.process.poll() is not None or time.monotonic() > end:
                raise self._error(f"the console never said {text!r}")
            time.sleep(0.05)
