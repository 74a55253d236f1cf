// Pages that a disk gives about itself: the first byte says which, the rest is the page.
// sources: core0/storage/class.c core0/storage/smart.c
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "storage/class.h"
#include "storage/smart.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct smart smart = {0};
    if (size == 0)
        return 0;
    const uint8_t *page = data + 1;
    size_t len = size - 1;
    switch (data[0] % 6) {
    case 0:
        (void)smart_parse_nvme(page, len, &smart);
        break;
    case 1:
        (void)smart_parse_ata_data(page, len, &smart);
        break;
    case 2:
        (void)smart_parse_ata_status(page, len, &smart);
        break;
    case 3:
        (void)smart_parse_scsi_log(page, len, &smart);
        break;
    case 4:
        (void)class_parse_vpd(page, len);
        break;
    default:
        (void)class_parse_identify(page, len);
        (void)smart_identify_has_smart(page, len);
        break;
    }
    if (smart.health > SMART_FAILING || memchr(smart.reason, '\0', sizeof(smart.reason)) == NULL)
        abort();
    if ((smart.health > SMART_GOOD) != (smart.reason[0] != '\0'))
        abort();
    return 0;
}
