PROGRAM := croft-exec
PACKAGES := yyjson
