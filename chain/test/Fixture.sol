// SPDX-License-Identifier: Apache-2.0
// Both contracts deployed, one farm with a token and an Active node, and short forms of every call.
pragma solidity ^0.8.28;

import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";
import {
    FarmPolicy,
    IGridRegistry,
    KeyEpoch,
    Profile,
    Registration,
    Report
} from "../src/IGridRegistry.sol";
import {IReservations, Proposal, Result, State} from "../src/IReservations.sol";
import {TypedData} from "../src/TypedData.sol";
import {Log, createBoth, vm} from "./Helper.sol";

function pack(uint32 cores, uint64 memorySize, uint64 ssd, uint64 hdd, uint32 addresses) pure returns (bytes32) {
    return bytes32(abi.encodePacked(cores, memorySize, ssd, hdd, addresses));
}

/// The data of a Changed event.
struct ChangedData {
    uint32 revision;
    uint8 state;
    uint64 sequence;
    uint64 previousBlock;
    bytes32 reason;
    bytes32 commitment;
    address actor;
    uint64 time;
}

/// Hashes from memory what the library hashes from calldata.
contract Hasher {
    function registration(Registration calldata m) external pure returns (bytes32) {
        return TypedData.hash(m);
    }

    function report(Report calldata m) external pure returns (bytes32) {
        return TypedData.hash(m);
    }

    function profile(Profile calldata m) external pure returns (bytes32) {
        return TypedData.hash(m);
    }

    function keyEpoch(KeyEpoch calldata m) external pure returns (bytes32) {
        return TypedData.hash(m);
    }

    function result(Result calldata m) external pure returns (bytes32) {
        return TypedData.hash(m);
    }
}

abstract contract Fixture {
    uint256 internal constant NODE_KEY = 0xa11ce;
    uint256 internal constant TOKEN_KEY = 0x70ce;
    uint64 internal constant START = 1_800_000_000;
    bytes32 internal constant BOOT = "boot 1";

    address internal farmer = vm.addr(0xfa);
    address internal tenant = vm.addr(0x7e);
    address internal stranger = vm.addr(0x57);
    address internal approver = vm.addr(0xa9);

    IGridRegistry internal grid;
    IReservations internal market;
    Hasher internal hasher;
    uint64 internal farmId;
    uint64 internal node;
    mapping(uint64 => uint64) internal nonces; // the last one that a node used
    mapping(uint64 => uint256) internal nodeKeys;

    bytes32 internal capacity = pack(16000, 64 << 30, 2 << 40, 8 << 40, 2);

    function deploy() internal {
        vm.warp(START);
        vm.roll(1000);
        (address one, address two) = createBoth(vm.addr(0xde));
        grid = IGridRegistry(one);
        market = IReservations(two);
        hasher = new Hasher();
    }

    function setUp() public virtual {
        deploy();
        vm.startPrank(farmer);
        farmId = grid.createFarm("Test Farm");
        grid.createToken(farmId, vm.addr(TOKEN_KEY), START + 1 days, 100);
        grid.listTenant(farmId, tenant, true);
        vm.stopPrank();
        node = joinNode(NODE_KEY);
    }

    function refuses(bytes32 code) internal {
        vm.expectRevert(abi.encodeWithSelector(IGridRegistry.Refused.selector, code));
    }

    function signature(uint256 key, bytes32 digest) internal pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, digest);
        return abi.encodePacked(r, s, v);
    }

    function domainOf(address target) internal view returns (bytes32) {
        return keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256("Croft"),
                keccak256("1"),
                block.chainid,
                target
            )
        );
    }

    function typed(uint256 key, address target, bytes32 structHash) internal view returns (bytes memory) {
        return signature(key, MessageHashUtils.toTypedDataHash(domainOf(target), structHash));
    }

    function joinSignature(uint256 tokenKey, uint64 farm, address identity) internal view returns (bytes memory) {
        return typed(tokenKey, address(grid), TypedData.hashJoin(farm, identity));
    }

    function hosts(string memory one) internal pure returns (string[] memory list) {
        list = new string[](1);
        list[0] = one;
    }

    function registrationOf(uint256 key) internal view returns (Registration memory) {
        return Registration({
            farm: farmId,
            identity: vm.addr(key),
            nonce: 1,
            bootId: BOOT,
            addresses: hosts("192.0.2.1"),
            tlsKeyHash: "tls",
            sealingKey: "sealing 1",
            keyEpoch: 1,
            runMode: 2,
            imageDigest: "image",
            capacity: capacity,
            ephemeral: false
        });
    }

    function signed(uint256 key, Registration memory m) internal view returns (bytes memory) {
        return typed(key, address(grid), hasher.registration(m));
    }

    function joinNode(uint256 key) internal returns (uint64 id) {
        Registration memory m = registrationOf(key);
        bytes memory by = signed(key, m);
        id = grid.register(m, by, joinSignature(TOKEN_KEY, m.farm, m.identity));
        nonces[id] = 1;
        nodeKeys[id] = key;
    }

    function pendingNode(uint256 key) internal returns (uint64 id) {
        Registration memory m = registrationOf(key);
        id = grid.register(m, signed(key, m), "");
        nonces[id] = 1;
        nodeKeys[id] = key;
    }

    function reportOf(uint64 id, bytes32 offered) internal view returns (Report memory) {
        return Report({node: id, nonce: nonces[id] + 1, bootId: BOOT, uptime: 60, capacity: offered, version: "0.1.0"});
    }

    function report(uint64 id, bytes32 offered) internal {
        Report memory m = reportOf(id, offered);
        grid.report(m, typed(nodeKeys[id], address(grid), hasher.report(m)));
        nonces[id]++;
    }

    function resultOf(uint64 id, uint32 revision, State state, bytes32 reason) internal view returns (Result memory) {
        return Result({
            node: node,
            nonce: nonces[node] + 1,
            bootId: BOOT,
            reservation: id,
            revision: revision,
            state: uint8(state),
            reason: reason
        });
    }

    function send(Result memory m) internal returns (bool taken) {
        taken = market.result(m, typed(nodeKeys[m.node], address(market), hasher.result(m)));
        if (taken) nonces[m.node]++;
    }

    function result(uint64 id, uint32 revision, State state, bytes32 reason) internal {
        send(resultOf(id, revision, state, reason));
    }

    function proposalOf(uint32 revision, bytes32 resources) internal view returns (Proposal memory p) {
        p.node = node;
        p.keyEpoch = 1;
        p.revision = revision;
        p.resources = resources;
        p.contentHash = keccak256("content");
        p.sealedData = "sealed";
        p.approveBy = uint64(block.timestamp) + 1 hours;
        p.deployBy = uint64(block.timestamp) + 2 hours;
        p.keep = 1 days;
    }

    function small() internal pure returns (bytes32) {
        return pack(1000, 1 << 30, 10 << 30, 20 << 30, 1);
    }

    function propose(bytes32 resources) internal returns (uint64 id) {
        Proposal memory p = proposalOf(1, resources);
        vm.prank(tenant);
        return market.propose(p);
    }

    function active() internal returns (uint64 id) {
        id = propose(small());
        result(id, 1, State.Deploying, 0);
        result(id, 1, State.Active, 0);
    }

    function update(uint64 id, uint32 revision, bytes32 resources, bool replace) internal {
        Proposal memory p = proposalOf(revision, resources);
        p.replace = replace;
        vm.prank(tenant);
        market.update(id, p);
    }

    function withApprover() internal {
        vm.prank(farmer);
        grid.setFarmPolicy(farmId, FarmPolicy({approver: approver, anyTenant: false, maxOpen: 10, maxChanges: 100}));
    }

    function reserved() internal view returns (bytes32) {
        return grid.node(node).reserved;
    }

    function stateOf(uint64 id, uint32 revision) internal view returns (State) {
        return State(market.revision(id, revision).state);
    }

    function expectState(uint64 id, uint32 revision, State state) internal view {
        vm.assertEq(uint256(market.revision(id, revision).state), uint256(state), "state");
    }

    /// Of the last event since vm.recordLogs.
    function lastChanged() internal returns (ChangedData memory) {
        return abi.decode(lastLog().data, (ChangedData));
    }

    function lastLog() internal returns (Log memory) {
        Log[] memory logs = vm.getRecordedLogs();
        return logs[logs.length - 1];
    }
}
