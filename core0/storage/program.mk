PROGRAM := storaged
PACKAGES := yyjson mbedtls
