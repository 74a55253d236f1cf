/*
 * farmer.c - see farmer.h.
 */
#include "provision/farmer.h"

#include <string.h>

#include "lib/eth/address.h"
#include "lib/log.h"

/* What the farmer's name is good for; the address itself is the caller's to fill in. */
static struct store_farmer scope_of(const struct provision *provision)
{
    struct store_farmer scope = {.chain_id = provision->config.chain_id,
                                 .farm = provision->config.farm};

    memcpy(scope.registry, provision->config.registry, sizeof(scope.registry));
    memcpy(scope.trust, provision->config.trust, sizeof(scope.trust));
    return scope;
}

static bool same_scope(const struct store_farmer *a, const struct store_farmer *b)
{
    return a->chain_id == b->chain_id && a->farm == b->farm &&
           memcmp(a->registry, b->registry, sizeof(a->registry)) == 0 &&
           strcmp(a->trust, b->trust) == 0;
}

void farmer_resume(struct provision *provision)
{
    struct store_farmer kept, scope = scope_of(provision);
    struct error err = {0};

    if (store_load_farmer(&provision->store, &kept, &err) < 0) {
        log_info("no farmer is kept yet");
    } else if (!same_scope(&kept, &scope)) {
        log_info("the farmer that is kept was proved for another farm, registry, chain or trust");
    } else {
        memcpy(provision->farmer, kept.farmer, sizeof(provision->farmer));
        provision->has_farmer = provision->farmer_kept = true;
    }
}

void farmer_proved(struct provision *provision, const uint8_t farmer[20])
{
    static const uint8_t nobody[20];
    struct store_farmer kept = scope_of(provision);
    char text[ETH_ADDRESS_TEXT];
    struct error err = {0};

    if (memcmp(farmer, nobody, sizeof(nobody)) == 0) {
        return;
    }
    if (!provision->has_farmer ||
        memcmp(farmer, provision->farmer, sizeof(provision->farmer)) != 0) {
        memcpy(provision->farmer, farmer, sizeof(provision->farmer));
        provision->has_farmer = true;
        provision->farmer_kept = false;
        eth_address_format(farmer, text);
        log_info("the farmer is %s, as proved", text);
    }
    if (provision->farmer_kept) {
        return;
    }
    memcpy(kept.farmer, farmer, sizeof(kept.farmer));
    provision->farmer_kept = store_save_farmer(&provision->store, &kept, &err) == 0;
    if (!provision->farmer_kept) {
        log_error(&err, "the farmer is not kept");
    }
}
