// Replays a fuzz target without libFuzzer: every file of its corpus as it is, cut short at every
// length, and with single bytes changed in a fixed pseudo-random order, so that two runs do the same;
// then, as they are, the inputs that `make fuzz` found (one a line, in hex).
//
// The target's name is the program's own; its corpus lies in tests/fuzz/corpus/<name>/, what was found in
// tests/fuzz/found/<name>.hex.
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv) __attribute__((weak));

// Enough to reach every branch near the surface within about a second per target.
enum { MUTATIONS = 2000, INPUT_MAX = 1 << 20, CUTS_MAX = 4096 };

static uint32_t random_next(uint32_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

// A copy of exactly `size` bytes, so that the sanitizer sees a read one byte beyond.
static void input_run(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1);
    if (!copy)
        abort();
    if (size)
        memcpy(copy, data, size);
    LLVMFuzzerTestOneInput(copy, size);
    free(copy);
}

static void input_mutate(uint8_t *data, size_t size, uint32_t seed)
{
    static const uint8_t edges[] = {0x00, 0x01, 0x7f, 0x80, 0xff, '"', '{', '[', '0', '9'};
    uint32_t state = seed;
    for (size_t i = 0; i < MUTATIONS && size; i++) {
        size_t at = random_next(&state) % size;
        uint8_t old = data[at];
        uint32_t pick = random_next(&state);
        data[at] = pick & 1 ? edges[(pick >> 1) % sizeof edges] : (uint8_t)(pick >> 8);
        input_run(data, size);
        data[at] = old;
    }
}

static int file_replay(const char *path)
{
    static uint8_t data[INPUT_MAX];
    FILE *file = fopen(path, "rb");
    if (!file) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return -1;
    }
    size_t size = fread(data, 1, sizeof data, file);
    fclose(file);
    input_run(data, size);
    for (size_t cut = 0; cut<size; cut += size> CUTS_MAX ? size / CUTS_MAX : 1)
        input_run(data, cut);
    input_mutate(data, size, (uint32_t)size * 2654435761U + 1);
    return 0;
}

static int nibble(int c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

// Number of inputs; 0 without the file, -1 when it does not read.
static int found_replay(const char *path)
{
    static uint8_t data[INPUT_MAX];
    size_t len = 0;
    int count = 0, high = -1;
    FILE *file = fopen(path, "r");
    if (!file)
        return 0;
    for (int c; (c = fgetc(file)) != EOF || len > 0;) {
        if (c == '\n' || c == EOF) {
            input_run(data, len);
            count++;
            len = 0;
            continue;
        }
        if (nibble(c) < 0 || len == sizeof data) {
            fprintf(stderr, "%s: line %d does not read\n", path, count + 1);
            fclose(file);
            return -1;
        }
        if (high < 0) {
            high = nibble(c);
        } else {
            data[len++] = (uint8_t)(high << 4 | nibble(c));
            high = -1;
        }
    }
    fclose(file);
    return count;
}

int main(int argc, char **argv)
{
    const char *name = strrchr(argv[0], '/');
    name = name ? name + 1 : argv[0];
    if (LLVMFuzzerInitialize)
        LLVMFuzzerInitialize(&argc, &argv);
    char folder[512];
    if (argc > 1)
        snprintf(folder, sizeof folder, "%s", argv[1]);
    else
        snprintf(folder, sizeof folder, "tests/fuzz/corpus/%s", name);
    DIR *dir = opendir(folder);
    if (!dir) {
        fprintf(stderr, "%s: %s\n", folder, strerror(errno));
        return 1;
    }
    input_run(NULL, 0);
    int count = 0;
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (entry->d_name[0] == '.')
            continue;
        char path[1024];
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        if (file_replay(path) < 0)
            return 1;
        count++;
    }
    closedir(dir);
    if (!count) {
        fprintf(stderr, "%s: no corpus\n", folder);
        return 1;
    }
    snprintf(folder, sizeof folder, "tests/fuzz/found/%s.hex", name);
    int found = argc > 1 ? 0 : found_replay(folder);
    if (found < 0)
        return 1;
    count += found;
    // The words of cmocka, so that both kinds are counted alike.
    printf("[  PASSED  ] %d test(s).\n", count);
    return 0;
}
