#!/bin/sh
# check_packages.sh - a build keeps its ARCH, and another one builds anew; make dist gives the same bytes twice, and in full builds and passes quick tests elsewhere; the
# Debian package installs, removes, and is free of lintian's errors.
cd "$(dirname "$0")/.." || exit 1
. test/lib.sh
make="env -u MAKEFLAGS -u MAKELEVEL make -s"
version=$("$BIN/ckpt" --version | cut -d' ' -f2)

# ---- ARCH ----
object=$work/build/common/base/rng.o
built() { $make -s V=1 BUILD="$work/build" BIN="$work/bin" "$@" "$object" >"$work/out" 2>&1; }
check "a build for any processor" built ARCH=
check "make install would keep it" sh -c "$make -q BUILD='$work/build' BIN='$work/bin' '$object'"
check "another one is built" built ARCH=native
check "and kept" sh -c "! $make -q BUILD='$work/build' BIN='$work/bin' ARCH= '$object'"

# ---- the tarball ----
if git clone -q . "$work/a" 2>/dev/null; then
    tar=build/quartet-$version.tar.gz
    git clone -q "$work/a" "$work/b"
    find "$work/b" -type f -exec touch {} +
    check "a tarball" $make -C "$work/a" dist >/dev/null
    (umask 077; $make -C "$work/b" dist >/dev/null)
    check "the same again" cmp "$work/a/$tar" "$work/b/$tar"
    tar -xzf "$work/a/$tar" -C "$work"
    (cd "$work/a" && git ls-files | sort) >"$work/known"
    check "all files and no other" sh -c "(cd '$work/quartet-$version' && find . ! -type d | cut -c3- | sort) | cmp - '$work/known'"
    if [ -n "$FULL" ]; then
        check "it builds" $make -C "$work/quartet-$version" all tests
        check "it works" env BIN= BUILD= TESTS="test_base test_options test_model check_resume" sh -c \
            "unset BIN BUILD FULL; $make -C '$work/quartet-$version' test" >"$work/out"
    fi
else omit "this is no git clone"; fi

# ---- the Debian package, of the programs that are there ----
if [ "$BUILD" = build/cpu ] && command -v dpkg-deb >/dev/null && command -v dpkg-shlibdeps >/dev/null; then
    pack() { MAKEFLAGS='' SOURCE_DATE_EPOCH=1700000000 docs/debian/build.sh "$1" BIN="$BIN" >"$work/out" 2>&1; }
    check "a package" pack "$work/one"
    check "again" pack "$work/two"
    deb=$work/one/quartet_${version}_$(dpkg --print-architecture).deb
    check "the same package" cmp "$deb" "$work/two/${deb##*/}"
    check "it depends on what it needs" sh -c "dpkg-deb -f '$deb' Depends | grep -q 'libc6.*libjansson4.*libpcre2-8.*libutf8proc'"
    check "names" sh -c "! dpkg-deb -c '$deb' | grep -E '/(bin|man1|completions)/.' | grep -v /quartet-"
    mkdir -p "$work/sys/var/lib/dpkg/updates" "$work/sys/var/lib/dpkg/info"
    : >"$work/sys/var/lib/dpkg/status"
    dpkg="dpkg --root=$work/sys --log=$work/log --force-depends --force-not-root --force-bad-path"
    check "it installs" sh -c "$dpkg -i '$deb' >'$work/out' 2>&1"
    expect 0 "ckpt $version" "$work/sys/usr/bin/quartet-ckpt" --version
    check "a page" sh -c "gzip -dc '$work/sys/usr/share/man/man1/quartet-rm.1.gz' | grep -q 'quartet.-rm'"
    check "its files are whole" sh -c "$dpkg --verify quartet >'$work/out' 2>&1 && [ ! -s '$work/out' ]"
    check "it leaves" sh -c "$dpkg -P quartet >'$work/out' 2>&1 && [ ! -e '$work/sys/usr/bin/quartet-ckpt' ]"
    if command -v lintian >/dev/null; then
        lintian --allow-root "$deb" >"$work/out" 2>&1
        check "lintian" sh -c "! grep -q '^[EW]:' '$work/out'"
    else omit "lintian is not installed"; fi
else omit "no dpkg-deb or dpkg-shlibdeps, or another build"; fi

finish
