// Packets of DHCP servers, options of router advertisements and reports of helpers. The corpus answers the number and
// MAC that are fixed here, so that mutations pass those checks.
// sources: core0/net/lease.c core0/net/address.c core0/net/helper.c
#include <stdlib.h>
#include <string.h>

#include "net/helper.h"
#include "net/lease.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t mac[6] = {2, 0, 0, 0, 0, 1};
    struct address servers[LEASE_LIST_MAX];
    struct helper_report report;
    enum dhcp_type type;
    struct lease lease;
    uint32_t seconds;
    size_t count = 0;

    if (lease_read_packet(data, size, 0x01020304, mac, &type, &lease) == 0) {
        if (lease.dns_count > LEASE_LIST_MAX || lease.ntp_count > LEASE_LIST_MAX)
            abort();
        if (type != DHCP_NAK &&
            (lease.address.prefix < 1 || lease.address.prefix > 32 || lease.seconds == 0))
            abort();
    }
    if (lease_parse_rdnss(data, size, servers, LEASE_LIST_MAX, &count, &seconds) == 0 &&
        count > LEASE_LIST_MAX)
        abort();
    (void)helper_report_parse((const char *)data, size, &report);
    return 0;
}
