PROGRAM := imaged
PACKAGES := yyjson mbedtls curl c-ares zstd zlib
