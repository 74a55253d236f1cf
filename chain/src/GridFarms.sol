// SPDX-License-Identifier: Apache-2.0
// Farms and their join tokens.
pragma solidity ^0.8.28;

import {EnumerableSet} from "@openzeppelin/contracts/utils/structs/EnumerableSet.sol";
import {Codes} from "./Codes.sol";
import {GridStorage} from "./GridStorage.sol";
import {Farm, FarmPolicy, Token} from "./IGridRegistry.sol";

abstract contract GridFarms is GridStorage {
    using EnumerableSet for EnumerableSet.AddressSet;

    uint256 internal constant MAX_NAME = 64;
    uint256 internal constant MAX_TOKENS = 64; // tokensOf must stay readable in one call
    uint32 internal constant DEFAULT_OPEN = 256;
    uint32 internal constant DEFAULT_CHANGES = 1000;

    function createFarm(string calldata name) external returns (uint64 id) {
        bytes32 key = _nameKey(name);
        _refuseIf(_farmByName[key] != 0, Codes.FARM_EXISTS);
        id = ++_farmCount;
        _farmByName[key] = id;
        FarmRecord storage record = _farms[id];
        record.farmer = msg.sender;
        record.name = name;
        record.policy.maxOpen = DEFAULT_OPEN;
        record.policy.maxChanges = DEFAULT_CHANGES;
        emit FarmCreated(id, msg.sender, name);
        emit FarmPolicyChanged(id, record.policy);
    }

    function setFarmPolicy(uint64 farmId, FarmPolicy calldata policy) external {
        _ownFarm(farmId).policy = policy;
        emit FarmPolicyChanged(farmId, policy);
    }

    function setBiller(uint64 farmId, address biller) external {
        _ownFarm(farmId).biller = biller;
        emit FarmBillerChanged(farmId, biller);
    }

    function billerOfFarm(uint64 farmId) external view returns (address) {
        return _farmOf(farmId).biller;
    }

    function listTenant(uint64 farmId, address tenant, bool listed) external {
        FarmRecord storage record = _ownFarm(farmId);
        if (listed) record.tenants.add(tenant);
        else record.tenants.remove(tenant);
        emit TenantListed(farmId, tenant, listed);
    }

    function farm(uint64 id) external view returns (Farm memory) {
        FarmRecord storage record = _farmOf(id);
        return Farm({
            farmer: record.farmer,
            name: record.name,
            policy: record.policy,
            open: record.open,
            changes: record.day == _today() ? record.changes : 0,
            pending: record.pending
        });
    }

    function farmCount() external view returns (uint64) {
        return _farmCount;
    }

    function farmByName(string calldata name) external view returns (uint64) {
        return _farmByName[_nameKey(name)];
    }

    function tenantAllowed(uint64 farmId, address tenant) external view returns (bool) {
        return _allowed(_farmOf(farmId), tenant);
    }

    function tenantsOf(uint64 farmId) external view returns (address[] memory) {
        return _farmOf(farmId).tenants.values();
    }

    function createToken(uint64 farmId, address key, uint64 expires, uint32 uses) external {
        FarmRecord storage record = _ownFarm(farmId);
        _refuseIf(key == address(0) || uses == 0 || expires <= block.timestamp, Codes.BAD_TOKEN);
        // A revoked token keeps its expiry, so that its address cannot come back.
        _refuseIf(_tokens[key].expires != 0, Codes.TOKEN_EXISTS);
        _refuseIf(record.tokens.length() >= MAX_TOKENS, Codes.TOKEN_LIMIT);
        _tokens[key] = Token({farm: farmId, expires: expires, uses: uses, used: 0});
        record.tokens.add(key);
        emit TokenCreated(farmId, key, expires, uses);
    }

    function revokeToken(address key) external {
        uint64 farmId = _tokens[key].farm;
        _refuseIf(farmId == 0, Codes.TOKEN_UNKNOWN);
        FarmRecord storage record = _ownFarm(farmId);
        _tokens[key].farm = 0;
        record.tokens.remove(key);
        emit TokenRevoked(farmId, key);
    }

    function token(address key) external view returns (Token memory) {
        return _tokens[key];
    }

    function tokensOf(uint64 farmId) external view returns (address[] memory) {
        return _farmOf(farmId).tokens.values();
    }

    function _allowed(FarmRecord storage record, address tenant) internal view returns (bool) {
        return record.policy.anyTenant || tenant == record.farmer || record.tenants.contains(tenant);
    }

    function _today() internal view returns (uint32) {
        return uint32(block.timestamp / 1 days);
    }

    /// keccak256 of the name in lower case; refuses a name that could be mistaken for another one.
    function _nameKey(string calldata name) private pure returns (bytes32) {
        bytes memory text = bytes(name);
        uint256 length = text.length;
        _refuseIf(
            length == 0 || length > MAX_NAME || text[0] == " " || text[length - 1] == " ", Codes.BAD_FARM_NAME
        );
        for (uint256 i = 0; i < length; i++) {
            bytes1 c = text[i];
            _refuseIf(c < 0x20 || c > 0x7e, Codes.BAD_FARM_NAME);
            if (c >= "A" && c <= "Z") text[i] = bytes1(uint8(c) + 32);
        }
        return keccak256(text);
    }
}
