#!/bin/sh
# build.sh OUT [VARIABLE=VALUE ...] - a Debian package in OUT of what `make install` installs with these variables.  The
# same sources and compiler give the same bytes: dates are SOURCE_DATE_EPOCH, or that of the last commit.  The maintainer
# is DEBFULLNAME <DEBEMAIL>.
set -e
cd "$(dirname "$0")/../.."
out=$1
shift
for tool in dpkg-deb dpkg-shlibdeps strip; do
    command -v $tool >/dev/null || { echo "make deb: $tool is missing: install dpkg-dev and binutils" >&2; exit 69; }
done
version=$(sed -n 's/^#define QUARTET_VERSION "\(.*\)"/\1/p' common/base/base.h)
arch=$(dpkg --print-architecture)
by="${DEBFULLNAME:-The Quartet authors} <${DEBEMAIL:-quartet@quartet.invalid}>"
: "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct 2>/dev/null || stat -c %Y Makefile)}"
export SOURCE_DATE_EPOCH
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
"${MAKE:-make}" -s "$@" install DESTDIR="$root" PREFIX=/usr

# ---- what a package has beside the programs ----
doc=$root/usr/share/doc/quartet
strip --strip-unneeded --remove-section=.comment --remove-section=.note "$root"/usr/bin/*
gzip -9nf "$root"/usr/share/man/man1/*.1
install -d "$doc/docs" "$doc/format" "$root/DEBIAN"
install -m 644 docs/*.md docs/*.svg "$doc/docs"
install -m 644 README.md "$doc"
install -m 644 format/SPEC.md "$doc/format"
{
    printf 'Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\nFiles: *\n'
    sed -n 's/^Copyright (c)/Copyright:/p' LICENSE
    printf 'License: Expat\n'
    sed '1,/^Copyright/d; /./,$!d; s/^$/./; s/^/ /' LICENSE | sed '1{/^ \.$/d}'
} >"$doc/copyright"
printf 'quartet (%s) unstable; urgency=medium\n\n  * Release %s.\n\n -- %s  %s\n' "$version" "$version" "$by" \
    "$(date -uR -d "@$SOURCE_DATE_EPOCH")" | gzip -9n >"$doc/changelog.gz"
chmod 644 "$doc/copyright" "$doc/changelog.gz"

# ---- control ----
mkdir "$work/debian"
printf 'Source: quartet\n\nPackage: quartet\nArchitecture: any\n' >"$work/debian/control"
depends=$(cd "$work" && dpkg-shlibdeps -O root/usr/bin/* | sed -n 's/^shlibs:Depends=//p')
cat >"$root/DEBIAN/control" <<END
Package: quartet
Version: $version
Section: science
Priority: optional
Architecture: $arch
Maintainer: $by
Installed-Size: $(du -sk --apparent-size "$root/usr" | cut -f1)
Depends: $depends
Description: raises language models through pretraining, SFT, reward and RLHF
 Four programs train a transformer from random weights to an assistant:
 quartet-pretrain on text, quartet-sft on dialogues, quartet-rm on rankings
 of answers, and quartet-rlhf by PPO against that reward model. quartet-ckpt
 looks into checkpoints and converts models of other systems, and
 quartet-chat talks to them.
 .
 Runs resume to the bit, and every file has checksums. Nothing but C
 libraries is needed.
END
(cd "$root" && find usr -type f | LC_ALL=C sort | xargs -d '\n' md5sum) >"$root/DEBIAN/md5sums"
find "$root" -newermt "@$SOURCE_DATE_EPOCH" -exec touch -hd "@$SOURCE_DATE_EPOCH" {} +
mkdir -p "$out"
dpkg-deb --root-owner-group -Zxz --build "$root" "$out/quartet_${version}_$arch.deb"
