// SPDX-License-Identifier: Apache-2.0
// Farms, tokens and nodes: each function, each refusal.
pragma solidity ^0.8.28;

import {Codes} from "../src/Codes.sol";
import {Farm, FarmPolicy, IGridRegistry, KeyEpoch, Node, NodeState, Profile, Registration, Report} from
    "../src/IGridRegistry.sol";
import {Fixture, pack} from "./Fixture.sol";
import {Log, create, vm} from "./Helper.sol";

contract RegistryTest is Fixture {
    // --- farms ---------------------------------------------------------------------------------------

    function test_farm_is_created() public view {
        Farm memory f = grid.farm(farmId);
        vm.assertEq(farmId, 1, "ids count from 1");
        vm.assertEq(f.farmer, farmer, "farmer");
        vm.assertEq(f.name, "Test Farm", "name");
        vm.assertEq(f.policy.maxOpen, 256, "open limit");
        vm.assertEq(f.policy.maxChanges, 1000, "change limit");
        vm.assertEq(grid.farmByName("tEST fARM"), farmId, "names have no case");
        vm.assertEq(grid.farmByName("other"), 0, "unknown name");
        vm.assertEq(grid.farmCount(), 1, "count");
    }

    function test_farm_name_is_unique_without_case() public {
        refuses(Codes.FARM_EXISTS);
        grid.createFarm("test farm");
        vm.assertEq(grid.createFarm("test farm 2"), 2, "another name");
    }

    function test_farm_name_is_checked() public {
        string[5] memory names = ["", " a", "a ", "a\n", unicode"ü"];
        for (uint256 i = 0; i < names.length; i++) {
            refuses(Codes.BAD_FARM_NAME);
            grid.createFarm(names[i]);
        }
        grid.createFarm("0123456789012345678901234567890123456789012345678901234567890123");
        refuses(Codes.BAD_FARM_NAME);
        grid.createFarm("01234567890123456789012345678901234567890123456789012345678901234");
    }

    function test_farm_policy_and_tenants_are_the_farmers() public {
        FarmPolicy memory policy = FarmPolicy({approver: approver, anyTenant: true, maxOpen: 3, maxChanges: 4});
        refuses(Codes.NOT_FARMER);
        grid.setFarmPolicy(farmId, policy);
        refuses(Codes.NOT_FARMER);
        grid.listTenant(farmId, stranger, true);
        refuses(Codes.FARM_UNKNOWN);
        grid.listTenant(9, stranger, true);

        vm.assertTrue(grid.tenantAllowed(farmId, farmer), "the farmer");
        vm.assertTrue(!grid.tenantAllowed(farmId, stranger), "not listed");
        vm.startPrank(farmer);
        grid.listTenant(farmId, stranger, true);
        vm.assertTrue(grid.tenantAllowed(farmId, stranger), "listed");
        vm.assertEq(grid.tenantsOf(farmId).length, 2, "list");
        grid.listTenant(farmId, stranger, false);
        vm.assertTrue(!grid.tenantAllowed(farmId, stranger), "struck off");
        grid.setFarmPolicy(farmId, policy);
        vm.assertTrue(grid.tenantAllowed(farmId, stranger), "any");
        vm.assertEq(grid.approverOf(node), approver, "approver");
    }

    // --- tokens --------------------------------------------------------------------------------------

    function test_token_is_the_farmers() public {
        refuses(Codes.NOT_FARMER);
        grid.createToken(farmId, stranger, START + 1, 1);
        refuses(Codes.NOT_FARMER);
        grid.revokeToken(vm.addr(TOKEN_KEY));
        refuses(Codes.TOKEN_UNKNOWN);
        grid.revokeToken(stranger);
    }

    function test_token_is_checked() public {
        vm.startPrank(farmer);
        refuses(Codes.BAD_TOKEN);
        grid.createToken(farmId, address(0), START + 1, 1);
        refuses(Codes.BAD_TOKEN);
        grid.createToken(farmId, stranger, START, 1);
        refuses(Codes.BAD_TOKEN);
        grid.createToken(farmId, stranger, START + 1, 0);
        refuses(Codes.TOKEN_EXISTS);
        grid.createToken(farmId, vm.addr(TOKEN_KEY), START + 1, 1);
    }

    function test_token_limit_and_revocation() public {
        vm.startPrank(farmer);
        for (uint256 i = 1; i < 64; i++) {
            grid.createToken(farmId, vm.addr(i), START + 1, 1);
        }
        refuses(Codes.TOKEN_LIMIT);
        grid.createToken(farmId, vm.addr(64), START + 1, 1);
        grid.revokeToken(vm.addr(1));
        vm.assertEq(grid.tokensOf(farmId).length, 63, "list");
        vm.assertEq(grid.token(vm.addr(1)).farm, 0, "revoked");
        grid.createToken(farmId, vm.addr(64), START + 1, 1);
        grid.revokeToken(vm.addr(64));
        refuses(Codes.TOKEN_EXISTS); // a revoked token does not come back
        grid.createToken(farmId, vm.addr(1), START + 1, 1);
    }

    function _joinRefused(uint256 tokenKey, uint64 signedFarm, address signedNode, bytes32 code) private {
        Registration memory m = registrationOf(0xbeef);
        bytes memory by = signed(0xbeef, m);
        bytes memory with = joinSignature(tokenKey, signedFarm, signedNode);
        refuses(code);
        grid.register(m, by, with);
    }

    function test_token_must_match() public {
        address identity = vm.addr(0xbeef);
        _joinRefused(0x1234, farmId, identity, Codes.TOKEN_UNKNOWN); // nobody's token
        _joinRefused(TOKEN_KEY, farmId + 1, identity, Codes.TOKEN_UNKNOWN); // signed for another farm
        _joinRefused(TOKEN_KEY, farmId, stranger, Codes.TOKEN_UNKNOWN); // for another node
        vm.prank(stranger);
        uint64 other = grid.createFarm("other");
        vm.prank(stranger);
        grid.createToken(other, vm.addr(0x99), START + 1 days, 1);
        _joinRefused(0x99, farmId, identity, Codes.TOKEN_UNKNOWN); // a token of another farm
        Registration memory m = registrationOf(0xbeef);
        bytes memory by = signed(0xbeef, m);
        refuses(Codes.TOKEN_UNKNOWN);
        grid.register(m, by, "short");
    }

    function test_token_expires_and_is_used_up() public {
        vm.prank(farmer);
        grid.createToken(farmId, vm.addr(0x99), START + 1 hours, 1);
        Registration memory m = registrationOf(0xbeef);
        grid.register(m, signed(0xbeef, m), joinSignature(0x99, farmId, m.identity));
        vm.assertEq(grid.token(vm.addr(0x99)).used, 1, "used");
        m = registrationOf(0xbee0);
        bytes memory by = signed(0xbee0, m);
        bytes memory with = joinSignature(0x99, farmId, m.identity);
        refuses(Codes.TOKEN_USED);
        grid.register(m, by, with);
        vm.warp(START + 1 hours);
        refuses(Codes.TOKEN_EXPIRED);
        grid.register(m, by, with);
    }

    function test_token_revoked_is_unknown() public {
        vm.prank(farmer);
        grid.revokeToken(vm.addr(TOKEN_KEY));
        _joinRefused(TOKEN_KEY, farmId, vm.addr(0xbeef), Codes.TOKEN_UNKNOWN);
    }

    // --- joining -------------------------------------------------------------------------------------

    function test_node_joins_with_token() public view {
        Node memory n = grid.node(node);
        vm.assertEq(node, 1, "ids count from 1");
        vm.assertEq(n.identity, vm.addr(NODE_KEY), "identity");
        vm.assertEq(n.farm, farmId, "farm");
        vm.assertEq(n.state, uint8(NodeState.Active), "active");
        vm.assertEq(n.runMode, 2, "run mode");
        vm.assertEq(n.nonce, 1, "nonce");
        vm.assertEq(n.bootId, BOOT, "boot id");
        vm.assertEq(n.capacity, capacity, "capacity");
        vm.assertEq(n.sealingKey, bytes32("sealing 1"), "sealing key");
        vm.assertEq(n.addresses.length, 1, "addresses");
        vm.assertEq(n.addresses[0], "192.0.2.1", "address");
        vm.assertEq(n.registered, START, "time");
        vm.assertEq(grid.nodeByIdentity(n.identity), node, "by identity");
        vm.assertEq(grid.nodesOf(farmId, 0, 10).length, 1, "list");
        vm.assertEq(grid.nodesOf(farmId, 1, 10).length, 0, "past the end");
        vm.assertEq(grid.nodeCount(), 1, "count");
    }

    function test_registration_repeated_changes_nothing() public {
        Registration memory m = registrationOf(NODE_KEY);
        m.capacity = 0; // whatever it says
        vm.recordLogs();
        vm.assertEq(grid.register(m, "", ""), node, "same id");
        vm.assertEq(vm.getRecordedLogs().length, 0, "no event");
        vm.assertEq(grid.node(node).capacity, capacity, "unchanged");
        vm.assertEq(grid.nodeCount(), 1, "count");
    }

    function test_registration_is_signed() public {
        Registration memory m = registrationOf(0xbeef);
        bytes memory by = signed(0xbee0, m);
        refuses(Codes.BAD_SIGNATURE);
        grid.register(m, by, "");
        by = signed(0xbeef, m);
        m.capacity = pack(1, 1, 1, 1, 1);
        refuses(Codes.BAD_SIGNATURE); // altered on the way
        grid.register(m, by, "");
        by = typed(0xbeef, address(market), hasher.registration(m));
        refuses(Codes.BAD_SIGNATURE); // for another contract
        grid.register(m, by, "");
    }

    function test_registration_is_checked() public {
        for (uint256 i = 0; i < 8; i++) {
            Registration memory m = registrationOf(0xbeef);
            if (i == 0) m.addresses = new string[](5);
            if (i == 1) m.addresses = new string[](1); // an empty one
            if (i == 2) m.addresses = hosts(string(new bytes(254)));
            if (i == 3) m.runMode = 3;
            if (i == 4) m.bootId = 0;
            if (i == 5) m.tlsKeyHash = 0;
            if (i == 6) m.sealingKey = 0;
            if (i == 7) m.keyEpoch = 0;
            bytes memory by = signed(0xbeef, m);
            refuses(Codes.BAD_REGISTRATION);
            grid.register(m, by, "");
        }
        Registration memory other = registrationOf(0xbeef);
        other.farm = 7;
        bytes memory sig = signed(0xbeef, other);
        refuses(Codes.FARM_UNKNOWN);
        grid.register(other, sig, "");
        other = registrationOf(0xbeef);
        other.nonce = 2;
        sig = signed(0xbeef, other);
        refuses(Codes.NONCE_GAP);
        grid.register(other, sig, "");
        other = registrationOf(NODE_KEY);
        other.nonce = 2;
        sig = signed(NODE_KEY, other);
        refuses(Codes.NODE_EXISTS);
        grid.register(other, sig, "");
    }

    function test_pending_is_approved_by_the_farmer() public {
        uint64 id = pendingNode(0xbeef);
        vm.assertEq(grid.nodeState(id), uint8(NodeState.Pending), "pending");
        vm.assertEq(grid.farm(farmId).pending, 1, "counted");
        refuses(Codes.NOT_FARMER);
        grid.approve(id, 0);
        vm.prank(farmer);
        grid.approve(id, 0);
        vm.assertEq(grid.nodeState(id), uint8(NodeState.Active), "active");
        vm.assertEq(grid.farm(farmId).pending, 0, "counted");
        refuses(Codes.NODE_NOT_PENDING);
        grid.approve(id, 0);
        refuses(Codes.NODE_UNKNOWN);
        grid.approve(99, 0);
    }

    function test_pending_joins_with_a_token_later() public {
        uint64 id = pendingNode(0xbeef);
        grid.join(id, joinSignature(TOKEN_KEY, farmId, vm.addr(0xbeef)));
        vm.assertEq(grid.nodeState(id), uint8(NodeState.Active), "active");
        vm.assertEq(grid.farm(farmId).pending, 0, "counted");
        bytes memory with = joinSignature(TOKEN_KEY, farmId, vm.addr(0xbeef));
        refuses(Codes.NODE_NOT_PENDING);
        grid.join(id, with);
    }

    function test_pending_nodes_are_limited() public {
        for (uint256 i = 0; i < 20; i++) {
            pendingNode(0x1000 + i);
        }
        Registration memory m = registrationOf(0x2000);
        bytes memory by = signed(0x2000, m);
        refuses(Codes.PENDING_LIMIT);
        grid.register(m, by, "");
        uint64 first = grid.nodeByIdentity(vm.addr(0x1000));
        vm.prank(farmer);
        grid.retire(first);
        grid.register(m, by, "");
    }

    function test_node_is_replaced() public {
        uint64 id = pendingNode(0xbeef);
        vm.startPrank(farmer);
        refuses(Codes.BAD_REPLACEMENT);
        grid.approve(id, id);
        refuses(Codes.BAD_REPLACEMENT);
        grid.approve(id, 99);
        grid.approve(id, node);
        vm.assertEq(grid.nodeState(node), uint8(NodeState.Retired), "old");
        vm.assertEq(grid.nodeState(id), uint8(NodeState.Active), "new");
        vm.assertEq(grid.node(node).replacedBy, id, "named");
    }

    function test_replacement_is_of_the_same_farm() public {
        vm.startPrank(stranger);
        farmId = grid.createFarm("other");
        uint64 id = pendingNode(0xbeef);
        refuses(Codes.BAD_REPLACEMENT);
        grid.approve(id, node);
    }

    function test_retired_registers_again_with_the_next_nonce() public {
        refuses(Codes.NOT_FARMER);
        grid.retire(node);
        vm.prank(farmer);
        grid.retire(node);
        vm.prank(farmer);
        refuses(Codes.NODE_RETIRED);
        grid.retire(node);
        Registration memory m = registrationOf(NODE_KEY);
        m.nonce = 3;
        bytes memory by = signed(NODE_KEY, m);
        refuses(Codes.NONCE_GAP);
        grid.register(m, by, "");
        m.nonce = 2;
        by = signed(NODE_KEY, m);
        uint64 id = grid.register(m, by, "");
        vm.assertEq(id, 2, "a new id");
        vm.assertEq(grid.nodeByIdentity(m.identity), 2, "the newest");
        vm.assertEq(grid.register(m, by, ""), 2, "repeated");
        vm.assertEq(grid.nodeState(1), uint8(NodeState.Retired), "final");
    }

    // --- reports -------------------------------------------------------------------------------------

    function test_report_takes_effect_once() public {
        Report memory m = reportOf(node, pack(8000, 1 << 30, 1, 2, 3));
        bytes memory by = typed(NODE_KEY, address(grid), hasher.report(m));
        vm.warp(START + 1 hours);
        vm.recordLogs();
        vm.assertTrue(grid.report(m, by), "taken");
        Log[] memory logs = vm.getRecordedLogs();
        vm.assertEq(logs.length, 2, "NonceUsed and Reported");
        vm.assertEq(logs[0].topics[0], IGridRegistry.NonceUsed.selector, "NonceUsed");
        vm.assertEq(logs[1].topics[0], IGridRegistry.Reported.selector, "Reported");
        vm.assertEq(grid.node(node).capacity, m.capacity, "capacity");
        vm.assertEq(grid.node(node).lastReport, START + 1 hours, "time");
        vm.assertEq(grid.node(node).nonce, 2, "nonce");
        vm.warp(START + 2 hours);
        vm.recordLogs();
        vm.assertTrue(!grid.report(m, by), "repeated");
        vm.assertEq(vm.getRecordedLogs().length, 0, "no event");
        vm.assertEq(grid.node(node).lastReport, START + 1 hours, "unchanged");
    }

    function test_report_is_checked() public {
        Report memory m = reportOf(node, capacity);
        bytes memory by = typed(0xbad, address(grid), hasher.report(m));
        refuses(Codes.BAD_SIGNATURE);
        grid.report(m, by);
        m.nonce = 3;
        by = typed(NODE_KEY, address(grid), hasher.report(m));
        refuses(Codes.NONCE_GAP);
        grid.report(m, by);
        m.node = 9;
        refuses(Codes.NODE_UNKNOWN);
        grid.report(m, by);
    }

    function test_pending_node_reports() public {
        uint64 id = pendingNode(0xbeef);
        report(id, pack(1, 2, 3, 4, 5));
        vm.assertEq(grid.node(id).capacity, pack(1, 2, 3, 4, 5), "capacity");
    }

    function test_report_of_a_retired_node_uses_its_nonce() public {
        vm.prank(farmer);
        grid.retire(node);
        vm.recordLogs();
        report(node, 0);
        Log memory last = lastLog();
        vm.assertEq(last.topics[0], IGridRegistry.ReportRefused.selector, "refused");
        vm.assertEq(last.data, abi.encode(uint64(2), Codes.NODE_RETIRED), "reason");
        vm.assertEq(grid.node(node).nonce, 2, "nonce");
        vm.assertEq(grid.node(node).capacity, capacity, "no effect");
    }

    function _profile(Profile memory m) private {
        grid.changeProfile(m, typed(NODE_KEY, address(grid), hasher.profile(m)));
    }

    function test_profile_changes() public {
        Profile memory m = Profile(node, 2, "boot 2", new string[](0), "tls 2", 0, "image 2");
        _profile(m);
        Node memory n = grid.node(node);
        vm.assertEq(n.addresses.length, 0, "addresses");
        vm.assertEq(n.tlsKeyHash, bytes32("tls 2"), "tls");
        vm.assertEq(n.runMode, 0, "run mode");
        vm.assertEq(n.imageDigest, bytes32("image 2"), "image");
        vm.assertEq(n.bootId, bytes32("boot 2"), "boot id");
        m.nonce = 3;
        m.runMode = 9;
        vm.recordLogs();
        _profile(m);
        vm.assertEq(lastLog().data, abi.encode(uint64(3), Codes.BAD_REGISTRATION), "refused");
        vm.assertEq(grid.node(node).runMode, 0, "no effect");
        vm.assertTrue(!grid.changeProfile(m, ""), "repeated");
    }

    function _epoch(KeyEpoch memory m) private {
        grid.changeKeyEpoch(m, typed(NODE_KEY, address(grid), hasher.keyEpoch(m)));
    }

    function test_key_epoch_changes() public {
        vm.assertTrue(!grid.keyEpochTaken(node, 0), "no epoch before the first");
        _epoch(KeyEpoch(node, 2, BOOT, "sealing 2", 2));
        vm.assertEq(grid.node(node).sealingKey, bytes32("sealing 2"), "key");
        vm.assertEq(grid.node(node).previousSealingKey, bytes32("sealing 1"), "previous");
        vm.assertTrue(grid.keyEpochTaken(node, 1) && grid.keyEpochTaken(node, 2), "both for a day");
        vm.assertTrue(!grid.keyEpochTaken(node, 3), "not the next");
        vm.warp(START + 1 days - 1);
        vm.assertTrue(grid.keyEpochTaken(node, 1), "still");
        vm.warp(START + 1 days);
        vm.assertTrue(!grid.keyEpochTaken(node, 1), "over");
        vm.assertTrue(grid.keyEpochTaken(node, 2), "current");
        vm.recordLogs();
        _epoch(KeyEpoch(node, 3, BOOT, "sealing 4", 4));
        vm.assertEq(lastLog().data, abi.encode(uint64(3), Codes.NODE_KEY_EPOCH), "refused");
        vm.assertEq(grid.node(node).keyEpoch, 2, "no effect");
    }

    // --- for Reservations only -------------------------------------------------------------------------

    function test_only_reservations_reserves() public {
        refuses(Codes.NOT_RESERVATIONS);
        grid.move(node, 0, small());
        refuses(Codes.NOT_RESERVATIONS);
        grid.admit(node, tenant, 1, true);
        refuses(Codes.NOT_RESERVATIONS);
        grid.closed(node);
        refuses(Codes.NOT_RESERVATIONS);
        grid.useNonce(node, 2, BOOT, 0, "");
    }

    function test_reservations_are_made_for_a_registry_that_names_them() public {
        refuses(Codes.NOT_RESERVATIONS);
        this.createAnother();
    }

    function createAnother() external returns (address) {
        return create("Reservations.sol:Reservations", abi.encode(grid));
    }
}
