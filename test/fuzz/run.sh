#!/bin/sh
# run.sh - builds every test/fuzz/fuzz_*.c with the sources under clang's fuzzer, AddressSanitizer and UBSan, and runs each for
# FUZZ_SECONDS (60).  The corpora stay in $BUILD/corpus; what was found lies in $BUILD/found.  TARGETS="kv index" runs only these.
cd "$(dirname "$0")/../.." || exit 1
: "${BUILD:=build/fuzz}" "${FUZZ_SECONDS:=60}" "${CLANG:=clang}"
passed=0 failed=0 skipped=0
say() {
    echo "fuzz: $passed passed, $failed failed, $skipped skipped"
    [ $failed -eq 0 ]
    exit
}
mkdir -p "$BUILD/corpus" "$BUILD/found" "$BUILD/bin"
echo 'int LLVMFuzzerTestOneInput(const char *d, long n); int LLVMFuzzerTestOneInput(const char *d, long n) { return d && n ? 0 : 0; }' >"$BUILD/probe.c"
if ! "$CLANG" -fsanitize=fuzzer,address,undefined "$BUILD/probe.c" -o "$BUILD/bin/probe" 2>/dev/null; then
    echo "skipped: no clang with libFuzzer"
    skipped=1
    say
fi

flags="-g -O1 -fno-omit-frame-pointer -fno-sanitize-recover=all"
if ! make -s -j"$(nproc)" ZSTD=0 EDIT=0 HTTP=0 BUILD="$BUILD" CC="$CLANG" WARN= CFLAGS="$flags -fsanitize=fuzzer-no-link,address,undefined" \
    "$BUILD/libquartet.a"; then
    echo "the sources do not compile with $CLANG"
    failed=1
    say
fi
for source in test/fuzz/fuzz_*.c; do
    name=$(basename "$source" .c)
    [ -n "$TARGETS" ] && case " $TARGETS " in *" ${name#fuzz_} "*) ;; *) continue ;; esac
    if ! "$CLANG" -std=gnu11 -I. -Icommon/cpu $flags -fsanitize=fuzzer,address,undefined "$source" "$BUILD/libquartet.a" -ljansson \
        -lpcre2-8 -lutf8proc -lz -lm -pthread \
        -o "$BUILD/bin/$name"; then
        failed=$((failed + 1))
        continue
    fi
    mkdir -p "$BUILD/corpus/$name"
    seeds=test/fuzz/seeds/${name#fuzz_}
    [ -d "$seeds" ] || seeds=
    dictionary=test/fuzz/${name#fuzz_}.dict
    "$BUILD/bin/$name" -max_total_time="$FUZZ_SECONDS" -max_len=131072 -timeout=10 -rss_limit_mb=1024 \
        -malloc_limit_mb=512 -print_final_stats=1 \
        -artifact_prefix="$BUILD/found/$name-" $([ -f "$dictionary" ] && echo -dict="$dictionary") "$BUILD/corpus/$name" $seeds >"$BUILD/$name.log" 2>&1
    code=$?
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$BUILD/$name.log")
    if [ $code -eq 0 ]; then
        passed=$((passed + 1))
        echo "$name: nothing found in ${runs:-?} runs"
    else
        failed=$((failed + 1))
        echo "$name: exit code $code, see $BUILD/$name.log and $BUILD/found"
        grep -E 'ERROR|SUMMARY|runtime error' "$BUILD/$name.log" | head -n 5
    fi
done
say
