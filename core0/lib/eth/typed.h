/*
 * typed.h - EIP-712: hashes of typed data.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "lib/eth/abi.h"

struct eth_domain {
    const char *name;
    const char *version;
    uint64_t chain_id;
    uint8_t contract[20];
};

/* EIP712Domain(string name,string version,uint256 chainId,address verifyingContract) */
void eth_domain_separator(const struct eth_domain *domain, uint8_t ret_separator[32]);
/* hashStruct: type is "Report(uint64 node,bytes32 bootId,string[] addresses)"; members may be atomic types, bytes,
 * string and arrays of those. One value per member. 0, -EINVAL, -ENOMEM. */
int eth_typed_struct_hash(const char *type, const struct abi_value *values, size_t count,
                          uint8_t ret_hash[32]);
/* keccak256(0x1901 ‖ separator ‖ hashStruct): what is signed. */
int eth_typed_digest(const struct eth_domain *domain, const char *type,
                     const struct abi_value *values, size_t count, uint8_t ret_digest[32]);
