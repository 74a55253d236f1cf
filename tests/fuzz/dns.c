// Questions of containers and answers of servers: dns.c must read any bytes and write only answers it can read itself.
// sources: core0/net/dns.c core0/net/address.c
#include <netinet/in.h>
#include <stdlib.h>

#include "net/dns.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct dns_question question, again;
    struct address addresses[2] = {{.family = AF_INET}, {.family = AF_INET6}};
    uint8_t answer[512];
    size_t len;

    if (dns_read_question(data, size, &question) < 0)
        return 0;
    len = dns_write_answer(data, &question, DNS_RCODE_OK, addresses, 2, answer, sizeof(answer));
    if (len == 0 || len > sizeof(answer) || !dns_is_answer(answer, len, data, question.end))
        abort();
    if (dns_read_question(answer, len, &again) == 0)
        abort(); // an answer is no question
    return 0;
}
