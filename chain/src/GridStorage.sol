// SPDX-License-Identifier: Apache-2.0
// The registry's storage. It comes before every other base contract, so that the slots which nodes prove
// (docs/formats.md, section 7) start at 0 and never move.
pragma solidity ^0.8.28;

import {EnumerableSet} from "@openzeppelin/contracts/utils/structs/EnumerableSet.sol";
import {Codes} from "./Codes.sol";
import {FarmPolicy, IGridRegistry, Node, Token} from "./IGridRegistry.sol";

abstract contract GridStorage is IGridRegistry {
    struct FarmRecord {
        address farmer;
        uint32 open;
        uint32 day; // of `changes`
        uint32 changes;
        FarmPolicy policy;
        uint32 pending;
        address biller;
        string name;
        EnumerableSet.AddressSet tenants;
        EnumerableSet.AddressSet tokens;
        uint64[] nodes;
    }

    address internal _reservations; // slot 0
    mapping(uint64 id => Node) internal _nodes; // slot 1
    mapping(address identity => uint64 id) internal _nodeByIdentity; // slot 2
    uint64 internal _nodeCount; // slot 3
    uint64 internal _farmCount;
    mapping(uint64 id => FarmRecord) internal _farms; // slot 4
    mapping(bytes32 nameHash => uint64 id) internal _farmByName; // slot 5
    mapping(address key => Token) internal _tokens; // slot 6

    function _refuseIf(bool condition, bytes32 code) internal pure {
        if (condition) revert Refused(code);
    }

    function _farmOf(uint64 id) internal view returns (FarmRecord storage record) {
        record = _farms[id];
        _refuseIf(record.farmer == address(0), Codes.FARM_UNKNOWN);
    }

    /// The farm's record, for its farmer only.
    function _ownFarm(uint64 id) internal view returns (FarmRecord storage record) {
        record = _farmOf(id);
        _refuseIf(record.farmer != msg.sender, Codes.NOT_FARMER);
    }
}
