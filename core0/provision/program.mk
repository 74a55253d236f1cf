PROGRAM := provd
PACKAGES := yyjson mbedtls curl c-ares zlib
