PROGRAM := gated
PACKAGES := yyjson mbedtls secp256k1 picohttpparser
