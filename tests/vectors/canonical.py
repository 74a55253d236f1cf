"""RFC 8785 over what specifications may hold: objects, arrays, strings, booleans, integers with |n| < 2^53."""

import json

LIMIT = 2**53
_SHORT = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


class Refused(Exception):
    pass


def _refuse(why):
    def hook(_):
        raise Refused(why)

    return hook


def _object(pairs):
    if len({k for k, _ in pairs}) != len(pairs):
        raise Refused("duplicate name")
    return dict(pairs)


def _string(text):
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise Refused("lone surrogate") from None
    out = (_SHORT.get(c) or (f"\\u{ord(c):04x}" if ord(c) < 0x20 else c) for c in text)
    return '"' + "".join(out) + '"'


def _dump(value):
    if value is True or value is False:
        return "true" if value else "false"
    if isinstance(value, int):
        if not -LIMIT < value < LIMIT:
            raise Refused("integer out of range")
        return str(value)
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, list):
        return "[" + ",".join(_dump(v) for v in value) + "]"
    if isinstance(value, dict):
        for key in value:
            _string(key)
        names = sorted(value, key=lambda k: k.encode("utf-16-be"))
        return "{" + ",".join(_string(k) + ":" + _dump(value[k]) for k in names) + "}"
    raise Refused("null")


def canonical(text):
    """The canonical bytes of a JSON text, or Refused."""
    try:
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_float=_refuse("fraction or exponent"),
            parse_constant=_refuse("not JSON"),
        )
    except ValueError:
        raise Refused("not JSON") from None
    return _dump(value).encode()
