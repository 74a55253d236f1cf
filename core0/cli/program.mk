PROGRAM := croft
PACKAGES := yyjson mbedtls curl c-ares zlib zstd secp256k1 scrypt libyaml composefs
