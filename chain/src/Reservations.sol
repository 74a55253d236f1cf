// SPDX-License-Identifier: Apache-2.0
// Reservations: a table of states, what they hold of a node, and every node's list of changes.
//
// Invariants, proved by chain/test/Invariants.t.sol:
// 1. A node's reserved total is the sum of held() over its reservations, field by field.
// 2. A node's sequence and head are the refold of its Changed events.
// 3. A final revision never changes again.
// 4. Beside a revision in Grace or Suspended there is no candidate.
pragma solidity ^0.8.28;

import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {Codes} from "./Codes.sol";
import {IGridRegistry, NodeState} from "./IGridRegistry.sol";
import {Chain, IReservations, Proposal, Reservation, Result, Revision, State} from "./IReservations.sol";
import {Resources} from "./Resources.sol";
import {TypedData} from "./TypedData.sol";

/// Its own base contract, so that its slots come before those of the bases that follow (docs/formats.md, section 7).
abstract contract ReservationsStorage is IReservations {
    struct Record {
        address tenant;
        uint64 node;
        uint32 current; // 0: everything is final
        uint32 candidate; // 0: none
        uint32 updates; // the last revision is 1 + updates: a new reservation leaves this slot untouched
        uint64 keptUntil;
        bytes32 kept;
    }

    mapping(uint64 node => Chain) internal _chains; // slot 0
    mapping(uint64 id => Record) internal _records; // slot 1
    mapping(uint64 id => mapping(uint32 number => Revision)) internal _revisions; // slot 2
    uint64 internal _count; // slot 3
}

contract Reservations is ReservationsStorage, EIP712 {
    bytes32 internal constant DOMAIN = keccak256("croft-commitment-v1");
    uint256 internal constant MAX_SEALED = 1024;
    uint256 internal constant MAX_HUBS = 3;
    uint256 internal constant MAX_URL = 256;
    uint64 internal constant MAX_WAIT = 7 days; // a proposal holds capacity, so it may not wait for ever
    uint32 internal constant MAX_KEEP = 30 days;
    uint64 internal constant MAX_SUSPENDED = 7 days; // what is suspended holds its whole capacity
    uint64 internal constant DEPLOY_AGAIN = 1 days; // for the node, after a suspended one was paid

    IGridRegistry private immutable _registry;

    constructor(IGridRegistry registry_) EIP712("Croft", "1") {
        _refuseIf(registry_.reservations() != address(this), Codes.NOT_RESERVATIONS);
        _registry = registry_;
    }

    function registry() external view returns (address) {
        return address(_registry);
    }

    // --- tenant --------------------------------------------------------------------------------------

    function propose(Proposal calldata p) external returns (uint64 id) {
        _refuseIf(p.revision != 1, Codes.WRONG_REVISION);
        (address approver, address biller) = _registry.admit(p.node, msg.sender, p.keyEpoch, true);
        bytes32 sealedHash = _check(p, approver);
        id = ++_count;
        Record storage r = _records[id];
        r.tenant = msg.sender;
        r.node = p.node;
        r.current = 1;
        _registry.move(p.node, 0, p.resources);
        _enter(id, p, sealedHash, approver, biller);
    }

    function update(uint64 id, Proposal calldata p) external {
        Record storage r = _ownRecord(id);
        _refuseIf(r.current == 0, Codes.FINAL);
        _refuseIf(p.node != r.node, Codes.WRONG_NODE);
        _refuseIf(r.candidate != 0, Codes.HAS_CANDIDATE);
        _refuseIf(_revisions[id][r.current].state != uint8(State.Active), Codes.NOT_ACTIVE);
        _refuseIf(p.revision != r.updates + 2, Codes.WRONG_REVISION);
        (address approver, address biller) = _registry.admit(p.node, msg.sender, p.keyEpoch, false);
        bytes32 sealedHash = _check(p, approver);
        bytes32 before = _held(id, r);
        _registry.move(p.node, before, _together(before, p.resources, p.replace));
        r.candidate = p.revision;
        r.updates++;
        _enter(id, p, sealedHash, approver, biller);
    }

    function cancel(uint64 id) external {
        Record storage r = _ownRecord(id);
        _refuseIf(r.current == 0, Codes.FINAL);
        _end(id, r, Codes.CANCELLED, false);
    }

    function withdraw(uint64 id) external {
        Record storage r = _ownRecord(id);
        _refuseIf(r.candidate == 0, Codes.NO_CANDIDATE);
        _finish(id, r, r.candidate, State.Closed, Codes.WITHDRAWN, msg.sender);
    }

    // --- approver ------------------------------------------------------------------------------------

    function approve(uint64 id, uint32 number) external {
        (Record storage r, Revision storage v) = _proposed(id, number);
        _refuseIf(block.timestamp > v.approveBy, Codes.TOO_LATE);
        Chain memory c = _chains[r.node];
        _approve(c, r.node, id, number, v, _registry.billerOf(r.node));
        _chains[r.node] = c;
    }

    function reject(uint64 id, uint32 number, bytes32 reason) external {
        (Record storage r,) = _proposed(id, number);
        _finish(id, r, number, State.Rejected, reason, msg.sender);
    }

    // --- biller --------------------------------------------------------------------------------------

    function fund(uint64 id, uint32 number, bytes32 reason) external {
        Record storage r = _record(id);
        Revision storage v = _revision(id, number);
        address biller = _registry.billerOf(r.node);
        _refuseIf(biller != address(0) && msg.sender != biller, Codes.NOT_BILLER);
        uint8 from = v.state;
        _refuseIf(from >= uint8(State.Closed), Codes.FINAL);
        State to = State.Funded;
        if (from == uint8(State.Grace)) {
            to = State.Active;
        } else {
            _refuseIf(from != uint8(State.Approved) && from != uint8(State.Suspended), Codes.WRONG_STATE);
            _refuseIf(block.timestamp > v.deployBy, Codes.TOO_LATE);
            if (from == uint8(State.Suspended)) v.deployBy = uint64(block.timestamp) + DEPLOY_AGAIN;
        }
        Chain memory c = _chains[r.node];
        _step(c, r.node, id, number, v, to, reason, msg.sender);
        _chains[r.node] = c;
    }

    function grace(uint64 id, bytes32 reason) external {
        (Record storage r, Revision storage v) = _billed(id, State.Active);
        // What an update adds is not paid either, and its end must not bring the reservation back to Active.
        if (r.candidate != 0) _finish(id, r, r.candidate, State.Closed, reason, msg.sender);
        Chain memory c = _chains[r.node];
        _step(c, r.node, id, r.current, v, State.Grace, reason, msg.sender);
        _chains[r.node] = c;
    }

    function suspend(uint64 id, bytes32 reason) external {
        (Record storage r, Revision storage v) = _billed(id, State.Grace);
        v.deployBy = uint64(block.timestamp) + MAX_SUSPENDED;
        Chain memory c = _chains[r.node];
        _step(c, r.node, id, r.current, v, State.Suspended, reason, msg.sender);
        _chains[r.node] = c;
    }

    // --- node ----------------------------------------------------------------------------------------

    function result(Result calldata m, bytes calldata signature) external returns (bool taken) {
        bytes32 digest = _hashTypedDataV4(TypedData.hash(m));
        (bool fresh, address identity, uint8 state) = _registry.useNonce(m.node, m.nonce, m.bootId, digest, signature);
        if (!fresh) return false;
        bytes32 refusal =
            state == uint8(NodeState.Retired) ? Codes.NODE_RETIRED : _take(m, identity);
        if (refusal != 0) emit ResultRefused(m.node, m.reservation, m.revision, m.state, m.nonce, refusal);
        return true;
    }

    // --- anyone --------------------------------------------------------------------------------------

    function expire(uint64 id, uint32 number) external {
        Record storage r = _record(id);
        Revision storage v = _revision(id, number);
        uint8 state = v.state;
        _refuseIf(state >= uint8(State.Closed), Codes.FINAL);
        bool suspended = state == uint8(State.Suspended);
        _refuseIf(state > uint8(State.Deploying) && !suspended, Codes.WRONG_STATE);
        bool proposed = state == uint8(State.Proposed);
        _refuseIf(block.timestamp <= (proposed ? v.approveBy : v.deployBy), Codes.NOT_DUE);
        if (suspended) return _finish(id, r, number, State.Closed, Codes.PAY_BY, msg.sender);
        _finish(id, r, number, State.Expired, proposed ? Codes.APPROVE_BY : Codes.DEPLOY_BY, msg.sender);
    }

    function closeRetired(uint64 id) external {
        Record storage r = _record(id);
        _refuseIf(r.current == 0, Codes.FINAL);
        _refuseIf(!_retired(r.node), Codes.NODE_NOT_RETIRED);
        _end(id, r, Codes.NODE_RETIRED, true);
    }

    function release(uint64 id) external {
        Record storage r = _record(id);
        _refuseIf(r.keptUntil == 0 || (block.timestamp < r.keptUntil && !_retired(r.node)), Codes.NOT_DUE);
        bytes32 kept = r.kept;
        r.kept = 0;
        r.keptUntil = 0;
        _registry.move(r.node, kept, 0);
        emit Released(r.node, id);
    }

    // --- views ---------------------------------------------------------------------------------------

    function reservation(uint64 id) external view returns (Reservation memory) {
        Record storage r = _record(id);
        return Reservation({
            tenant: r.tenant,
            node: r.node,
            current: r.current,
            candidate: r.candidate,
            last: r.updates + 1,
            keptUntil: r.keptUntil,
            kept: r.kept
        });
    }

    function revision(uint64 id, uint32 number) external view returns (Revision memory) {
        return _revision(id, number);
    }

    function reservationCount() external view returns (uint64) {
        return _count;
    }

    function chain(uint64 node) external view returns (Chain memory) {
        return _chains[node];
    }

    function held(uint64 id) external view returns (bytes32) {
        return _held(id, _record(id));
    }

    function commitmentOf(
        address tenant,
        uint64 node,
        uint32 keyEpoch,
        uint32 number,
        bytes32 resources,
        bytes32 contentHash,
        bytes32 sealedHash
    ) public view returns (bytes32) {
        return keccak256(
            abi.encode(
                DOMAIN, block.chainid, address(this), tenant, node, keyEpoch, number, resources, contentHash, sealedHash
            )
        );
    }

    // --- transitions -----------------------------------------------------------------------------------

    /// Records a checked revision as Proposed; without an approver also as Approved, and without a biller Funded. Refuses nothing, so that no
    /// event is emitted before the last check.
    function _enter(uint64 id, Proposal calldata p, bytes32 sealedHash, address approver, address biller) private {
        Revision storage v = _revisions[id][p.revision];
        v.replace = p.replace;
        v.keyEpoch = p.keyEpoch;
        v.keep = p.keep;
        v.approveBy = p.approveBy;
        v.deployBy = p.deployBy;
        v.resources = p.resources;
        v.commitment =
            commitmentOf(msg.sender, p.node, p.keyEpoch, p.revision, p.resources, p.contentHash, sealedHash);
        emit Proposed(
            p.node,
            id,
            msg.sender,
            p.revision,
            p.keyEpoch,
            p.resources,
            p.contentHash,
            sealedHash,
            p.blob,
            p.approveBy,
            p.deployBy,
            p.keep,
            p.replace,
            p.sealedData,
            p.hubs
        );
        Chain memory c = _chains[p.node];
        _step(c, p.node, id, p.revision, v, State.Proposed, 0, msg.sender);
        if (approver == address(0)) _approve(c, p.node, id, p.revision, v, biller);
        _chains[p.node] = c;
    }

    /// Without a biller what is approved counts as funded.
    function _approve(Chain memory c, uint64 node, uint64 id, uint32 number, Revision storage v, address biller) private {
        _step(c, node, id, number, v, State.Approved, 0, msg.sender);
        if (biller == address(0)) _step(c, node, id, number, v, State.Funded, 0, msg.sender);
    }

    /// Applies a node's result; returns why it cannot be applied, or 0.
    function _take(Result calldata m, address identity) private returns (bytes32) {
        Record storage r = _records[m.reservation];
        if (r.tenant == address(0)) return Codes.RESERVATION_UNKNOWN;
        if (r.node != m.node) return Codes.WRONG_NODE;
        Revision storage v = _revisions[m.reservation][m.revision];
        uint8 from = v.state;
        if (from == uint8(State.None)) return Codes.RESERVATION_UNKNOWN;
        if (from >= uint8(State.Closed)) return Codes.FINAL;
        if (m.state == uint8(State.Failed)) {
            if (from < uint8(State.Deploying) || from > uint8(State.Grace)) return Codes.WRONG_STATE;
            _finish(m.reservation, r, m.revision, State.Failed, m.reason, identity);
            return 0;
        }
        bool deploying = m.state == uint8(State.Deploying) && from == uint8(State.Funded);
        if (!deploying && !(m.state == uint8(State.Active) && from == uint8(State.Deploying))) return Codes.WRONG_STATE;

        Chain memory c = _chains[m.node];
        _step(c, m.node, m.reservation, m.revision, v, State(m.state), m.reason, identity);
        if (deploying) {
            v.deployed = true;
        } else if (m.revision == r.candidate) {
            bytes32 before = _held(m.reservation, r);
            uint32 old = r.current;
            Revision storage superseded = _revisions[m.reservation][old];
            _step(c, m.node, m.reservation, old, superseded, State.Closed, Codes.SUPERSEDED, identity);
            r.current = m.revision;
            r.candidate = 0;
            _registry.move(m.node, before, v.resources);
        }
        _chains[m.node] = c;
        return 0;
    }

    /// Ends one revision. The other one of the reservation, if any, becomes or stays the current one.
    function _finish(uint64 id, Record storage r, uint32 number, State state, bytes32 reason, address actor) private {
        bytes32 before = _held(id, r);
        Chain memory c = _chains[r.node];
        _step(c, r.node, id, number, _revisions[id][number], state, reason, actor);
        _chains[r.node] = c;
        if (number == r.candidate) {
            r.candidate = 0;
        } else if (r.candidate != 0) {
            // What the old revision deployed (volumes) is still there when its successor ends.
            if (_revisions[id][number].deployed) _revisions[id][r.candidate].deployed = true;
            r.current = r.candidate;
            r.candidate = 0;
        } else {
            _keep(id, r, number, _retired(r.node));
        }
        _registry.move(r.node, before, _held(id, r));
    }

    /// Closes everything that is left of a reservation.
    function _end(uint64 id, Record storage r, bytes32 reason, bool retired) private {
        bytes32 before = _held(id, r);
        Chain memory c = _chains[r.node];
        uint32 current = r.current;
        if (r.candidate != 0) {
            _step(c, r.node, id, r.candidate, _revisions[id][r.candidate], State.Closed, reason, msg.sender);
            r.candidate = 0;
        }
        _step(c, r.node, id, current, _revisions[id][current], State.Closed, reason, msg.sender);
        _chains[r.node] = c;
        _keep(id, r, current, retired || _retired(r.node));
        _registry.move(r.node, before, _held(id, r));
    }

    /// The reservation is over: its volumes, and so its disk, may outlive it.
    function _keep(uint64 id, Record storage r, uint32 number, bool retired) private {
        Revision storage v = _revisions[id][number];
        r.current = 0;
        bytes32 disks = Resources.disks(v.resources);
        if (v.deployed && v.keep != 0 && disks != 0 && !retired) {
            r.kept = disks;
            r.keptUntil = uint64(block.timestamp) + v.keep;
        }
        _registry.closed(r.node);
    }

    /// One transition: state, fold and event. The caller stores `c` afterwards, once for all steps of a call.
    function _step(
        Chain memory c,
        uint64 node,
        uint64 id,
        uint32 number,
        Revision storage v,
        State state,
        bytes32 reason,
        address actor
    ) private {
        bytes32 commitment = v.commitment;
        v.state = uint8(state);
        c.sequence++;
        c.head = keccak256(abi.encode(c.head, c.sequence, id, number, uint8(state), reason, commitment));
        emit Changed(
            node, id, number, uint8(state), c.sequence, c.lastBlock, reason, commitment, actor, uint64(block.timestamp)
        );
        c.lastBlock = uint64(block.number);
    }

    // --- checks ----------------------------------------------------------------------------------------

    /// Checks everything of a proposal that needs no other state; returns keccak256 of its sealed bytes.
    function _check(Proposal calldata p, address approver) private view returns (bytes32 sealedHash) {
        _refuseIf(!Resources.suffice(p.resources), Codes.NO_RESOURCES);
        uint256 latest = block.timestamp + MAX_WAIT;
        _refuseIf(p.deployBy <= block.timestamp || p.deployBy > latest || p.keep > MAX_KEEP, Codes.BAD_TIME);
        if (approver != address(0)) {
            _refuseIf(p.approveBy <= block.timestamp || p.approveBy > p.deployBy, Codes.BAD_TIME);
        }
        if (p.sealedData.length != 0) {
            _refuseIf(p.sealedData.length > MAX_SEALED || p.blob != 0 || p.hubs.length != 0, Codes.BAD_SEALED);
            sealedHash = keccak256(p.sealedData);
        } else {
            _refuseIf(p.blob == 0 || p.hubs.length == 0 || p.hubs.length > MAX_HUBS, Codes.BAD_SEALED);
            for (uint256 i = 0; i < p.hubs.length; i++) {
                uint256 length = bytes(p.hubs[i]).length;
                _refuseIf(length == 0 || length > MAX_URL, Codes.BAD_SEALED);
            }
            sealedHash = p.sealedHash;
        }
        _refuseIf(p.contentHash == 0 || sealedHash == 0, Codes.BAD_CONTENT);
    }

    function _held(uint64 id, Record storage r) private view returns (bytes32 sum) {
        uint32 current = r.current;
        if (current == 0) return r.kept;
        sum = _revisions[id][current].resources;
        uint32 candidate = r.candidate;
        if (candidate == 0) return sum;
        Revision storage v = _revisions[id][candidate];
        return _together(sum, v.resources, v.replace);
    }

    function _together(bytes32 current, bytes32 candidate, bool replace) private pure returns (bytes32) {
        return replace ? Resources.max(current, candidate) : Resources.plus(current, candidate);
    }

    function _record(uint64 id) private view returns (Record storage r) {
        r = _records[id];
        _refuseIf(r.tenant == address(0), Codes.RESERVATION_UNKNOWN);
    }

    function _ownRecord(uint64 id) private view returns (Record storage r) {
        r = _record(id);
        _refuseIf(r.tenant != msg.sender, Codes.NOT_TENANT);
    }

    function _revision(uint64 id, uint32 number) private view returns (Revision storage v) {
        v = _revisions[id][number];
        _refuseIf(v.state == uint8(State.None), Codes.RESERVATION_UNKNOWN);
    }

    /// A revision that waits for the caller's approval.
    function _proposed(uint64 id, uint32 number) private view returns (Record storage r, Revision storage v) {
        r = _record(id);
        v = _revision(id, number);
        _refuseIf(msg.sender != _registry.approverOf(r.node), Codes.NOT_APPROVER);
        _refuseIf(v.state >= uint8(State.Closed), Codes.FINAL);
        _refuseIf(v.state != uint8(State.Proposed), Codes.WRONG_STATE);
    }

    /// The current revision, in this state, for the biller of its farm.
    function _billed(uint64 id, State state) private view returns (Record storage r, Revision storage v) {
        r = _record(id);
        address biller = _registry.billerOf(r.node);
        _refuseIf(biller == address(0) || msg.sender != biller, Codes.NOT_BILLER);
        _refuseIf(r.current == 0, Codes.FINAL);
        v = _revisions[id][r.current];
        _refuseIf(v.state != uint8(state), Codes.WRONG_STATE);
    }

    function _retired(uint64 node) private view returns (bool) {
        return _registry.nodeState(node) == uint8(NodeState.Retired);
    }

    function _refuseIf(bool condition, bytes32 code) private pure {
        if (condition) revert IGridRegistry.Refused(code);
    }
}
