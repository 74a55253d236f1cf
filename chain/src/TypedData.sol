// SPDX-License-Identifier: Apache-2.0
// EIP-712 struct hashes of every signed message (docs/formats.md, section 3).
pragma solidity ^0.8.28;

import {KeyEpoch, Profile, Registration, Report} from "./IGridRegistry.sol";
import {Result} from "./IReservations.sol";

library TypedData {
    bytes32 internal constant REGISTRATION = keccak256(
        "Registration(uint64 farm,address identity,uint64 nonce,bytes32 bootId,string[] addresses,bytes32 tlsKeyHash,bytes32 sealingKey,uint32 keyEpoch,uint8 runMode,bytes32 imageDigest,bytes32 capacity,bool ephemeral)"
    );
    bytes32 internal constant JOIN = keccak256("Join(uint64 farm,address node)");
    bytes32 internal constant REPORT =
        keccak256("Report(uint64 node,uint64 nonce,bytes32 bootId,uint64 uptime,bytes32 capacity,bytes32 version)");
    bytes32 internal constant PROFILE = keccak256(
        "Profile(uint64 node,uint64 nonce,bytes32 bootId,string[] addresses,bytes32 tlsKeyHash,uint8 runMode,bytes32 imageDigest)"
    );
    bytes32 internal constant KEY_EPOCH =
        keccak256("KeyEpoch(uint64 node,uint64 nonce,bytes32 bootId,bytes32 sealingKey,uint32 keyEpoch)");
    bytes32 internal constant RESULT = keccak256(
        "Result(uint64 node,uint64 nonce,bytes32 bootId,uint64 reservation,uint32 revision,uint8 state,bytes32 reason)"
    );

    function hash(Registration calldata m) internal pure returns (bytes32) {
        return keccak256(
            bytes.concat(
                abi.encode(REGISTRATION, m.farm, m.identity, m.nonce, m.bootId, hashStrings(m.addresses)),
                abi.encode(m.tlsKeyHash, m.sealingKey, m.keyEpoch, m.runMode, m.imageDigest, m.capacity, m.ephemeral)
            )
        );
    }

    function hashJoin(uint64 farm, address node) internal pure returns (bytes32) {
        return keccak256(abi.encode(JOIN, farm, node));
    }

    function hash(Report calldata m) internal pure returns (bytes32) {
        return keccak256(abi.encode(REPORT, m.node, m.nonce, m.bootId, m.uptime, m.capacity, m.version));
    }

    function hash(Profile calldata m) internal pure returns (bytes32) {
        return keccak256(
            abi.encode(
                PROFILE, m.node, m.nonce, m.bootId, hashStrings(m.addresses), m.tlsKeyHash, m.runMode, m.imageDigest
            )
        );
    }

    function hash(KeyEpoch calldata m) internal pure returns (bytes32) {
        return keccak256(abi.encode(KEY_EPOCH, m.node, m.nonce, m.bootId, m.sealingKey, m.keyEpoch));
    }

    function hash(Result calldata m) internal pure returns (bytes32) {
        return keccak256(
            abi.encode(RESULT, m.node, m.nonce, m.bootId, m.reservation, m.revision, m.state, m.reason)
        );
    }

    function hashStrings(string[] calldata texts) internal pure returns (bytes32) {
        bytes32[] memory hashes = new bytes32[](texts.length);
        for (uint256 i = 0; i < texts.length; i++) {
            hashes[i] = keccak256(bytes(texts[i]));
        }
        return keccak256(abi.encodePacked(hashes));
    }
}
