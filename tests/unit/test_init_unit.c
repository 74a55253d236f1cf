// Service files: what they mean, and what is refused with its line.
// sources: core0/init/unit.c core0/init/unit_value.c core0/init/seccomp.c
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "init/unit.h"
#include "init/unit_value.h"

static int parse(const char *text, struct unit *unit, struct error *err)
{
    return unit_parse("test", text, strlen(text), unit, err);
}

static void test_a_whole_file(void **state)
{
    static const char text[] =
        "# comment\n; comment\n[Unit]\nDescription=Two words\nAfter=a.service "
        "b\nAfter=c\nRequires=d\n"
        "ConditionKernelCommandLine=runmode=dev\n\n[Service]\r\n  Type = notify \n"
        "ExecStart=/bin/sh -c \"echo 'a b' \\\"c\\\"\" 'd e' \\\n  last\n"
        "Restart=on-failure\nRestartSec=250ms\nRestartMaxDelaySec=1min "
        "30s\nWatchdogSec=5\nKillMode=mixed\nKillSignal=SIGHUP\n"
        "User=noded\nCapabilityBoundingSet=CAP_NET_ADMIN "
        "cap_kill\nAmbientCapabilities=\nNoNewPrivileges=no\n"
        "SystemCallFilter=~@mount "
        "ptrace\nSystemCallErrorNumber=EPERM\nMemoryMax=64M\nCPUWeight=50\nTasksMax=10\n"
        "Delegate=yes\nOOMScoreAdjust=-900\nUMask=0077\nEnvironment=A=1 \"B=x "
        "y\"\nEnvironment=C=\nStateDirectory=x/y\n"
        "StandardOutput=console\nTimeoutStartSec=infinity\n[Socket]\nListenStream=/run/croft/"
        "x\nSocketMode=0666\n";
    struct unit unit;
    struct error err = {0};

    (void)state;
    assert_int_equal(parse(text, &unit, &err), 0);
    assert_string_equal(unit.name, "test");
    assert_string_equal(unit.description, "Two words");
    assert_int_equal(unit.after.count, 4); /* what is required is waited for */
    assert_string_equal(unit.after.items[0], "a");
    assert_string_equal(unit.after.items[3], "d");
    assert_int_equal(unit.type, UNIT_NOTIFY);
    assert_int_equal(unit.exec_start.count, 5);
    assert_string_equal(unit.exec_start.items[2], "echo 'a b' \"c\"");
    assert_string_equal(unit.exec_start.items[3], "d e");
    assert_string_equal(unit.exec_start.items[4], "last");
    assert_null(unit.exec_start.items[5]);
    assert_int_equal(unit.restart, UNIT_RESTART_ON_FAILURE);
    assert_int_equal(unit.restart_us, 250000);
    assert_int_equal(unit.restart_max_us, 90000000);
    assert_int_equal(unit.watchdog_us, 5000000);
    assert_int_equal(unit.kill_mode, UNIT_KILL_MIXED);
    assert_int_equal(unit.kill_signal, SIGHUP);
    assert_int_equal(unit.bounding, 1 << 12 | 1 << 5);
    assert_int_equal(unit.ambient, 0);
    assert_true(unit.no_new_privileges); /* a filter implies it */
    assert_true(unit.system_calls_deny);
    assert_int_equal(unit.system_call_errno, EPERM);
    assert_int_equal(unit.memory_max, 64 << 20);
    assert_int_equal(unit.oom_score_adjust, -900);
    assert_int_equal(unit.umask, 077);
    assert_int_equal(unit.environment.count, 3);
    assert_string_equal(unit.environment.items[1], "B=x y");
    assert_true(unit.timeout_start_us == UNIT_INFINITY);
    assert_string_equal(unit.listen_stream, "/run/croft/x");
    assert_int_equal(unit.socket_mode, 0666);
    unit_done(&unit);
}

static void test_the_view(void **state)
{
    struct unit unit;
    struct error err = {0};

    (void)state;
    assert_int_equal(
        parse("[Service]\nExecStart=/a\nProtectSystem=strict\nReadWritePaths=/run/a "
              "-/run/b\nReadWritePaths=/run/c\nInaccessiblePaths=/x\nPrivateDevices=yes\n"
              "ProtectProc=invisible\nProcSubset=pid\nProtectKernelTunables=yes\n",
              &unit, &err),
        0);
    assert_int_equal(unit.protect_system, UNIT_PROTECT_STRICT);
    assert_int_equal(unit.read_write_paths.count, 3);
    assert_string_equal(unit.read_write_paths.items[1], "-/run/b");
    assert_int_equal(unit.inaccessible_paths.count, 1);
    assert_true(unit.private_devices && unit.protect_tunables && !unit.protect_cgroups);
    assert_int_equal(unit.protect_proc, UNIT_PROC_INVISIBLE);
    assert_int_equal(unit.proc_subset, UNIT_PROC_PID);
    assert_int_equal(unit.mount_flags, UNIT_MOUNTS_SLAVE);
    unit_done(&unit);
    assert_int_equal(
        parse("[Service]\nExecStart=/a\nProtectSystem=full\nMountFlags=shared\n", &unit, &err), 0);
    assert_int_equal(unit.mount_flags, UNIT_MOUNTS_SHARED);
    unit_done(&unit);
    assert_int_equal(parse("[Service]\nExecStart=/a\nSystemCallFilter=~@swap\n", &unit, &err), 0);
    assert_false(unit.no_new_privileges); /* root's, whose children may be containers */
    unit_done(&unit);
}

static void test_defaults(void **state)
{
    struct unit unit;
    struct error err = {0};

    (void)state;
    assert_int_equal(parse("[Service]\nExecStart=-/bin/true", &unit, &err), 0);
    assert_true(unit.exec_ignore_failure);
    assert_string_equal(unit.exec_start.items[0], "/bin/true");
    assert_int_equal(unit.type, UNIT_SIMPLE);
    assert_int_equal(unit.restart, UNIT_RESTART_NO);
    assert_true(unit.bounding == UINT64_MAX);
    assert_int_equal(unit.start_limit_burst, 0);
    assert_true(unit.memory_max == UNIT_INFINITY);
    unit_done(&unit);
}

static void test_refusals_name_the_line(void **state)
{
    static const struct {
        const char *text;
        const char *message;
    } bad[] = {
        {"[Service]\n\nMemorymax=1M\n", "test, line 3: key Memorymax is not known in [Service]"},
        {"[Unit]\nExecStart=/bin/true\n", "test, line 2: key ExecStart is not known in [Unit]"},
        {"Type=simple\n", "test, line 1: key Type is not known outside of a section"},
        {"[Install]\n", "test, line 1: section [Install] is not known"},
        {"[Service]\nnonsense\n", "test, line 2: neither a section nor Key=value"},
        {"[Service]\nType=forking\n", "test, line 2: Type=forking is not valid"},
        {"[Service]\nExecStart=true\n", "test, line 2: ExecStart=true is not valid"},
        {"[Service]\nExecStart=/bin/../x\n", "test, line 2: ExecStart=/bin/../x is not valid"},
        {"[Service]\nExecStart=/a\nExecStart=/b\n", "test, line 3: ExecStart=/b is not valid"},
        {"[Service]\nExecStart=/a \"b\n", "test, line 2: ExecStart=/a \"b is not valid"},
        {"[Service]\nRestartSec=5 parsecs\n", "test, line 2: RestartSec=5 parsecs is not valid"},
        {"[Service]\nMemoryMax=1X\n", "test, line 2: MemoryMax=1X is not valid"},
        {"[Service]\nMemoryMax=99999999999999999999\n",
         "test, line 2: MemoryMax=99999999999999999999 is not valid"},
        {"[Service]\nCPUWeight=0\n", "test, line 2: CPUWeight=0 is not valid"},
        {"[Service]\nUMask=8\n", "test, line 2: UMask=8 is not valid"},
        {"[Service]\nOOMScoreAdjust=1001\n", "test, line 2: OOMScoreAdjust=1001 is not valid"},
        {"[Service]\nCapabilityBoundingSet=NET_ADMIN\n",
         "test, line 2: CapabilityBoundingSet=NET_ADMIN is not valid"},
        {"[Service]\nSystemCallFilter=nosuchcall\n",
         "test, line 2: SystemCallFilter=nosuchcall is not valid"},
        {"[Service]\nSystemCallFilter=read\nSystemCallFilter=~mount\n",
         "test, line 3: SystemCallFilter=~mount is not valid"},
        {"[Service]\nEnvironment=novalue\n", "test, line 2: Environment=novalue is not valid"},
        {"[Service]\nStateDirectory=../up\n", "test, line 2: StateDirectory=../up is not valid"},
        {"[Service]\nRuntimeDirectory=/abs\n", "test, line 2: RuntimeDirectory=/abs is not valid"},
        {"[Unit]\nAfter=a/b\n", "test, line 2: After=a/b is not valid"},
        {"[Service]\nNoNewPrivileges=maybe\n", "test, line 2: NoNewPrivileges=maybe is not valid"},
        {"[Service]\nType=simple\n", "test: ExecStart= is missing"},
        {"[Service]\nProtectSystem=yes\n", "test, line 2: ProtectSystem=yes is not valid"},
        {"[Service]\nReadWritePaths=/run var\n",
         "test, line 2: ReadWritePaths=/run var is not valid"},
        {"[Service]\nReadWritePaths=-/run/../etc\n",
         "test, line 2: ReadWritePaths=-/run/../etc is not valid"},
        {"[Service]\nExecStart=/a\nReadWritePaths=/run\n",
         "test: ReadWritePaths= means nothing without ProtectSystem=strict"},
        {"[Service]\nExecStart=/a\nMountFlags=shared\nProtectSystem=strict\n",
         "test: with MountFlags=shared only ProtectSystem=full is possible"},
        {"[Service]\nExecStart=/a\nMountFlags=shared\nPrivateDevices=yes\n",
         "test: with MountFlags=shared only ProtectSystem=full is possible"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct error err = {0};
        struct unit unit;

        assert_true(parse(bad[i].text, &unit, &err) < 0);
        assert_string_equal(err.message, bad[i].message);
        assert_string_equal(err.code, "service.bad-file");
        assert_string_equal(unit.name, "test");
        assert_null(unit.exec_start.items);
        unit_done(&unit);
    }
}

static void test_names_and_limits(void **state)
{
    char large[UNIT_FILE_MAX + 2];
    struct error err = {0};
    struct unit unit;

    (void)state;
    assert_int_equal(unit_parse("../etc", "", 0, &unit, &err), -EINVAL);
    assert_string_equal(err.code, "service.bad-name");
    error_clear(&err);
    memset(large, '#', sizeof(large));
    assert_int_equal(unit_parse("x", large, sizeof(large), &unit, &err), -EFBIG);
    error_clear(&err);
    assert_int_equal(unit_parse("x", large, 5000, &unit, &err), -E2BIG); /* one line */
    error_clear(&err);
    assert_int_equal(unit_parse("x", "[Unit]\0", 7, &unit, &err), -EINVAL);
}

static void test_values(void **state)
{
    uint64_t value;

    (void)state;
    assert_int_equal(unit_value_time("1h 1min 1s 1ms 1us", &value), 0);
    assert_int_equal(value, 3661001001);
    assert_int_equal(unit_value_time("", &value), -EINVAL);
    assert_int_equal(unit_value_time("-1", &value), -EINVAL);
    assert_int_equal(unit_value_time("18446744073709551615h", &value), -EINVAL);
    assert_int_equal(unit_value_size("1G", &value), 0);
    assert_int_equal(value, 1 << 30);
    assert_int_equal(unit_value_size("20000000T", &value), -EINVAL);
    assert_int_equal(unit_value_caps("~CAP_SYS_BOOT", &value), 0);
    assert_true(value == ~(1ull << 22));
    assert_int_equal(unit_value_caps("", &value), 0);
    assert_int_equal(value, 0);
}

static void test_specifiers_of_an_instance(void **state)
{
    static const char text[] =
        "[Unit]\nDescription=%p of %i (%n), 100%%\n[Service]\nExecStart=/bin/x "
        "--data=/d/%i\nRuntimeDirectory=x/%i\nEnvironmentFile=-/run/%i.env\n";
    struct error err = {0};
    struct unit unit;
    char small[8];

    (void)state;
    assert_int_equal(unit_parse("kvd@a-1", text, strlen(text), &unit, &err), 0);
    assert_string_equal(unit.description, "kvd of a-1 (kvd@a-1), 100%");
    assert_string_equal(unit.exec_start.items[1], "--data=/d/a-1");
    assert_string_equal(unit.runtime_directory.items[0], "x/a-1");
    assert_string_equal(unit.environment_file, "-/run/a-1.env");
    unit_done(&unit);
    /* what is no instance takes them as they stand */
    assert_int_equal(unit_parse("kvd", text, strlen(text), &unit, &err), 0);
    assert_string_equal(unit.exec_start.items[1], "--data=/d/%i");
    unit_done(&unit);
    assert_int_equal(unit_parse("kvd@a", "[Service]\nExecStart=/bin/x %j\n", 28, &unit, &err),
                     -EINVAL);
    assert_non_null(strstr(err.message, "line 2"));
    assert_int_equal(unit_value_expand("12345678", "a@b", small, sizeof(small)), -E2BIG);
    assert_int_equal(unit_value_expand("%", "a@b", small, sizeof(small)), -EINVAL);
    assert_true(unit_instance_is_valid("46d5-7"));
    assert_false(unit_instance_is_valid(".."));
    assert_false(unit_instance_is_valid("../x"));
    assert_false(unit_instance_is_valid("a@b"));
    assert_false(unit_instance_is_valid(""));
    assert_null(unit_instance("kvd@"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_whole_file),
        cmocka_unit_test(test_the_view),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_refusals_name_the_line),
        cmocka_unit_test(test_names_and_limits),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_specifiers_of_an_instance),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
