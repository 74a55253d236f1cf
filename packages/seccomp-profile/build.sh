cp usr/share/gocode/src/github.com/docker/docker/profiles/seccomp/default.json "$OUT/seccomp.json"
