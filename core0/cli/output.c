/*
 * output.c - what people and scripts get to see.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/codes.h"
#include "cli/printable.h"
#include "cli/verbs.h"

int cli_print_json(yyjson_mut_doc *doc)
{
    char *text = yyjson_mut_write(doc, 0, NULL);
    yyjson_mut_doc_free(doc);
    if (text == NULL) {
        return -ENOMEM;
    }
    puts(text);
    free(text);
    return 0;
}

/* Some come from nodes and other tenants: a terminal shows them and does not obey them (docs/decisions/0130). */
static void print_string(const char *name, const char *text)
{
    struct buffer shown;

    buffer_init(&shown, 0);
    if (isatty(STDOUT_FILENO) == 1 && printable_append(&shown, text, strlen(text)) >= 0) {
        text = shown.data != NULL ? (const char *)shown.data : "";
    }
    printf("%s%s %s\n", name, strcmp(name, "-") == 0 ? "" : ":", text);
    buffer_done(&shown);
}

static void print_value(yyjson_mut_val *value, const char *name, int depth)
{
    size_t i, max;
    yyjson_mut_val *key, *item;

    printf("%*s", depth * 2, "");
    if (yyjson_mut_is_obj(value)) {
        printf("%s:\n", name);
        yyjson_mut_obj_foreach(value, i, max, key, item)
        {
            print_value(item, yyjson_mut_get_str(key), depth + 1);
        }
    } else if (yyjson_mut_is_arr(value)) {
        printf("%s:%s\n", name, yyjson_mut_arr_size(value) == 0 ? " -" : "");
        yyjson_mut_arr_foreach(value, i, max, item)
        {
            print_value(item, "-", depth + 1);
        }
    } else if (yyjson_mut_is_str(value)) {
        print_string(name, yyjson_mut_get_str(value));
    } else {
        char *text = yyjson_mut_val_write(value, 0, NULL);
        printf("%s%s %s\n", name, strcmp(name, "-") == 0 ? "" : ":", text != NULL ? text : "");
        free(text);
    }
}

int cli_print_result(const struct cli *cli, yyjson_mut_doc *doc)
{
    if (cli->json) {
        return cli_print_json(doc);
    }
    size_t i, max;
    yyjson_mut_val *root = yyjson_mut_doc_get_root(doc), *key, *item;
    if (yyjson_mut_is_arr(root)) {
        yyjson_mut_arr_foreach(root, i, max, item)
        {
            print_value(item, "-", 0);
        }
        if (yyjson_mut_arr_size(root) == 0) {
            puts("none");
        }
    }
    yyjson_mut_obj_foreach(root, i, max, key, item)
    {
        print_value(item, yyjson_mut_get_str(key), 0);
    }
    yyjson_mut_doc_free(doc);
    return 0;
}

/* A contract's refusal has a code and nothing else: the table gives it its sentence. */
static struct error explained(const struct error *err)
{
    struct error full = *err;
    const struct code *known = code_find(err->code);
    if (known != NULL && (err->message[0] == '\0' || strstr(err->message, err->code) != NULL)) {
        snprintf(full.message, sizeof(full.message), "%s", known->message);
        snprintf(full.hint, sizeof(full.hint), "%s", known->hint);
    }
    return full;
}

void cli_print_error(const struct cli *cli, const struct error *given)
{
    struct error full = explained(given);
    const struct error *err = &full;

    if (cli->json) {
        yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
        yyjson_mut_val *root = yyjson_mut_obj(doc);
        yyjson_mut_doc_set_root(doc, root);
        yyjson_mut_val *object = yyjson_mut_obj_add_obj(doc, root, "error");
        yyjson_mut_obj_add_str(doc, object, "code", err->code);
        yyjson_mut_obj_add_str(doc, object, "message", err->message);
        yyjson_mut_obj_add_str(doc, object, "hint", err->hint);
        char *text = yyjson_mut_write(doc, 0, NULL);
        fprintf(stderr, "%s\n", text != NULL ? text : err->code);
        free(text);
        yyjson_mut_doc_free(doc);
        return;
    }
    fprintf(stderr, "croft: %s (%s)\n", err->message, err->code);
    if (err->hint[0] != '\0') {
        fprintf(stderr, "  %s\n", err->hint);
    }
}

void cli_progress(const struct cli *cli, const char *fmt, ...)
{
    static char last[512]; /* only to leave out repeated lines */
    char text[512];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    if (strcmp(text, last) == 0) {
        return;
    }
    memcpy(last, text, sizeof(last));
    fprintf(stderr, cli->terminal ? "\r\033[K%s" : "%s\n", text);
    fflush(stderr);
}

void cli_progress_end(const struct cli *cli)
{
    if (cli->terminal) {
        fputs("\n", stderr);
    }
}

static char *next_text(void)
{
    static char ring[8][32];
    static unsigned next;
    return ring[next++ % 8];
}

const char *cli_bytes(uint64_t bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    double value = (double)bytes;
    size_t unit = 0;
    char *text = next_text();

    while (value >= 1024 && unit + 1 < sizeof(units) / sizeof(units[0])) {
        value /= 1024;
        unit++;
    }
    snprintf(text, 32, value < 10 && unit > 0 ? "%.1f %s" : "%.0f %s", value, units[unit]);
    return text;
}

const char *cli_cores(uint64_t milli_cores)
{
    char *text = next_text();
    snprintf(text, 32, milli_cores % 1000 == 0 ? "%.0f" : "%.3g", (double)milli_cores / 1000);
    return text;
}
