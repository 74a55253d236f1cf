/*
 * stop_mounts.c - see stop_mounts.h.
 *
 * Youngest first, again as long as one goes: mounts stand on mounts. What does not go (a process that hangs in it) is
 * made read-only, so that its file system is whole.
 */
#include "init/stop_mounts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/swap.h>
#include <unistd.h>

#include "init/core.h"
#include "lib/file.h"

#define STOP_MOUNTS_MAX 4096u
#define STOP_MOUNTS_TEXT ((size_t)4 << 20)

const char *stop_mounts_point(const char *line, char *buf, size_t size)
{
    size_t len = 0;

    for (int field = 0; field < 4; field++) {
        line = strchr(line, ' ');
        if (line == NULL)
            return NULL;
        line++;
    }
    while (*line != ' ' && *line != '\0' && *line != '\n' && len + 1 < size) {
        if (line[0] == '\\' && line[1] >= '0' && line[1] <= '3' && line[2] >= '0' &&
            line[2] <= '7' && line[3] >= '0' && line[3] <= '7') {
            buf[len++] = (char)((line[1] - '0') * 64 + (line[2] - '0') * 8 + (line[3] - '0'));
            line += 4;
        } else {
            buf[len++] = *line++;
        }
    }
    buf[len] = '\0';
    return *line == ' ' ? buf : NULL;
}

/* Needed until the last moment. */
static bool stop_mounts_is_kept(const char *point)
{
    static const char *const kept[] = {"/", "/proc", "/sys", "/dev", "/run"};

    for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++) {
        if (strcmp(kept[i], point) == 0)
            return true;
    }
    return false;
}

/* One round over all mounts, youngest first. Number of mounts that went. */
static size_t stop_mounts_round(struct core *core, bool last)
{
    cleanup_free char *text = NULL;
    static const char *lines[STOP_MOUNTS_MAX];
    size_t count = 0;
    size_t gone = 0;

    if (file_read("/proc/self/mountinfo", STOP_MOUNTS_TEXT, &text, NULL) < 0)
        return 0;
    for (char *line = text; line != NULL && *line != '\0' && count < STOP_MOUNTS_MAX;) {
        lines[count++] = line;
        line = strchr(line, '\n');
        if (line != NULL)
            line++;
    }
    while (count > 0) {
        char point[512];

        if (stop_mounts_point(lines[--count], point, sizeof(point)) == NULL ||
            stop_mounts_is_kept(point))
            continue;
        if (umount2(point, UMOUNT_NOFOLLOW) == 0) {
            gone++;
        } else if (last) {
            core_log(core, 4, "%s cannot be unmounted: %s", point, strerror(errno));
            mount(NULL, point, NULL, MS_REMOUNT | MS_RDONLY, NULL);
            umount2(point, MNT_DETACH | UMOUNT_NOFOLLOW);
        }
    }
    return gone;
}

static void stop_swaps(void)
{
    cleanup_free char *text = NULL;

    if (file_read("/proc/swaps", 65536, &text, NULL) < 0)
        return;
    for (char *line = strchr(text, '\n'); line != NULL; line = strchr(line, '\n')) {
        line++;
        if (*line == '/') {
            char *end = line + strcspn(line, " \t\n");

            if (*end == '\0')
                return;
            *end = '\0';
            swapoff(line);
            line = end + 1;
        }
    }
}

void stop_mounts_all(struct core *core)
{
    sync();
    stop_swaps();
    for (int round = 0; round < 16; round++) {
        if (stop_mounts_round(core, false) == 0)
            break;
    }
    stop_mounts_round(core, true);
}
