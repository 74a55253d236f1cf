image: bin
