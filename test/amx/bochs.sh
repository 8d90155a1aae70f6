#!/bin/bash
# bochs.sh - the products of bfloat16 by the instructions of Intel AMX themselves, without a processor that has them: in the
# PC emulator Bochs, under a Linux that grants the tiles.  test_tile and some shapes of test_matmul, which state the bits of
# every product, must pass there as they do with the instructions in plain C.  Builds Bochs first, in some 15 minutes; then
# it takes two.
#     WORK=build/bochs (all files), DEBIAN=http://deb.debian.org/debian (where Bochs and Linux come from)
# Ends with 77 where something it needs is missing.
#
# bochs.patch: Linux uses AMX only where the processor can withhold it (XFD), which Bochs 3.0 lacks; and it saves and
# restores the tiles of a thread wrongly in four places.
cd "$(dirname "$0")/../.." || exit 1
: "${WORK:=build/bochs}" "${DEBIAN:=http://deb.debian.org/debian}"
isolinux=/usr/lib/ISOLINUX/isolinux.bin loader=/usr/lib/syslinux/modules/bios/ldlinux.c32 seabios=/usr/share/seabios

missing=
for command in curl patch cpio xorriso g++ dash; do command -v $command >/dev/null || missing="$missing $command"; done
[ -e $isolinux ] || missing="$missing isolinux"
[ -e $loader ] || missing="$missing syslinux-common"
[ -e $seabios/bios.bin ] || missing="$missing seabios"
[ -z "$missing" ] || { echo "missing Debian packages:$missing"; exit 77; }

build_bochs() {
    curl -sSf "$DEBIAN/pool/main/b/bochs/bochs_3.0+dfsg.orig.tar.xz" | tar xJ -C "$WORK" || return 77
    ( cd "$WORK/bochs-3.0" && patch -p1 <"$OLDPWD/test/amx/bochs.patch" &&
      ./configure --enable-x86-64 --enable-avx --enable-evex --enable-amx --enable-all-optimizations --with-nogui \
                  --enable-protection-keys --enable-cet --enable-uintr --disable-docbook && make -j2 ) >"$WORK/build.log" 2>&1
}

fetch_linux() {     # Linux 6.1 of Debian 12 does not come up in Bochs
    local file
    file=$(curl -sSf "$DEBIAN/dists/trixie/main/binary-amd64/Packages.xz" | xz -dc |
           awk '/^Package: linux-image-6.12.*-cloud-amd64$/ { p = 1 } p && /^Filename:/ { f = $2; p = 0 } END { print f }')
    curl -sSf -o "$WORK/linux.deb" "$DEBIAN/$file" && dpkg -x "$WORK/linux.deb" "$WORK/linux"
}

mkdir -p "$WORK" && WORK=$(cd "$WORK" && pwd) || exit 1
BOCHS=$WORK/bochs-3.0/bochs
[ -x "$BOCHS" ] || build_bochs || { echo "Bochs 3.0 was not fetched and built: see $WORK/build.log"; exit 77; }
[ -e "$WORK/linux/boot" ] || fetch_linux || { echo "no Linux from $DEBIAN"; exit 77; }
make -s -j2 PRECISION=bf16 bin-bf16/chat build/cpu-bf16/test/test_tile build/cpu-bf16/test/test_matmul || exit 1

# ---- the guest: a shell, the programs, their libraries ------------------------------------------------------------------------
root=$WORK/root iso=$WORK/iso
rm -rf "$root" "$iso"
mkdir -p "$root/bin" "$iso"
cp /bin/dash "$root/bin/sh"
cp bin-bf16/chat build/cpu-bf16/test/test_tile build/cpu-bf16/test/test_matmul "$root/bin"
for program in "$root"/bin/*; do ldd "$program"; done | grep -o '/[^ ]*' | sort -u | while read -r library; do
    mkdir -p "$root$(dirname "$library")"
    cp -L "$library" "$root$library"
done
cat >"$root/init" <<'END'
#!/bin/sh
/bin/chat --version
/bin/test_tile; echo "test_tile ended with $?"
/bin/test_matmul 10; echo "test_matmul ended with $?"
echo "guest: end"
while :; do :; done
END
chmod +x "$root/init"
(cd "$root" && find . | cpio -o -H newc --quiet | gzip -1) >"$iso/initrd.gz"
cp "$WORK"/linux/boot/vmlinuz-* "$iso/vmlinuz"
cp $isolinux $loader "$iso"
printf '%s\n' 'default linux' 'prompt 0' 'label linux' ' kernel vmlinuz' \
    ' append initrd=initrd.gz console=ttyS0 nokaslr mitigations=off random.trust_cpu=on panic=-1' >"$iso/isolinux.cfg"
xorriso -as mkisofs -quiet -o "$WORK/guest.iso" -b isolinux.bin -c boot.cat -no-emul-boot -boot-load-size 4 -boot-info-table \
    "$iso" 2>/dev/null || exit 1

# ---- its life -----------------------------------------------------------------------------------------------------------------
cat >"$WORK/bochsrc" <<END
megs: 512
cpu: model=sapphire_rapids, count=1, ips=50000000, reset_on_triple_fault=0, ignore_bad_msrs=1
romimage: file=$seabios/bios.bin
vgaromimage: file=$seabios/vgabios-stdvga.bin
ata0-master: type=cdrom, path=$WORK/guest.iso, status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev=$WORK/console.txt
display_library: nogui
log: $WORK/bochs.log
panic: action=fatal
error: action=ignore
info: action=ignore
END
: >"$WORK/console.txt"
timeout 3600 "$BOCHS" -q -f "$WORK/bochsrc" >"$WORK/bochs.out" 2>&1 &
guest=$!
while kill -0 $guest 2>/dev/null && ! grep -q '^guest: end' "$WORK/console.txt"; do sleep 5; done
kill $guest 2>/dev/null
failed=0
for line in 'bfloat16 (AMX)' 'test_tile ended with 0' 'test_matmul ended with 0'; do
    grep -qF "$line" "$WORK/console.txt" || { echo "the guest did not say '$line': see $WORK/console.txt"; failed=$((failed + 1)); }
done
echo "bochs: $((3 - failed)) passed, $failed failed, 0 skipped"
[ $failed -eq 0 ]
