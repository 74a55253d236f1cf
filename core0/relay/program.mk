PROGRAM := croft-relay
PACKAGES := yyjson mbedtls curl c-ares secp256k1 scrypt picohttpparser zlib
