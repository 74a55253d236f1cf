/*
 * replaced.c - see replaced.h.
 */
#include "provision/replaced.h"

#include <stdlib.h>
#include <string.h>

#include "lib/log.h"
#include "provision/deployment.h"
#include "provision/store.h"

static bool is_replaced(const struct deployment *d, const struct ledger *latest)
{
    const struct ledger_revision *entry = NULL;

    if (d->replaced != REPLACED_NOT || d->dead || latest == NULL) {
        return d->replaced != REPLACED_NOT;
    }
    for (size_t i = 0; i < latest->count; i++) {
        if (latest->revisions[i].id == d->id && latest->revisions[i].revision == d->revision) {
            entry = &latest->revisions[i];
        }
    }
    return entry == NULL || memcmp(entry->commitment, d->commitment, sizeof(d->commitment)) != 0;
}

static void keep(struct provision *provision, const struct ledger *latest)
{
    struct store_replaced *list;
    struct error err = {0};
    size_t count = 0;

    for (const struct deployment *d = provision->deployments; d != NULL; d = d->next) {
        count++;
    }
    list = calloc(count + 1, sizeof(*list));
    if (list == NULL) {
        log_err("what a reorganisation took back is not remembered: out of memory");
        return;
    }
    count = 0;
    for (const struct deployment *d = provision->deployments; d != NULL; d = d->next) {
        if (is_replaced(d, latest)) {
            list[count++] = (struct store_replaced){d->id, d->revision};
        }
    }
    if (store_save_replaced(&provision->store, list, count, &err) < 0) {
        log_error(&err, "what a reorganisation took back is not remembered");
    }
    free(list);
}

void replaced_note(struct provision *provision, const struct ledger *latest)
{
    keep(provision, latest);
}

void replaced_swept(struct provision *provision)
{
    keep(provision, NULL);
}

void replaced_resume(struct provision *provision)
{
    struct store_replaced *list;
    struct ledger_content none = {0};
    struct error err = {0};
    size_t count;

    if (store_load_replaced(&provision->store, &list, &count, &err) < 0) {
        log_error(&err, "what a reorganisation took back is not known");
        return;
    }
    for (size_t i = 0; i < count; i++) {
        /* No proposal has its commitment, so the next look at the list finds it taken back. */
        struct ledger_revision revision = {
            .id = list[i].reservation, .revision = list[i].revision, .content = &none};
        struct deployment *d;

        if (deployment_new(provision, &revision, &d) < 0) {
            log_err("reservation %llu: out of memory", (unsigned long long)revision.id);
            break;
        }
        d->next = provision->deployments;
        provision->deployments = d;
    }
    free(list);
}
