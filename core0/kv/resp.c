/*
 * resp.c - see resp.h.
 *
 * Invariant: everything before `position` is understood and never looked at again; `argc` arguments lie there.
 */
#include "resp.h"

#include <errno.h>
#include <string.h>

void resp_request_reset(struct resp_request *request)
{
    /* argv stays as it is: argc says how much of it is valid, and it is far larger than the rest */
    request->argc = 0;
    request->wanted = 0;
    request->position = 0;
    request->need = 0;
    request->scanned = 0;
}

int resp_number(const uint8_t *data, size_t len, uint64_t max, uint64_t *ret_number)
{
    uint64_t number = 0;

    if (len == 0 || len > 20)
        return -EINVAL;
    for (size_t i = 0; i < len; i++) {
        unsigned digit = (unsigned)data[i] - '0';

        if (digit > 9 || number > (UINT64_MAX - digit) / 10)
            return -EINVAL;
        number = number * 10 + digit;
    }
    if (number > max)
        return -EINVAL;
    *ret_number = number;
    return 0;
}

/* A line "<type>NUMBER\r\n" at position. 1: read, 0: more bytes are needed, -1: not such a line. */
static int resp_line(const uint8_t *data, size_t len, char type, struct resp_request *request,
                     uint64_t *ret_number)
{
    const uint8_t *line = data + request->position;
    size_t rest = len - request->position;
    size_t i = 1;
    uint64_t number = 0;

    if (rest == 0)
        return 0;
    if (line[0] != (uint8_t)type)
        return -1;
    for (; i < rest && i < RESP_LINE_MAX; i++) {
        unsigned digit = (unsigned)line[i] - '0';

        if (digit > 9)
            break;
        if (number > UINT32_MAX)
            return -1; /* beyond every limit, and before it can overflow */
        number = number * 10 + digit;
    }
    if (i == RESP_LINE_MAX)
        return -1;
    if (i == rest)
        return 0;
    if (i == 1 || line[i] != '\r')
        return -1;
    if (i + 1 == rest)
        return 0;
    if (line[i + 1] != '\n')
        return -1;
    request->position += i + 2;
    *ret_number = number;
    return 1;
}

static int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static uint8_t unescape(uint8_t c)
{
    static const char names[] = "nrtba", values[] = "\n\r\t\b\a";
    const char *at = c != '\0' ? strchr(names, c) : NULL;

    return at != NULL ? (uint8_t)values[at - names] : c;
}

static bool is_space(uint8_t c)
{
    return c == ' ' || c == '\t';
}

/*
 * One argument of an inline request from data[*from] to at most data[end], decoded in place: it never grows. Quoting as
 * redis-cli prints it: "…" with \n \r \t \b \a \" \\ and \xHH, '…' with \' only. Returns the decoded length or -1.
 */
static ptrdiff_t inline_argument(uint8_t *data, size_t *from, size_t end)
{
    size_t at = *from, start = at, out = at;
    uint8_t quote = data[at] == '"' || data[at] == '\'' ? data[at] : 0;

    if (quote != 0)
        at++;
    while (at < end) {
        uint8_t c = data[at++];

        if (quote == 0) {
            if (is_space(c)) {
                at--;
                break;
            }
        } else if (c == quote) {
            if (at < end && !is_space(data[at]))
                return -1; /* something right behind the closing quote */
            *from = at;
            return (ptrdiff_t)(out - start);
        } else if (c == '\\' && at < end) {
            if (quote == '"' && data[at] == 'x' && at + 2 < end && hex_digit(data[at + 1]) >= 0 &&
                hex_digit(data[at + 2]) >= 0) {
                c = (uint8_t)(hex_digit(data[at + 1]) * 16 + hex_digit(data[at + 2]));
                at += 3;
            } else if (quote == '"') {
                c = unescape(data[at++]);
            } else if (data[at] == '\'') {
                c = data[at++];
            }
        }
        data[out++] = c;
    }
    if (quote != 0)
        return -1;
    *from = at;
    return (ptrdiff_t)(out - start);
}

static int parse_inline(uint8_t *data, size_t len, const struct resp_limits *limits,
                        struct resp_request *request)
{
    size_t max = limits->request < RESP_INLINE_MAX ? limits->request : RESP_INLINE_MAX;
    size_t window = len < max ? len : max;
    const uint8_t *newline = memchr(data + request->scanned, '\n', window - request->scanned);
    size_t end, at = 0;

    if (newline == NULL) {
        request->scanned = window;
        return window == max ? RESP_ERROR_REQUEST : 0;
    }
    end = (size_t)(newline - data);
    request->position = end + 1;
    if (end > 0 && data[end - 1] == '\r')
        end--;
    while (at < end) {
        ptrdiff_t size;
        size_t start = at;

        if (is_space(data[at])) {
            at++;
            continue;
        }
        if (request->argc == RESP_ARGS_MAX)
            return RESP_ERROR_ARGUMENTS;
        size = inline_argument(data, &at, end);
        if (size < 0)
            return RESP_ERROR_QUOTES;
        if ((size_t)size > limits->argument)
            return RESP_ERROR_ARGUMENT;
        request->argv[request->argc++] =
            (struct resp_argument){.offset = (uint32_t)start, .len = (uint32_t)size};
    }
    return 1;
}

int resp_parse(uint8_t *data, size_t len, const struct resp_limits *limits,
               struct resp_request *request)
{
    uint64_t number;
    int r;

    if (len == 0 || len < request->need)
        return 0;
    if (request->wanted == 0) {
        if (data[0] != '*')
            return parse_inline(data, len, limits, request);
        r = resp_line(data, len, '*', request, &number);
        if (r <= 0)
            return r;
        if (number > RESP_ARGS_MAX)
            return RESP_ERROR_ARGUMENTS;
        if (number == 0)
            return 1;
        request->wanted = (uint32_t)number;
    }
    while (request->argc < request->wanted) {
        struct resp_argument *argument = &request->argv[request->argc];
        size_t line = request->position;

        r = resp_line(data, len, '$', request, &number);
        if (r <= 0)
            return r;
        if (number > limits->argument)
            return RESP_ERROR_ARGUMENT;
        if (request->position + number + 2 > limits->request)
            return RESP_ERROR_REQUEST;
        if (len - request->position < number + 2) {
            request->need = request->position + (size_t)number + 2;
            request->position = line; /* the line is read again, once, when its bytes are there */
            return 0;
        }
        argument->offset = (uint32_t)request->position;
        argument->len = (uint32_t)number;
        request->position += (size_t)number;
        if (data[request->position] != '\r' || data[request->position + 1] != '\n')
            return RESP_ERROR_FORM;
        request->position += 2;
        request->argc++;
        request->need = 0;
    }
    return 1;
}

size_t resp_head(char type, uint64_t number, uint8_t ret_head[RESP_HEAD_MAX])
{
    uint8_t digits[20];
    size_t count = 0, len = 0;

    do {
        digits[count++] = (uint8_t)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    ret_head[len++] = (uint8_t)type;
    while (count > 0)
        ret_head[len++] = digits[--count];
    ret_head[len++] = '\r';
    ret_head[len++] = '\n';
    return len;
}
