"""The Solidity ABI's encoding, as far as the vectors need it. A type is its name, a list of types (a tuple), or
("array", T), a dynamic array of T."""

from primitives import keccak256


def is_dynamic(kind):
    if isinstance(kind, list):
        return any(is_dynamic(k) for k in kind)
    return isinstance(kind, tuple) or kind in ("string", "bytes")


def _word(value):
    return value.to_bytes(32, "big")


def _one(kind, value):
    if isinstance(kind, list):
        return encode(kind, value)
    if isinstance(kind, tuple):
        return _word(len(value)) + encode([kind[1]] * len(value), value)
    if kind in ("string", "bytes"):
        data = value.encode() if isinstance(value, str) else value
        return _word(len(data)) + data + bytes(-len(data) % 32)
    if kind == "bytes32":
        assert len(value) == 32
        return value
    if kind == "address":
        assert len(value) == 20
        return bytes(12) + value
    if kind == "bool":
        return _word(int(value))
    assert kind.startswith("uint") and 0 <= value < 1 << int(kind[4:] or 256)
    return _word(value)


def encode(kinds, values):
    """abi.encode of the values, that is, of a tuple of them."""
    assert len(kinds) == len(values)
    head_size = sum(32 if is_dynamic(k) else len(_one(k, v)) for k, v in zip(kinds, values))
    head, tail = b"", b""
    for kind, value in zip(kinds, values):
        if is_dynamic(kind):
            head += _word(head_size + len(tail))
            tail += _one(kind, value)
        else:
            head += _one(kind, value)
    return head + tail


def name(kind):
    """The canonical name of a type, as selectors and topics use it."""
    if isinstance(kind, list):
        return "(" + ",".join(name(k) for k in kind) + ")"
    return name(kind[1]) + "[]" if isinstance(kind, tuple) else kind


def call(function, kinds, values):
    signature = function + "(" + ",".join(name(k) for k in kinds) + ")"
    return keccak256(signature.encode())[:4] + encode(kinds, values)


def topic(event, kinds):
    return keccak256((event + "(" + ",".join(name(k) for k in kinds) + ")").encode())
