#!/bin/sh
# build.sh BIN OUT - writes the manual pages quartet-*.1 and the bash completion into OUT.  Options come from the
# programs, the rest from PROGRAM.man here: its first line is the short description.
bin=$1 out=$2 here=$(dirname "$0")
mkdir -p "$out" || exit 74
version=$("$bin/ckpt" --version | cut -d' ' -f2) || exit 70

# part NAME: the section of a page on standard input
part() { awk -v name=".SH $1" '/^\.SH /{ on = $0 == name; next } on'; }
commands() { "$bin/ckpt" --help | sed -n 's/^  \([a-z][a-z]*\) .*/\1/p'; }

# options_of COMMAND...: its options as a subsection
options_of() {
    "$bin/$1" "$2" --help-man >"$out/part"
    printf '.SS %s\n' "$(part SYNOPSIS <"$out/part" | sed '1d')"
    part DESCRIPTION <"$out/part"
    part OPTIONS <"$out/part" | grep -v '^\.SS'
}

page() {
    printf '.TH QUARTET\\-%s 1 %s "quartet %s" "Quartet"\n' "$(echo "$1" | tr a-z A-Z)" \
        "$(date -u -d "@${SOURCE_DATE_EPOCH:-$(stat -c %Y "$here/$1.man")}" +%F)" "$version"
    printf '.SH NAME\nquartet\\-%s \\- %s\n' "$1" "$(sed 1q "$here/$1.man")"
    if [ "$1" = ckpt ]; then
        printf '.SH SYNOPSIS\n.B quartet\\-ckpt\nCOMMAND ...\n.SH DESCRIPTION\n'
        sed 1d "$here/ckpt.man" | part DESCRIPTION
        printf '.SH COMMANDS\n'
        for command in $(commands); do options_of ckpt "$command"; done
    else
        "$bin/$1" --help-man
        if [ "$1" = rm ]; then printf '.SH SCORING\n'; options_of rm --score; fi
    fi
    sed 1d "$here/$1.man" | awk '/^\.SH /{ on = $0 != ".SH DESCRIPTION" } on'
    cat "$here/common.man"
}

words() { printf '%s)\n    echo "%s" ;;\n' "$1" "$(shift; "$@" --help-words | tr ' \n' '= ')"; }

completion() {
    printf '# bash completion of the quartet- programs; generated\n_quartet_words() {\n    case $1 in\n'
    for program in pretrain sft rm rlhf chat; do words $program "$bin/$program"; done
    words rm-score "$bin/rm" --score
    printf 'ckpt)\n    echo "%s" ;;\n' "$(commands | tr '\n' ' ')"
    for command in $(commands); do words "ckpt-$command" "$bin/ckpt" "$command"; done
    printf '    esac\n}\n'
    cat "$here/completion.bash"
}

for program in pretrain sft rm rlhf chat ckpt; do
    page $program | fold -s -w 76 | sed 's/ *$//' >"$out/quartet-$program.1" || exit 74
done
completion >"$out/quartet.bash" || exit 74
rm -f "$out/part"
