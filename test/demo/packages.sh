#!/bin/sh
# packages.sh - installs what building Quartet needs and is not there yet: a C compiler, make, zlib, PCRE2, jansson, utf8proc; and
# once, where it may, what chat can do without: libedit (editing lines) and libmicrohttpd (--serve).
# Does nothing (and asks for no rights) when all of it is there.
probe=$(mktemp -d) || exit 1
trap 'rm -rf "$probe"' EXIT
cat >"$probe/p.c" <<'C'
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <jansson.h>
#include <utf8proc.h>
#include <zlib.h>
int main(void) { return json_true() == 0 || utf8proc_version() == 0 || zlibVersion() == 0; }
C
cat >"$probe/o.c" <<'C'
#include <histedit.h>
#include <microhttpd.h>
int main(void) { return history_init() == 0 || MHD_get_version() == 0; }
C
there() { command -v make >/dev/null && ${CC:-gcc} "$probe/p.c" -o "$probe/p" -ljansson -lpcre2-8 -lutf8proc -lz >/dev/null 2>&1; }
comforts() { ${CC:-gcc} "$probe/o.c" -o "$probe/o" -ledit -lmicrohttpd >/dev/null 2>&1; }
asked=build/comforts-asked-for       # they are asked for once: not at every start on a machine that has no network
if there; then
    if comforts || [ -e "$asked" ]; then exit 0; fi
    mkdir -p build && : >"$asked"
fi

if [ "$(id -u)" -eq 0 ]; then root=; elif ! there && command -v sudo >/dev/null; then root=sudo; else
    there && exit 0
    echo "packages.sh: some packages are missing and neither root nor sudo is at hand: install gcc, make and the development" >&2
    echo "files of zlib, PCRE2, jansson and utf8proc, then run this again" >&2
    exit 1
fi
if command -v apt-get >/dev/null; then
    $root apt-get update -qq
    there || $root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq gcc make libc6-dev zlib1g-dev libpcre2-dev \
        libjansson-dev libutf8proc-dev >"$probe/log" 2>&1 || cat "$probe/log" >&2
    $root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq libedit-dev libmicrohttpd-dev >/dev/null 2>&1
elif command -v dnf >/dev/null; then
    there || $root dnf install -y -q gcc make zlib-devel pcre2-devel jansson-devel utf8proc-devel
    $root dnf install -y -q libedit-devel libmicrohttpd-devel >/dev/null 2>&1
elif command -v pacman >/dev/null; then $root pacman -S --noconfirm --needed gcc make zlib pcre2 jansson libutf8proc libedit libmicrohttpd
elif command -v apk >/dev/null; then
    there || $root apk add gcc make musl-dev zlib-dev pcre2-dev jansson-dev utf8proc-dev
    $root apk add libedit-dev libmicrohttpd-dev >/dev/null 2>&1
fi
there && exit 0
echo "packages.sh: gcc, make, zlib, PCRE2, jansson and utf8proc (with development files) are needed and could not all be installed" >&2
exit 1
