PROGRAM := contd
PACKAGES := yyjson
