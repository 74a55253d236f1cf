/*
 * gate_exec.c - see gate_exec.h.
 *
 * Messages are binary; their first byte is the channel. Nothing is read from standard input faster than the connection takes it,
 * and nothing from the connection faster than standard output takes it: memory stays the same however much goes through.
 */
#include "cli/gate_exec.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "cli/outlet.h"
#include "cli/terminal.h"
#include "lib/json.h"

enum { CHANNEL_INPUT, CHANNEL_OUTPUT, CHANNEL_ERROR, CHANNEL_CONTROL };

#define PIECE ((size_t)32 * 1024)           /* bytes of standard input in one message */
#define CONNECT_US ((uint64_t)20 * 1000000) /* until the command is accepted */
#define PING_US ((uint64_t)20 * 1000000)    /* between two signs of life that we ask for */
#define LOST_US ((uint64_t)60 * 1000000)    /* without any sign of life */
#define CONTROL_MAX ((size_t)64 * 1024)
#define INSISTED 3 /* so many signals to end, and we end ourselves */

struct session {
    struct gate *gate;
    const struct gate_exec *exec;
    struct loop *loop;
    struct ws *ws;
    struct outlet out, err_out;
    struct loop_io *input; /* NULL: a file, which is always ready, or nothing more to read */
    bool input_open, input_always;
    struct loop_timer *alive;
    uint64_t heard; /* when something came last */
    bool open, over;
    int killed_by; /* a signal that ends us */
    int insisted;
    int status;
    int ret;
    struct error *err;
};

static const struct {
    int signo;
    const char *name;
} forwarded[] = {{SIGINT, "INT"},   {SIGTERM, "TERM"}, {SIGHUP, "HUP"},
                 {SIGQUIT, "QUIT"}, {SIGUSR1, "USR1"}, {SIGUSR2, "USR2"}};
#define FORWARDED (sizeof(forwarded) / sizeof(forwarded[0]))

static void end(struct session *session, int ret)
{
    session->over = true;
    session->ret = ret;
}

/* ---- to the gate ---- */

static int send_control(struct session *session, const char *json)
{
    char message[128];
    int len = snprintf(message, sizeof(message), "%c%s", CHANNEL_CONTROL, json);
    return session->open ? ws_send(session->ws, message, (size_t)len) : -ENOTCONN;
}

static void input_ended(struct session *session)
{
    session->input_open = false;
    loop_io_del(session->input);
    session->input = NULL;
    if (send_control(session, "{\"eof\":true}") == -ENOBUFS) {
        session->input_open = session->input_always =
            true; /* again when there is room: read gives 0 again */
    }
}

static void pump_input(struct session *session)
{
    uint8_t message[PIECE + 1] = {CHANNEL_INPUT};

    while (session->open && session->input_open) {
        size_t room = ws_room(session->ws);
        if (room < 2) { /* WS_WRITABLE calls again */
            if (session->input != NULL) {
                loop_io_set(session->input, 0);
            }
            return;
        }
        size_t len = room - 1 < PIECE ? room - 1 : PIECE;
        ssize_t n = read(STDIN_FILENO, message + 1, len);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            break;
        }
        if (n <= 0) {
            input_ended(session);
            return;
        }
        if (ws_send(session->ws, message, (size_t)n + 1) < 0) {
            return; /* closed: WS_CLOSED says so */
        }
        if (!session->input_always) {
            break; /* another read might block; the loop says when not */
        }
    }
    if (session->input != NULL) {
        loop_io_set(session->input, EPOLLIN);
    }
}

static void on_input(struct loop_io *io, int fd, uint32_t events, void *data)
{
    (void)io;
    (void)fd;
    (void)events; /* EPOLLHUP too: read tells */
    pump_input(data);
}

static void start_input(struct session *session)
{
    if (!session->exec->input) {
        input_ended(session);
        return;
    }
    session->input_open = true;
    int ret = loop_io_add(session->loop, STDIN_FILENO, EPOLLIN, on_input, session, &session->input);
    session->input_always = ret == -EPERM;
    if (ret < 0 && ret != -EPERM) {
        input_ended(session);
        return;
    }
    if (session->input_always) {
        pump_input(session);
    }
}

static void send_size(struct session *session)
{
    struct terminal_size size;
    char text[80];
    if (terminal_size_get(&size)) {
        snprintf(text, sizeof(text), "{\"resize\":{\"rows\":%u,\"columns\":%u}}", size.rows,
                 size.columns);
        send_control(session, text);
    }
}

/* ---- from the gate ---- */

/* Holds the gate up while what came waits to be written. */
static void on_outlet(void *data)
{
    struct session *session = data;
    size_t waiting = session->out.waiting.len + session->err_out.waiting.len;

    if (session->out.failed == EPIPE && !session->over) {
        session->killed_by = SIGPIPE; /* as any program whose reader is gone */
        end(session, -EPIPE);
    } else if (session->open && waiting >= OUTLET_HIGH) {
        ws_pause(session->ws, true);
    } else if (session->open && waiting <= OUTLET_LOW) {
        ws_pause(session->ws, false);
    }
}

static int bad(struct session *session, const char *what)
{
    return error_set(session->err, EBADMSG, "gate.bad-answer",
                     "croft and the node may be of two versions: croft version, croft node show",
                     "the gate sends %s", what);
}

static void on_control(struct session *session, const char *text, size_t len)
{
    struct {
        yyjson_val *error;
        uint64_t exit;
    } in = {.exit = UINT64_MAX};
    static const struct json_field fields[] = {
        {"exit", JSON_UINT, offsetof(__typeof__(in), exit), false, 0, 255},
        {"error", JSON_OBJECT, offsetof(__typeof__(in), error), false, 0, 0},
    };
    struct error ignored = {0};
    yyjson_doc *doc = json_parse(text, len, CONTROL_MAX, "gate.bad-answer", &ignored);

    if (doc == NULL || json_read(yyjson_doc_get_root(doc), fields, 2, JSON_IGNORE_UNKNOWN, &in,
                                 "gate.bad-answer", &ignored) < 0) {
        end(session, bad(session, "a control message that cannot be understood"));
    } else if (in.error != NULL) {
        size_t error_len = 0;
        char *error = yyjson_val_write(in.error, 0, &error_len);
        end(session, gate_refusal(0, error != NULL ? error : "", error_len, session->err));
        free(error);
    } else if (in.exit != UINT64_MAX) {
        session->status = (int)in.exit;
        end(session, 0);
    }
    yyjson_doc_free(doc);
}

static void on_message(struct session *session, const char *data, size_t len)
{
    int ret = 0;

    if (len == 0) {
        end(session, bad(session, "a message without a channel"));
    } else if (data[0] == CHANNEL_OUTPUT) {
        ret = outlet_write(&session->out, data + 1, len - 1);
    } else if (data[0] == CHANNEL_ERROR) {
        ret = outlet_write(&session->err_out, data + 1, len - 1);
    } else if (data[0] == CHANNEL_CONTROL) {
        on_control(session, data + 1, len - 1);
    } else {
        end(session, bad(session, "a message on a channel that there is not"));
    }
    if (ret < 0) {
        end(session, error_set(session->err, -ret, "cli.failed", "", "out of memory"));
    }
    if (!session->over) {
        on_outlet(session);
    }
}

/* A refusal without its reason, from something in between for one: as much as its status says. 0: that is nothing. */
static int refusal_of(struct session *session, int status)
{
    static const struct {
        int status;
        const char *code;
    } known[] = {{401, "gate.bad-challenge"},
                 {403, "gate.not-allowed"},
                 {404, "gate.not-found"},
                 {429, "gate.busy"},
                 {503, "gate.not-ready"}};
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (known[i].status == status) { /* the code's own sentence is added where it is shown */
            return error_set(session->err, ECANCELED, known[i].code, "", "%s", known[i].code);
        }
    }
    return 0;
}

static void on_closed(struct session *session, const struct error *cause)
{
    const char *why = ws_header(session->ws, "Croft-Error");
    int status = ws_status(session->ws);

    if (session->open) {
        session->open = false;
        end(session, error_set(session->err, ECONNRESET, "gate.lost",
                               "the command may still run; croft exec … -- ps tells",
                               "the connection to node %" PRIu64 " broke before the command ended",
                               session->gate->node.number));
    } else if (strcmp(cause->code, "http.status") == 0 && status != 101) {
        end(session, why[0] == '\0' && refusal_of(session, status) < 0
                         ? -ECANCELED
                         : gate_refusal(status, why, strlen(why), session->err));
    } else if (strcmp(cause->code, "http.wrong-key") == 0) {
        end(session, error_set(session->err, EPROTO, "gate.wrong-key", "", "%s", cause->message));
    } else if (strcmp(cause->code, "http.timeout") == 0) {
        end(session,
            error_set(session->err, ETIMEDOUT, "gate.timeout", "try again", "%s", cause->message));
    } else {
        end(session,
            error_set(session->err, ECONNRESET, "gate.lost", "try again", "%s", cause->message));
    }
}

static void on_ws(struct ws *ws, enum ws_event event, const char *data, size_t len,
                  const struct error *err, void *user)
{
    struct session *session = user;

    session->heard = loop_clock();
    if (session->over) {
        return;
    }
    if (event == WS_OPEN) {
        session->open = true;
        if (session->exec->tty && isatty(STDIN_FILENO) == 1) {
            terminal_raw();
        }
        send_size(session); /* it may have changed since it was asked for */
        start_input(session);
        loop_timer_set(session->alive, loop_clock() + PING_US);
    } else if (event == WS_MESSAGE) {
        on_message(session, data, len);
    } else if (event == WS_WRITABLE) {
        pump_input(session);
    } else if (event == WS_CLOSED) {
        on_closed(session, err);
    }
    (void)ws;
}

static void on_alive(struct loop_timer *timer, void *data)
{
    struct session *session = data;
    /* Held up by our own output, we hear nothing, and may not complain. */
    size_t waiting = session->out.waiting.len + session->err_out.waiting.len;

    if (waiting >= OUTLET_LOW) {
        session->heard = loop_clock();
    } else if (loop_clock() - session->heard > LOST_US) {
        end(session, error_set(session->err, ETIMEDOUT, "gate.lost",
                               "the command may still run; croft exec … -- ps tells",
                               "nothing was heard of node %" PRIu64 " for %u s",
                               session->gate->node.number, (unsigned)(LOST_US / 1000000)));
        return;
    }
    ws_ping(session->ws);
    loop_timer_set(timer, loop_clock() + PING_US);
}

/* ---- signals ---- */

static void on_signal(struct loop *loop, int signo, void *data)
{
    (void)loop;
    struct session *session = data;
    char text[40];

    if (session->over) {
        return;
    }
    bool ends = signo == SIGINT || signo == SIGTERM || signo == SIGHUP || signo == SIGQUIT;
    session->insisted += ends;
    /* With a terminal of its own the command gets what is typed; a signal is for us then. */
    if (session->open && !session->exec->tty && session->insisted < INSISTED) {
        for (size_t i = 0; i < FORWARDED; i++) {
            if (forwarded[i].signo == signo) {
                snprintf(text, sizeof(text), "{\"signal\":\"%s\"}", forwarded[i].name);
                if (send_control(session, text) == 0) {
                    return;
                }
            }
        }
    }
    if (ends) {
        session->killed_by = signo;
        end(session, -EINTR);
    }
}

static void on_resize(struct loop *loop, int signo, void *data)
{
    (void)loop;
    struct session *session = data;
    /* SIGCONT: the shell has had the terminal in between. */
    if (signo == SIGCONT && session->open && session->exec->tty && isatty(STDIN_FILENO) == 1) {
        terminal_raw();
    }
    send_size(session);
}

static void on_stop(struct loop *loop, int signo, void *data)
{
    (void)loop;
    (void)signo;
    (void)data;
    terminal_restore();
    kill(getpid(), SIGSTOP);
}

static int add_signals(struct session *session)
{
    int ret = 0;
    for (size_t i = 0; ret >= 0 && i < FORWARDED; i++) {
        ret = loop_signal_add(session->loop, forwarded[i].signo, on_signal, session);
    }
    if (ret >= 0 && session->exec->tty) {
        ret = loop_signal_add(session->loop, SIGWINCH, on_resize, session);
        ret = ret < 0 ? ret : loop_signal_add(session->loop, SIGCONT, on_resize, session);
        ret = ret < 0 ? ret : loop_signal_add(session->loop, SIGTSTP, on_stop, session);
    }
    signal(SIGPIPE, SIG_IGN); /* an outlet tells by its error */
    return ret;
}

/* Dies as the signal would have killed it, so that the shell sees the same. */
static _Noreturn void die_by(int signo)
{
    sigset_t set;
    signal(signo, SIG_DFL);
    sigemptyset(&set);
    sigaddset(&set, signo);
    raise(signo);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    _exit(128 + signo);
}

/* ---- all of it ---- */

static int make_url(const struct session *session, struct buffer *url, struct error *err)
{
    const struct gate_exec *exec = session->exec;
    const struct cli *cli = session->gate->cli;
    static const char *const options[][2] = {{"--user", "user"}, {"--workdir", "workdir"}};
    struct terminal_size size = {.rows = 24, .columns = 80};
    const char *term = getenv("TERM"), *value;

    int ret = buffer_printf(url, "wss://%s/v1/exec", gate_address(session->gate));
    if (ret >= 0 && exec->service[0] != '\0') {
        ret = gate_query(url, "service", exec->service);
    }
    if (ret >= 0 && exec->tty) {
        (void)terminal_size_get(&size);
        gate_query(url, "tty", "1");
        gate_query_uint(url, "rows", size.rows);
        gate_query_uint(url, "columns", size.columns);
        ret = gate_query(url, "term", term != NULL && term[0] != '\0' ? term : "xterm");
    }
    for (size_t i = 0; ret >= 0 && i < 2; i++) {
        value = cli_option(cli, options[i][0]);
        ret = value != NULL ? gate_query(url, options[i][1], value) : ret;
    }
    for (size_t i = 0; ret >= 0 && (value = cli_option_at(cli, "--env", i)) != NULL; i++) {
        if (value[0] == '=' || strchr(value, '=') == NULL) {
            return error_set(err, EINVAL, "cli.bad-option", "", "--env is NAME=VALUE, not \"%s\"",
                             value);
        }
        ret = gate_query(url, "env", value);
    }
    for (size_t i = 0; ret >= 0 && i < exec->argc; i++) {
        ret = gate_query(url, "arg", exec->argv[i]);
    }
    return ret < 0 ? error_set(err, -ret, "cli.failed", "", "%s", strerror(-ret)) : 0;
}

static int connect_gate(struct session *session, struct error *err)
{
    char header[GATE_HEADER_MAX];
    const char *headers[] = {header, NULL};
    struct buffer url;

    int ret = gate_authorize(session->gate, "exec", header, err);
    if (ret < 0) {
        return ret;
    }
    buffer_init(&url, 0);
    ret = make_url(session, &url, err);
    if (ret == 0) {
        struct ws_options options = {.url = (const char *)url.data,
                                     .connect_timeout_us = CONNECT_US,
                                     .headers = headers,
                                     .protocol = GATE_EXEC_PROTOCOL,
                                     .pinned_key = session->gate->node.tls_key_hash,
                                     .binary = true,
                                     .fn = on_ws,
                                     .user = session};
        ret = ws_new(session->loop, &options, &session->ws);
        if (ret < 0) {
            error_set(err, -ret, "cli.failed", "", "%s", strerror(-ret));
        }
    }
    buffer_done(&url);
    return ret;
}

int gate_exec_run(struct gate *gate, const struct gate_exec *exec, struct error *err)
{
    struct session session = {
        .gate = gate, .exec = exec, .loop = gate->grid->loop, .err = err, .heard = loop_clock()};

    int ret = outlet_init(&session.out, session.loop, STDOUT_FILENO, on_outlet, &session);
    if (ret >= 0) {
        ret = outlet_init(&session.err_out, session.loop, STDERR_FILENO, on_outlet, &session);
    }
    if (ret >= 0) {
        ret = loop_timer_add(session.loop, on_alive, &session, &session.alive);
    }
    if (ret < 0) {
        return error_set(err, -ret, "cli.failed", "", "%s", strerror(-ret));
    }
    ret = connect_gate(&session, err);
    if (ret >= 0) {
        ret = add_signals(&session);
    }
    while (ret >= 0 && !session.over) {
        ret = loop_step(session.loop, -1);
    }
    session.open = false;
    loop_io_del(session.input);
    loop_timer_del(session.alive);
    ws_free(session.ws);
    if (session.killed_by == 0) {
        outlet_done(&session.out);
        outlet_done(&session.err_out);
    }
    terminal_restore();
    if (session.killed_by != 0) {
        die_by(session.killed_by);
    }
    if (ret < 0 && !error_is_set(err)) {
        error_set(err, -ret, "cli.failed", "", "%s", strerror(-ret));
    }
    return ret < 0 ? ret : session.ret < 0 ? session.ret : session.status;
}
