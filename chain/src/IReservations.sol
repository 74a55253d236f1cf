// SPDX-License-Identifier: Apache-2.0
// Reservations: proposals, revisions and their states, and each node's verifiable list of changes.
pragma solidity ^0.8.28;

/// Numbers are part of the head fold and never change. Closed and above are final.
enum State {
    None, // 0: there is no such revision
    Proposed, // 1
    Approved, // 2
    Funded, // 3
    Deploying, // 4
    Active, // 5
    Grace, // 6: not paid, and runs on
    Suspended, // 7: not paid, stopped; its resources stay reserved
    Closed, // 8
    Rejected, // 9
    Expired, // 10
    Failed // 11
}

struct Proposal {
    uint64 node;
    uint32 keyEpoch; // of the sealing key that was used
    uint32 revision; // 1 for a new reservation, else the last revision plus 1
    bytes32 resources; // packed
    bytes32 contentHash; // keccak256(salt ‖ specification)
    bytes sealedData; // up to 1,024 bytes; empty: it lies at blobs/<blob>
    bytes32 sealedHash; // keccak256(sealed); with sealedData present it is computed and this is ignored
    bytes32 blob; // SHA-256 of sealed; zero with sealedData
    string[] hubs; // 1 to 3 URLs with a blob, none with sealedData; each 1 to 256 bytes
    uint64 approveBy; // Unix time; ignored where the farm has no approver
    uint64 deployBy; // Unix time; both at most 7 days ahead
    uint32 keep; // seconds that volumes outlive the end of the reservation, at most 30 days
    bool replace; // `x-croft: {update: replace}`: an update's resources count instead of, not beside, the current ones
}

/// Result(uint64 node,uint64 nonce,bytes32 bootId,uint64 reservation,uint32 revision,uint8 state,bytes32 reason)
struct Result {
    uint64 node;
    uint64 nonce; // the node's report nonce, shared with the registry's messages
    bytes32 bootId;
    uint64 reservation;
    uint32 revision;
    uint8 state; // 4 Deploying, 5 Active or 11 Failed
    bytes32 reason; // for Failed: the error code
}

struct Reservation {
    address tenant;
    uint64 node;
    uint32 current; // 0 only when everything is final
    uint32 candidate; // 0: none
    uint32 last; // the highest revision number
    uint64 keptUntil; // the time until which kept disk stays reserved; 0: none
    bytes32 kept; // packed resources (disk fields only) still reserved after the end
}

struct Revision {
    uint8 state; // State
    bool replace;
    bool deployed; // it was Deploying once, so volumes may exist
    uint32 keyEpoch;
    uint32 keep;
    uint64 approveBy;
    uint64 deployBy; // Suspended: until when it may be paid again
    bytes32 resources;
    bytes32 commitment;
}

/// Storage of one node's list: two slots, proved together (docs/formats.md).
struct Chain {
    uint64 sequence;
    uint64 lastBlock;
    bytes32 head;
}

interface IReservations {
    /// One per transition. `previousBlock`: where the node's change before this one happened (0: this is the first);
    /// several changes in one block: all but the first name that block itself.
    event Changed(
        uint64 indexed node,
        uint64 indexed id,
        uint32 revision,
        uint8 state,
        uint64 sequence,
        uint64 previousBlock,
        bytes32 reason,
        bytes32 commitment,
        address actor,
        uint64 time
    );
    /// The content of a revision, in the same transaction as its Changed(Proposed), directly before it.
    event Proposed(
        uint64 indexed node,
        uint64 indexed id,
        address indexed tenant,
        uint32 revision,
        uint32 keyEpoch,
        bytes32 resources,
        bytes32 contentHash,
        bytes32 sealedHash,
        bytes32 blob,
        uint64 approveBy,
        uint64 deployBy,
        uint32 keep,
        bool replace,
        bytes sealedData,
        string[] hubs
    );
    /// A result whose effect was not possible any more. Its nonce is used (NonceUsed in the registry).
    event ResultRefused(
        uint64 indexed node, uint64 indexed id, uint32 revision, uint8 state, uint64 nonce, bytes32 reason
    );
    /// Kept disk is not reserved any more.
    event Released(uint64 indexed node, uint64 indexed id);

    /// The registry that this contract was made for; fixed in its code.
    function registry() external view returns (address);

    // --- tenant ----------------------------------------------------------------------------------
    function propose(Proposal calldata proposal) external returns (uint64 id);
    /// A candidate revision, while the current one is Active and there is no candidate.
    function update(uint64 id, Proposal calldata proposal) external;
    /// Closes every revision that is not final, in any state.
    function cancel(uint64 id) external;
    /// Closes the candidate only.
    function withdraw(uint64 id) external;

    // --- approver of the farm ----------------------------------------------------------------------
    function approve(uint64 id, uint32 revision) external;
    function reject(uint64 id, uint32 revision, bytes32 reason) external;

    // --- biller of the farm; without one anybody may fund --------------------------------------------
    /// Approved → Funded (until deployBy), Grace → Active, Suspended → Funded (until deployBy, which is then set to a day from
    /// now: it is deployed anew).
    function fund(uint64 id, uint32 revision, bytes32 reason) external;
    /// Active → Grace of the current revision. A candidate is closed: in Grace and Suspended there is none.
    function grace(uint64 id, bytes32 reason) external;
    /// Grace → Suspended: the node stops the workload and keeps its volumes. deployBy is set to 7 days from now.
    function suspend(uint64 id, bytes32 reason) external;

    // --- node, relayed by anybody -------------------------------------------------------------------
    /// False when the nonce was used before. Reverts only as the registry's reports do.
    function result(Result calldata message, bytes calldata signature) external returns (bool taken);

    // --- anyone -----------------------------------------------------------------------------------
    /// Expires a revision whose approveBy (Proposed) or deployBy (Approved, Funded, Deploying) has passed; closes one that was
    /// Suspended until its deployBy passed.
    function expire(uint64 id, uint32 revision) external;
    /// Closes what is left of a reservation whose node is retired.
    function closeRetired(uint64 id) external;
    /// Frees kept disk after its time (at once where the node is retired).
    function release(uint64 id) external;

    // --- views ------------------------------------------------------------------------------------
    function reservation(uint64 id) external view returns (Reservation memory);
    function revision(uint64 id, uint32 number) external view returns (Revision memory);
    function reservationCount() external view returns (uint64);
    function chain(uint64 node) external view returns (Chain memory);
    /// What the reservation counts for in its node's reserved total, kept disk included.
    function held(uint64 id) external view returns (bytes32);
    /// keccak256(abi.encode(DOMAIN, chain id, this, tenant, node, keyEpoch, revision, resources, contentHash, sealedHash))
    function commitmentOf(
        address tenant,
        uint64 node,
        uint32 keyEpoch,
        uint32 revision,
        bytes32 resources,
        bytes32 contentHash,
        bytes32 sealedHash
    ) external view returns (bytes32);
}
