// A varlink server against any bytes: it answers or hangs up, and a good caller is served afterwards.
// packages: yyjson
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/varlink.h"

static void on_echo(struct varlink_call *call, yyjson_val *params, void *data)
{
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);

    (void)data;
    yyjson_mut_doc_set_root(doc, yyjson_val_mut_copy(doc, params));
    varlink_call_reply(call, doc);
}

static const struct varlink_method methods[] = {{"org.test.Echo", on_echo, NULL}};
static const struct varlink_interface interfaces[] = {
    {"org.test", "interface org.test\n", methods, 1}};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct loop *loop;
    static struct varlink_server *server;
    static struct sockaddr_un addr = {.sun_family = AF_UNIX};
    char reply[4096];
    int fd;

    if (loop == NULL) {
        snprintf(addr.sun_path, sizeof(addr.sun_path), "/tmp/croft-fuzz-%d", (int)getpid());
        if (loop_new(&loop) < 0 ||
            varlink_server_new(loop, "t", "1", interfaces, 1, NULL, &server) < 0 ||
            varlink_server_listen(server, addr.sun_path, 0600, NULL) < 0)
            abort();
        varlink_server_set_message_max(server, 4096);
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0)
        abort();
    if (send(fd, data, size, MSG_NOSIGNAL) >= 0) {
        for (int i = 0; i < 3; i++)
            loop_step(loop, 0);
        while (recv(fd, reply, sizeof(reply), 0) > 0)
            loop_step(loop, 0);
    }
    close(fd);
    loop_step(loop, 0);
    loop_step(loop, 0);
    return 0;
}

__attribute__((destructor)) static void leave(void)
{
    char path[64];

    snprintf(path, sizeof(path), "/tmp/croft-fuzz-%d", (int)getpid());
    unlink(path);
}
