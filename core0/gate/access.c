/*
 * access.c - who calls: a challenge that only this node gave and that is used once, a signature over it, and what the chain says
 * of the address that made it.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "gate.h"
#include "lib/crypto/text.h"
#include "lib/eth/address.h"

/* ---- challenges ---- */

static void give(struct request *request, yyjson_val *status)
{
    struct gate *gate = request->gate;
    struct grid_challenge challenge = {.reservation = request->challenge.reservation};
    struct buffer text;

    if (!gate_learn(gate, status)) {
        request_fail_with(request, "gate.not-ready", "croft node show tells what it waits for",
                          "the node is not registered yet");
        return;
    }
    challenge.node = gate->node.id;
    challenge.chain_id = gate->node.chain_id;
    memcpy(challenge.reservations, gate->node.reservations, sizeof(challenge.reservations));
    challenge_give(gate->challenges, http_exchange_peer_network(request->exchange),
                   loop_now(gate->loop), (uint64_t)time(NULL), &challenge);
    buffer_init(&text, GRID_CHALLENGE_MAX);
    if (grid_challenge_to_json(&challenge, &text) < 0) {
        buffer_done(&text);
        request_fail_with(request, "gate.not-ready", "try again", "the node is out of memory");
        return;
    }
    http_exchange_reply(request_detach(request), 200, "application/json", text.data, text.len);
    buffer_done(&text);
}

void access_challenge(struct request *request)
{
    yyjson_val *reservation = yyjson_obj_get(yyjson_doc_get_root(request->body), "reservation");

    if (!yyjson_is_uint(reservation) || request->query.count > 0) {
        request_fail_with(request, "gate.bad-request", "use croft",
                          "a challenge is for a reservation, or for 0, the node");
        return;
    }
    request->challenge.reservation = yyjson_get_uint(reservation);
    request_call(request, "noded", "org.croft.node.GetStatus", NULL, give);
}

/* ---- the service ---- */

/* The entry of provd's list that runs, else the newest. */
static yyjson_val *find_entry(const struct request *request, yyjson_val *list, uint64_t revision)
{
    yyjson_val *entry, *found = NULL;
    size_t i, max;

    yyjson_arr_foreach(yyjson_obj_get(list, "entries"), i, max, entry)
    {
        uint64_t number = yyjson_get_uint(yyjson_obj_get(entry, "revision"));
        bool runs = yyjson_equals_str(yyjson_obj_get(entry, "step"), "running");

        if (yyjson_get_uint(yyjson_obj_get(entry, "reservation")) !=
                request->challenge.reservation ||
            (revision != 0 && number != revision))
            continue;
        if (found == NULL ||
            (runs && !yyjson_equals_str(yyjson_obj_get(found, "step"), "running")) ||
            (number > yyjson_get_uint(yyjson_obj_get(found, "revision")) &&
             runs == yyjson_equals_str(yyjson_obj_get(found, "step"), "running")))
            found = entry;
    }
    return found;
}

static bool takes_service(struct request *request, const char *name)
{
    return (size_t)snprintf(request->service, sizeof(request->service), "%s", name) <
           sizeof(request->service);
}

/* Which one is meant. False: the request was answered. */
static bool find_service(struct request *request, yyjson_val *entry)
{
    yyjson_val *services = yyjson_obj_get(entry, "services"), *item;
    const char *wanted =
        request->body != NULL
            ? yyjson_get_str(yyjson_obj_get(yyjson_doc_get_root(request->body), "service"))
            : query_get(&request->query, "service");
    char names[160] = "";
    size_t i, max, used = 0;

    request->revision = yyjson_get_uint(yyjson_obj_get(entry, "revision"));
    yyjson_arr_foreach(services, i, max, item)
    {
        const char *name = yyjson_get_str(yyjson_obj_get(item, "service"));

        if (name == NULL)
            continue;
        if (wanted != NULL && wanted[0] != '\0' ? strcmp(wanted, name) == 0 : max == 1)
            return takes_service(request, name);
        if (used + strlen(name) + 3 < sizeof(names))
            used += (size_t)snprintf(names + used, sizeof(names) - used, "%s%s",
                                     used > 0 ? ", " : "", name);
    }
    if (wanted != NULL && wanted[0] != '\0')
        request_fail_with(request, "gate.not-found", "croft reservation show lists its services",
                          "the reservation has no service \"%.60s\"%s%s", wanted,
                          used > 0 ? "; it has " : "", names);
    else if (max == 0)
        request_fail_with(request, "container.not-running",
                          "croft reservation show tells its state",
                          "the reservation has nothing that runs");
    else
        request_fail_with(request, "gate.which-service", "name one of them",
                          "the reservation has several services: %s", names);
    return false;
}

/* ---- the role ---- */

static void refuse(struct request *request, const char *whose)
{
    char address[ETH_ADDRESS_TEXT];

    eth_address_format(request->address, address);
    request_fail_with(request, "gate.not-allowed", "use the key that the right address belongs to",
                      "%s is not %s", address, whose);
}

/* An unknown reservation and somebody else's are answered alike. */
static void know_tenant(struct request *request, yyjson_val *list)
{
    int64_t revision = 0;
    uint64_t named = 0;
    uint8_t tenant[20];

    if (query_get_number(&request->query, "revision", 1, UINT32_MAX, &revision) < 0) {
        request_fail_with(request, "gate.bad-request", "revisions count from 1",
                          "revision is no number");
        return;
    }
    /* A place lies in the log of one revision. */
    if (query_get_place(&request->query, "after", UINT32_MAX, 1, &named, &request->after) < 0 ||
        (named != 0 && revision != 0 && named != (uint64_t)revision)) {
        request_fail_with(request, "gate.bad-request", "give what stands as \"at\" in an entry",
                          "after is no place in this log");
        return;
    }
    if (named != 0)
        revision = (int64_t)named;
    yyjson_val *entry = find_entry(request, list, 0);
    const char *text = yyjson_get_str(yyjson_obj_get(entry, "tenant"));
    if (text == NULL || eth_address_parse(text, tenant) < 0 ||
        memcmp(tenant, request->address, sizeof(tenant)) != 0) {
        refuse(request, "the tenant of a reservation of that number on this node");
        return;
    }
    if (revision != 0)
        entry = find_entry(request, list, (uint64_t)revision);
    if (entry == NULL) {
        request_fail_with(request, "gate.not-found", "leave --revision out for the one that runs",
                          "the node has no such revision");
        return;
    }
    if (request->method->service && !find_service(request, entry))
        return;
    request->method->handler(request);
}

/* Nobody is the farmer before provd has proved who is: who calls is not the point then. Of what keeps provd only the code is told, as
 * its sentence may hold the address of a chain endpoint, which is not everybody's to read. */
static void refuse_unknown(struct request *request, yyjson_val *status)
{
    const char *code = yyjson_get_str(yyjson_obj_get(status, "code"));
    bool never = yyjson_equals_str(yyjson_obj_get(status, "state"), "refused");

    request_fail_with(request, "gate.farmer-unknown",
                      never ? "the node's console says what is wrong with its boot parameters"
                            : "try again once the node has read its chain",
                      "the node has %s who its farmer is%s%s%s",
                      never ? "no way to prove" : "not proved yet", code != NULL ? " (" : "",
                      code != NULL ? code : "", code != NULL ? ")" : "");
}

/* status: provd's, or NULL when it does not answer: then who was proved before is the farmer still, and may read why. */
static void know_farmer(struct request *request, yyjson_val *status)
{
    struct gate *gate = request->gate;
    const char *text = yyjson_get_str(yyjson_obj_get(status, "farmer"));
    uint8_t farmer[20];

    if (text != NULL && eth_address_parse(text, farmer) == 0) {
        memcpy(gate->farmer, farmer, sizeof(gate->farmer));
        gate->has_farmer = true;
    }
    if (!gate->has_farmer) {
        refuse_unknown(request, status);
        return;
    }
    if (memcmp(gate->farmer, request->address, sizeof(gate->farmer)) != 0) {
        refuse(request, "the farmer of this node's farm");
        return;
    }
    request->method->handler(request);
}

void access_check(struct request *request, const char *authorization)
{
    struct gate *gate = request->gate;
    uint8_t nonce[GRID_ACCESS_NONCE_SIZE], signature[GRID_ACCESS_SIGNATURE];
    bool tenant = request->method->role == ROLE_TENANT;

    if (authorization == NULL ||
        grid_access_header_parse(authorization, strlen(authorization), nonce, signature) < 0) {
        request_fail_with(request, "gate.bad-challenge", "use croft",
                          "the call does not say who calls");
        return;
    }
    if (challenge_take(gate->challenges, nonce, loop_now(gate->loop), &request->challenge) < 0 ||
        grid_access_signer(&request->challenge, request->method->name, signature,
                           request->address) < 0) {
        request_fail_with(request, "gate.bad-challenge",
                          "ask for a new one: each is good for one call",
                          "the challenge is unknown, used, too old, or not signed");
        return;
    }
    if (tenant != (request->challenge.reservation != 0)) {
        request_fail_with(request, "gate.not-allowed", "croft asks for the right challenge",
                          tenant ? "this is about a reservation, and the challenge names none"
                                 : "this is about the node, and the challenge names a reservation");
        return;
    }
    if (tenant)
        request_call(request, "provd", "org.croft.provision.List", NULL, know_tenant);
    else if (gate->has_farmer)
        request_call_if_there(request, "provd", "org.croft.provision.GetStatus", know_farmer);
    else
        request_call(request, "provd", "org.croft.provision.GetStatus", NULL, know_farmer);
}
