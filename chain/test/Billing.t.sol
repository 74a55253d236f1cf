// SPDX-License-Identifier: Apache-2.0
// What a farm's biller may do and nobody else: fund, grace, suspend; and what time does to what is not paid.
pragma solidity ^0.8.28;

import {Codes} from "../src/Codes.sol";
import {IGridRegistry} from "../src/IGridRegistry.sol";
import {IReservations, Proposal, State} from "../src/IReservations.sol";
import {Resources} from "../src/Resources.sol";
import {ChangedData, Fixture, pack} from "./Fixture.sol";
import {Log, vm} from "./Helper.sol";

/// A biller that is a contract: the smallest form of what charge-back adds. Whoever pays is funded in the same transaction.
contract PayPerDeploy {
    IReservations private immutable _market;
    uint256 private immutable _price;

    constructor(IReservations market_, uint256 price) {
        _market = market_;
        _price = price;
    }

    function pay(uint64 id, uint32 revision) external payable {
        require(msg.value == _price, "price");
        _market.fund(id, revision, "billing.paid");
    }
}

contract BillingTest is Fixture {
    address private biller = vm.addr(0xb1);

    function setUp() public override {
        super.setUp();
        vm.prank(farmer);
        grid.setBiller(farmId, biller);
    }

    /// Without public addresses, of which the node has only two.
    function lean() private pure returns (bytes32) {
        return pack(1000, 1 << 30, 10 << 30, 20 << 30, 0);
    }

    function _fund(uint64 id, uint32 revision) private {
        vm.prank(biller);
        market.fund(id, revision, "billing.paid");
    }

    function _grace(uint64 id) private {
        vm.prank(biller);
        market.grace(id, "billing.unpaid");
    }

    function _suspend(uint64 id) private {
        vm.prank(biller);
        market.suspend(id, "billing.unpaid");
    }

    function _running() private returns (uint64 id) {
        id = propose(lean());
        _fund(id, 1);
        result(id, 1, State.Deploying, 0);
        result(id, 1, State.Active, 0);
    }

    function _suspended() private returns (uint64 id) {
        id = _running();
        _grace(id);
        _suspend(id);
    }

    // --- who is it -----------------------------------------------------------------------------------

    function test_only_the_farmer_names_the_biller() public {
        vm.recordLogs();
        vm.prank(farmer);
        grid.setBiller(farmId, stranger);
        Log memory log = lastLog();
        vm.assertEq(log.topics[0], IGridRegistry.FarmBillerChanged.selector, "event");
        vm.assertEq(log.topics[2], bytes32(uint256(uint160(stranger))), "biller in the event");
        vm.assertEq(grid.billerOfFarm(farmId), stranger, "of the farm");
        vm.assertEq(grid.billerOf(node), stranger, "of the node");
        vm.prank(biller);
        refuses(Codes.NOT_FARMER);
        grid.setBiller(farmId, biller);
    }

    function test_nobody_else_bills() public {
        uint64 id = propose(lean());
        address[4] memory others = [stranger, tenant, farmer, approver];
        for (uint256 i = 0; i < others.length; i++) {
            vm.prank(others[i]);
            refuses(Codes.NOT_BILLER);
            market.fund(id, 1, 0);
        }
        _fund(id, 1);
        result(id, 1, State.Deploying, 0);
        result(id, 1, State.Active, 0);
        for (uint256 i = 0; i < others.length; i++) {
            vm.prank(others[i]);
            refuses(Codes.NOT_BILLER);
            market.grace(id, 0);
        }
        _grace(id);
        for (uint256 i = 0; i < others.length; i++) {
            vm.prank(others[i]);
            refuses(Codes.NOT_BILLER);
            market.suspend(id, 0);
            vm.prank(others[i]);
            refuses(Codes.NOT_BILLER);
            market.fund(id, 1, 0);
        }
    }

    function test_a_biller_does_not_reach_another_farm() public {
        // The same tenant's reservation on a farm of somebody else, who has no biller, and on one who has another.
        vm.startPrank(stranger);
        farmId = grid.createFarm("Other Farm");
        grid.createToken(farmId, vm.addr(0x70cf), START + 1 days, 1);
        grid.listTenant(farmId, tenant, true);
        vm.stopPrank();
        uint64 other = pendingNode(0xb0b);
        grid.join(other, joinSignature(0x70cf, farmId, vm.addr(0xb0b)));
        node = other;
        uint64 id = active();
        vm.prank(biller);
        refuses(Codes.NOT_BILLER);
        market.grace(id, 0);
        vm.prank(stranger);
        grid.setBiller(farmId, stranger);
        vm.prank(biller);
        refuses(Codes.NOT_BILLER);
        market.grace(id, 0);
        vm.prank(stranger);
        market.grace(id, 0);
        vm.prank(biller);
        refuses(Codes.NOT_BILLER);
        market.suspend(id, 0);
        vm.prank(biller);
        refuses(Codes.NOT_BILLER);
        market.fund(id, 1, 0);
    }

    function test_the_zero_address_is_no_biller() public {
        uint64 id = _running();
        vm.prank(farmer);
        grid.setBiller(farmId, address(0));
        vm.prank(address(0));
        refuses(Codes.NOT_BILLER);
        market.grace(id, 0);
    }

    function test_a_contract_bills() public {
        PayPerDeploy contract_ = new PayPerDeploy(market, 5);
        vm.prank(farmer);
        grid.setBiller(farmId, address(contract_));
        uint64 id = propose(lean());
        expectState(id, 1, State.Approved);
        vm.recordLogs();
        contract_.pay{value: 5}(id, 1);
        ChangedData memory c = lastChanged();
        vm.assertEq(c.state, uint8(State.Funded), "funded");
        vm.assertEq(c.actor, address(contract_), "actor");
        vm.assertEq(c.reason, "billing.paid", "reason");
    }

    // --- paid before it is deployed ------------------------------------------------------------------

    function test_a_proposal_waits_for_its_biller() public {
        uint64 id = propose(lean());
        expectState(id, 1, State.Approved);
        vm.assertEq(reserved(), lean(), "reserved meanwhile");
        // The node may not begin: its report is used up and refused.
        vm.recordLogs();
        result(id, 1, State.Deploying, 0);
        vm.assertEq(lastLog().topics[0], IReservations.ResultRefused.selector, "refused");
        expectState(id, 1, State.Approved);
        _fund(id, 1);
        expectState(id, 1, State.Funded);
        vm.prank(biller);
        refuses(Codes.WRONG_STATE);
        market.fund(id, 1, 0);
    }

    function test_approval_comes_before_money() public {
        withApprover();
        uint64 id = propose(lean());
        vm.prank(biller);
        refuses(Codes.WRONG_STATE);
        market.fund(id, 1, 0);
        vm.prank(approver);
        market.approve(id, 1);
        expectState(id, 1, State.Approved);
        _fund(id, 1);
        expectState(id, 1, State.Funded);
    }

    function test_what_is_not_funded_in_time_expires() public {
        uint64 id = propose(lean());
        vm.warp(START + 2 hours + 1);
        vm.prank(biller);
        refuses(Codes.TOO_LATE);
        market.fund(id, 1, 0);
        vm.prank(stranger);
        market.expire(id, 1);
        expectState(id, 1, State.Expired);
        vm.assertEq(reserved(), 0, "freed");
        vm.prank(biller);
        refuses(Codes.FINAL);
        market.fund(id, 1, 0);
    }

    function test_without_a_biller_anybody_funds_what_waits() public {
        uint64 waits = propose(lean());
        uint64 stopped = _suspended();
        uint64 late = _running();
        _grace(late);
        vm.prank(farmer);
        grid.setBiller(farmId, address(0));
        vm.prank(stranger);
        market.fund(waits, 1, 0);
        expectState(waits, 1, State.Funded);
        vm.prank(stranger);
        market.fund(stopped, 1, 0);
        expectState(stopped, 1, State.Funded);
        vm.prank(stranger);
        market.fund(late, 1, 0);
        expectState(late, 1, State.Active);
        expectState(propose(lean()), 1, State.Funded);
    }

    function test_an_update_is_funded_on_its_own() public {
        uint64 id = _running();
        update(id, 2, lean(), false);
        expectState(id, 2, State.Approved);
        _fund(id, 2);
        result(id, 2, State.Deploying, 0);
        result(id, 2, State.Active, 0);
        expectState(id, 1, State.Closed);
        expectState(id, 2, State.Active);
    }

    // --- not paid ------------------------------------------------------------------------------------

    function test_every_step_carries_actor_time_and_reason() public {
        uint64 id = _running();
        vm.warp(START + 100);
        vm.recordLogs();
        _grace(id);
        ChangedData memory c = lastChanged();
        vm.assertEq(c.state, uint8(State.Grace), "grace");
        vm.assertEq(c.reason, "billing.unpaid", "reason");
        vm.assertEq(c.actor, biller, "actor");
        vm.assertEq(c.time, START + 100, "time");
        _fund(id, 1);
        c = lastChanged();
        vm.assertEq(c.state, uint8(State.Active), "active again");
        vm.assertEq(c.reason, "billing.paid", "reason");
        _grace(id);
        _suspend(id);
        c = lastChanged();
        vm.assertEq(c.state, uint8(State.Suspended), "suspended");
        vm.assertEq(c.reason, "billing.unpaid", "reason");
        _fund(id, 1);
        c = lastChanged();
        vm.assertEq(c.state, uint8(State.Funded), "funded again");
        vm.assertEq(c.actor, biller, "actor");
    }

    function test_states_are_left_only_as_drawn() public {
        uint64 id = propose(lean());
        vm.prank(biller);
        refuses(Codes.WRONG_STATE);
        market.grace(id, 0); // Approved
        _fund(id, 1);
        vm.prank(biller);
        refuses(Codes.WRONG_STATE);
        market.grace(id, 0); // Funded
        result(id, 1, State.Deploying, 0);
        vm.prank(biller);
        refuses(Codes.WRONG_STATE);
        market.grace(id, 0); // Deploying
        vm.prank(biller);
        refuses(Codes.WRONG_STATE);
        market.fund(id, 1, 0);
        result(id, 1, State.Active, 0);
        vm.prank(biller);
        refuses(Codes.WRONG_STATE);
        market.suspend(id, 0); // Active: Grace comes first
        vm.prank(biller);
        refuses(Codes.WRONG_STATE);
        market.fund(id, 1, 0);
        _grace(id);
        vm.prank(biller);
        refuses(Codes.WRONG_STATE);
        market.grace(id, 0);
        _suspend(id);
        vm.prank(biller);
        refuses(Codes.WRONG_STATE);
        market.grace(id, 0);
        vm.prank(biller);
        refuses(Codes.WRONG_STATE);
        market.suspend(id, 0);
        vm.prank(tenant);
        market.cancel(id);
        vm.prank(biller);
        refuses(Codes.FINAL);
        market.grace(id, 0);
        vm.prank(biller);
        refuses(Codes.FINAL);
        market.suspend(id, 0);
        vm.prank(biller);
        refuses(Codes.FINAL);
        market.fund(id, 1, 0);
    }

    function test_grace_ends_an_update_and_takes_none() public {
        uint64 id = _running();
        update(id, 2, lean(), false);
        _fund(id, 2);
        result(id, 2, State.Deploying, 0);
        _grace(id);
        expectState(id, 2, State.Closed);
        expectState(id, 1, State.Grace);
        vm.assertEq(market.reservation(id).candidate, 0, "no candidate");
        vm.assertEq(reserved(), lean(), "only the current one");
        // The candidate's late report changes nothing, above all not Grace.
        result(id, 2, State.Active, 0);
        expectState(id, 1, State.Grace);
        Proposal memory p = proposalOf(3, lean());
        vm.prank(tenant);
        refuses(Codes.NOT_ACTIVE);
        market.update(id, p);
    }

    function test_a_workload_may_fail_in_grace_and_not_while_suspended() public {
        uint64 id = _running();
        _grace(id);
        result(id, 1, State.Failed, "container.exited");
        expectState(id, 1, State.Failed);
        uint64 two = _suspended();
        vm.recordLogs();
        result(two, 1, State.Failed, "container.exited");
        vm.assertEq(lastLog().topics[0], IReservations.ResultRefused.selector, "refused");
        expectState(two, 1, State.Suspended);
        result(two, 1, State.Active, 0);
        expectState(two, 1, State.Suspended);
    }

    // --- suspended, and then -------------------------------------------------------------------------

    function test_paid_again_it_is_deployed_anew() public {
        uint64 id = _suspended();
        vm.assertEq(reserved(), lean(), "stays reserved");
        vm.warp(START + 5 days); // far beyond the deployBy of the proposal
        _fund(id, 1);
        expectState(id, 1, State.Funded);
        vm.assertEq(market.revision(id, 1).deployBy, START + 6 days, "a day to deploy");
        refuses(Codes.NOT_DUE);
        market.expire(id, 1);
        result(id, 1, State.Deploying, 0);
        result(id, 1, State.Active, 0);
        expectState(id, 1, State.Active);
        vm.assertEq(reserved(), lean(), "reserved once");
        vm.assertEq(grid.farm(farmId).open, 1, "open");
    }

    function test_paid_again_and_the_node_never_answers() public {
        uint64 id = _suspended();
        _fund(id, 1);
        vm.warp(START + 1 days + 1);
        market.expire(id, 1);
        expectState(id, 1, State.Expired);
        vm.assertEq(reserved(), Resources.disks(lean()), "its disk is kept: it was deployed once");
        vm.warp(START + 2 days + 2);
        market.release(id);
        vm.assertEq(reserved(), 0, "and freed");
    }

    function test_suspended_too_long_is_closed_by_anyone() public {
        uint64 id = _suspended();
        vm.assertEq(market.revision(id, 1).deployBy, START + 7 days, "until when it may be paid");
        vm.warp(START + 7 days);
        refuses(Codes.NOT_DUE);
        market.expire(id, 1);
        vm.warp(START + 7 days + 1);
        vm.prank(biller);
        refuses(Codes.TOO_LATE);
        market.fund(id, 1, 0);
        vm.recordLogs();
        vm.prank(stranger);
        market.expire(id, 1);
        ChangedData memory c = lastChanged();
        vm.assertEq(c.state, uint8(State.Closed), "closed");
        vm.assertEq(c.reason, Codes.PAY_BY, "reason");
        vm.assertEq(c.actor, stranger, "by anyone");
        vm.assertEq(reserved(), Resources.disks(lean()), "volumes are kept");
        vm.assertEq(market.reservation(id).keptUntil, START + 8 days + 1, "for their time");
        vm.assertEq(grid.farm(farmId).open, 0, "open");
    }

    function test_what_runs_unpaid_does_not_expire() public {
        uint64 id = _running();
        _grace(id);
        vm.warp(START + 300 days);
        refuses(Codes.WRONG_STATE);
        market.expire(id, 1);
    }

    function test_cancelled_in_grace_and_while_suspended() public {
        uint64 one = _running();
        _grace(one);
        uint64 two = _suspended();
        vm.startPrank(tenant);
        market.cancel(one);
        market.cancel(two);
        vm.stopPrank();
        expectState(one, 1, State.Closed);
        expectState(two, 1, State.Closed);
        vm.assertEq(reserved(), Resources.plus(Resources.disks(lean()), Resources.disks(lean())), "disks are kept");
    }

    function test_retired_while_suspended() public {
        uint64 id = _suspended();
        vm.prank(farmer);
        grid.retire(node);
        market.closeRetired(id);
        expectState(id, 1, State.Closed);
        vm.assertEq(reserved(), 0, "nothing is kept on a node that is gone");
    }
}
