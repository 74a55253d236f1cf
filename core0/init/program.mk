PROGRAM := core0
PACKAGES := yyjson
