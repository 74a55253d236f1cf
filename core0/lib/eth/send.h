/*
 * send.h - from a call to a mined transaction: estimate, fees, nonce, sign, send, wait. Blocking; for the command line.
 *
 * A daemon that must lose nothing (croft-relay) does not use it: it has a journal.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "lib/error.h"
#include "lib/eth/log.h"
#include "lib/eth/rpc.h"

struct eth_sender {
    struct eth_rpc *rpc;
    uint64_t chain_id; /* checked against eth_chainId: chain.wrong-id */
    uint8_t key[32];
    uint64_t
        timeout_us; /* until mined; 0: 120 s, then chain.timeout (-ETIMEDOUT) with the hash in the message */
};

/* Fees paid: base fee doubled plus eth_maxPriorityFeePerGas; gas = estimate * 5/4. A revert at the estimate comes back as its
 * code before anything is paid. A transaction that is mined and reverted: chain.reverted. Receipt: eth_receipt_done. */
int eth_send(const struct eth_sender *sender, const uint8_t to[20], const void *data, size_t len,
             struct eth_receipt *ret_receipt, struct error *err);

/* 0 if the endpoint's eth_chainId is this; chain.wrong-id, chain.unreachable. */
int eth_check_chain_id(struct eth_rpc *rpc, uint64_t chain_id, struct error *err);
