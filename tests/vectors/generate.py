#!/usr/bin/env python3
"""Writes the test vectors of docs/formats.md beside itself; with --check only compares and says what is stale."""

import hashlib
import json
import pathlib
import sys

import abi
import primitives as p
from canonical import Refused, canonical
from primitives import keccak256

STRINGS = ("array", "string")
CHAIN_ID = 31337
# What the first two transactions of anvil's first account create.
REGISTRY = bytes.fromhex("5fbdb2315678afecb367f032d93f642f64180aa3")
RESERVATIONS = bytes.fromhex("e7f1725e7734ce288f8367e1bb143e90bb3f0512")
DEPLOYER = bytes.fromhex("f39fd6e51aad88f6f4ce6ab8827279cfffb92266")

SEED = bytes(range(32))
BOOT_ID = bytes.fromhex("0f1e2d3c4b5a69788796a5b4c3d2e1f0") + bytes(16)
TIME = 1_800_000_000


def secret(label):
    """Private keys that are nobody's."""
    return int.from_bytes(keccak256(b"croft test vector: " + label), "big")


TOKEN = secret(b"join token")
TENANT = p.address(secret(b"tenant"))
FARMER = p.address(secret(b"farmer"))
SEALING_PRIVATE = keccak256(b"croft test vector: sealing key, epoch 1")
SEALING_PUBLIC = p.x25519(SEALING_PRIVATE)


def text32(text):
    return text.encode().ljust(32, b"\0")


def shown(value):
    """JSON form of a value: bytes in hex with 0x."""
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, (list, tuple)):
        return [shown(v) for v in value]
    if isinstance(value, dict):
        return {k: shown(v) for k, v in value.items()}
    return value


# --- 1. resources --------------------------------------------------------------------------------------------------

FIELDS = (("milliCores", 4), ("memory", 8), ("ssd", 8), ("hdd", 8), ("addresses", 4))


def pack(milliCores, memory, ssd, hdd, addresses):
    values = (milliCores, memory, ssd, hdd, addresses)
    return b"".join(v.to_bytes(size, "big") for v, (_, size) in zip(values, FIELDS))


def resources():
    cases = [
        (0, 0, 0, 0, 0),
        (500, 256 << 20, 0, 0, 0),
        (1, 2, 3, 4, 5),
        (16000, 64 << 30, 2 << 40, 16 << 40, 2),
        (2**32 - 1, 2**53 - 1, 2**53 - 1, 2**53 - 1, 2**32 - 1),
    ]
    return [dict(zip((f for f, _ in FIELDS), c), packed=pack(*c)) for c in cases]


CAPACITY = pack(16000, 64 << 30, 2 << 40, 16 << 40, 2)

# --- 2. codes ------------------------------------------------------------------------------------------------------


def codes():
    names = ("chain.farm-exists", "join.token-expired", "provision.not-enough-memory", "a.b", "x" * 15 + "." + "y" * 16)
    return [{"code": n, "bytes32": text32(n), "revert": keccak256(b"Refused(bytes32)")[:4] + text32(n)} for n in names]


# --- 9. keys -------------------------------------------------------------------------------------------------------


def scalar(seed, label, order):
    return int.from_bytes(p.hkdf(seed, label, 48), "big") % (order - 1) + 1


def derive(seed):
    identity = scalar(seed, b"croft-identity-secp256k1-v1", p.SECP256K1.n)
    tls = scalar(seed, b"croft-tls-p256-v1", p.P256.n)
    wireguard = p.clamp(p.hkdf(seed, b"croft-wireguard-v1", 32))
    spki = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d030107034200") + p.P256.public(tls)
    return {
        "seed": seed,
        "identityPrivate": identity.to_bytes(32, "big"),
        "identityPublic": p.SECP256K1.public(identity),
        "identityAddress": p.address(identity),
        "tlsPrivate": tls.to_bytes(32, "big"),
        "tlsSpki": spki,
        "tlsKeyHash": hashlib.sha256(spki).digest(),
        "wireguardPrivate": wireguard,
        "wireguardPublic": p.x25519(wireguard),
    }


NODE = derive(SEED)
IDENTITY = NODE["identityAddress"]


def keys():
    return [NODE, derive(bytes(32)), derive(b"\xff" * 32), derive(keccak256(b"croft test vector: seed"))]


# --- 10. canonical JSON --------------------------------------------------------------------------------------------


def canonical_json():
    accepted = [
        "{}",
        "[]",
        ' { "b" : 1 , "a" : [ true , false , "x" ] } ',
        '{"\\u20ac":"euro","\\r":"cr","\\ufb33":"dalet","1":"one","\\ud83d\\ude00":"smiley","\\u0080":"control","\\u00f6":"o"}',
        '["\\u0000\\u0008\\t\\n\\u000b\\f\\r\\u001f\\u007f\\"\\\\\\/"]',
        "[0,-1,9007199254740991,-9007199254740991]",
        '{"a":{"z":1,"aa":2,"Z":3},"":0}',
        '"\\u00e9 \\u00E9 é"',
        '{"services":{"web":{"image":"ab","environment":{"B":"2","A":"1"}}},"project":"shop","version":1}',
    ]
    refused = [
        '{"a":1,"a":2}',
        '{"a":1,"\\u0061":2}',
        "[1.0]",
        "[1e3]",
        "[9007199254740992]",
        "[-9007199254740992]",
        "[null]",
        '["\\ud800"]',
        '{"\\udc00":1}',
        "[1,]",
        "[NaN]",
        "[01]",
        '["\t"]',
        "{} {}",
        "",
    ]
    reasons = []
    for text in refused:
        try:
            canonical(text)
        except Refused as why:
            reasons.append({"input": text, "why": str(why)})
        else:
            raise AssertionError(text)
    return {"accepted": [{"input": t, "output": canonical(t).decode()} for t in accepted], "refused": reasons}


# --- 3. typed data -------------------------------------------------------------------------------------------------

TYPES = {
    "Registration": [
        ("farm", "uint64"), ("identity", "address"), ("nonce", "uint64"), ("bootId", "bytes32"),
        ("addresses", STRINGS), ("tlsKeyHash", "bytes32"), ("sealingKey", "bytes32"), ("keyEpoch", "uint32"),
        ("runMode", "uint8"), ("imageDigest", "bytes32"), ("capacity", "bytes32"), ("ephemeral", "bool"),
    ],
    "Join": [("farm", "uint64"), ("node", "address")],
    "Report": [
        ("node", "uint64"), ("nonce", "uint64"), ("bootId", "bytes32"), ("uptime", "uint64"), ("capacity", "bytes32"),
        ("version", "bytes32"),
    ],
    "Profile": [
        ("node", "uint64"), ("nonce", "uint64"), ("bootId", "bytes32"), ("addresses", STRINGS),
        ("tlsKeyHash", "bytes32"), ("runMode", "uint8"), ("imageDigest", "bytes32"),
    ],
    "KeyEpoch": [
        ("node", "uint64"), ("nonce", "uint64"), ("bootId", "bytes32"), ("sealingKey", "bytes32"), ("keyEpoch", "uint32"),
    ],
    "Result": [
        ("node", "uint64"), ("nonce", "uint64"), ("bootId", "bytes32"), ("reservation", "uint64"), ("revision", "uint32"),
        ("state", "uint8"), ("reason", "bytes32"),
    ],
    "Access": [
        ("node", "uint64"), ("reservation", "uint64"), ("method", "string"), ("nonce", "bytes32"), ("expires", "uint64"),
    ],
}  # fmt: skip


def domain(contract, name=b"Croft"):
    kind = b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
    return keccak256(
        keccak256(kind)
        + keccak256(name)
        + keccak256(b"1")
        + abi.encode(["uint256", "address"], [CHAIN_ID, contract])
    )


def type_string(name):
    return name + "(" + ",".join(f"{abi.name(kind)} {field}" for field, kind in TYPES[name]) + ")"


def struct_hash(name, message):
    data = keccak256(type_string(name).encode())
    for field, kind in TYPES[name]:
        value = message[field]
        if kind == STRINGS:
            data += keccak256(b"".join(keccak256(v.encode()) for v in value))
        elif kind == "string":
            data += keccak256(value.encode())
        else:
            data += abi.encode([kind], [value])
    return keccak256(data)


def digest_of(name, contract, message, domain_name=b"Croft"):
    return keccak256(b"\x19\x01" + domain(contract, domain_name) + struct_hash(name, message))


def kinds_of(name):
    return [kind for _, kind in TYPES[name]]


IMAGE = hashlib.sha256(b"croft test vector: image").digest()
MESSAGES = {
    "Registration": {
        "farm": 1, "identity": IDENTITY, "nonce": 1, "bootId": BOOT_ID, "addresses": ["192.0.2.10", "2001:db8::10"],
        "tlsKeyHash": NODE["tlsKeyHash"], "sealingKey": SEALING_PUBLIC, "keyEpoch": 1, "runMode": 2,
        "imageDigest": IMAGE, "capacity": CAPACITY, "ephemeral": False,
    },
    "Join": {"farm": 1, "node": IDENTITY},
    "Report": {
        "node": 1, "nonce": 2, "bootId": BOOT_ID, "uptime": 3601, "capacity": CAPACITY, "version": text32("0.1.0"),
    },
    "Profile": {
        "node": 1, "nonce": 3, "bootId": BOOT_ID, "addresses": ["node1.example"], "tlsKeyHash": NODE["tlsKeyHash"],
        "runMode": 0, "imageDigest": IMAGE,
    },
    "KeyEpoch": {
        "node": 1, "nonce": 4, "bootId": BOOT_ID, "keyEpoch": 2,
        "sealingKey": p.x25519(keccak256(b"croft test vector: sealing key, epoch 2")),
    },
    "Result": {
        "node": 1, "nonce": 5, "bootId": BOOT_ID, "reservation": 1, "revision": 1, "state": 4, "reason": bytes(32),
    },
}  # fmt: skip
FUNCTIONS = {"Report": "report", "Profile": "changeProfile", "KeyEpoch": "changeKeyEpoch", "Result": "result"}


def signed(name):
    """A message of the vectors with everything that is computed from it."""
    message = MESSAGES[name]
    contract = RESERVATIONS if name == "Result" else REGISTRY
    private = TOKEN if name == "Join" else int.from_bytes(NODE["identityPrivate"], "big")
    digest = digest_of(name, contract, message)
    signature = p.sign(private, digest)
    values = [message[field] for field, _ in TYPES[name]]
    if name == "Registration":
        join = p.sign(TOKEN, digest_of("Join", REGISTRY, MESSAGES["Join"]))
        calldata = abi.call("register", [kinds_of(name), "bytes", "bytes"], [values, signature, join])
    elif name == "Join":
        calldata = abi.call("join", ["uint64", "bytes"], [1, signature])
    else:
        calldata = abi.call(FUNCTIONS[name], [kinds_of(name), "bytes"], [values, signature])
    return {
        "type": name,
        "typeString": type_string(name),
        "typeHash": keccak256(type_string(name).encode()),
        "verifyingContract": contract,
        "message": message,
        "structHash": struct_hash(name, message),
        "digest": digest,
        "signature": signature,
        "calldata": calldata,
    }


def typed_data():
    return {
        "chainId": CHAIN_ID,
        "deployer": DEPLOYER,
        "registry": REGISTRY,
        "reservations": RESERVATIONS,
        "registryDomain": domain(REGISTRY),
        "reservationsDomain": domain(RESERVATIONS),
        "identityPrivate": NODE["identityPrivate"],
        "identity": IDENTITY,
        "tokenPrivate": TOKEN.to_bytes(32, "big"),
        "token": p.address(TOKEN),
        "messages": {name: signed(name) for name in MESSAGES},
    }


# --- 13. access to a gate --------------------------------------------------------------------------------------------


def access_case(node, reservation, method, expires, label, private):
    nonce = keccak256(b"croft test vector: challenge " + label)
    message = {"node": node, "reservation": reservation, "method": method, "nonce": nonce, "expires": expires}
    digest = digest_of("Access", RESERVATIONS, message, b"Croft Gate")
    signature = p.sign(private, digest)
    challenge = {
        "node": node, "reservation": reservation, "nonce": nonce, "expires": expires, "chainId": CHAIN_ID,
        "reservations": RESERVATIONS,
    }  # fmt: skip
    return {
        "challenge": challenge,
        "method": method,
        "private": private.to_bytes(32, "big"),
        "structHash": struct_hash("Access", message),
        "digest": digest,
        "signature": signature,
        "signer": p.address(private),
        "header": f"Croft nonce=0x{nonce.hex()},signature=0x{signature.hex()}",
    }


def access():
    return {
        "typeString": type_string("Access"),
        "typeHash": keccak256(type_string("Access").encode()),
        "domain": domain(RESERVATIONS, b"Croft Gate"),
        "cases": [
            access_case(1, 1, "logs", TIME + 60, b"logs", secret(b"tenant")),
            access_case(1, 1, "exec", TIME + 60, b"exec", secret(b"tenant")),
            access_case(7, 0, "node-log", TIME + 60, b"node-log", secret(b"farmer")),
            access_case(2**53 - 1, 2**53 - 1, "restart", 2**53 - 1, b"large", secret(b"tenant")),
        ],
    }


# --- 5. commitment and sealed data ---------------------------------------------------------------------------------


def specification(environment):
    image = "ab" * 32
    return canonical(
        json.dumps(
            {
                "version": 1,
                "project": "shop",
                "keep": 86400000,
                "update": "parallel",
                "images": {image: {"hubs": ["http://192.0.2.1:8080"]}},
                "networks": {"default": {"internal": False}},
                "services": {
                    "web": {
                        "image": image,
                        "environment": environment,
                        "resources": {"milliCores": 500, "memory": 268435456, "pids": 1024},
                        "scratch": 134217728,
                    }
                },
                "resources": {"milliCores": 500, "memory": 268435456, "ssd": 134217728, "hdd": 0, "addresses": 0},
            }
        )
    )


RESERVED = pack(500, 268435456, 134217728, 0, 0)


def sealed_case(name, node, epoch, revision, spec):
    salt = keccak256(b"croft test vector: salt " + name.encode())
    ephemeral = keccak256(b"croft test vector: ephemeral " + name.encode())
    bound = [CHAIN_ID, RESERVATIONS, TENANT, node, epoch, revision]
    bound_kinds = ["uint256", "address", "address", "uint64", "uint32", "uint32"]
    info = b"croft-reservation-v1" + abi.encode(bound_kinds, bound)
    sealed = p.hpke_seal(SEALING_PUBLIC, ephemeral, info, b"", salt + spec)
    content_hash, sealed_hash = keccak256(salt + spec), keccak256(sealed)
    commitment = keccak256(
        abi.encode(
            ["bytes32"] + bound_kinds + ["bytes32"] * 3,
            [keccak256(b"croft-commitment-v1")] + bound + [RESERVED, content_hash, sealed_hash],
        )
    )
    return {
        "name": name,
        "chainId": CHAIN_ID,
        "reservations": RESERVATIONS,
        "tenant": TENANT,
        "node": node,
        "keyEpoch": epoch,
        "revision": revision,
        "resources": RESERVED,
        "recipientPrivate": SEALING_PRIVATE,
        "recipientPublic": SEALING_PUBLIC,
        "ephemeralPrivate": ephemeral,
        "salt": salt,
        "specification": spec.decode(),
        "info": info,
        "sealed": sealed,
        "contentHash": content_hash,
        "sealedHash": sealed_hash,
        "sha256": hashlib.sha256(sealed).digest(),
        "commitment": commitment,
    }


def sealed_cases():
    return [
        sealed_case("inline", 1, 1, 1, specification({"GREETING": "grüezi"})),
        sealed_case("blob", 1, 1, 2, specification({f"VARIABLE_{i}": "value " * 8 for i in range(20)})),
        sealed_case("other numbers", 2**40 + 7, 2**31, 2**32 - 1, specification({})),
    ]


# --- 6. head fold --------------------------------------------------------------------------------------------------


def fold(head, sequence, id, revision, state, reason, commitment):
    kinds = ["bytes32", "uint64", "uint64", "uint32", "uint8", "bytes32", "bytes32"]
    return keccak256(abi.encode(kinds, [head, sequence, id, revision, state, reason, commitment]))


def heads():
    first, second = sealed_cases()[0]["commitment"], sealed_cases()[1]["commitment"]
    steps = [(1, 1, s, "", first) for s in (1, 2, 3, 4, 5)] + [(1, 2, s, "", second) for s in (1, 2, 3, 4, 5)]
    steps += [(1, 1, 8, "reservation.superseded", first), (1, 2, 11, "image.digest-mismatch", second)]
    steps += [(2**64 - 1, 2**32 - 1, 8, "reservation.cancelled", first)]
    # With a biller: paid, not paid, paid, suspended, paid again and deployed anew, suspended until it was too late.
    steps += [(2, 1, s, "", first) for s in (1, 2)] + [(2, 1, 3, "billing.paid", first)]
    steps += [(2, 1, 4, "", first), (2, 1, 5, "", first), (2, 1, 6, "billing.unpaid", first)]
    steps += [(2, 1, 5, "billing.paid", first), (2, 1, 6, "billing.unpaid", first), (2, 1, 7, "billing.unpaid", first)]
    steps += [(2, 1, 3, "billing.paid", first), (2, 1, 4, "", first), (2, 1, 5, "", first)]
    steps += [(2, 1, 6, "billing.unpaid", first), (2, 1, 7, "billing.unpaid", first)]
    steps += [(2, 1, 8, "reservation.pay-by", first)]
    head, out = bytes(32), []
    for sequence, (id, revision, state, reason, commitment) in enumerate(steps, 1):
        head = fold(head, sequence, id, revision, state, text32(reason), commitment)
        out.append(
            {
                "sequence": sequence, "id": str(id), "revision": revision, "state": state, "reason": reason,
                "commitment": commitment, "head": head,
            }
        )  # fmt: skip
    return out


# --- 7, 8. a story on a chain: storage, calls and logs ---------------------------------------------------------------


def slot(key, position):
    return keccak256(abi.encode(["uint256", "uint256"], [key, position]))


def offset(base, count):
    return ((int.from_bytes(base, "big") + count) % 2**256).to_bytes(32, "big")


def packed(*fields):
    """A storage word: (value, bits) from the least significant."""
    word, shift = 0, 0
    for value, bits in fields:
        word |= value << shift
        shift += bits
    return word.to_bytes(32, "big")


PROPOSAL = [
    "uint64", "uint32", "uint32", "bytes32", "bytes32", "bytes", "bytes32", "bytes32", STRINGS, "uint64", "uint64", "uint32",
    "bool",
]  # fmt: skip
CHANGED = ["uint64", "uint64", "uint32", "uint8", "uint64", "uint64", "bytes32", "bytes32", "address", "uint64"]
PROPOSED = [
    "uint64", "uint64", "address", "uint32", "uint32", "bytes32", "bytes32", "bytes32", "bytes32", "uint64", "uint64", "uint32",
    "bool", "bytes", STRINGS,
]  # fmt: skip
REGISTER_BLOCK, PROPOSE_BLOCK, RESULT_BLOCK = 100, 110, 120


def propose_case():
    inline = sealed_cases()[0]
    approve_by, deploy_by, keep = TIME + 3600, TIME + 7200, 86400
    call = abi.call(
        "propose",
        [PROPOSAL],
        [[1, 1, 1, RESERVED, inline["contentHash"], inline["sealed"], bytes(32), bytes(32), [], approve_by, deploy_by, keep, False]],
    )
    fields = [
        1, 1, RESERVED, inline["contentHash"], inline["sealedHash"], bytes(32), approve_by, deploy_by, keep, False,
        inline["sealed"], [],
    ]  # fmt: skip
    word = [abi.encode(["uint64"], [1])] * 2
    log = {
        "topics": [abi.topic("Proposed", PROPOSED)] + word + [abi.encode(["address"], [TENANT])],
        "data": abi.encode(PROPOSED[3:], fields),
    }
    return call, log


def changed_log(sequence, state, previous, actor, time):
    commitment = sealed_cases()[0]["commitment"]
    word = [abi.encode(["uint64"], [1])] * 2
    data = abi.encode(CHANGED[2:], [1, state, sequence, previous, bytes(32), commitment, actor, time])
    return {"topics": [abi.topic("Changed", CHANGED)] + word, "data": data}


def story():
    """What chain/test/Vectors.t.sol does, and what must be in storage and logs afterwards: farm 1 and a token, then in
    REGISTER_BLOCK the registration and the report of typed-data.json, in PROPOSE_BLOCK the inline case of sealed.json,
    in RESULT_BLOCK Profile, KeyEpoch and Result of typed-data.json."""
    call, proposed = propose_case()
    commitment = sealed_cases()[0]["commitment"]
    head = bytes(32)
    for sequence, state in enumerate((1, 2, 3, 4), 1):
        head = fold(head, sequence, 1, 1, state, bytes(32), commitment)
    chain, node = slot(1, 0), slot(1, 1)
    late = TIME + (RESULT_BLOCK - REGISTER_BLOCK) * 12
    profile, epoch = MESSAGES["Profile"], MESSAGES["KeyEpoch"]
    host = profile["addresses"][0].encode()
    storage = {
        "reservations": {
            "sequence and lastBlock": (chain, packed((4, 64), (RESULT_BLOCK, 64))),
            "head": (offset(chain, 1), head),
        },
        "registry": {
            "reservations": (bytes(32), bytes(12) + RESERVATIONS),
            "identity, farm, state, runMode, ephemeral": (
                node,
                packed((int.from_bytes(IDENTITY, "big"), 160), (1, 64), (2, 8), (profile["runMode"], 8), (0, 8)),
            ),
            "nonce, lastReport, keySince, keyEpoch": (offset(node, 1), packed((5, 64), (late, 64), (late, 64), (2, 32))),
            "bootId": (offset(node, 2), BOOT_ID),
            "capacity": (offset(node, 3), CAPACITY),
            "reserved": (offset(node, 4), RESERVED),
            "sealingKey": (offset(node, 5), epoch["sealingKey"]),
            "previousSealingKey": (offset(node, 6), SEALING_PUBLIC),
            "tlsKeyHash": (offset(node, 7), NODE["tlsKeyHash"]),
            "imageDigest": (offset(node, 8), IMAGE),
            "registered, replacedBy": (offset(node, 9), packed((TIME, 64), (0, 64))),
            "addresses": (offset(node, 10), packed((1, 64))),
            "addresses[0]": (keccak256(offset(node, 10)), host.ljust(31, b"\0") + bytes([2 * len(host)])),
            "node of identity": (slot(int.from_bytes(IDENTITY, "big"), 2), packed((1, 64))),
            "farmer, open, day, changes": (
                slot(1, 4),
                packed((int.from_bytes(FARMER, "big"), 160), (1, 32), (TIME // 86400, 32), (1, 32)),
            ),
        },
    }
    return {
        "deployer": DEPLOYER,
        "farmer": FARMER,
        "tenant": TENANT,
        "time": TIME,
        "registerBlock": REGISTER_BLOCK,
        "proposeBlock": PROPOSE_BLOCK,
        "resultBlock": RESULT_BLOCK,
        "resultTime": late,
        "propose": call,
        "commitment": commitment,
        "head": head,
        "logs": [
            proposed,
            changed_log(1, 1, 0, TENANT, TIME),
            changed_log(2, 2, PROPOSE_BLOCK, TENANT, TIME),
            changed_log(3, 3, PROPOSE_BLOCK, TENANT, TIME),
            changed_log(4, 4, PROPOSE_BLOCK, IDENTITY, late),
        ],
        "storage": [
            {"contract": contract, "field": field, "slot": key, "value": value}
            for contract, fields in storage.items()
            for field, (key, value) in fields.items()
        ],
    }


# --- 14. a container's log -----------------------------------------------------------------------------------------------


def log_record(time, stream, partial, text):
    return str(time).encode() + b" " + {"stdout": b"o", "stderr": b"e"}[stream] + (b"+" if partial else b".") + b" " + text + b"\n"


def container_log():
    cases = [
        (0, "stdout", False, b""),
        (1_800_000_000_000_001, "stdout", False, b"plain"),
        (1_800_000_000_000_002, "stderr", False, b"with \x00, \xff and \r"),
        (9_999_999_999_999_999_999, "stderr", True, b"1 o. inside"),
        (5, "stdout", True, b"x" * 16384),
    ]
    refused = [
        b"\n", b"1 o.\n", b"1 x. a\n", b"1 o- a\n", b"1 o.a\n", b" 1 o. a\n", b"-1 o. a\n", b"1  o. a\n", b"10000000000000000000 o. a\n",
    ]  # fmt: skip
    return {
        "records": [
            {"time": str(t), "stream": s, "partial": p, "text": text, "record": log_record(t, s, p, text)} for t, s, p, text in cases
        ],
        "refused": refused,
        "unfinished": [b"", b"1 o. no line feed", b"17"],
    }


FILES = {
    "resources": resources,
    "codes": codes,
    "keys": keys,
    "canonical-json": canonical_json,
    "typed-data": typed_data,
    "sealed": sealed_cases,
    "head": heads,
    "story": story,
    "access": access,
    "container-log": container_log,
}


def main(check):
    p.self_test()
    stale = []
    for name, make in FILES.items():
        file = pathlib.Path(__file__).with_name(name + ".json")
        text = json.dumps(shown(make()), indent=1, ensure_ascii=True) + "\n"
        if check:
            if not file.exists() or file.read_text() != text:
                stale.append(file.name)
        else:
            file.write_text(text)
    if stale:
        sys.exit("stale test vectors: " + ", ".join(stale) + "; run tests/vectors/generate.py")


if __name__ == "__main__":
    main(sys.argv[1:] == ["--check"])
