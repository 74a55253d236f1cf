PROGRAM := netd
PACKAGES := yyjson
