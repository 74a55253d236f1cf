find usr/share/ca-certificates/mozilla -name '*.crt' -print0 | sort -z | xargs -0 cat > "$OUT/ca-certificates.crt"
