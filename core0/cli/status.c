/*
 * status.c - with which status `croft` ends: a table of error codes (interfaces.md, "Exit status").
 *
 * 2: what the caller wrote is wrong, in the command, its settings or a file it names; nothing was asked of anybody.
 * 3: a contract, the farmer's rules, the node's check of the reservation or a rule of ours says no.
 * 4: it was not done in time. 1: everything else, such as a hub that does not answer or a container that ends.
 */
#include <errno.h>
#include <string.h>

#include "cli/verbs.h"

static const struct {
    const char *code; /* ended by '.' or '-': every code that begins so */
    enum cli_status status;
} statuses[] = {
    {"cli.wrong-use", CLI_USAGE},
    {"cli.bad-option", CLI_USAGE},
    {"cli.bad-config", CLI_USAGE},
    {"cli.not-set", CLI_USAGE},
    {"chain.bad-url", CLI_USAGE},
    {"deploy.unsupported-key", CLI_USAGE},
    {"deploy.bad-compose", CLI_USAGE},
    {"deploy.bad-lock", CLI_USAGE},
    {"deploy.missing-variable", CLI_USAGE},
    {"deploy.blob-needed", CLI_USAGE},
    {"deploy.no-hub", CLI_USAGE},
    {"image.bad-id", CLI_USAGE},
    {"image.bad-lock", CLI_USAGE},
    {"image.not-locked", CLI_USAGE},
    {"media.bad-parameter", CLI_USAGE},
    {"provision.timed-out", CLI_TIMED_OUT},
    {"reservation.approve-by", CLI_TIMED_OUT},
    {"reservation.deploy-by", CLI_TIMED_OUT},
    {"reservation.pay-by", CLI_TIMED_OUT},
    {"gate.timeout", CLI_TIMED_OUT},
    {"gate.wrong-", CLI_REFUSED},
    {"gate.not-allowed", CLI_REFUSED},
    {"join.", CLI_REFUSED},
    {"node.", CLI_REFUSED},
    {"reservation.", CLI_REFUSED},
    {"provision.", CLI_REFUSED},
    {"storage.disk-protected", CLI_REFUSED},
    {"storage.disk-in-use", CLI_REFUSED},
    {"storage.disk-busy", CLI_REFUSED},
    {"deploy.refused", CLI_REFUSED},
    {"chain.farm-", CLI_REFUSED},
    {"chain.not-", CLI_REFUSED},
    {"chain.bad-farm-name", CLI_REFUSED},
    {"chain.reverted", CLI_REFUSED},
    {"chain.wrong-id", CLI_REFUSED},
    {"chain.plain-refused", CLI_REFUSED},
};

static bool matches(const char *row, const char *code)
{
    size_t len = strlen(row);
    bool begins = row[len - 1] == '.' || row[len - 1] == '-';
    return begins ? strncmp(row, code, len) == 0 : strcmp(row, code) == 0;
}

enum cli_status cli_status_of(int ret, const struct error *err)
{
    if (ret == 0) {
        return CLI_DONE;
    }
    for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++) {
        if (matches(statuses[i].code, err->code)) {
            return statuses[i].status;
        }
    }
    return ret == -ETIMEDOUT ? CLI_TIMED_OUT : CLI_FAILED;
}
