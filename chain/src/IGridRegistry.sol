// SPDX-License-Identifier: Apache-2.0
// The registry of farms, join tokens and nodes: what others may call, read and listen to.
pragma solidity ^0.8.28;

/// Pending: may report, takes no reservation. Retired: final for this node id.
enum NodeState {
    None, // 0: there is no such node
    Pending, // 1
    Active, // 2
    Retired // 3
}

/// The `runmode` boot parameter. Part of what a node registers and signs.
enum RunMode {
    Prod, // 0
    Test, // 1
    Dev // 2
}

/// What a farmer settles about a farm. Limits count for the whole farm.
struct FarmPolicy {
    address approver; // who approves or rejects proposals; zero: proposals are approved at once
    bool anyTenant; // true: tenants need not be listed
    uint32 maxOpen; // reservations that are not final, all nodes of the farm together
    uint32 maxChanges; // proposals and updates a day (86,400 s of block time, counted from the epoch)
}

struct Farm {
    address farmer;
    string name;
    FarmPolicy policy;
    uint32 open; // reservations that are not final now
    uint32 changes; // proposals and updates of the current day
    uint32 pending; // nodes that wait for approval
}

/// A join token is a private key; the registry knows its address.
struct Token {
    uint64 farm; // 0: there is no such token
    uint64 expires; // Unix time; the token is refused from this second on
    uint32 uses; // how often it may be used
    uint32 used; // how often it was
}

/// Signed by a node's identity key, EIP-712 type:
/// Registration(uint64 farm,address identity,uint64 nonce,bytes32 bootId,string[] addresses,bytes32 tlsKeyHash,bytes32 sealingKey,uint32 keyEpoch,uint8 runMode,bytes32 imageDigest,bytes32 capacity,bool ephemeral)
struct Registration {
    uint64 farm;
    address identity; // the signer
    uint64 nonce; // 1 for an identity that never registered, else the next one (after Retired)
    bytes32 bootId; // the kernel's boot_id (16 bytes) followed by zeros
    string[] addresses; // at most 4 hosts, each 1 to 253 bytes
    bytes32 tlsKeyHash; // SHA-256 of the SubjectPublicKeyInfo of the node's listener
    bytes32 sealingKey; // X25519 public key
    uint32 keyEpoch; // number of the sealing key, from 1
    uint8 runMode; // RunMode
    bytes32 imageDigest; // SHA-256 of the image that runs
    bytes32 capacity; // packed resources
    bool ephemeral; // the identity lives in memory only (no disk)
}

/// Report(uint64 node,uint64 nonce,bytes32 bootId,uint64 uptime,bytes32 capacity,bytes32 version)
struct Report {
    uint64 node;
    uint64 nonce;
    bytes32 bootId;
    uint64 uptime; // seconds since the node's boot
    bytes32 capacity; // packed resources
    bytes32 version; // ASCII, zero-padded
}

/// What a node may change about itself; all fields replace the old ones.
/// Profile(uint64 node,uint64 nonce,bytes32 bootId,string[] addresses,bytes32 tlsKeyHash,uint8 runMode,bytes32 imageDigest)
struct Profile {
    uint64 node;
    uint64 nonce;
    bytes32 bootId;
    string[] addresses;
    bytes32 tlsKeyHash;
    uint8 runMode;
    bytes32 imageDigest;
}

/// KeyEpoch(uint64 node,uint64 nonce,bytes32 bootId,bytes32 sealingKey,uint32 keyEpoch)
struct KeyEpoch {
    uint64 node;
    uint64 nonce;
    bytes32 bootId;
    bytes32 sealingKey;
    uint32 keyEpoch; // exactly the current one plus 1
}

/// A node as the registry holds it. Order and types are the storage layout (docs/formats.md).
struct Node {
    address identity;
    uint64 farm;
    uint8 state; // NodeState
    uint8 runMode; // RunMode
    bool ephemeral;
    uint64 nonce; // the last one used
    uint64 lastReport; // time of the block that took the node's last message
    uint64 keySince; // time of the block that took the current key epoch
    uint32 keyEpoch;
    bytes32 bootId;
    bytes32 capacity; // packed resources
    bytes32 reserved; // packed resources
    bytes32 sealingKey;
    bytes32 previousSealingKey; // of keyEpoch - 1, taken until keySince + 24 h; zero: none
    bytes32 tlsKeyHash;
    bytes32 imageDigest;
    uint64 registered; // time
    uint64 replacedBy; // the node that took this one's place, or 0
    string[] addresses;
}

interface IGridRegistry {
    /// Every refusal of both contracts. `code` is the stable error code in ASCII, zero-padded (docs/formats.md).
    error Refused(bytes32 code);

    event FarmCreated(uint64 indexed farm, address indexed farmer, string name);
    event FarmPolicyChanged(uint64 indexed farm, FarmPolicy policy);
    event FarmBillerChanged(uint64 indexed farm, address indexed biller);
    event TenantListed(uint64 indexed farm, address indexed tenant, bool listed);
    event TokenCreated(uint64 indexed farm, address indexed token, uint64 expires, uint32 uses);
    event TokenRevoked(uint64 indexed farm, address indexed token);
    event NodeRegistered(uint64 indexed node, uint64 indexed farm, address indexed identity);
    /// `actor`: the join token's address, the farmer, or (Pending) the identity itself.
    event NodeStateChanged(uint64 indexed node, uint8 state, address actor, uint64 replaces);
    /// Every message of a node that was taken, by either contract, with or without effect.
    event NonceUsed(uint64 indexed node, uint64 nonce, bytes32 bootId);
    /// Beside NonceUsed when the message's effect was not possible any more.
    event ReportRefused(uint64 indexed node, uint64 nonce, bytes32 reason);
    event Reported(uint64 indexed node, uint64 nonce, uint64 uptime, bytes32 capacity, bytes32 version);
    event ProfileChanged(uint64 indexed node, string[] addresses, bytes32 tlsKeyHash, uint8 runMode, bytes32 imageDigest);
    event KeyEpochChanged(uint64 indexed node, uint32 keyEpoch, bytes32 sealingKey);

    // --- constants -------------------------------------------------------------------------------
    /// Seconds: a node that sent nothing for two of these counts as offline.
    function reportInterval() external view returns (uint64);
    /// The Reservations contract that this registry trusts. Storage slot 0.
    function reservations() external view returns (address);

    // --- farms -----------------------------------------------------------------------------------
    /// The caller becomes the farmer. `name`: 1 to 64 printable ASCII characters, no space at either end,
    /// unique without regard to case. The farmer is always allowed as tenant; no limit is set tighter
    /// than 256 open reservations and 1,000 changes a day until the farmer does.
    function createFarm(string calldata name) external returns (uint64 id);
    function setFarmPolicy(uint64 farmId, FarmPolicy calldata policy) external;
    /// By the farmer: who alone says which of the farm's reservations are paid (an account or a contract); zero: nobody, what is
    /// approved counts as funded. It holds for the reservations that are open already, too.
    function setBiller(uint64 farmId, address biller) external;
    function billerOfFarm(uint64 farmId) external view returns (address);
    function listTenant(uint64 farmId, address tenant, bool listed) external;
    function farm(uint64 id) external view returns (Farm memory);
    function farmCount() external view returns (uint64);
    /// 0: there is no farm of that name.
    function farmByName(string calldata name) external view returns (uint64);
    function tenantAllowed(uint64 farmId, address tenant) external view returns (bool);
    function tenantsOf(uint64 farmId) external view returns (address[] memory);

    // --- join tokens -----------------------------------------------------------------------------
    /// By the farmer. At most 64 tokens a farm at a time; an address is a token once and never again.
    function createToken(uint64 farmId, address key, uint64 expires, uint32 uses) external;
    /// By the farmer.
    function revokeToken(address key) external;
    function token(address key) external view returns (Token memory);
    function tokensOf(uint64 farmId) external view returns (address[] memory);

    // --- nodes -----------------------------------------------------------------------------------
    /// By anybody. With a token's signature over Join(uint64 farm,address node) the node is Active at once,
    /// with an empty one it is Pending. A repeated registration changes nothing and returns the id.
    function register(Registration calldata registration, bytes calldata signature, bytes calldata joinSignature)
        external
        returns (uint64 id);
    /// By anybody: a token's signature makes a Pending node Active.
    function join(uint64 nodeId, bytes calldata joinSignature) external;
    /// By the farmer. With `replaces` != 0 that node of the same farm is retired in favour of this one.
    function approve(uint64 nodeId, uint64 replaces) external;
    /// By the farmer, Pending or Active. Its reservations are closed by anyone's call (IReservations.closeRetired).
    function retire(uint64 nodeId) external;
    /// By anybody. Each: false when the nonce was used before (nothing changes), reverts only for a bad signature
    /// (`node.bad-signature`), an unknown node (`node.unknown`) and a nonce that is not the next (`node.nonce-gap`).
    function report(Report calldata message, bytes calldata signature) external returns (bool taken);
    function changeProfile(Profile calldata message, bytes calldata signature) external returns (bool taken);
    function changeKeyEpoch(KeyEpoch calldata message, bytes calldata signature) external returns (bool taken);
    function node(uint64 id) external view returns (Node memory);
    function nodeCount() external view returns (uint64);
    /// The newest node id of an identity, 0: never registered.
    function nodeByIdentity(address identity) external view returns (uint64);
    /// Ids of a farm's nodes, retired ones too, in order of registration.
    function nodesOf(uint64 farmId, uint256 from, uint256 count) external view returns (uint64[] memory);
    function nodeState(uint64 nodeId) external view returns (uint8);
    /// The approver of the node's farm, zero: none.
    function approverOf(uint64 nodeId) external view returns (address);
    /// The biller of the node's farm, zero: none.
    function billerOf(uint64 nodeId) external view returns (address);
    /// True for the node's current key epoch, and for 24 h after a change for the one before.
    function keyEpochTaken(uint64 nodeId, uint32 keyEpoch) external view returns (bool);

    // --- only for the Reservations contract --------------------------------------------------------
    /// Checks signature and nonce of a node's result and uses the nonce. False: it was used before.
    function useNonce(uint64 nodeId, uint64 nonce, bytes32 bootId, bytes32 digest, bytes calldata signature)
        external
        returns (bool fresh, address identity, uint8 state);
    /// Checks that `tenant` may propose on `node` with `keyEpoch`, counts it. Returns the farm's approver and biller.
    function admit(uint64 nodeId, address tenant, uint32 keyEpoch, bool opens)
        external
        returns (address approver, address biller);
    /// reserved += after - before, field by field; a field that grows must fit the capacity.
    function move(uint64 nodeId, bytes32 before, bytes32 afterwards) external;
    /// One reservation of the node's farm is final.
    function closed(uint64 nodeId) external;
}
