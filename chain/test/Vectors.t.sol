// SPDX-License-Identifier: Apache-2.0
// The contracts against tests/vectors/*.json, which another implementation made.
pragma solidity ^0.8.28;

import {IGridRegistry, KeyEpoch, Profile, Registration, Report} from "../src/IGridRegistry.sol";
import {IReservations, Result} from "../src/IReservations.sol";
import {Resources} from "../src/Resources.sol";
import {Log, createBoth, vm} from "./Helper.sol";
import {Hasher, pack} from "./Fixture.sol";

contract VectorsTest {
    IGridRegistry private grid;
    IReservations private market;
    Hasher private hasher = new Hasher();

    function _read(string memory name) private view returns (string memory) {
        return vm.readFile(string.concat("../tests/vectors/", name, ".json"));
    }

    function _at(uint256 i, string memory field) private pure returns (string memory) {
        return string.concat("[", vm.toString(i), "].", field);
    }

    /// Calls with ready-made calldata.
    function _send(address target, bytes memory data) private returns (bytes memory) {
        (bool done, bytes memory answer) = target.call(data);
        vm.assertTrue(done, "reverted");
        return answer;
    }

    function setUp() public {
        string memory json = _read("typed-data");
        address deployer = vm.parseJsonAddress(json, ".deployer");
        (address one, address two) = createBoth(deployer);
        grid = IGridRegistry(one);
        market = IReservations(two);
        vm.assertEq(address(grid), vm.parseJsonAddress(json, ".registry"), "registry");
        vm.assertEq(address(market), vm.parseJsonAddress(json, ".reservations"), "reservations");
        vm.assertEq(block.chainid, vm.parseJsonUint(json, ".chainId"), "chain id");
    }

    function test_resources() public view {
        string memory json = _read("resources");
        for (uint256 i = 0; vm.keyExistsJson(json, _at(i, "packed")); i++) {
            bytes32 packed = vm.parseJsonBytes32(json, _at(i, "packed"));
            vm.assertEq(Resources.milliCores(packed), vm.parseJsonUint(json, _at(i, "milliCores")), "milliCores");
            vm.assertEq(Resources.memorySize(packed), vm.parseJsonUint(json, _at(i, "memory")), "memory");
            vm.assertEq(Resources.ssd(packed), vm.parseJsonUint(json, _at(i, "ssd")), "ssd");
            vm.assertEq(Resources.hdd(packed), vm.parseJsonUint(json, _at(i, "hdd")), "hdd");
            vm.assertEq(Resources.addresses(packed), vm.parseJsonUint(json, _at(i, "addresses")), "addresses");
            vm.assertTrue(i < 100, "end");
        }
        vm.assertTrue(vm.keyExistsJson(json, _at(4, "packed")), "five cases");
    }

    function test_codes() public view {
        string memory json = _read("codes");
        for (uint256 i = 0; i < 5; i++) {
            bytes memory code = bytes(vm.parseJsonString(json, _at(i, "code")));
            bytes32 word = vm.parseJsonBytes32(json, _at(i, "bytes32"));
            vm.assertEq(word, bytes32(code), "left-aligned");
            bytes memory revertData = abi.encodeWithSelector(IGridRegistry.Refused.selector, word);
            vm.assertEq(vm.parseJsonBytes(json, _at(i, "revert")), revertData, "revert data");
        }
    }

    function test_commitments() public view {
        string memory json = _read("sealed");
        for (uint256 i = 0; i < 3; i++) {
            vm.assertEq(
                market.commitmentOf(
                    vm.parseJsonAddress(json, _at(i, "tenant")),
                    uint64(vm.parseJsonUint(json, _at(i, "node"))),
                    uint32(vm.parseJsonUint(json, _at(i, "keyEpoch"))),
                    uint32(vm.parseJsonUint(json, _at(i, "revision"))),
                    vm.parseJsonBytes32(json, _at(i, "resources")),
                    vm.parseJsonBytes32(json, _at(i, "contentHash")),
                    vm.parseJsonBytes32(json, _at(i, "sealedHash"))
                ),
                vm.parseJsonBytes32(json, _at(i, "commitment")),
                "commitment"
            );
            bytes memory sealedData = vm.parseJsonBytes(json, _at(i, "sealed"));
            vm.assertEq(keccak256(sealedData), vm.parseJsonBytes32(json, _at(i, "sealedHash")), "keccak256");
            vm.assertEq(sha256(sealedData), vm.parseJsonBytes32(json, _at(i, "sha256")), "sha256");
            bytes memory salted = bytes.concat(
                vm.parseJsonBytes(json, _at(i, "salt")), bytes(vm.parseJsonString(json, _at(i, "specification")))
            );
            vm.assertEq(keccak256(salted), vm.parseJsonBytes32(json, _at(i, "contentHash")), "contentHash");
        }
    }

    function test_head_fold() public view {
        string memory json = _read("head");
        bytes32 head;
        uint256 i;
        for (; vm.keyExistsJson(json, _at(i, "head")); i++) {
            head = keccak256(
                abi.encode(
                    head,
                    uint64(i + 1),
                    uint64(vm.parseJsonUint(json, _at(i, "id"))),
                    uint32(vm.parseJsonUint(json, _at(i, "revision"))),
                    uint8(vm.parseJsonUint(json, _at(i, "state"))),
                    bytes32(bytes(vm.parseJsonString(json, _at(i, "reason")))),
                    vm.parseJsonBytes32(json, _at(i, "commitment"))
                )
            );
            vm.assertEq(head, vm.parseJsonBytes32(json, _at(i, "head")), "head");
        }
        vm.assertEq(i, 28, "steps");
    }

    function test_struct_hashes() public view {
        string memory json = _read("typed-data");
        string[5] memory names = ["Registration", "Report", "Profile", "KeyEpoch", "Result"];
        for (uint256 i = 0; i < names.length; i++) {
            bytes memory data = vm.parseJsonBytes(json, string.concat(".messages.", names[i], ".calldata"));
            bytes memory arguments = new bytes(data.length - 4);
            for (uint256 j = 0; j < arguments.length; j++) {
                arguments[j] = data[j + 4];
            }
            bytes32 got;
            if (i == 0) {
                (Registration memory m,,) = abi.decode(arguments, (Registration, bytes, bytes));
                got = hasher.registration(m);
            } else if (i == 1) {
                (Report memory m,) = abi.decode(arguments, (Report, bytes));
                got = hasher.report(m);
            } else if (i == 2) {
                (Profile memory m,) = abi.decode(arguments, (Profile, bytes));
                got = hasher.profile(m);
            } else if (i == 3) {
                (KeyEpoch memory m,) = abi.decode(arguments, (KeyEpoch, bytes));
                got = hasher.keyEpoch(m);
            } else {
                (Result memory m,) = abi.decode(arguments, (Result, bytes));
                got = hasher.result(m);
            }
            vm.assertEq(got, vm.parseJsonBytes32(json, string.concat(".messages.", names[i], ".structHash")), names[i]);
        }
    }

    function test_keys() public view {
        string memory json = _read("keys");
        for (uint256 i = 0; i < 4; i++) {
            uint256 key = uint256(vm.parseJsonBytes32(json, _at(i, "identityPrivate")));
            vm.assertEq(vm.addr(key), vm.parseJsonAddress(json, _at(i, "identityAddress")), "address");
            bytes memory spki = vm.parseJsonBytes(json, _at(i, "tlsSpki"));
            vm.assertEq(sha256(spki), vm.parseJsonBytes32(json, _at(i, "tlsKeyHash")), "tls key hash");
        }
    }

    /// The whole way: ready-made calls with ready-made signatures, then the exact logs and storage words.
    function test_story() public {
        string memory json = _read("story");
        string memory typed = _read("typed-data");
        uint256 time = vm.parseJsonUint(json, ".time");
        address farmer = vm.parseJsonAddress(json, ".farmer");
        address tenant = vm.parseJsonAddress(json, ".tenant");
        vm.warp(time);
        vm.roll(vm.parseJsonUint(json, ".registerBlock"));
        vm.startPrank(farmer);
        grid.createFarm("vectors");
        grid.createToken(1, vm.parseJsonAddress(typed, ".token"), uint64(time + 1 days), 1);
        grid.listTenant(1, tenant, true);
        vm.stopPrank();
        _send(address(grid), vm.parseJsonBytes(typed, ".messages.Registration.calldata"));
        _send(address(grid), vm.parseJsonBytes(typed, ".messages.Report.calldata"));

        vm.roll(vm.parseJsonUint(json, ".proposeBlock"));
        bytes memory call = vm.parseJsonBytes(json, ".propose");
        vm.recordLogs();
        vm.prank(tenant);
        _send(address(market), call);

        vm.roll(vm.parseJsonUint(json, ".resultBlock"));
        vm.warp(vm.parseJsonUint(json, ".resultTime"));
        _send(address(grid), vm.parseJsonBytes(typed, ".messages.Profile.calldata"));
        _send(address(grid), vm.parseJsonBytes(typed, ".messages.KeyEpoch.calldata"));
        _send(address(market), vm.parseJsonBytes(typed, ".messages.Result.calldata"));

        vm.assertEq(market.chain(1).head, vm.parseJsonBytes32(json, ".head"), "head");
        vm.assertEq(market.revision(1, 1).commitment, vm.parseJsonBytes32(json, ".commitment"), "commitment");
        _checkLogs(json, vm.getRecordedLogs());
        _checkStorage(json);
    }

    function _checkLogs(string memory json, Log[] memory logs) private view {
        uint256 seen;
        for (uint256 i = 0; i < logs.length; i++) {
            if (logs[i].emitter != address(market)) continue;
            string memory path = string.concat(".logs[", vm.toString(seen++), "]");
            bytes32[] memory topics = vm.parseJsonBytes32Array(json, string.concat(path, ".topics"));
            vm.assertEq(abi.encode(logs[i].topics), abi.encode(topics), "topics");
            vm.assertEq(logs[i].data, vm.parseJsonBytes(json, string.concat(path, ".data")), "data");
        }
        vm.assertEq(seen, 5, "logs");
    }

    function _checkStorage(string memory json) private view {
        uint256 i;
        for (;; i++) {
            string memory path = string.concat(".storage[", vm.toString(i), "].");
            if (!vm.keyExistsJson(json, string.concat(path, "slot"))) break;
            string memory name = vm.parseJsonString(json, string.concat(path, "contract"));
            bool registry = keccak256(bytes(name)) == keccak256("registry");
            vm.assertEq(
                vm.load(
                    registry ? address(grid) : address(market), vm.parseJsonBytes32(json, string.concat(path, "slot"))
                ),
                vm.parseJsonBytes32(json, string.concat(path, "value")),
                vm.parseJsonString(json, string.concat(path, "field"))
            );
        }
        vm.assertEq(i, 17, "slots");
    }
}
