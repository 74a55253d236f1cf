"""Cryptography of the test vectors, written from the standards and slow on purpose: it shares no code with the
C programs or the contracts that the vectors check. Never used by anything that ships."""

import hashlib
import hmac

# --- Keccak-256 (Keccak team's reference; padding 0x01, not SHA-3's 0x06) -----------------------------------------

_MASK = (1 << 64) - 1


def _rol(value, count):
    count %= 64
    return ((value << count) | (value >> (64 - count))) & _MASK


def _keccak_f(lanes):
    lfsr = 1
    for _ in range(24):
        columns = [lanes[x][0] ^ lanes[x][1] ^ lanes[x][2] ^ lanes[x][3] ^ lanes[x][4] for x in range(5)]
        for x in range(5):
            mix = columns[(x + 4) % 5] ^ _rol(columns[(x + 1) % 5], 1)
            for y in range(5):
                lanes[x][y] ^= mix
        x, y, current = 1, 0, lanes[1][0]
        for t in range(24):
            x, y = y, (2 * x + 3 * y) % 5
            current, lanes[x][y] = lanes[x][y], _rol(current, (t + 1) * (t + 2) // 2)
        for y in range(5):
            row = [lanes[x][y] for x in range(5)]
            for x in range(5):
                lanes[x][y] = row[x] ^ (~row[(x + 1) % 5] & row[(x + 2) % 5] & _MASK)
        for j in range(7):
            lfsr = ((lfsr << 1) ^ ((lfsr >> 7) * 0x71)) % 256
            if lfsr & 2:
                lanes[0][0] ^= 1 << ((1 << j) - 1)


def keccak256(data):
    rate = 136
    padded = bytearray(data) + b"\x01" + bytes(-(len(data) + 1) % rate)
    padded[-1] |= 0x80
    lanes = [[0] * 5 for _ in range(5)]
    for start in range(0, len(padded), rate):
        for i in range(rate // 8):
            lanes[i % 5][i // 5] ^= int.from_bytes(padded[start + 8 * i : start + 8 * i + 8], "little")
        _keccak_f(lanes)
    return b"".join(lanes[i % 5][i // 5].to_bytes(8, "little") for i in range(4))


# --- HKDF-SHA256 (RFC 5869) ----------------------------------------------------------------------------------------


def hkdf_extract(salt, ikm):
    return hmac.new(salt or bytes(32), ikm, hashlib.sha256).digest()


def hkdf_expand(prk, info, length):
    output, block, counter = b"", b"", 1
    while len(output) < length:
        block = hmac.new(prk, block + info + bytes([counter]), hashlib.sha256).digest()
        output += block
        counter += 1
    return output[:length]


def hkdf(ikm, info, length):
    return hkdf_expand(hkdf_extract(b"", ikm), info, length)


# --- short Weierstrass curves (SEC 1) ------------------------------------------------------------------------------


class Curve:
    def __init__(self, p, a, n, g):
        self.p, self.a, self.n, self.g = p, a, n, g

    def add(self, one, two):
        if one is None or two is None:
            return one or two
        if one[0] == two[0]:
            if (one[1] + two[1]) % self.p == 0:
                return None
            slope = (3 * one[0] * one[0] + self.a) * pow(2 * one[1], -1, self.p)
        else:
            slope = (two[1] - one[1]) * pow(two[0] - one[0], -1, self.p)
        x = (slope * slope - one[0] - two[0]) % self.p
        return x, (slope * (one[0] - x) - one[1]) % self.p

    def multiply(self, scalar, point=None):
        point, result = point or self.g, None
        while scalar:
            if scalar & 1:
                result = self.add(result, point)
            point = self.add(point, point)
            scalar >>= 1
        return result

    def public(self, scalar):
        """Uncompressed: 0x04, x, y."""
        x, y = self.multiply(scalar)
        return b"\x04" + x.to_bytes(32, "big") + y.to_bytes(32, "big")


SECP256K1 = Curve(
    2**256 - 2**32 - 977,
    0,
    0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141,
    (
        0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798,
        0x483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8,
    ),
)
_P256 = 2**256 - 2**224 + 2**192 + 2**96 - 1
P256 = Curve(
    _P256,
    _P256 - 3,
    0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    (
        0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
        0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
    ),
)


def address(private):
    return keccak256(SECP256K1.public(private)[1:])[12:]


def sign(private, digest):
    """Deterministic ECDSA (RFC 6979) with low s: r ‖ s ‖ v."""
    n = SECP256K1.n
    secret = private.to_bytes(32, "big")
    reduced = (int.from_bytes(digest, "big") % n).to_bytes(32, "big")
    key, value = bytes(32), b"\x01" * 32
    for separator in (b"\x00", b"\x01"):
        key = hmac.new(key, value + separator + secret + reduced, hashlib.sha256).digest()
        value = hmac.new(key, value, hashlib.sha256).digest()
    while True:
        value = hmac.new(key, value, hashlib.sha256).digest()
        k = int.from_bytes(value, "big")
        if 0 < k < n:
            x, y = SECP256K1.multiply(k)
            r = x % n
            s = pow(k, -1, n) * (int.from_bytes(digest, "big") + r * private) % n
            if r and s:
                parity = (y & 1) ^ (s > n // 2)
                return r.to_bytes(32, "big") + min(s, n - s).to_bytes(32, "big") + bytes([27 + parity])
        key = hmac.new(key, value + b"\x00", hashlib.sha256).digest()
        value = hmac.new(key, value, hashlib.sha256).digest()


# --- X25519 (RFC 7748) ---------------------------------------------------------------------------------------------


def clamp(key):
    return bytes([key[0] & 248]) + key[1:31] + bytes([(key[31] & 127) | 64])


def x25519(scalar, point=b"\x09" + bytes(31)):
    p, a24 = 2**255 - 19, 121665
    k = int.from_bytes(clamp(scalar), "little")
    x1 = int.from_bytes(point, "little") & ((1 << 255) - 1)
    x2, z2, x3, z3, swap = 1, 0, x1, 1, 0
    for t in reversed(range(255)):
        bit = (k >> t) & 1
        if swap ^ bit:
            x2, x3, z2, z3 = x3, x2, z3, z2
        swap = bit
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        da, cb = d * a, c * b
        x3, z3 = (da + cb) ** 2 % p, x1 * (da - cb) ** 2 % p
        aa, bb = a * a, b * b
        e = aa - bb
        x2, z2 = aa * bb % p, e * (aa + a24 * e) % p
    if swap:
        x2, z2 = x3, z3
    return (x2 * pow(z2, -1, p) % p).to_bytes(32, "little")


# --- AES-GCM (FIPS 197, SP 800-38D) --------------------------------------------------------------------------------


def _xtime(value):
    return ((value << 1) ^ (0x11B if value & 0x80 else 0)) & 0xFF


def _sbox():
    exponents, logs, value = [0] * 256, [0] * 256, 1
    for i in range(255):
        exponents[i], logs[value] = value, i
        value ^= _xtime(value)
    box = []
    for i in range(256):
        inverse = exponents[(255 - logs[i]) % 255] if i else 0
        result = 0x63
        for shift in range(5):
            result ^= ((inverse << shift) | (inverse >> (8 - shift))) & 0xFF
        box.append(result)
    return box


_SBOX = _sbox()


def _aes_schedule(key):
    words = [list(key[i : i + 4]) for i in range(0, len(key), 4)]
    size, rcon = len(words), 1
    for i in range(size, 4 * (size + 7)):
        word = list(words[-1])
        if i % size == 0:
            word = [_SBOX[b] for b in word[1:] + word[:1]]
            word[0] ^= rcon
            rcon = _xtime(rcon)
        elif size > 6 and i % size == 4:
            word = [_SBOX[b] for b in word]
        words.append([a ^ b for a, b in zip(words[i - size], word)])
    return [sum(words[i : i + 4], []) for i in range(0, len(words), 4)]


def _aes_block(schedule, block):
    state = [a ^ b for a, b in zip(block, schedule[0])]
    for number, key in enumerate(schedule[1:], 1):
        state = [_SBOX[b] for b in state]
        state = [state[(i + 4 * (i % 4)) % 16] for i in range(16)]
        if number < len(schedule) - 1:
            mixed = []
            for c in range(0, 16, 4):
                column = state[c : c + 4]
                total = column[0] ^ column[1] ^ column[2] ^ column[3]
                mixed += [column[i] ^ total ^ _xtime(column[i] ^ column[(i + 1) % 4]) for i in range(4)]
            state = mixed
        state = [a ^ b for a, b in zip(state, key)]
    return bytes(state)


def _ghash(h, data):
    result = 0
    for start in range(0, len(data), 16):
        value = result ^ int.from_bytes(data[start : start + 16], "big")
        product, factor = 0, h
        for bit in reversed(range(128)):
            if (value >> bit) & 1:
                product ^= factor
            factor = (factor >> 1) ^ (0xE1 << 120 if factor & 1 else 0)
        result = product
    return result


def aes_gcm_seal(key, nonce, aad, plaintext):
    schedule = _aes_schedule(key)

    def stream(counter):
        return _aes_block(schedule, nonce + counter.to_bytes(4, "big"))

    ciphertext = b"".join(
        bytes(a ^ b for a, b in zip(plaintext[i : i + 16], stream(2 + i // 16))) for i in range(0, len(plaintext), 16)
    )

    def pad(data):
        return data + bytes(-len(data) % 16)

    h = int.from_bytes(_aes_block(schedule, bytes(16)), "big")
    lengths = (8 * len(aad)).to_bytes(8, "big") + (8 * len(ciphertext)).to_bytes(8, "big")
    tag = _ghash(h, pad(aad) + pad(ciphertext) + lengths) ^ int.from_bytes(stream(1), "big")
    return ciphertext + tag.to_bytes(16, "big")


# --- HPKE base mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-GCM (RFC 9180) -----------------------------------


def hpke_seal(recipient, ephemeral, info, aad, plaintext, key_size=32):
    """enc ‖ ciphertext of the first message. `ephemeral` is the sender's private key."""

    def extract(suite, salt, label, ikm):
        return hkdf_extract(salt, b"HPKE-v1" + suite + label + ikm)

    def expand(suite, prk, label, data, length):
        return hkdf_expand(prk, length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + data, length)

    enc = x25519(ephemeral)
    kem = b"KEM" + bytes([0x00, 0x20])
    prk = extract(kem, b"", b"eae_prk", x25519(ephemeral, recipient))
    shared = expand(kem, prk, b"shared_secret", enc + recipient, 32)

    suite = b"HPKE" + bytes([0x00, 0x20, 0x00, 0x01, 0x00, {16: 1, 32: 2}[key_size]])
    context = b"\x00" + extract(suite, b"", b"psk_id_hash", b"") + extract(suite, b"", b"info_hash", info)
    secret = extract(suite, shared, b"secret", b"")
    key = expand(suite, secret, b"key", context, key_size)
    nonce = expand(suite, secret, b"base_nonce", context, 12)
    return enc + aes_gcm_seal(key, nonce, aad, plaintext)


def self_test():
    """Published vectors, so that a slip here cannot make a wrong vector that everybody then agrees on."""
    h = bytes.fromhex
    assert keccak256(b"").hex() == "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
    assert keccak256(b"abc").hex() == "4e03657aea45a94fc7d47ba826c8d667c0d1e6e33a64a036ec44f58fa12d6c45"
    # RFC 5869, A.3
    assert hkdf(b"\x0b" * 22, b"", 42).hex().startswith("8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d")
    # RFC 7748, 5.2
    assert x25519(h("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4"),
                  h("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c")
                  ).hex() == "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552"
    # EIP-712's example key: keccak256("cow")
    cow = int.from_bytes(keccak256(b"cow"), "big")
    assert address(cow).hex() == "cd2a3d9f938e13cd947ec05abc7fe734df8dd826"
    signature = sign(cow, h("be609aee343fb3c4b28e1df9e632fca64fcfaede20f02e86244efddf30957bd2"))
    assert signature.hex() == (
        "4355c47d63924e8a72e509b65029052eb6c299d53a04e167c5775fd466751c9d"
        "07299936d304c153f6443dfa05f40ff007d72911b6f72307f996231605b91562" "1c"
    )
    # RFC 6979, A.2.5 (P-256 key pair)
    public = P256.public(0xC9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721)
    assert public[1:33].hex() == "60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6"
    # AES-256-GCM, McGrew and Viega, test case 14
    assert aes_gcm_seal(bytes(32), bytes(12), b"", bytes(16)).hex() == (
        "cea7403d4d606b6e074ec5d3baf39d18" "d0d1c8a799996bf0265b98b5d48ab919"
    )
    # RFC 9180, A.1.1 (the same code with AES-128)
    sealed = hpke_seal(
        h("3948cfe0ad1ddb695d780e59077195da6c56506b027329794ab02bca80815c4d"),
        h("52c4a758a802cd8b936eceea314432798d5baf2d7e9235dc084ab1b9cfa2f736"),
        h("4f6465206f6e2061204772656369616e2055726e"),
        h("436f756e742d30"),
        h("4265617574792069732074727574682c20747275746820626561757479"),
        16,
    )
    assert sealed.hex() == (
        "37fda3567bdbd628e88668c3c8d7e97d1d1253b6d4ea6d44c150f741f1bf4431"
        "f938558b5d72f1a23810b4be2ab4f84331acc02fc97babc53a52ae8218a355a96d8770ac83d07bea87e13c512a"
    )


if __name__ == "__main__":
    self_test()
    print("ok")
