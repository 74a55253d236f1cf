// core0 as PID 1 of an unprivileged name space: the whole program, seconds instead of a machine's boot.
//
// This program is also every service that the tests need: it calls itself as `--service MODE`.
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/file.h"
#include "lib/loop.h"
#include "lib/notify.h"
#include "lib/varlink.h"

#define CORE0 "build/bin/core0"
#if defined(__SANITIZE_ADDRESS__)
#define CRASHES                                                                                    \
    1000u /* the sanitizers do not look into core0, so the full number is the other tier's */
#else
#define CRASHES 10000u
#endif

static char self[512];
static char core0[512];
static char root[64];
static pid_t unshare_pid;

/* ---- the services ---- */

static void nap(unsigned ms)
{
    const struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};

    nanosleep(&time, NULL);
}

static void append(const char *file, const char *text)
{
    int fd = open(file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);

    if (fd < 0 || write(fd, text, strlen(text)) < 0)
        _exit(9);
    close(fd);
}

static const char *stop_file;
static char stop_text[64];

static void on_term(int signo)
{
    (void)signo;
    append(stop_file, stop_text);
    _exit(0);
}

static void flood_notify(void)
{
    unsigned random = 99;
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    const char *path = getenv("NOTIFY_SOCKET");
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);

    memcpy(addr.sun_path, path, strlen(path) + 1);
    for (int i = 0; i < 3000; i++) {
        char bytes[5000];
        size_t len = (size_t)(i * 7) % sizeof(bytes);

        for (size_t j = 0; j < len; j++) {
            random = random * 1103515245u + 12345u;
            bytes[j] = (char)(random >> 16);
        }
        if (len > 20 && i % 3 == 0)
            memcpy(bytes, "X_CROFT_EVENT={\"event", 20);
        sendto(fd, bytes, len, 0, (const struct sockaddr *)&addr, sizeof(addr));
    }
    close(fd);
}

static int service_main(const char *mode, const char *file, const char *name)
{
    stop_file = file;
    snprintf(stop_text, sizeof(stop_text), "-%s ", name);
    signal(SIGTERM, on_term);
    if (strcmp(mode, "ready") == 0 || strcmp(mode, "late") == 0) {
        char text[64];

        if (strcmp(mode, "late") == 0)
            nap(300);
        snprintf(text, sizeof(text), "+%s ", name);
        append(file, text);
        notify_status("serving %s", name);
        notify_ready();
    } else if (strcmp(mode, "fed") == 0) {
        notify_ready();
        for (;;) {
            nap((unsigned)(notify_watchdog_interval() / 1000));
            notify_watchdog();
        }
    } else if (strcmp(mode, "facts") == 0) {
        notify_fact("farm", "7");
        notify_fact("state", "act\033[2Jive\xff");
        notify_fact("gone", "x");
        notify_fact("gone", "");
        notify_event("odd", "not json");
        flood_notify();
        notify_fact("identity", "0xabc");
        notify_ready();
    } else if (strcmp(mode, "deaf") == 0) {
        signal(SIGTERM, SIG_IGN);
        notify_ready();
    } else if (strcmp(mode, "talk") == 0) {
        for (int i = 0; i < 20000; i++)
            printf("<4>line %d\n", i);
        printf("\033[31mred\xff\n");
        return 3;
    } else if (strcmp(mode, "orphans") == 0) {
        for (int i = 0; i < 50; i++) {
            pid_t pid = fork();

            if (pid == 0) {
                if (fork() == 0) {
                    setsid();
                    nap(50);
                }
                _exit(0);
            }
            waitpid(pid, NULL, 0);
        }
        return 0;
    } else if (strcmp(mode, "socket") == 0) {
        const char *count = getenv("LISTEN_FDS");
        int peer = count != NULL && strcmp(count, "1") == 0 ? accept(3, NULL, NULL) : -1;

        if (peer < 0 || write(peer, name, 1) != 1)
            return 1;
        return 0; /* the next life takes the next caller */
    }
    for (;;)
        pause();
}

/* ---- the machine ---- */

static const char *below(const char *path)
{
    static char buf[4][256];
    static unsigned turn;
    char *at = buf[turn++ % 4];

    snprintf(at, sizeof(buf[0]), "%s/%s", root, path);
    return at;
}

static void put(const char *path, const char *text)
{
    assert_int_equal(file_write_atomic(below(path), text, strlen(text), 0644), 0);
}

/* A service that is this program in a mode; extra is further lines of [Service], unit of [Unit]. */
static void put_mode(const char *name, const char *mode, const char *unit, const char *extra)
{
    char path[128];
    char text[2048];

    snprintf(path, sizeof(path), "etc/croft/services/%s.service", name);
    snprintf(text, sizeof(text),
             "[Unit]\n%s\n[Service]\nExecStart=%s --service %s %s/order %s\n%s\n", unit, self, mode,
             root, name, extra);
    put(path, text);
}

static void put_raw(const char *name, const char *text)
{
    char path[128];

    snprintf(path, sizeof(path), "etc/croft/services/%s.service", name);
    put(path, text);
}

static int setup(void **state)
{
    (void)state;
    strcpy(root, "/tmp/croft-init-XXXXXX");
    if (mkdtemp(root) == NULL || file_mkdirs(below("etc/croft/services"), 0755) < 0 ||
        file_mkdirs(below("proc"), 0755) < 0)
        return -1;
    put("proc/cmdline", "console=ttyS0 runmode=dev\n");
    put("etc/os-release", "VERSION_ID=\"9.9\"\nCROFT_BUILD_TIME=1760000000\n");
    unshare_pid = 0;
    return 0;
}

static int wait_end(unsigned ms)
{
    int status = -1;

    for (unsigned i = 0; i < ms / 10; i++) {
        if (waitpid(unshare_pid, &status, WNOHANG) == unshare_pid) {
            unshare_pid = 0;
            return status;
        }
        nap(10);
    }
    return -1;
}

static int teardown(void **state)
{
    (void)state;
    if (unshare_pid > 0) {
        kill(unshare_pid, SIGKILL); /* --kill-child takes the name space with it */
        waitpid(unshare_pid, NULL, 0);
    }
    return file_remove_tree(root);
}

static yyjson_doc *call(const char *method, const char *key, const char *value)
{
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *params = yyjson_mut_obj(doc);
    struct error err = {0};
    yyjson_doc *reply = NULL;
    char name[64];

    yyjson_mut_doc_set_root(doc, params);
    if (key != NULL)
        yyjson_mut_obj_add_strcpy(doc, params, key, value);
    snprintf(name, sizeof(name), "org.croft.core.%s", method);
    if (varlink_call_blocking(below("run/croft/core0"), name, doc, 10000, &reply, &err) < 0)
        printf("%s: %s %s\n", method, err.code, err.message);
    return reply;
}

static void start(void)
{
    int log = open(below("console"), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

    unshare_pid = fork();
    if (unshare_pid == 0) {
        dup2(log, STDERR_FILENO);
        dup2(log, STDOUT_FILENO);
        execlp("unshare", "unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child",
               core0, "--root", root, (char *)NULL);
        _exit(127);
    }
    close(log);
    for (int i = 0; i < 1000 && access(below("run/croft/core0"), F_OK) < 0; i++)
        nap(10);
}

static void get(const char *name, const char *member, char *buf, size_t size)
{
    char pointer[64];
    yyjson_doc *doc = call("GetService", "name", name);
    yyjson_val *value;

    snprintf(pointer, sizeof(pointer), "/parameters/service/%s", member);
    value = yyjson_ptr_get(yyjson_doc_get_root(doc), pointer);
    if (yyjson_is_str(value))
        snprintf(buf, size, "%s", yyjson_get_str(value));
    else if (yyjson_is_int(value))
        snprintf(buf, size, "%llu", (unsigned long long)yyjson_get_uint(value));
    else
        buf[0] = '\0';
    yyjson_doc_free(doc);
}

static void assert_member(const char *name, const char *member, const char *wanted)
{
    char seen[512] = "";

    for (int i = 0; i < 1000; i++) {
        get(name, member, seen, sizeof(seen));
        if (strcmp(seen, wanted) == 0)
            return;
        nap(20);
    }
    assert_string_equal(seen, wanted);
}

static char *order(void)
{
    static char *text;

    free(text);
    text = NULL;
    if (file_read(below("order"), 100000, &text, NULL) < 0)
        text = strdup("");
    return text;
}

static void assert_order(const char *wanted)
{
    for (int i = 0; i < 500 && strcmp(order(), wanted) != 0; i++)
        nap(20);
    assert_string_equal(order(), wanted);
}

static void assert_console(const char *part)
{
    char *text = NULL;

    assert_int_equal(file_read(below("console"), 10 << 20, &text, NULL), 0);
    if (strstr(text, part) == NULL)
        fail_msg("the console never said \"%s\":\n%s", part, text);
    free(text);
}

/* core0's pid here: the only child of unshare. */
static pid_t core_pid(void)
{
    char path[64];
    char *text = NULL;
    pid_t pid;

    snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)unshare_pid, (int)unshare_pid);
    assert_int_equal(file_read(path, 1000, &text, NULL), 0);
    pid = (pid_t)strtol(text, NULL, 10);
    free(text);
    assert_true(pid > 1);
    return pid;
}

static unsigned long core_rss(void)
{
    char path[64];
    char *text = NULL;
    unsigned long kib;

    snprintf(path, sizeof(path), "/proc/%d/status", (int)core_pid());
    assert_int_equal(file_read(path, 100000, &text, NULL), 0);
    kib = strtoul(strstr(text, "VmRSS:") + 6, NULL, 10);
    free(text);
    return kib;
}

/* ---- tests ---- */

static void test_order_and_readiness(void **state)
{
    yyjson_doc *doc;

    (void)state;
    put_mode("c", "ready", "Requires=b", "Type=notify");
    put_mode("b", "late", "After=a", "Type=notify");
    put_mode("a", "late", "", "Type=notify");
    put_mode("zero", "ready", "Before=a", "Type=notify");
    start();
    assert_order("+zero +a +b +c ");
    assert_member("c", "state", "running");
    assert_member("c", "status", "serving c");
    doc = call("GetStatus", NULL, NULL);
    assert_string_equal(
        yyjson_get_str(yyjson_ptr_get(yyjson_doc_get_root(doc), "/parameters/version")), "9.9");
    yyjson_doc_free(doc);
    yyjson_doc_free(call("PowerOff", NULL, NULL));
    assert_int_equal(wait_end(20000) & 0x7f,
                     SIGINT); /* reboot(2): how a name space is "powered off" */
    assert_order("+zero +a +b +c -c -b -a -zero ");
    assert_console("powering off");
}

static void test_a_bad_graph_stops_only_itself(void **state)
{
    (void)state;
    put_mode("ring-a", "ready", "After=ring-b", "");
    put_mode("ring-b", "ready", "After=ring-a", "");
    put_mode("misspelt", "ready", "", "Memorymax=1M");
    put_mode("lonely", "ready", "Requires=nobody", "");
    put_mode("needs", "ready", "Requires=ring-a", "");
    put_mode("good", "ready", "After=ring-a nobody", "");
    start();
    assert_member("good", "state", "running");
    assert_member("ring-a", "error/code", "service.cycle");
    assert_member("ring-b", "error/code", "service.cycle");
    assert_member("misspelt", "error/code", "service.bad-file");
    assert_member("lonely", "error/code", "service.missing");
    assert_member("needs", "status", "waits for ring-a");
    assert_null(call("StartService", "name", "ring-a"));
    assert_console("services wait for each other: ring-a after ring-b after ring-a");
    assert_console("Memorymax");
}

static void test_back_off_and_start_limit(void **state)
{
    uint64_t begin = loop_clock();

    (void)state;
    put_raw("limited", "[Unit]\nStartLimitBurst=4\nStartLimitIntervalSec=60\n[Service]\nExecStart=/"
                       "bin/false\nRestart=always\nRestartSec=50ms\n");
    put_raw("never", "[Service]\nExecStart=/bin/false\n");
    put_raw("once", "[Service]\nType=oneshot\nExecStart=/bin/true\nRestart=on-failure\n");
    put_raw("missing", "[Service]\nExecStart=/nonexistent/program\n");
    put_raw("nouser", "[Service]\nExecStart=/bin/true\nUser=nosuchuser\n");
    start();
    assert_member("limited", "state", "failed");
    assert_member("limited", "result", "start-limit");
    assert_true(loop_clock() - begin >= 50000 + 100000 + 200000 + 400000);
    assert_member("limited", "restarts", "4");
    assert_member("never", "state", "failed");
    assert_member("never", "error/message", "never ended with exit code 1");
    assert_member("once", "state", "done");
    assert_member("missing", "error/message",
                  "missing ended with exit code 203: its program could not be started");
    assert_member("nouser", "error/code", "service.no-user");
    yyjson_doc_free(call("RestartService", "name", "never"));
    assert_member("never", "state", "failed");
}

static void test_watchdog_and_start_timeout(void **state)
{
    (void)state;
    put_mode("fed", "fed", "", "Type=notify\nWatchdogSec=1s");
    put_mode("silent", "ready", "", "Type=notify\nWatchdogSec=300ms");
    put_mode("never-ready", "pause", "", "Type=notify\nTimeoutStartSec=300ms");
    start();
    assert_member("silent", "result", "watchdog");
    assert_member("silent", "error/message", "silent gave no sign of life for 0 s");
    assert_member("never-ready", "result", "timeout");
    nap(1500);
    assert_member("fed", "state", "running");
    assert_member("fed", "restarts", "0");
}

static void test_stopping(void **state)
{
    uint64_t begin;

    (void)state;
    put_mode("base", "ready", "", "Type=notify");
    put_mode("upper", "ready", "Requires=base", "Type=notify");
    put_mode("deaf", "deaf", "", "Type=notify\nTimeoutStopSec=500ms");
    start();
    assert_order("+base +upper ");
    assert_member("deaf", "state", "running");
    yyjson_doc_free(call("StopService", "name", "base"));
    assert_member("base", "state", "stopped");
    assert_order("+base +upper -upper -base ");
    yyjson_doc_free(call("StartService", "name", "upper")); /* and what it requires */
    assert_order("+base +upper -upper -base +base +upper ");
    begin = loop_clock();
    yyjson_doc_free(call("StopService", "name", "deaf"));
    assert_member("deaf", "state", "stopped");
    assert_true(loop_clock() - begin >= 500000);
    yyjson_doc_free(call("RestartService", "name", "base")); /* those who need it live on */
    assert_order("+base +upper -upper -base +base +upper -base +base ");
    yyjson_doc_free(call("Reboot", NULL, NULL));
    assert_int_equal(wait_end(20000) & 0x7f, SIGHUP);
}

static void test_a_log_is_readable_while_the_service_is_down(void **state)
{
    yyjson_doc *doc;
    yyjson_val *lines;
    yyjson_val *last;

    (void)state;
    put_mode("talk", "talk", "", "LogRingSize=16K");
    start();
    assert_member("talk", "state", "failed");
    doc = call("GetLog", "service", "talk");
    lines = yyjson_ptr_get(yyjson_doc_get_root(doc), "/parameters/lines");
    assert_true(yyjson_arr_size(lines) > 100 && yyjson_arr_size(lines) < 1000);
    last = yyjson_arr_get_last(lines);
    assert_string_equal(yyjson_get_str(yyjson_obj_get(last, "text")), " [31mred?");
    assert_int_equal(yyjson_get_uint(yyjson_obj_get(last, "sequence")), 20000);
    last = yyjson_arr_get(lines, yyjson_arr_size(lines) - 2);
    assert_string_equal(yyjson_get_str(yyjson_obj_get(last, "text")), "line 19999");
    assert_int_equal(yyjson_get_uint(yyjson_obj_get(last, "level")), 4);
    yyjson_doc_free(doc);
    assert_null(call("GetLog", "service", "nobody"));
}

/* The lines of one answer of GetLog from a place, as they are numbered; *ret_next: the place behind them. */
static size_t read_from(const char *service, uint64_t from, uint64_t *ret_first, uint64_t *ret_next)
{
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *params = yyjson_mut_obj(doc);
    struct error err = {0};
    yyjson_doc *reply;
    yyjson_val *answer, *lines;
    size_t count;

    yyjson_mut_doc_set_root(doc, params);
    yyjson_mut_obj_add_strcpy(doc, params, "service", service);
    yyjson_mut_obj_add_uint(doc, params, "tail", 1); /* does not count */
    yyjson_mut_obj_add_uint(doc, params, "from", from);
    assert_int_equal(varlink_call_blocking(below("run/croft/core0"), "org.croft.core.GetLog", doc,
                                           10000, &reply, &err),
                     0);
    answer = yyjson_obj_get(yyjson_doc_get_root(reply), "parameters");
    lines = yyjson_obj_get(answer, "lines");
    count = yyjson_arr_size(lines);
    *ret_first = yyjson_get_uint(yyjson_obj_get(yyjson_arr_get_first(lines), "sequence"));
    *ret_next = yyjson_get_uint(yyjson_obj_get(answer, "next"));
    assert_int_equal(strlen(yyjson_get_str(yyjson_obj_get(answer, "bootId"))), 32);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(yyjson_get_uint(yyjson_obj_get(yyjson_arr_get(lines, i), "sequence")),
                         *ret_first + i);
    yyjson_doc_free(reply);
    return count;
}

/* Who has read up to a line gets what stands behind it: all of it, however many answers that takes, and nothing twice. */
static void test_a_log_is_gone_on_with_from_a_place(void **state)
{
    uint64_t first, next;
    size_t answers = 0;

    (void)state;
    put_mode("talk", "talk", "", "LogRingSize=16K");
    put_mode("chat", "talk", "", "LogRingSize=1M");
    start();
    assert_member("talk", "state", "failed");
    assert_member("chat", "state", "failed");
    assert_int_equal(read_from("talk", 19998, &first, &next), 3);
    assert_int_equal(first, 19998);
    assert_int_equal(next, 20001);
    assert_int_equal(read_from("talk", 20001, &first, &next), 0);
    assert_int_equal(next, 20001);
    assert_int_equal(read_from("talk", 30000, &first, &next), 0); /* such a place never was */
    assert_int_equal(next, 20001);
    assert_true(read_from("talk", 7, &first, &next) > 100); /* overwritten: the gap shows */
    assert_true(first > 15000);
    for (uint64_t at = 0; read_from("chat", at, &first, &next) > 0; at = next, answers++)
        assert_int_equal(first, at);
    assert_int_equal(next, 20001);
    assert_true(answers > 1);
}

static void test_hostile_input(void **state)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    unsigned random = 7;
    yyjson_doc *doc;
    char *text;

    (void)state;
    put_mode("facts", "facts", "", "Type=notify");
    start();
    assert_member("facts", "state", "running");
    memcpy(addr.sun_path, below("run/croft/core0"), strlen(below("run/croft/core0")) + 1);
    for (int i = 0; i < 200; i++) {
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);
        char bytes[4000];

        for (size_t j = 0; j < sizeof(bytes); j++) {
            random = random * 1103515245u + 12345u;
            bytes[j] = (char)(random >> 16);
        }
        if (connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) == 0)
            send(fd, bytes, sizeof(bytes), MSG_NOSIGNAL);
        close(fd);
    }
    doc = call("GetStatus", NULL, NULL);
    assert_non_null(doc);
    text = yyjson_write(doc, 0, NULL);
    assert_non_null(strstr(text, "{\"key\":\"farm\",\"value\":\"7\"}"));
    assert_non_null(strstr(text, "{\"key\":\"state\",\"value\":\"act [2Jive?\"}"));
    assert_non_null(strstr(text, "{\"key\":\"identity\",\"value\":\"0xabc\"}"));
    assert_null(strstr(text, "gone"));
    free(text);
    yyjson_doc_free(doc);
    assert_true(core_rss() < 2048);
}

static void test_boot_parameters(void **state)
{
    static const char token[] = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    char line[200];
    struct stat st;
    char *text = NULL;

    (void)state;
    snprintf(line, sizeof(line), "runmode=dev croft.join=%s croft.nonsense=1\n", token);
    put("proc/cmdline", line);
    put("etc/croft/boot.conf", "croft.disks=none\n");
    put_raw(
        "dev",
        "[Unit]\nConditionKernelCommandLine=runmode=dev\n[Service]\nExecStart=/bin/sleep 100\n");
    put_raw(
        "prod",
        "[Unit]\nConditionKernelCommandLine=!runmode=dev\n[Service]\nExecStart=/bin/sleep 100\n");
    start();
    assert_member("dev", "state", "running");
    assert_member("prod", "state", "stopped");
    assert_int_equal(file_read(below("run/croft/join.token"), 100, &text, NULL), 0);
    assert_string_equal(text, token);
    free(text);
    assert_int_equal(stat(below("run/croft/join.token"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(file_read(below("run/croft/boot.json"), 10000, &text, NULL), 0);
    assert_null(strstr(text, token));
    assert_non_null(strstr(text, "croft.nonsense is not known"));
    assert_non_null(strstr(text, "\"none\""));
    free(text);
    assert_console("croft.nonsense is not known");
    assert_int_equal(file_read(below("console"), 100000, &text, NULL), 0);
    assert_null(strstr(text, token));
    free(text);
}

static void test_a_socket_outlives_its_service(void **state)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    char text[1024];

    (void)state;
    snprintf(text, sizeof(text),
             "[Service]\nExecStart=%s --service socket - "
             "Q\nRestart=always\nRestartSec=0\n[Socket]\nListenStream=/run/croft/q\n",
             self);
    put_raw("q", text);
    start();
    assert_member("q", "state", "running");
    memcpy(addr.sun_path, below("run/croft/q"), strlen(below("run/croft/q")) + 1);
    for (int i = 0; i < 5; i++) {
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);
        char byte = 0;

        assert_int_equal(connect(fd, (const struct sockaddr *)&addr, sizeof(addr)),
                         0); /* also between two lives */
        assert_int_equal(read(fd, &byte, 1), 1);
        assert_int_equal(byte, 'Q');
        close(fd);
    }
}

static int knock(const char *name)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    const char *path = below(name);
    int ret;

    memcpy(addr.sun_path, path, strlen(path) + 1);
    ret = connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0 ? -errno : 0;
    close(fd);
    return ret;
}

/* Who calls a service that does not come back is told so, and does not wait for ever. */
static void test_a_socket_ends_with_its_service(void **state)
{
    char text[1024];

    (void)state;
    snprintf(text, sizeof(text),
             "[Service]\nExecStart=%s --service socket - "
             "Q\nRestart=always\nRestartSec=0\nStartLimitBurst=0\n"
             "[Socket]\nListenStream=/run/croft/q\n",
             self);
    put_raw("q", text);
    put_raw("broken", "[Service]\nExecStart=/bin/false\nRestart=always\nRestartSec=0\n"
                      "StartLimitBurst=3\nStartLimitIntervalSec=60\n"
                      "[Socket]\nListenStream=/run/croft/broken\n");
    start();
    assert_member("q", "state", "running");
    assert_int_equal(knock("run/croft/q"), 0);
    yyjson_doc_free(call("StopService", "name", "q"));
    assert_member("q", "state", "stopped");
    assert_int_equal(knock("run/croft/q"), -ECONNREFUSED);
    yyjson_doc_free(call("StartService", "name", "q"));
    assert_member("q", "state", "running");
    assert_int_equal(knock("run/croft/q"), 0);
    assert_member("broken", "state", "failed");
    assert_int_equal(knock("run/croft/broken"), -ECONNREFUSED);
}

static void test_orphans_are_reaped(void **state)
{
    char path[64];
    char *text = NULL;

    (void)state;
    put_mode("orphans", "orphans", "", "Type=oneshot\nKillMode=process");
    start();
    assert_member("orphans", "state", "done");
    nap(500);
    snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)core_pid(), (int)core_pid());
    assert_int_equal(file_read(path, 10000, &text, NULL), 0);
    assert_string_equal(text, "");
    free(text);
}

static void assert_refused(const char *method, const char *name, const char *code)
{
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *params = yyjson_mut_obj(doc);
    struct error err = {0};
    yyjson_doc *reply = NULL;

    yyjson_mut_doc_set_root(doc, params);
    yyjson_mut_obj_add_strcpy(doc, params, "name", name);
    assert_true(varlink_call_blocking(below("run/croft/core0"), method, doc, 10000, &reply, &err) <
                0);
    assert_string_equal(err.code, code);
}

#define START "org.croft.core.StartService"

static void test_a_template_makes_a_service_of_each_name(void **state)
{
    char line[1024];

    (void)state;
    put_mode("base", "ready", "", "Type=notify");
    snprintf(line, sizeof(line),
             "[Unit]\nDescription=number %%i\nRequires=base\n[Service]\nType=notify\n"
             "EnvironmentFile=-/etc/%%i.env\nEnvironment=MODE=ready\n"
             "ExecStart=%s --service $MODE %s/order $NAMES\nRestart=always\n",
             self, root);
    put_raw("many@", line);
    put_raw("bad@", "[Service]\nExecStart=/bin/true\nNonsense=%i\n");
    put("etc/one.env", "# what one is called\nNAMES=first\n");
    put("etc/two.env", "MODE=late\nNAMES=second\n");
    put("etc/broken.env", "no line of it\n");
    start();
    assert_order("+base "); /* a template alone starts nothing */
    assert_refused("org.croft.core.GetService", "many@one", "core.no-service");
    yyjson_doc_free(call("StartService", "name", "many@one"));
    assert_order("+base +first ");
    yyjson_doc_free(call("StartService", "name", "many@one")); /* runs already */
    yyjson_doc_free(call("StartService", "name", "many@two"));
    assert_order("+base +first +second ");
    assert_member("many@two", "state", "running");
    assert_member("many@two", "description", "number two");
    yyjson_doc_free(call("StartService", "name", "many@broken"));
    assert_member("many@broken", "error/code", "service.environment");
    assert_refused(START, "many@", "core.no-service");
    assert_refused(START, "many@..", "core.no-service");
    assert_refused(START, "many@a/b", "core.no-service");
    assert_refused(START, "none@a", "core.no-service");
    assert_refused(START, "bad@a", "core.bad-service");
    assert_refused("org.croft.core.StopService", "many@three", "core.no-service");
    assert_console("Nonsense");
    yyjson_doc_free(call("StopService", "name", "many@one"));
    assert_member("many@one", "state", "stopped");
    yyjson_doc_free(call("StopService", "name", "many@broken"));
    yyjson_doc_free(call("PowerOff", NULL, NULL));
    assert_int_equal(wait_end(20000) & 0x7f, SIGINT);
    assert_order("+base +first +second -first -second -base "); /* before what it requires */
}

static void test_instances_have_a_limit(void **state)
{
    char name[32];

    (void)state;
    put_raw("many@", "[Service]\nExecStart=/bin/true\n");
    start();
    for (int i = 0; i < 64; i++) {
        snprintf(name, sizeof(name), "many@%d", i);
        yyjson_doc_free(call("StartService", "name", name));
    }
    assert_refused(START, "many@64", "core.too-many-services");
    assert_member("many@63", "state", "stopped");
}

static void test_a_fault_restarts_the_machine(void **state)
{
    (void)state;
    put_mode("a", "ready", "", "Type=notify");
    start();
    assert_member("a", "state", "running");
    kill(core_pid(), SIGSEGV);
    assert_int_equal(wait_end(10000) & 0x7f, SIGHUP);
    assert_console("fault: signal 11 at address");
}

static void test_crashes_leave_the_memory_flat(void **state)
{
    unsigned long early = 0;
    unsigned long crashes = 0;
    unsigned long late;

    (void)state;
    for (int i = 0; i < 16; i++) {
        char name[16];

        snprintf(name, sizeof(name), "fly%d", i);
        put_raw(name, "[Service]\nExecStart=/bin/false\nRestart=always\nRestartSec=0\n");
    }
    start();
    for (int turn = 0; turn < 2500 && crashes < CRASHES; turn++) {
        yyjson_doc *doc = call("ListServices", NULL, NULL);
        yyjson_arr_iter iter =
            yyjson_arr_iter_with(yyjson_ptr_get(yyjson_doc_get_root(doc), "/parameters/services"));
        yyjson_val *service;

        crashes = 0;
        while ((service = yyjson_arr_iter_next(&iter)) != NULL)
            crashes += yyjson_get_uint(yyjson_obj_get(service, "restarts"));
        yyjson_doc_free(doc);
        if (early == 0 && crashes >= CRASHES / 10)
            early = core_rss();
        nap(100);
    }
    late = core_rss();
    print_message("%lu crashes: resident %lu KiB after a tenth, %lu KiB at the end\n", crashes,
                  early, late);
    assert_true(crashes >= CRASHES);
    assert_true(late <= early + 64);
    assert_true(late <= 2048);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(test_order_and_readiness),
        TEST(test_a_bad_graph_stops_only_itself),
        TEST(test_back_off_and_start_limit),
        TEST(test_watchdog_and_start_timeout),
        TEST(test_stopping),
        TEST(test_a_log_is_readable_while_the_service_is_down),
        TEST(test_a_log_is_gone_on_with_from_a_place),
        TEST(test_hostile_input),
        TEST(test_boot_parameters),
        TEST(test_a_socket_outlives_its_service),
        TEST(test_a_socket_ends_with_its_service),
        TEST(test_orphans_are_reaped),
        TEST(test_a_template_makes_a_service_of_each_name),
        TEST(test_instances_have_a_limit),
        TEST(test_a_fault_restarts_the_machine),
        TEST(test_crashes_leave_the_memory_flat),
    };
    ssize_t len;

    if (argc == 5 && strcmp(argv[1], "--service") == 0)
        return service_main(argv[2], argv[3], argv[4]);
    len = readlink("/proc/self/exe", self, sizeof(self) - 1);
    if (len < 0 || realpath(CORE0, core0) == NULL) {
        fprintf(stderr, "%s is missing: make build/bin/core0 first\n", CORE0);
        return 1;
    }
    self[len] = '\0';
    return cmocka_run_group_tests(tests, NULL, NULL);
}
