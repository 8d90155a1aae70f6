#!/bin/sh
# wrap.sh OPS_H OUT FLAGS - for every function of ops.h a wrapper that opens device memory around it (seam.c includes OUT),
# and the linker's options that put the wrappers in place.  What hands numbers to the host waits, as device.h says.
set -e
${CC:-cc} -fpreprocessed -dD -E -P "$1" | sed '/^#/d' | tr '\n' ' ' | awk -v flags="$3" '
BEGIN { RS = ";" }
/\)[ ]*$/ && !/\(\*/ {                                   # not a pointer to a function, in a struct
    sub(/^[ }]+/, ""); sub(/ +$/, "")
    open = index($0, "(")
    head = substr($0, 1, open - 1); arguments = substr($0, open + 1, length($0) - open - 1)
    match(head, /[a-z0-9_]+$/)
    name = substr(head, RSTART); type = substr(head, 1, RSTART - 1)
    n = split(arguments, argument, ","); list = ""
    for (i = 1; i <= n; i++) { match(argument[i], /[A-Za-z0-9_]+ *$/); list = list (i > 1 ? ", " : "") substr(argument[i], RSTART) }
    if (arguments == "void") list = ""
    returns = type !~ /^void *$/
    waits = type ~ /^(double|float) *$/
    printf "%s__real_%s(%s);\n%s__wrap_%s(%s);\n", type, name, arguments, type, name, arguments
    printf "%s__wrap_%s(%s)\n{\n    seam_open();\n    %s__real_%s(%s);\n    seam_close();\n%s%s}\n", type, name, arguments,
           returns ? type "result = " : "", name, list, waits ? "    seam_wait();\n" : "", returns ? "    return result;\n" : ""
    print "--wrap=" name > flags
}' >"$2"
for name in device_alloc device_free device_put device_get device_copy device_clear device_wait; do echo "--wrap=$name"; done >>"$3"
grep -qx -e --wrap=matmul_forward "$3"
