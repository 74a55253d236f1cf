// SPDX-License-Identifier: Apache-2.0
// Reservations: each transition, each refusal, what is reserved, and the list of changes.
pragma solidity ^0.8.28;

import {Codes} from "../src/Codes.sol";
import {FarmPolicy, KeyEpoch} from "../src/IGridRegistry.sol";
import {Chain, IReservations, Proposal, Reservation, Result, Revision, State} from "../src/IReservations.sol";
import {Resources} from "../src/Resources.sol";
import {ChangedData, Fixture, pack} from "./Fixture.sol";
import {Log, vm} from "./Helper.sol";

contract ReservationsTest is Fixture {
    function _refused(Proposal memory p, bytes32 code) private {
        vm.prank(tenant);
        refuses(code);
        market.propose(p);
    }

    // --- propose -------------------------------------------------------------------------------------

    function test_propose_without_policy_is_funded_in_three_steps() public {
        vm.recordLogs();
        uint64 id = propose(small());
        Log[] memory logs = vm.getRecordedLogs();
        vm.assertEq(id, 1, "ids count from 1");
        vm.assertEq(logs.length, 4, "Proposed and three Changed");
        vm.assertEq(logs[0].topics[0], IReservations.Proposed.selector, "Proposed first");
        for (uint256 i = 1; i < 4; i++) {
            vm.assertEq(logs[i].topics[0], IReservations.Changed.selector, "Changed");
            ChangedData memory c = abi.decode(logs[i].data, (ChangedData));
            vm.assertEq(c.revision, 1, "revision");
            vm.assertEq(c.state, i, "state");
            vm.assertEq(c.sequence, i, "sequence");
            vm.assertEq(c.previousBlock, i == 1 ? 0 : block.number, "previous block");
            vm.assertEq(c.actor, tenant, "actor");
            vm.assertEq(c.time, START, "time");
        }
        expectState(id, 1, State.Funded);
        Reservation memory r = market.reservation(id);
        vm.assertEq(r.tenant, tenant, "tenant");
        vm.assertEq(r.node, node, "node");
        vm.assertEq(r.current, 1, "current");
        vm.assertEq(r.last, 1, "last");
        vm.assertEq(reserved(), small(), "reserved");
        vm.assertEq(grid.farm(farmId).open, 1, "open");
        vm.assertEq(grid.farm(farmId).changes, 1, "changes");
        vm.assertEq(market.reservationCount(), 1, "count");
        vm.assertEq(market.registry(), address(grid), "registry");
    }

    function test_commitment_binds_the_caller() public {
        uint64 one = propose(small());
        Proposal memory p = proposalOf(1, small());
        vm.prank(farmer);
        uint64 two = market.propose(p);
        vm.assertTrue(market.revision(one, 1).commitment != market.revision(two, 1).commitment, "tenant");
        vm.assertEq(
            market.revision(two, 1).commitment,
            market.commitmentOf(farmer, node, 1, 1, small(), p.contentHash, keccak256(p.sealedData)),
            "formula"
        );
    }

    function test_storage_alone_is_a_resource() public {
        bytes32 disk = pack(0, 0, 0, 1 << 20, 0);
        expectState(propose(disk), 1, State.Funded);
        vm.assertEq(reserved(), disk, "hdd");
        bytes32 both = pack(0, 0, 1, 1 << 20, 0);
        expectState(propose(pack(0, 0, 1, 0, 0)), 1, State.Funded);
        vm.assertEq(reserved(), both, "and ssd");
    }

    function test_propose_is_checked() public {
        Proposal memory p = proposalOf(2, small());
        _refused(p, Codes.WRONG_REVISION);
        p = proposalOf(1, pack(0, 1, 0, 0, 0));
        _refused(p, Codes.NO_RESOURCES);
        p = proposalOf(1, pack(1, 0, 0, 0, 0));
        _refused(p, Codes.NO_RESOURCES);
        p = proposalOf(1, pack(0, 1, 1, 1, 0));
        _refused(p, Codes.NO_RESOURCES);
        p = proposalOf(1, pack(1, 0, 1, 1, 0));
        _refused(p, Codes.NO_RESOURCES);
        p = proposalOf(1, pack(0, 0, 0, 0, 0));
        _refused(p, Codes.NO_RESOURCES);
        p = proposalOf(1, pack(0, 0, 0, 0, 1));
        _refused(p, Codes.NO_RESOURCES);
        p = proposalOf(1, small());
        p.keyEpoch = 2;
        _refused(p, Codes.KEY_EPOCH);
        p = proposalOf(1, small());
        p.contentHash = 0;
        _refused(p, Codes.BAD_CONTENT);
        p = proposalOf(1, small());
        p.node = 9;
        _refused(p, Codes.NODE_UNKNOWN);
        p.node = pendingNode(0xbeef);
        _refused(p, Codes.NODE_NOT_ACTIVE);
        p = proposalOf(1, small());
        vm.prank(stranger);
        refuses(Codes.TENANT_NOT_LISTED);
        market.propose(p);
    }

    function test_propose_times_are_checked() public {
        withApprover();
        Proposal memory p = proposalOf(1, small());
        p.deployBy = START;
        _refused(p, Codes.BAD_TIME);
        p.deployBy = START + 7 days + 1;
        _refused(p, Codes.BAD_TIME);
        p = proposalOf(1, small());
        p.approveBy = START;
        _refused(p, Codes.BAD_TIME);
        p.approveBy = p.deployBy + 1;
        _refused(p, Codes.BAD_TIME);
        p = proposalOf(1, small());
        p.keep = 30 days + 1;
        _refused(p, Codes.BAD_TIME);
    }

    function test_sealed_is_checked() public {
        Proposal memory p = proposalOf(1, small());
        p.sealedData = new bytes(1025);
        _refused(p, Codes.BAD_SEALED);
        p.sealedData = new bytes(1024);
        vm.prank(tenant);
        market.propose(p);
        p.blob = "blob";
        _refused(p, Codes.BAD_SEALED); // both
        p.blob = 0;
        p.hubs = hosts("http://hub");
        _refused(p, Codes.BAD_SEALED); // hubs without a blob
        p.sealedData = "";
        _refused(p, Codes.BAD_SEALED); // neither
        p.blob = "blob";
        _refused(p, Codes.BAD_CONTENT); // no sealedHash
        p.sealedHash = "hash";
        vm.prank(tenant);
        uint64 id = market.propose(p);
        vm.assertEq(
            market.revision(id, 1).commitment,
            market.commitmentOf(tenant, node, 1, 1, small(), p.contentHash, "hash"),
            "the tenant's hash"
        );
        p.hubs = new string[](0);
        _refused(p, Codes.BAD_SEALED);
        p.hubs = new string[](4);
        _refused(p, Codes.BAD_SEALED);
        p.hubs = hosts("");
        _refused(p, Codes.BAD_SEALED);
        p.hubs = hosts(string(new bytes(257)));
        _refused(p, Codes.BAD_SEALED);
    }

    function test_capacity_is_kept_by_field() public {
        _refused(proposalOf(1, pack(16001, 1, 0, 0, 0)), Codes.NOT_ENOUGH_CORES);
        _refused(proposalOf(1, pack(1, (64 << 30) + 1, 0, 0, 0)), Codes.NOT_ENOUGH_MEMORY);
        _refused(proposalOf(1, pack(1, 1, (2 << 40) + 1, 0, 0)), Codes.NOT_ENOUGH_SSD);
        _refused(proposalOf(1, pack(1, 1, 0, (8 << 40) + 1, 0)), Codes.NOT_ENOUGH_HDD);
        _refused(proposalOf(1, pack(1, 1, 0, 0, 3)), Codes.NOT_ENOUGH_ADDRESSES);
        propose(capacity);
        _refused(proposalOf(1, pack(1, 1, 0, 0, 0)), Codes.NOT_ENOUGH_CORES);
    }

    function test_capacity_that_shrank_still_lets_reservations_end() public {
        uint64 id = active();
        report(node, pack(500, 1 << 20, 0, 0, 0));
        _refused(proposalOf(1, pack(1, 1, 0, 0, 0)), Codes.NOT_ENOUGH_CORES);
        vm.prank(tenant);
        market.cancel(id);
        expectState(id, 1, State.Closed);
    }

    function test_farm_limits() public {
        vm.prank(farmer);
        grid.setFarmPolicy(farmId, FarmPolicy({approver: address(0), anyTenant: false, maxOpen: 2, maxChanges: 3}));
        uint64 id = propose(small());
        propose(small());
        _refused(proposalOf(1, small()), Codes.OPEN_LIMIT);
        vm.prank(tenant);
        market.cancel(id);
        propose(small());
        _refused(proposalOf(1, small()), Codes.CHANGE_LIMIT);
        vm.warp(START + 1 days);
        vm.assertEq(grid.farm(farmId).changes, 0, "a new day");
        _refused(proposalOf(1, small()), Codes.OPEN_LIMIT);
    }

    function test_previous_key_epoch_is_taken_for_a_day() public {
        KeyEpoch memory m = KeyEpoch(node, 2, BOOT, "sealing 2", 2);
        grid.changeKeyEpoch(m, typed(NODE_KEY, address(grid), hasher.keyEpoch(m)));
        propose(small());
        vm.warp(START + 1 days);
        _refused(proposalOf(1, small()), Codes.KEY_EPOCH);
    }

    // --- approval ------------------------------------------------------------------------------------

    function test_approve() public {
        withApprover();
        uint64 id = propose(small());
        expectState(id, 1, State.Proposed);
        vm.assertEq(reserved(), small(), "reserved from the proposal on");
        refuses(Codes.NOT_APPROVER);
        market.approve(id, 1);
        vm.startPrank(approver);
        refuses(Codes.RESERVATION_UNKNOWN);
        market.approve(id, 2);
        refuses(Codes.RESERVATION_UNKNOWN);
        market.approve(99, 1);
        market.approve(id, 1);
        expectState(id, 1, State.Funded);
        vm.assertEq(market.chain(node).sequence, 3, "steps");
        refuses(Codes.WRONG_STATE);
        market.approve(id, 1);
        refuses(Codes.WRONG_STATE);
        market.reject(id, 1, "no");
    }

    function test_approve_not_too_late() public {
        withApprover();
        uint64 id = propose(small());
        vm.warp(START + 1 hours + 1);
        vm.prank(approver);
        refuses(Codes.TOO_LATE);
        market.approve(id, 1);
    }

    function test_reject() public {
        withApprover();
        uint64 id = propose(small());
        refuses(Codes.NOT_APPROVER);
        market.reject(id, 1, "policy.no");
        vm.recordLogs();
        vm.prank(approver);
        market.reject(id, 1, "policy.no");
        ChangedData memory c = lastChanged();
        vm.assertEq(c.reason, bytes32("policy.no"), "reason");
        vm.assertEq(c.actor, approver, "actor");
        expectState(id, 1, State.Rejected);
        vm.assertEq(reserved(), 0, "freed");
        vm.assertEq(grid.farm(farmId).open, 0, "open");
        vm.prank(approver);
        refuses(Codes.FINAL);
        market.approve(id, 1);
    }

    // --- results -------------------------------------------------------------------------------------

    function test_results_lead_to_active() public {
        uint64 id = propose(small());
        vm.recordLogs();
        result(id, 1, State.Deploying, 0);
        vm.assertEq(lastChanged().actor, vm.addr(NODE_KEY), "the node, not the relay");
        expectState(id, 1, State.Deploying);
        result(id, 1, State.Active, 0);
        expectState(id, 1, State.Active);
        vm.assertEq(grid.node(node).nonce, 3, "nonces");
    }

    function _resultRefused(Result memory m, bytes32 code) private {
        Chain memory before = market.chain(node);
        vm.recordLogs();
        send(m);
        Log memory log = lastLog();
        vm.assertEq(log.topics[0], IReservations.ResultRefused.selector, "refused");
        vm.assertEq(log.data, abi.encode(m.revision, m.state, m.nonce, code), "reason");
        vm.assertEq(grid.node(m.node).nonce, m.nonce, "nonce used");
        vm.assertEq(market.chain(node).head, before.head, "no effect");
    }

    function test_result_without_possible_effect_uses_its_nonce() public {
        uint64 id = propose(small());
        _resultRefused(resultOf(99, 1, State.Deploying, 0), Codes.RESERVATION_UNKNOWN);
        _resultRefused(resultOf(id, 2, State.Deploying, 0), Codes.RESERVATION_UNKNOWN);
        _resultRefused(resultOf(id, 1, State.Active, 0), Codes.WRONG_STATE);
        _resultRefused(resultOf(id, 1, State.Failed, "x"), Codes.WRONG_STATE);
        _resultRefused(resultOf(id, 1, State.Closed, 0), Codes.WRONG_STATE);
        Result memory odd = resultOf(id, 1, State.Deploying, 0);
        odd.state = 200;
        _resultRefused(odd, Codes.WRONG_STATE);
        uint64 other = joinNode(0xbeef);
        Result memory m = resultOf(id, 1, State.Deploying, 0);
        m.node = other;
        m.nonce = 2;
        _resultRefused(m, Codes.WRONG_NODE);
        vm.prank(tenant);
        market.cancel(id);
        _resultRefused(resultOf(id, 1, State.Deploying, 0), Codes.FINAL);
        vm.prank(farmer);
        grid.retire(node);
        _resultRefused(resultOf(id, 1, State.Deploying, 0), Codes.NODE_RETIRED);
    }

    function test_result_repeated_changes_nothing() public {
        uint64 id = propose(small());
        Result memory m = resultOf(id, 1, State.Deploying, 0);
        send(m);
        vm.recordLogs();
        vm.assertTrue(!market.result(m, ""), "repeated");
        vm.assertEq(vm.getRecordedLogs().length, 0, "no event");
        m.nonce += 2;
        refuses(Codes.NONCE_GAP);
        market.result(m, "");
        m.nonce -= 1;
        refuses(Codes.BAD_SIGNATURE);
        market.result(m, "");
    }

    function test_failed_frees_and_keeps_the_disk() public {
        uint64 id = propose(small());
        result(id, 1, State.Deploying, 0);
        result(id, 1, State.Failed, "image.digest-mismatch");
        expectState(id, 1, State.Failed);
        vm.assertEq(reserved(), Resources.disks(small()), "disk kept");
        vm.assertEq(market.held(id), Resources.disks(small()), "held");
        vm.assertEq(market.reservation(id).keptUntil, START + 1 days, "until");
        vm.assertEq(grid.farm(farmId).open, 0, "not open");
        refuses(Codes.NOT_DUE);
        market.release(id);
        vm.warp(START + 1 days);
        market.release(id);
        vm.assertEq(reserved(), 0, "released");
        refuses(Codes.NOT_DUE);
        market.release(id);
    }

    // --- cancel, withdraw, expire ----------------------------------------------------------------------

    function test_cancel_before_deploying_keeps_nothing() public {
        uint64 id = propose(small());
        refuses(Codes.NOT_TENANT);
        market.cancel(id);
        vm.startPrank(tenant);
        market.cancel(id);
        expectState(id, 1, State.Closed);
        vm.assertEq(reserved(), 0, "freed");
        refuses(Codes.FINAL);
        market.cancel(id);
        refuses(Codes.RESERVATION_UNKNOWN);
        market.cancel(99);
    }

    function test_cancel_closes_candidate_and_current() public {
        uint64 id = active();
        update(id, 2, small(), false);
        vm.prank(tenant);
        market.cancel(id);
        expectState(id, 1, State.Closed);
        expectState(id, 2, State.Closed);
        vm.assertEq(reserved(), Resources.disks(small()), "the volumes of the current one");
        vm.assertEq(market.reservation(id).current, 0, "over");
    }

    function test_expire() public {
        withApprover();
        uint64 id = propose(small());
        refuses(Codes.NOT_DUE);
        market.expire(id, 1);
        vm.warp(START + 1 hours + 1);
        market.expire(id, 1);
        expectState(id, 1, State.Expired);
        refuses(Codes.FINAL);
        market.expire(id, 1);
        vm.assertEq(reserved(), 0, "freed");
    }

    function test_expire_after_deploy_by() public {
        uint64 id = propose(small());
        uint64 other = propose(small());
        result(id, 1, State.Deploying, 0);
        vm.warp(START + 2 hours);
        refuses(Codes.NOT_DUE);
        market.expire(id, 1);
        vm.warp(START + 2 hours + 1);
        market.expire(id, 1);
        market.expire(other, 1);
        expectState(id, 1, State.Expired);
        expectState(other, 1, State.Expired);
        vm.assertEq(reserved(), Resources.disks(small()), "what may have been made");
    }

    function test_active_does_not_expire() public {
        uint64 id = active();
        vm.warp(START + 365 days);
        refuses(Codes.WRONG_STATE);
        market.expire(id, 1);
    }

    // --- updates -------------------------------------------------------------------------------------

    function test_update_supersedes() public {
        uint64 id = active();
        bytes32 bigger = pack(2000, 2 << 30, 11 << 30, 20 << 30, 1);
        update(id, 2, bigger, false);
        vm.assertEq(reserved(), Resources.plus(small(), bigger), "in addition");
        vm.assertEq(market.reservation(id).candidate, 2, "candidate");
        result(id, 2, State.Deploying, 0);
        vm.recordLogs();
        result(id, 2, State.Active, 0);
        vm.assertEq(vm.getRecordedLogs().length, 3, "NonceUsed, Active, Closed");
        expectState(id, 1, State.Closed);
        expectState(id, 2, State.Active);
        vm.assertEq(reserved(), bigger, "the new one alone");
        vm.assertEq(market.reservation(id).current, 2, "current");
        vm.assertEq(market.reservation(id).last, 2, "last");
        vm.assertEq(grid.farm(farmId).open, 1, "still one");
    }

    function test_update_with_replace_reserves_the_maximum() public {
        uint64 id = active();
        update(id, 2, pack(500, 4 << 30, 1, 30 << 30, 0), true);
        vm.assertEq(reserved(), pack(1000, 4 << 30, 10 << 30, 30 << 30, 1), "by field");
        result(id, 2, State.Deploying, 0);
        result(id, 2, State.Active, 0);
        vm.assertEq(reserved(), pack(500, 4 << 30, 1, 30 << 30, 0), "the new one alone");
    }

    function test_update_that_fails_leaves_the_current_one() public {
        uint64 id = active();
        update(id, 2, small(), false);
        result(id, 2, State.Deploying, 0);
        result(id, 2, State.Failed, "provision.unhealthy");
        expectState(id, 1, State.Active);
        expectState(id, 2, State.Failed);
        vm.assertEq(reserved(), small(), "the old one alone");
        update(id, 3, small(), false);
    }

    function test_current_that_fails_leaves_the_candidate() public {
        uint64 id = active();
        update(id, 2, pack(500, 1 << 30, 1 << 30, 0, 0), false);
        result(id, 1, State.Failed, "container.exited");
        vm.assertEq(market.reservation(id).current, 2, "current");
        vm.assertEq(reserved(), pack(500, 1 << 30, 1 << 30, 0, 0), "the new one alone");
        vm.warp(START + 3 hours);
        market.expire(id, 2);
        vm.assertEq(reserved(), pack(0, 0, 1 << 30, 0, 0), "volumes were made by the first one");
    }

    function test_update_is_checked() public {
        uint64 id = propose(small());
        Proposal memory p = proposalOf(2, small());
        refuses(Codes.NOT_TENANT);
        market.update(id, p);
        vm.startPrank(tenant);
        refuses(Codes.NOT_ACTIVE);
        market.update(id, p);
        result(id, 1, State.Deploying, 0);
        result(id, 1, State.Active, 0);
        p.revision = 3;
        refuses(Codes.WRONG_REVISION);
        market.update(id, p);
        p.revision = 2;
        p.node = 2;
        refuses(Codes.WRONG_NODE);
        market.update(id, p);
        p.node = node;
        market.update(id, p);
        p.revision = 3;
        refuses(Codes.HAS_CANDIDATE);
        market.update(id, p);
        market.cancel(id);
        refuses(Codes.FINAL);
        market.update(id, p);
    }

    function test_withdraw() public {
        uint64 id = active();
        vm.startPrank(tenant);
        refuses(Codes.NO_CANDIDATE);
        market.withdraw(id);
        market.update(id, proposalOf(2, small()));
        market.withdraw(id);
        vm.stopPrank();
        expectState(id, 2, State.Closed);
        expectState(id, 1, State.Active);
        vm.assertEq(reserved(), small(), "the old one alone");
        refuses(Codes.NOT_TENANT);
        market.withdraw(id);
    }

    function test_update_needs_room_beside_the_current_one() public {
        uint64 id = propose(capacity);
        result(id, 1, State.Deploying, 0);
        result(id, 1, State.Active, 0);
        Proposal memory p = proposalOf(2, pack(1, 1, 0, 0, 0));
        vm.startPrank(tenant);
        refuses(Codes.NOT_ENOUGH_CORES);
        market.update(id, p);
        p.replace = true;
        market.update(id, p);
        vm.assertEq(reserved(), capacity, "within the old one");
    }

    // --- retired nodes ---------------------------------------------------------------------------------

    function test_reservations_of_a_retired_node_are_closed() public {
        uint64 id = active();
        uint64 kept = active();
        vm.prank(tenant);
        market.cancel(kept);
        update(id, 2, small(), false);
        refuses(Codes.NODE_NOT_RETIRED);
        market.closeRetired(id);
        vm.prank(farmer);
        grid.retire(node);
        _refused(proposalOf(1, small()), Codes.NODE_NOT_ACTIVE);
        market.closeRetired(id);
        expectState(id, 1, State.Closed);
        expectState(id, 2, State.Closed);
        market.release(kept); // before its time: there is no disk any more
        vm.assertEq(reserved(), 0, "freed");
        refuses(Codes.FINAL);
        market.closeRetired(id);
    }

    // --- the list --------------------------------------------------------------------------------------

    function test_list_names_the_previous_block() public {
        uint64 id = propose(small());
        vm.roll(1005);
        result(id, 1, State.Deploying, 0);
        vm.roll(1009);
        vm.recordLogs();
        result(id, 1, State.Active, 0);
        vm.assertEq(lastChanged().previousBlock, 1005, "previous block");
        vm.assertEq(market.chain(node).lastBlock, 1009, "last block");
        vm.assertEq(market.chain(node).sequence, 5, "sequence");
    }

    function test_nodes_have_lists_of_their_own() public {
        propose(small());
        bytes32 head = market.chain(node).head;
        uint64 other = joinNode(0xbeef);
        Proposal memory p = proposalOf(1, small());
        p.node = other;
        vm.prank(tenant);
        market.propose(p);
        vm.assertEq(market.chain(node).head, head, "untouched");
        vm.assertEq(market.chain(other).sequence, 3, "its own");
    }

    // --- arithmetic ------------------------------------------------------------------------------------

    function testFuzz_resources(bytes32 a, bytes32 b) public pure {
        bytes32 largest = Resources.max(a, b);
        vm.assertEq(Resources.max(b, a), largest, "symmetric");
        vm.assertEq(Resources.move(a, a, b, bytes32(type(uint256).max)), b, "replaced");
        vm.assertEq(Resources.move(largest, a, a, 0), largest, "nothing grows, nothing is refused");
        vm.assertEq(
            a,
            pack(
                uint32(Resources.milliCores(a)),
                uint64(Resources.memorySize(a)),
                uint64(Resources.ssd(a)),
                uint64(Resources.hdd(a)),
                uint32(Resources.addresses(a))
            ),
            "unpacked and packed"
        );
    }

    function sum(bytes32 a, bytes32 b) external pure returns (bytes32) {
        return Resources.plus(a, b);
    }

    function testFuzz_resources_sum(bytes32 a, bytes32 b) public view {
        // No field of a half and a half overflows into its neighbour.
        bytes32 half = pack(type(uint32).max / 2, type(uint64).max / 2, type(uint64).max / 2, type(uint64).max / 2, 7);
        bytes32 x = a & half;
        bytes32 y = b & half;
        bytes32 total = this.sum(x, y);
        vm.assertEq(Resources.ssd(total), Resources.ssd(x) + Resources.ssd(y), "ssd");
        vm.assertEq(Resources.milliCores(total), Resources.milliCores(x) + Resources.milliCores(y), "cores");
        vm.assertEq(Resources.move(total, y, 0, 0), x, "minus");
    }

    function test_resources_sum_that_overflows_is_refused() public {
        refuses(Codes.NOT_ENOUGH_SSD);
        this.sum(pack(0, 0, type(uint64).max, 0, 0), pack(0, 0, 1, 0, 0));
    }

    /// Whatever a tenant proposes: it is reserved in full, or refused and nothing changed.
    function testFuzz_propose(bytes32 resources) public {
        Proposal memory p = proposalOf(1, resources);
        vm.prank(tenant);
        try market.propose(p) {
            vm.assertEq(reserved(), resources, "reserved");
            vm.assertEq(Resources.max(resources, capacity), capacity, "within the capacity");
        } catch {
            vm.assertEq(reserved(), 0, "nothing");
            vm.assertEq(market.chain(node).sequence, 0, "no change");
        }
    }
}
