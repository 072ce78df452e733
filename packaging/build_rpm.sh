#!/bin/sh
# Writes dist/graph-smtp-relay-VERSION-1.el9.MACHINE.rpm with the libraries inside, for each MACHINE that is named, and
# dist/graph-smtp-relay-VERSION-1.noarch.rpm for Fedora's own. $PYTHON runs packaging/libraries.py.
set -eu
cd "$(dirname "$0")/.."

if ! command -v rpmbuild >/dev/null; then
	echo "make rpm needs rpmbuild: apt install rpm, or dnf install rpm-build" >&2
	exit 1
fi

spec=packaging/rpm/graph-smtp-relay.spec
version=$(sed -n 's/^Version: *//p' $spec)
top=$(pwd)/build/rpm
rm -rf "$top"
mkdir -p "$top/SOURCES" dist

# The same input gives the same archives: order, time and owner are fixed.
pack() {
	tar -c --sort=name --mtime="@${SOURCE_DATE_EPOCH:-315532800}" --owner=0 --group=0 --numeric-owner --mode=go-w \
		--exclude __pycache__ "$@" | gzip -1n
}
pack --transform "s|^|graph-smtp-relay-$version/|" relay packaging conf docs README.md CHANGELOG.md LICENSE \
	>"$top/SOURCES/graph-smtp-relay-$version.tar.gz"
cp dist/THIRD-PARTY-LICENSES.txt "$top/SOURCES/"

build() {
	rpmbuild -bb "$@" --define "_topdir $top" --define "_buildhost localhost" --define "_binary_payload w13.zstdio" \
		--define "use_source_date_epoch_as_buildtime 1" --define "clamp_mtime_to_source_date_epoch 1" \
		$spec >"$top/log" 2>&1 || {
		cat "$top/log" >&2
		exit 1
	}
}
for machine in "$@"; do
	bundled=$(${PYTHON:-python3} packaging/libraries.py "$machine" 3.11 "$top/libraries-$machine")
	pack -C "$top/libraries-$machine" . >"$top/SOURCES/libraries-$machine.tar.gz"
	build --target "$machine" --define "dist .el9" --define "bundled_libraries $bundled"
done
build --target noarch --without bundled --define "dist %{nil}"
cp "$top"/RPMS/*/*.rpm dist/
ls -l dist/*.rpm
