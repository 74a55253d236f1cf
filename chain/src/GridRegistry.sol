// SPDX-License-Identifier: Apache-2.0
// Nodes: registration, signed reports, capacity and what of it is reserved. Farms and tokens are in GridFarms.
pragma solidity ^0.8.28;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {Codes} from "./Codes.sol";
import {GridFarms} from "./GridFarms.sol";
import {KeyEpoch, Node, NodeState, Profile, Registration, Report, RunMode, Token} from "./IGridRegistry.sol";
import {Resources} from "./Resources.sol";
import {TypedData} from "./TypedData.sol";

contract GridRegistry is GridFarms, EIP712 {
    uint32 internal constant MAX_PENDING = 20; // a farm's; strangers can register, so it is bounded
    uint256 internal constant MAX_ADDRESSES = 4;
    uint256 internal constant MAX_HOST = 253; // longest host name (RFC 1035)
    uint64 internal constant KEY_GRACE = 24 hours;

    uint64 public constant reportInterval = 1 hours;

    modifier onlyReservations() {
        _refuseIf(msg.sender != _reservations, Codes.NOT_RESERVATIONS);
        _;
    }

    /// `reservations_`: the contract that the deployer creates next (its address is known from the deployer's nonce); it
    /// refuses to be made for a registry that does not name it.
    constructor(address reservations_) EIP712("Croft", "1") {
        _reservations = reservations_;
    }

    function reservations() external view returns (address) {
        return _reservations;
    }

    // --- joining -----------------------------------------------------------------------------------

    function register(Registration calldata r, bytes calldata signature, bytes calldata joinSignature)
        external
        returns (uint64 id)
    {
        id = _nodeByIdentity[r.identity];
        if (id != 0) {
            Node storage old = _nodes[id];
            if (r.nonce <= old.nonce) return id;
            _refuseIf(old.state != uint8(NodeState.Retired), Codes.NODE_EXISTS);
            _refuseIf(r.nonce != old.nonce + 1, Codes.NONCE_GAP);
        } else {
            _refuseIf(r.nonce != 1, Codes.NONCE_GAP);
        }
        FarmRecord storage record = _farmOf(r.farm);
        _refuseIf(
            r.identity == address(0) || !_profileValid(r.addresses, r.runMode) || r.bootId == 0 || r.tlsKeyHash == 0
                || r.sealingKey == 0 || r.keyEpoch == 0,
            Codes.BAD_REGISTRATION
        );
        _checkSignature(r.identity, TypedData.hash(r), signature);

        id = ++_nodeCount;
        _nodeByIdentity[r.identity] = id;
        record.nodes.push(id);
        Node storage n = _nodes[id];
        n.identity = r.identity;
        n.farm = r.farm;
        n.runMode = r.runMode;
        n.ephemeral = r.ephemeral;
        n.nonce = r.nonce;
        n.lastReport = uint64(block.timestamp);
        n.keySince = uint64(block.timestamp);
        n.keyEpoch = r.keyEpoch;
        n.bootId = r.bootId;
        n.capacity = r.capacity;
        n.sealingKey = r.sealingKey;
        n.tlsKeyHash = r.tlsKeyHash;
        n.imageDigest = r.imageDigest;
        n.registered = uint64(block.timestamp);
        n.addresses = r.addresses;
        emit NodeRegistered(id, r.farm, r.identity);
        emit NonceUsed(id, r.nonce, r.bootId);
        if (joinSignature.length == 0) {
            _refuseIf(record.pending >= MAX_PENDING, Codes.PENDING_LIMIT);
            record.pending++;
            _setState(id, n, NodeState.Pending, r.identity, 0);
        } else {
            _setState(id, n, NodeState.Active, _useToken(r.farm, r.identity, joinSignature), 0);
        }
    }

    function join(uint64 nodeId, bytes calldata joinSignature) external {
        Node storage n = _pending(nodeId);
        address key = _useToken(n.farm, n.identity, joinSignature);
        _farms[n.farm].pending--;
        _setState(nodeId, n, NodeState.Active, key, 0);
    }

    function approve(uint64 nodeId, uint64 replaces) external {
        Node storage n = _pending(nodeId);
        FarmRecord storage record = _ownFarm(n.farm);
        record.pending--;
        if (replaces != 0) {
            Node storage old = _nodes[replaces];
            _refuseIf(old.farm != n.farm || old.state != uint8(NodeState.Active), Codes.BAD_REPLACEMENT);
            old.replacedBy = nodeId;
            _setState(replaces, old, NodeState.Retired, msg.sender, 0);
        }
        _setState(nodeId, n, NodeState.Active, msg.sender, replaces);
    }

    function retire(uint64 nodeId) external {
        Node storage n = _node(nodeId);
        FarmRecord storage record = _ownFarm(n.farm);
        _refuseIf(n.state == uint8(NodeState.Retired), Codes.NODE_RETIRED);
        if (n.state == uint8(NodeState.Pending)) record.pending--;
        _setState(nodeId, n, NodeState.Retired, msg.sender, 0);
    }

    // --- reports -----------------------------------------------------------------------------------

    function report(Report calldata m, bytes calldata signature) external returns (bool taken) {
        Node storage n = _node(m.node);
        if (!_use(n, m.node, m.nonce, m.bootId, TypedData.hash(m), signature)) return false;
        if (_refused(n, m.node, m.nonce, 0)) return true;
        if (n.capacity != m.capacity) n.capacity = m.capacity;
        emit Reported(m.node, m.nonce, m.uptime, m.capacity, m.version);
        return true;
    }

    function changeProfile(Profile calldata m, bytes calldata signature) external returns (bool taken) {
        Node storage n = _node(m.node);
        if (!_use(n, m.node, m.nonce, m.bootId, TypedData.hash(m), signature)) return false;
        bool valid = _profileValid(m.addresses, m.runMode) && m.tlsKeyHash != 0;
        if (_refused(n, m.node, m.nonce, valid ? bytes32(0) : Codes.BAD_REGISTRATION)) return true;
        n.addresses = m.addresses;
        n.tlsKeyHash = m.tlsKeyHash;
        n.runMode = m.runMode;
        n.imageDigest = m.imageDigest;
        emit ProfileChanged(m.node, m.addresses, m.tlsKeyHash, m.runMode, m.imageDigest);
        return true;
    }

    function changeKeyEpoch(KeyEpoch calldata m, bytes calldata signature) external returns (bool taken) {
        Node storage n = _node(m.node);
        if (!_use(n, m.node, m.nonce, m.bootId, TypedData.hash(m), signature)) return false;
        bool valid = uint256(m.keyEpoch) == uint256(n.keyEpoch) + 1 && m.sealingKey != 0;
        if (_refused(n, m.node, m.nonce, valid ? bytes32(0) : Codes.NODE_KEY_EPOCH)) return true;
        n.previousSealingKey = n.sealingKey;
        n.sealingKey = m.sealingKey;
        n.keyEpoch = m.keyEpoch;
        n.keySince = uint64(block.timestamp);
        emit KeyEpochChanged(m.node, m.keyEpoch, m.sealingKey);
        return true;
    }

    // --- views -------------------------------------------------------------------------------------

    function node(uint64 id) external view returns (Node memory) {
        return _node(id);
    }

    function nodeCount() external view returns (uint64) {
        return _nodeCount;
    }

    function nodeByIdentity(address identity) external view returns (uint64) {
        return _nodeByIdentity[identity];
    }

    function nodesOf(uint64 farmId, uint256 from, uint256 count) external view returns (uint64[] memory ids) {
        uint64[] storage all = _farmOf(farmId).nodes;
        uint256 left = from < all.length ? all.length - from : 0;
        ids = new uint64[](count < left ? count : left);
        for (uint256 i = 0; i < ids.length; i++) {
            ids[i] = all[from + i];
        }
    }

    function nodeState(uint64 nodeId) external view returns (uint8) {
        return _node(nodeId).state;
    }

    function approverOf(uint64 nodeId) external view returns (address) {
        return _farms[_node(nodeId).farm].policy.approver;
    }

    function billerOf(uint64 nodeId) external view returns (address) {
        return _farms[_node(nodeId).farm].biller;
    }

    function keyEpochTaken(uint64 nodeId, uint32 keyEpoch) external view returns (bool) {
        return _epochTaken(_node(nodeId), keyEpoch);
    }

    // --- for Reservations --------------------------------------------------------------------------

    function useNonce(uint64 nodeId, uint64 nonce, bytes32 bootId, bytes32 digest, bytes calldata signature)
        external
        onlyReservations
        returns (bool fresh, address identity, uint8 state)
    {
        Node storage n = _node(nodeId);
        fresh = _useDigest(n, nodeId, nonce, bootId, digest, signature);
        return (fresh, n.identity, n.state);
    }

    function admit(uint64 nodeId, address tenant, uint32 keyEpoch, bool opens)
        external
        onlyReservations
        returns (address approver, address biller)
    {
        Node storage n = _node(nodeId);
        _refuseIf(n.state != uint8(NodeState.Active), Codes.NODE_NOT_ACTIVE);
        _refuseIf(!_epochTaken(n, keyEpoch), Codes.KEY_EPOCH);
        FarmRecord storage record = _farms[n.farm];
        _refuseIf(!_allowed(record, tenant), Codes.TENANT_NOT_LISTED);
        uint32 today = _today();
        uint32 changes = record.day == today ? record.changes : 0;
        _refuseIf(changes >= record.policy.maxChanges, Codes.CHANGE_LIMIT);
        record.day = today;
        record.changes = changes + 1;
        if (opens) {
            _refuseIf(record.open >= record.policy.maxOpen, Codes.OPEN_LIMIT);
            record.open++;
        }
        return (record.policy.approver, record.biller);
    }

    function move(uint64 nodeId, bytes32 before, bytes32 afterwards) external onlyReservations {
        Node storage n = _nodes[nodeId];
        n.reserved = Resources.move(n.reserved, before, afterwards, n.capacity);
    }

    function closed(uint64 nodeId) external onlyReservations {
        _farms[_nodes[nodeId].farm].open--;
    }

    // --- internal ----------------------------------------------------------------------------------

    function _node(uint64 id) private view returns (Node storage n) {
        n = _nodes[id];
        _refuseIf(n.identity == address(0), Codes.NODE_UNKNOWN);
    }

    function _pending(uint64 id) private view returns (Node storage n) {
        n = _node(id);
        _refuseIf(n.state != uint8(NodeState.Pending), Codes.NODE_NOT_PENDING);
    }

    function _setState(uint64 id, Node storage n, NodeState state, address actor, uint64 replaces) private {
        n.state = uint8(state);
        emit NodeStateChanged(id, uint8(state), actor, replaces);
    }

    function _epochTaken(Node storage n, uint32 keyEpoch) private view returns (bool) {
        if (keyEpoch == n.keyEpoch) return true;
        return uint256(keyEpoch) + 1 == n.keyEpoch && n.previousSealingKey != 0
            && block.timestamp < n.keySince + KEY_GRACE;
    }

    function _profileValid(string[] calldata addresses, uint8 runMode) private pure returns (bool) {
        if (addresses.length > MAX_ADDRESSES || runMode > uint8(type(RunMode).max)) return false;
        for (uint256 i = 0; i < addresses.length; i++) {
            uint256 length = bytes(addresses[i]).length;
            if (length == 0 || length > MAX_HOST) return false;
        }
        return true;
    }

    function _useToken(uint64 farmId, address identity, bytes calldata signature) private returns (address key) {
        bytes32 digest = _hashTypedDataV4(TypedData.hashJoin(farmId, identity));
        (key,,) = ECDSA.tryRecover(digest, signature);
        Token storage t = _tokens[key];
        // A signature over anything else recovers some other address, which is no token.
        _refuseIf(key == address(0) || t.farm != farmId, Codes.TOKEN_UNKNOWN);
        _refuseIf(block.timestamp >= t.expires, Codes.TOKEN_EXPIRED);
        _refuseIf(t.used >= t.uses, Codes.TOKEN_USED);
        t.used++;
    }

    function _checkSignature(address identity, bytes32 structHash, bytes calldata signature) private view {
        _checkDigest(identity, _hashTypedDataV4(structHash), signature);
    }

    function _checkDigest(address identity, bytes32 digest, bytes calldata signature) private pure {
        (address signer,,) = ECDSA.tryRecover(digest, signature);
        _refuseIf(signer == address(0) || signer != identity, Codes.BAD_SIGNATURE);
    }

    function _use(
        Node storage n,
        uint64 id,
        uint64 nonce,
        bytes32 bootId,
        bytes32 structHash,
        bytes calldata signature
    ) private returns (bool) {
        return _useDigest(n, id, nonce, bootId, _hashTypedDataV4(structHash), signature);
    }

    /// False: the nonce was used before, nothing happens (what it did, it did then).
    function _useDigest(
        Node storage n,
        uint64 id,
        uint64 nonce,
        bytes32 bootId,
        bytes32 digest,
        bytes calldata signature
    ) private returns (bool) {
        if (nonce <= n.nonce) return false;
        _refuseIf(nonce != n.nonce + 1, Codes.NONCE_GAP);
        _checkDigest(n.identity, digest, signature);
        n.nonce = nonce;
        n.lastReport = uint64(block.timestamp);
        if (n.bootId != bootId) n.bootId = bootId;
        emit NonceUsed(id, nonce, bootId);
        return true;
    }

    /// Says why a message that used its nonce has no effect. A retired node's never has.
    function _refused(Node storage n, uint64 id, uint64 nonce, bytes32 code) private returns (bool) {
        if (n.state == uint8(NodeState.Retired)) code = Codes.NODE_RETIRED;
        if (code == 0) return false;
        emit ReportRefused(id, nonce, code);
        return true;
    }
}
