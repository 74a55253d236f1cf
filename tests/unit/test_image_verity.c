// fs-verity digests are those that `fsverity digest` prints, at every edge of blocks and levels.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/crypto/text.h"
#include "lib/image/verity.h"

/* Files of the byte (i * 7 + i / 256) & 255; digests from fsverity-utils 1.5. */
static const struct known {
    size_t size;
    const char *digest;
} known[] = {
    {0, "3d248ca542a24fc62d1c43b916eae5016878e2533c88238480b26128a1f1af95"},
    {1, "b803429503d95915829b29fdbc8bbad142f3abfd11b1cadf5526582e685c0551"},
    {4095, "036811a3f3360df7c779a29d40d2561d03d020f5219b2c42aa93d9d545e05e26"},
    {4096, "dba6800c0bddc2369f4f0ab54798f65f5a8c1f49adc4a4792a831ff4b093e2d7"},
    {4097, "fefe00b4a113721b31dbc100ba46ff68ba3c9ca6dc62c6a3c1e71db190c68f9f"},
    {8192, "3e6fa1e44aa1330374f857806b32be007c99a9fb00ed24b7639fa5dd7878c691"},
    {524288, "eaae8cbd17127f6514707a04477de56880466f212f12d13c4397e929b54d8f5a"},
    {524289, "0e3b4b2d25eb9005be08661772bd35783c1fba25ba74e6a63693f072dad036ce"},
    {1048576, "642a69fae9edc3e909def3c647396d465113c0fefa7a84bc1fbb550ebd4a659d"},
    {3000000, "f8b2240a8febbde1dbc315e90f5c4c614e3570d5ebd651a2aa62ebea7b8351f2"},
};

static uint8_t *content(size_t size)
{
    uint8_t *data = malloc(size + 1);
    assert_non_null(data);
    for (size_t i = 0; i < size; i++)
        data[i] = (uint8_t)(i * 7 + i / 256);
    return data;
}

static void digest_in_steps(const uint8_t *data, size_t size, size_t step, char *ret_hex)
{
    struct verity *verity = malloc(sizeof(*verity));
    uint8_t digest[VERITY_DIGEST_SIZE];
    assert_non_null(verity);
    verity_init(verity);
    for (size_t at = 0; at < size; at += step)
        verity_update(verity, data + at, size - at < step ? size - at : step);
    verity_final(verity, digest);
    hex_encode(digest, sizeof(digest), ret_hex);
    free(verity);
}

static void test_known(void **state)
{
    (void)state;
    static const size_t steps[] = {1 << 20, 4096, 1000, 7};
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        uint8_t *data = content(known[i].size);
        for (size_t s = 0; s < sizeof(steps) / sizeof(steps[0]); s++) {
            char hex[VERITY_DIGEST_TEXT];
            digest_in_steps(data, known[i].size, steps[s], hex);
            assert_string_equal(hex, known[i].digest);
        }
        free(data);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_known)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
