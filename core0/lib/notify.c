/*
 * notify.c - see notify.h. The protocol is that of sd_notify(3).
 */
#include "lib/notify.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/error.h"

#define NOTIFY_MESSAGE_MAX 4000 /* core0 reads datagrams of up to 4 KiB */

static int notify_send(const char *text, size_t len)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    const char *path = getenv("NOTIFY_SOCKET");
    size_t path_len;
    int ret = 0;
    int fd;

    if (path == NULL || path[0] == '\0')
        return 0;
    path_len = strlen(path);
    if ((path[0] != '/' && path[0] != '@') || path_len >= sizeof(addr.sun_path))
        return -EINVAL;
    memcpy(addr.sun_path, path, path_len);
    if (path[0] == '@')
        addr.sun_path[0] = '\0'; /* abstract name space */

    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (sendto(fd, text, len, MSG_NOSIGNAL, (const struct sockaddr *)&addr,
               (socklen_t)(offsetof(struct sockaddr_un, sun_path) + path_len)) < 0)
        ret = -errno;
    close(fd);
    return ret;
}

/* name=value, the value without line breaks: a value must not be able to start another variable. */
static int notify_variable(const char *name, const char *value)
{
    char text[NOTIFY_MESSAGE_MAX];
    int len = snprintf(text, sizeof(text), "%s=%s", name, value);

    if (len < 0)
        return -EINVAL;
    if ((size_t)len >= sizeof(text))
        len = (int)sizeof(text) - 1;
    for (char *byte = text; *byte != '\0'; byte++) {
        if (*byte == '\n')
            *byte = ' ';
    }
    return notify_send(text, (size_t)len);
}

int notify_ready(void)
{
    return notify_variable("READY", "1");
}

int notify_stopping(void)
{
    return notify_variable("STOPPING", "1");
}

int notify_watchdog(void)
{
    return notify_variable("WATCHDOG", "1");
}

int notify_status(const char *fmt, ...)
{
    char text[512];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    return notify_variable("STATUS", text);
}

int notify_fact(const char *key, const char *value)
{
    char text[1024];

    snprintf(text, sizeof(text), "%s=%s", key, value != NULL ? value : "");
    return notify_variable("X_CROFT_FACT", text);
}

int notify_error(const struct error *err)
{
    char text[sizeof(err->code) + sizeof(err->message) + 4] = "";

    if (error_is_set(err))
        snprintf(text, sizeof(text), "%s: %s", err->code, err->message);
    return notify_variable("X_CROFT_ERROR", text);
}

int notify_event(const char *name, const char *members_fmt, ...)
{
    char members[NOTIFY_MESSAGE_MAX - 256];
    char text[NOTIFY_MESSAGE_MAX - 64];
    va_list args;
    int len;

    va_start(args, members_fmt);
    len = vsnprintf(members, sizeof(members), members_fmt, args);
    va_end(args);
    if (len < 0 || (size_t)len >= sizeof(members))
        return -EMSGSIZE; /* half a JSON object is of no use */

    len = snprintf(text, sizeof(text), "{\"event\":\"%s\"%s%s}", name,
                   members[0] != '\0' ? "," : "", members);
    if (len < 0 || (size_t)len >= sizeof(text))
        return -EMSGSIZE;
    return notify_variable("X_CROFT_EVENT", text);
}

unsigned long long notify_watchdog_interval(void)
{
    const char *usec = getenv("WATCHDOG_USEC");
    const char *pid = getenv("WATCHDOG_PID");
    unsigned long long value;
    char *end;

    if (usec == NULL || usec[0] < '0' || usec[0] > '9')
        return 0;
    if (pid != NULL && strtoull(pid, NULL, 10) != (unsigned long long)getpid())
        return 0;
    value = strtoull(usec, &end, 10);
    return *end == '\0' ? value / 2 : 0;
}
