PROGRAM := kvd
PACKAGES := mbedtls picohttpparser
