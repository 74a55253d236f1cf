// SPDX-License-Identifier: Apache-2.0
// What stays true whatever anybody calls: 256 runs of 128 calls, drawn by forge.
//
// docs/decisions/0023 lists the one-line changes of the contracts that make each of them fail.
pragma solidity ^0.8.28;

import {Chain, IReservations, Proposal, Reservation, Result, Revision, State} from "../src/IReservations.sol";
import {Resources} from "../src/Resources.sol";
import {ChangedData, Fixture, pack} from "./Fixture.sol";
import {Log, vm} from "./Helper.sol";

/// Everybody who calls: tenant, approver, nodes, farmer, strangers. It refolds every event that it sees.
contract Actors is Fixture {
    struct Fold {
        uint64 sequence;
        uint64 lastBlock;
        bytes32 head;
    }

    address internal biller = vm.addr(0xb1);
    uint64[2] public nodes;
    bool public broken; // an event did not follow from the one before
    bool public changedFinal; // a Changed event of a revision that was final
    uint256 public transitions;
    mapping(uint8 => uint256) public reached;
    mapping(uint64 => Fold) public folds;
    mapping(uint64 => mapping(uint32 => uint8)) public states;

    constructor() {
        setUp();
        nodes = [node, joinNode(0xb0b)];
        withApprover();
        vm.prank(farmer);
        grid.setBiller(farmId, biller);
    }

    // --- calls -----------------------------------------------------------------------------------------

    function proposes(uint256 seed, uint32 cores, uint64 ssd) external observed {
        node = nodes[seed % 2];
        Proposal memory p = proposalOf(1, pack(cores % 9000 + 1, 1 << 30, ssd % (1 << 40), seed % 3 == 0 ? 1 << 30 : 0, 0));
        p.keep = uint32(seed % 5) * 1 hours;
        vm.prank(tenant);
        try market.propose(p) {} catch {}
    }

    function updates(uint256 seed, uint32 cores, bool replace) external observed {
        uint64 id = _pick(seed);
        if (id == 0) return;
        Reservation memory r = market.reservation(id);
        node = r.node;
        Proposal memory p = proposalOf(r.last + 1, pack(cores % 9000 + 1, 1 << 29, 1 << 33, 0, 0));
        p.replace = replace;
        p.keep = 1 hours;
        vm.prank(tenant);
        try market.update(id, p) {} catch {}
    }

    function approves(uint256 seed, bool yes) external observed {
        uint64 id = _pick(seed);
        if (id == 0) return;
        vm.prank(approver);
        if (yes) try market.approve(id, _revision(id, seed)) {} catch {}
        else try market.reject(id, _revision(id, seed), "no") {} catch {}
    }

    function reports(uint256 seed, uint8 kind) external observed {
        uint64 id = _pick(seed);
        if (id == 0) return;
        node = market.reservation(id).node;
        State[3] memory states_ = [State.Deploying, State.Active, State.Failed];
        // Deploying and Active more often than Failed, so that runs reach updates.
        result(id, _revision(id, seed), states_[kind % 7 == 6 ? 2 : kind % 2], "test.reason");
    }

    /// A node brings a revision as far as it goes, so that deep states are common.
    function deploys(uint256 seed) external observed {
        uint64 id = _pick(seed);
        if (id == 0) return;
        node = market.reservation(id).node;
        uint32 revision = _revision(id, seed);
        vm.prank(approver);
        try market.approve(id, revision) {} catch {}
        vm.prank(biller);
        try market.fund(id, revision, 0) {} catch {}
        result(id, revision, State.Deploying, 0);
        result(id, revision, State.Active, 0);
    }

    function bills(uint256 seed, uint8 kind) external observed {
        uint64 id = _pick(seed);
        if (id == 0) return;
        vm.prank(biller);
        // What waits is funded more often than what runs is stopped.
        if (kind % 6 == 0) try market.grace(id, "test.unpaid") {} catch {}
        else if (kind % 6 == 1) try market.suspend(id, "test.unpaid") {} catch {}
        else try market.fund(id, _revision(id, seed), "test.paid") {} catch {}
    }

    /// The farmer takes the biller away and names one again.
    function changesBiller(uint256 seed) external observed {
        vm.prank(farmer);
        grid.setBiller(farmId, seed % 4 == 0 ? address(0) : biller);
    }

    function lowersCapacity(uint256 seed, uint32 cores) external observed {
        node = nodes[seed % 2];
        report(node, pack(cores % 20000, 64 << 30, 2 << 40, 8 << 40, 2));
    }

    function cancels(uint256 seed) external observed {
        uint64 id = _pick(seed);
        if (id == 0) return;
        vm.prank(tenant);
        if (seed % 3 == 0) try market.cancel(id) {} catch {}
        else try market.withdraw(id) {} catch {}
    }

    function expires(uint256 seed) external observed {
        uint64 id = _pick(seed);
        if (id == 0) return;
        try market.expire(id, _revision(id, seed)) {} catch {}
    }

    function releases(uint256 seed) external observed {
        uint64 id = _pick(seed);
        if (id == 0) return;
        try market.release(id) {} catch {}
        try market.closeRetired(id) {} catch {}
    }

    /// Rarely, since nothing comes after it on that node.
    function retires(uint256 seed) external observed {
        if (seed % 32 != 0) return;
        vm.prank(farmer);
        try grid.retire(nodes[0]) {} catch {}
    }

    function waits(uint16 seconds_) external {
        vm.warp(block.timestamp + seconds_);
        vm.roll(block.number + seconds_ / 12 + 1);
    }

    // --- what was seen -----------------------------------------------------------------------------------

    /// forge also records the events of calls that are reverted; the contracts emit only after the last check.
    modifier observed() {
        vm.recordLogs();
        _;
        Log[] memory logs = vm.getRecordedLogs();
        for (uint256 i = 0; i < logs.length; i++) {
            if (logs[i].topics[0] == IReservations.Changed.selector) _see(logs[i]);
        }
    }

    function _see(Log memory log) private {
        ChangedData memory c = abi.decode(log.data, (ChangedData));
        uint64 id = uint64(uint256(log.topics[2]));
        Fold storage f = folds[uint64(uint256(log.topics[1]))];
        if (c.sequence != f.sequence + 1 || c.previousBlock != f.lastBlock) broken = true;
        f.head = keccak256(abi.encode(f.head, c.sequence, id, c.revision, c.state, c.reason, c.commitment));
        f.sequence = c.sequence;
        f.lastBlock = uint64(block.number);
        if (states[id][c.revision] >= uint8(State.Closed)) changedFinal = true;
        states[id][c.revision] = c.state;
        transitions++;
        reached[c.state]++;
    }

    function _pick(uint256 seed) private view returns (uint64) {
        uint64 count = market.reservationCount();
        // Mostly the newest ones: the old ones are final.
        return count == 0 ? 0 : uint64(count - (seed >> 8) % (count < 6 ? count : 6));
    }

    function _revision(uint64 id, uint256 seed) private view returns (uint32) {
        Reservation memory r = market.reservation(id);
        if (seed % 16 == 0) return r.last; // final or not
        return r.candidate != 0 && seed % 4 != 0 ? r.candidate : r.current;
    }

    // --- sums --------------------------------------------------------------------------------------------

    /// The sum over revisions that are not final, and kept disks, computed without held().
    function expectedReserved(uint64 on) external view returns (bytes32 sum) {
        for (uint64 id = 1; id <= market.reservationCount(); id++) {
            Reservation memory r = market.reservation(id);
            if (r.node != on) continue;
            bytes32 own = r.kept;
            for (uint32 number = 1; number <= r.last; number++) {
                Revision memory v = market.revision(id, number);
                if (v.state >= uint8(State.Closed)) continue;
                bool instead = v.replace && number == r.candidate;
                own = instead ? Resources.max(own, v.resources) : Resources.plus(own, v.resources);
            }
            sum = Resources.plus(sum, own);
        }
    }

    function openReservations() external view returns (uint256 open) {
        for (uint64 id = 1; id <= market.reservationCount(); id++) {
            Reservation memory r = market.reservation(id);
            bool any;
            for (uint32 number = 1; number <= r.last; number++) {
                if (market.revision(id, number).state < uint8(State.Closed)) any = true;
            }
            if (any) open++;
        }
    }

    function unpaidHasNoCandidate() external view returns (bool) {
        for (uint64 id = 1; id <= market.reservationCount(); id++) {
            Reservation memory r = market.reservation(id);
            if (r.current == 0) continue;
            uint8 state = market.revision(id, r.current).state;
            if ((state == uint8(State.Grace) || state == uint8(State.Suspended)) && r.candidate != 0) return false;
        }
        return true;
    }

    function statesAgree() external view returns (bool) {
        for (uint64 id = 1; id <= market.reservationCount(); id++) {
            for (uint32 number = 1; number <= market.reservation(id).last; number++) {
                if (market.revision(id, number).state != states[id][number]) return false;
            }
        }
        return true;
    }

    function reservedOf(uint64 on) external view returns (bytes32) {
        return grid.node(on).reserved;
    }

    function chainOf(uint64 on) external view returns (Chain memory) {
        return market.chain(on);
    }

    function openCounted() external view returns (uint256) {
        return grid.farm(farmId).open;
    }
}

contract InvariantsTest {
    Actors private actors;

    function setUp() public {
        actors = new Actors();
    }

    /// forge asks for these two: call only Actors, only these functions.
    function targetContracts() external view returns (address[] memory list) {
        list = new address[](1);
        list[0] = address(actors);
    }

    struct FuzzSelector {
        address addr;
        bytes4[] selectors;
    }

    function targetSelectors() external view returns (FuzzSelector[] memory list) {
        bytes4[16] memory all = [
            Actors.proposes.selector,
            Actors.updates.selector,
            Actors.updates.selector,
            Actors.approves.selector,
            Actors.reports.selector,
            Actors.deploys.selector,
            Actors.deploys.selector,
            Actors.bills.selector,
            Actors.bills.selector,
            Actors.changesBiller.selector,
            Actors.lowersCapacity.selector,
            Actors.cancels.selector,
            Actors.expires.selector,
            Actors.releases.selector,
            Actors.retires.selector,
            Actors.waits.selector
        ];
        list = new FuzzSelector[](1);
        list[0].addr = address(actors);
        list[0].selectors = new bytes4[](all.length);
        for (uint256 i = 0; i < all.length; i++) {
            list[0].selectors[i] = all[i];
        }
    }

    function invariant_reserved_is_the_sum_of_what_is_not_final() external view {
        for (uint256 i = 0; i < 2; i++) {
            uint64 node = actors.nodes(i);
            vm.assertEq(actors.reservedOf(node), actors.expectedReserved(node), "reserved");
        }
        vm.assertEq(actors.openCounted(), actors.openReservations(), "open");
    }

    function invariant_list_is_the_refold_of_its_events() external view {
        vm.assertTrue(!actors.broken(), "sequence or previous block");
        for (uint256 i = 0; i < 2; i++) {
            uint64 node = actors.nodes(i);
            (uint64 sequence, uint64 lastBlock, bytes32 head) = actors.folds(node);
            Chain memory c = actors.chainOf(node);
            vm.assertEq(c.sequence, sequence, "sequence");
            vm.assertEq(c.lastBlock, lastBlock, "last block");
            vm.assertEq(c.head, head, "head");
        }
    }

    function invariant_unpaid_has_no_candidate() external view {
        vm.assertTrue(actors.unpaidHasNoCandidate(), "a candidate beside Grace or Suspended");
    }

    function invariant_final_is_final() external view {
        vm.assertTrue(!actors.changedFinal(), "a final revision changed");
        vm.assertTrue(actors.statesAgree(), "a state changed without an event");
    }
}
