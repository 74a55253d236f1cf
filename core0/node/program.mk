PROGRAM := noded
PACKAGES := yyjson mbedtls curl c-ares secp256k1 zlib
