// SPDX-License-Identifier: Apache-2.0
// The stable error and reason codes of the contracts (docs/formats.md, section 2), as the chain records them.
pragma solidity ^0.8.28;

library Codes {
    bytes32 internal constant BAD_FARM_NAME = "chain.bad-farm-name";
    bytes32 internal constant FARM_EXISTS = "chain.farm-exists";
    bytes32 internal constant FARM_UNKNOWN = "chain.farm-unknown";
    bytes32 internal constant NOT_FARMER = "chain.not-farmer";
    bytes32 internal constant NOT_TENANT = "chain.not-tenant";
    bytes32 internal constant NOT_APPROVER = "chain.not-approver";
    bytes32 internal constant NOT_BILLER = "chain.not-biller";
    bytes32 internal constant NOT_RESERVATIONS = "chain.not-reservations";

    bytes32 internal constant TOKEN_EXISTS = "join.token-exists";
    bytes32 internal constant TOKEN_LIMIT = "join.token-limit";
    bytes32 internal constant BAD_TOKEN = "join.bad-token";
    bytes32 internal constant TOKEN_UNKNOWN = "join.token-unknown";
    bytes32 internal constant TOKEN_EXPIRED = "join.token-expired";
    bytes32 internal constant TOKEN_USED = "join.token-used";

    bytes32 internal constant NODE_UNKNOWN = "node.unknown";
    bytes32 internal constant NODE_EXISTS = "node.exists";
    bytes32 internal constant BAD_SIGNATURE = "node.bad-signature";
    bytes32 internal constant BAD_REGISTRATION = "node.bad-registration";
    bytes32 internal constant NONCE_GAP = "node.nonce-gap";
    bytes32 internal constant NODE_NOT_PENDING = "node.not-pending";
    bytes32 internal constant NODE_NOT_ACTIVE = "node.not-active";
    bytes32 internal constant NODE_RETIRED = "node.retired";
    bytes32 internal constant PENDING_LIMIT = "node.pending-limit";
    bytes32 internal constant NODE_KEY_EPOCH = "node.key-epoch";
    bytes32 internal constant BAD_REPLACEMENT = "node.bad-replacement";

    bytes32 internal constant NOT_ENOUGH_CORES = "provision.not-enough-cores";
    bytes32 internal constant NOT_ENOUGH_MEMORY = "provision.not-enough-memory";
    bytes32 internal constant NOT_ENOUGH_SSD = "provision.not-enough-ssd";
    bytes32 internal constant NOT_ENOUGH_HDD = "provision.not-enough-hdd";
    bytes32 internal constant NOT_ENOUGH_ADDRESSES = "provision.not-enough-addresses";
    bytes32 internal constant NO_RESOURCES = "provision.no-resources";

    bytes32 internal constant RESERVATION_UNKNOWN = "reservation.unknown";
    bytes32 internal constant KEY_EPOCH = "reservation.key-epoch";
    bytes32 internal constant TENANT_NOT_LISTED = "reservation.tenant-not-listed";
    bytes32 internal constant OPEN_LIMIT = "reservation.open-limit";
    bytes32 internal constant CHANGE_LIMIT = "reservation.change-limit";
    bytes32 internal constant WRONG_NODE = "reservation.wrong-node";
    bytes32 internal constant WRONG_REVISION = "reservation.wrong-revision";
    bytes32 internal constant BAD_SEALED = "reservation.bad-sealed";
    bytes32 internal constant BAD_CONTENT = "reservation.bad-content";
    bytes32 internal constant BAD_TIME = "reservation.bad-time";
    bytes32 internal constant NOT_ACTIVE = "reservation.not-active";
    bytes32 internal constant HAS_CANDIDATE = "reservation.has-candidate";
    bytes32 internal constant NO_CANDIDATE = "reservation.no-candidate";
    bytes32 internal constant WRONG_STATE = "reservation.wrong-state";
    bytes32 internal constant FINAL = "reservation.final";
    bytes32 internal constant NOT_DUE = "reservation.not-due";
    bytes32 internal constant TOO_LATE = "reservation.too-late";
    bytes32 internal constant NODE_NOT_RETIRED = "reservation.node-not-retired";

    // Reasons that transitions carry.
    bytes32 internal constant CANCELLED = "reservation.cancelled";
    bytes32 internal constant WITHDRAWN = "reservation.withdrawn";
    bytes32 internal constant SUPERSEDED = "reservation.superseded";
    bytes32 internal constant APPROVE_BY = "reservation.approve-by";
    bytes32 internal constant DEPLOY_BY = "reservation.deploy-by";
    bytes32 internal constant PAY_BY = "reservation.pay-by";
}
