PROGRAM := croft-shim
PACKAGES :=
