// SPDX-License-Identifier: Apache-2.0
// Arithmetic on packed resources: uint32 milliCores ‖ uint64 memory ‖ uint64 ssd ‖ uint64 hdd ‖ uint32 addresses.
pragma solidity ^0.8.28;

import {Codes} from "./Codes.sol";
import {IGridRegistry} from "./IGridRegistry.sol";

library Resources {
    // Lowest bit and width mask of each field; addresses start at bit 0.
    uint256 private constant CORES = 224;
    uint256 private constant MEMORY = 160;
    uint256 private constant SSD = 96;
    uint256 private constant HDD = 32;
    uint256 private constant M32 = type(uint32).max;
    uint256 private constant M64 = type(uint64).max;

    function milliCores(bytes32 r) internal pure returns (uint256) {
        return uint256(r) >> CORES;
    }

    function memorySize(bytes32 r) internal pure returns (uint256) {
        return (uint256(r) >> MEMORY) & M64;
    }

    function ssd(bytes32 r) internal pure returns (uint256) {
        return (uint256(r) >> SSD) & M64;
    }

    function hdd(bytes32 r) internal pure returns (uint256) {
        return (uint256(r) >> HDD) & M64;
    }

    function addresses(bytes32 r) internal pure returns (uint256) {
        return uint256(r) & M32;
    }

    /// The ssd and hdd fields alone.
    function disks(bytes32 r) internal pure returns (bytes32) {
        return r & bytes32((M64 << SSD) | (M64 << HDD));
    }

    /// Enough for something: cores and memory to run it, or storage alone, whose disk is its resource.
    function suffice(bytes32 r) internal pure returns (bool) {
        bool runs = milliCores(r) != 0;
        return runs == (memorySize(r) != 0) && (runs || disks(r) != 0);
    }

    /// Field by field; a field that would overflow is more than any node has, and is refused as such.
    function plus(bytes32 a, bytes32 b) internal pure returns (bytes32) {
        return bytes32(
            _bounded(milliCores(a) + milliCores(b), M32, Codes.NOT_ENOUGH_CORES) << CORES
                | _bounded(memorySize(a) + memorySize(b), M64, Codes.NOT_ENOUGH_MEMORY) << MEMORY
                | _bounded(ssd(a) + ssd(b), M64, Codes.NOT_ENOUGH_SSD) << SSD
                | _bounded(hdd(a) + hdd(b), M64, Codes.NOT_ENOUGH_HDD) << HDD
                | _bounded(addresses(a) + addresses(b), M32, Codes.NOT_ENOUGH_ADDRESSES)
        );
    }

    /// The larger one of each field.
    function max(bytes32 a, bytes32 b) internal pure returns (bytes32) {
        return bytes32(
            _max(milliCores(a), milliCores(b)) << CORES | _max(memorySize(a), memorySize(b)) << MEMORY
                | _max(ssd(a), ssd(b)) << SSD | _max(hdd(a), hdd(b)) << HDD | _max(addresses(a), addresses(b))
        );
    }

    /// total + (afterwards - before), field by field. A field that grows must not exceed `capacity`; one that shrinks may
    /// stay above it (a node that lost a disk can still end reservations). `before` must be part of `total`.
    function move(bytes32 total, bytes32 before, bytes32 afterwards, bytes32 capacity) internal pure returns (bytes32) {
        return bytes32(
            _move(milliCores(total), milliCores(before), milliCores(afterwards), milliCores(capacity), Codes.NOT_ENOUGH_CORES)
                << CORES
                | _move(
                    memorySize(total), memorySize(before), memorySize(afterwards), memorySize(capacity), Codes.NOT_ENOUGH_MEMORY
                ) << MEMORY
                | _move(ssd(total), ssd(before), ssd(afterwards), ssd(capacity), Codes.NOT_ENOUGH_SSD) << SSD
                | _move(hdd(total), hdd(before), hdd(afterwards), hdd(capacity), Codes.NOT_ENOUGH_HDD) << HDD
                | _move(
                    addresses(total),
                    addresses(before),
                    addresses(afterwards),
                    addresses(capacity),
                    Codes.NOT_ENOUGH_ADDRESSES
                )
        );
    }

    function _move(uint256 total, uint256 before, uint256 afterwards, uint256 capacity, bytes32 code)
        private
        pure
        returns (uint256 result)
    {
        result = total + afterwards - before;
        if (afterwards > before && result > capacity) revert IGridRegistry.Refused(code);
    }

    function _bounded(uint256 value, uint256 limit, bytes32 code) private pure returns (uint256) {
        if (value > limit) revert IGridRegistry.Refused(code);
        return value;
    }

    function _max(uint256 a, uint256 b) private pure returns (uint256) {
        return a > b ? a : b;
    }
}
