/*
 * terminal.c - see terminal.h.
 */
#include "cli/terminal.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "lib/file.h"

static struct termios before;
static volatile sig_atomic_t changed;

void terminal_restore(void)
{
    if (changed) {
        changed = 0;
        tcsetattr(STDIN_FILENO, TCSADRAIN, &before);
    }
}

/* What it touches is safe in a handler (POSIX lists tcsetattr). SA_RESETHAND: the signal then does what it always does. */
static void on_fatal(int signo)
{
    if (changed) {
        tcsetattr(STDIN_FILENO, TCSANOW, &before);
    }
    raise(signo);
}

int terminal_raw(void)
{
    static const int fatal[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGSYS};
    static bool prepared;
    struct termios raw;

    if (tcgetattr(STDIN_FILENO, &raw) < 0) {
        return -errno;
    }
    if (!prepared) {
        struct sigaction action = {.sa_handler = on_fatal, .sa_flags = (int)(SA_RESETHAND)};
        atexit(terminal_restore);
        for (size_t i = 0; i < sizeof(fatal) / sizeof(fatal[0]); i++) {
            sigaction(fatal[i], &action, NULL);
        }
        prepared = true;
    }
    if (!changed) {
        before = raw;
    }
    cfmakeraw(&raw);
    changed = 1;
    return tcsetattr(STDIN_FILENO, TCSADRAIN, &raw) < 0 ? -errno : 0;
}

bool terminal_size_get(struct terminal_size *ret_size)
{
    static const int fds[] = {STDOUT_FILENO, STDIN_FILENO};
    struct winsize size;

    for (size_t i = 0; i < 2; i++) {
        if (file_ioctl(fds[i], TIOCGWINSZ, &size) >= 0 && size.ws_row > 0 && size.ws_col > 0) {
            *ret_size = (struct terminal_size){.rows = size.ws_row, .columns = size.ws_col};
            return true;
        }
    }
    return false;
}
