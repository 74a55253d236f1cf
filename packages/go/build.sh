# Any go can fetch it; Debian's is preferred, so that a machine's own newer one does not hide a missing step.
bootstrap=$(ls /usr/lib/go-*/bin/go 2>/dev/null | head -1 || true)
export GOPATH="$WORK/gopath" GOCACHE="$WORK/gocache" GOFLAGS=-modcacherw GOENV=off
module=golang.org/toolchain@v0.0.1-go1.26.8.linux-amd64
"${bootstrap:-go}" mod download "$module"
cp -r "$GOPATH/pkg/mod/$module" "$OUT/go"
chmod -R u+w "$OUT/go"
chmod +x "$OUT"/go/bin/* "$OUT"/go/pkg/tool/*/*
rm -rf "$OUT"/go/{test,doc,api,misc}
