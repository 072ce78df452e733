#!/bin/sh
# Writes dist/graph-smtp-relay_VERSION_all.deb. The source tree stays as it is: debhelper works on a copy in build/deb/,
# where packaging/debian/ lies as debian/. There lies the source package afterwards too, for lintian.
set -eu
cd "$(dirname "$0")/.."

if ! command -v dpkg-checkbuilddeps >/dev/null || ! dpkg-checkbuilddeps packaging/debian/control; then
	echo "make deb needs these Debian packages: apt install build-essential debhelper dh-python" >&2
	exit 1
fi

rm -rf build/deb
copy=build/deb/graph-smtp-relay
mkdir -p "$copy" dist
tar -c --exclude __pycache__ relay packaging conf docs README.md CHANGELOG.md LICENSE | tar -x -C "$copy"
mv "$copy/packaging/debian" "$copy/debian"
(cd "$copy" && dpkg-buildpackage --unsigned-source --unsigned-changes) >build/deb/log 2>&1 || {
	cat build/deb/log >&2
	exit 1
}
cp build/deb/*.deb dist/
ls -l dist/*.deb
