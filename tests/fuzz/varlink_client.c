// What a client takes from a server: every call is answered once or until `continues` ends, whatever the bytes are.
// packages: yyjson
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "files.h"
#include "lib/varlink.h"

static int answered[3];

static void on_reply(yyjson_val *parameters, const struct error *err, bool more, void *data)
{
    if ((parameters == NULL) == (err == NULL) || (parameters != NULL && !yyjson_is_obj(parameters)))
        abort();
    if (!more)
        answered[(size_t)data]++;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct loop *loop;
    static int listener = -1;
    struct varlink_client *client;

    if (loop == NULL) {
        struct sockaddr_un addr = {.sun_family = AF_UNIX};
        snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", files_path("socket"));
        listener = socket(AF_UNIX, SOCK_STREAM, 0);
        if (loop_new(&loop) < 0 || listener < 0 ||
            bind(listener, (const struct sockaddr *)&addr, sizeof(addr)) < 0 ||
            listen(listener, 4) < 0)
            abort();
    }
    memset(answered, 0, sizeof(answered));
    if (varlink_client_new(loop, files_path("socket"), &client) < 0)
        abort();
    for (size_t i = 0; i < 3; i++) {
        if (varlink_client_call(client, "org.test.Call", NULL, i == 1 ? VARLINK_MORE : 0, 0,
                                on_reply, (void *)i) < 0)
            abort();
    }
    int fd = accept(listener, NULL, NULL);
    if (fd < 0)
        abort();
    loop_step(loop, 0);
    (void)!send(fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    for (int i = 0; i < 4; i++)
        loop_step(loop, 0);
    close(fd);
    for (int i = 0; i < 4; i++)
        loop_step(loop, 0);
    for (size_t i = 0; i < 3; i++) {
        if (answered[i] != 1)
            abort();
    }
    varlink_client_free(client);
    loop_step(loop, 0);
    return 0;
}
