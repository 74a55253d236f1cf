// Files of one run of a target: some parsers take a path. A folder in memory, taken away at the end.
#pragma once

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char files_folder[64];

__attribute__((destructor)) static void files_leave(void)
{
    char command[96];

    if (files_folder[0] == '\0')
        return;
    snprintf(command, sizeof(command), "rm -rf %s", files_folder);
    if (system(command) != 0)
        return;
}

// The path of a file in the folder; the result holds until the fourth next call.
static inline const char *files_path(const char *name)
{
    static char paths[4][160];
    static unsigned next;
    char *path = paths[next++ % 4];

    if (files_folder[0] == '\0') {
        snprintf(files_folder, sizeof(files_folder), "%s/croft-fuzz-XXXXXX",
                 access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
        if (mkdtemp(files_folder) == NULL)
            abort();
    }
    snprintf(path, sizeof(paths[0]), "%s/%s", files_folder, name);
    return path;
}

static inline const char *files_write(const char *name, const void *data, size_t size)
{
    const char *path = files_path(name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    if (fd < 0 || write(fd, data, size) != (ssize_t)size)
        abort();
    close(fd);
    return path;
}
