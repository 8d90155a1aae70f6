
# Options of the program, or the command of ckpt; then what may follow an option: its choices, files, or nothing.
_quartet() {
    local program=${COMP_WORDS[0]##*/} cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} word kind= names=
    program=${program#quartet-}
    COMPREPLY=()
    if [ "$cur" = = ]; then cur=
    elif [ "$prev" = = ]; then prev=${COMP_WORDS[COMP_CWORD-2]}; fi
    if [ "$program" = ckpt ] && [ "$COMP_CWORD" = 1 ]; then
        COMPREPLY=($(compgen -W "$(_quartet_words ckpt)" -- "$cur"))
        return
    fi
    [ "$program" = ckpt ] && program=ckpt-${COMP_WORDS[1]}
    [ "$program" = rm ] && [[ " ${COMP_WORDS[*]} " == *" --score "* ]] && program=rm-score
    for word in $(_quartet_words "$program"); do
        [ "${word%%=*}" = "$prev" ] && kind=${word#*=}
        names+=" ${word%%=*}"
        [ "${word#*=}" = flag ] && [[ $cur == --n* ]] && word=${word%=flag} && names+=" --no-${word#--}"
    done
    case $kind in
    *\|*) COMPREPLY=($(compgen -W "${kind//|/ }" -- "$cur")) ;;
    number) ;;
    *)
        if [[ $cur == -* ]]; then COMPREPLY=($(compgen -W "$names --help --help-all --version" -- "$cur"))
        else COMPREPLY=($(compgen -f -- "$cur")); fi ;;
    esac
}
complete -o filenames -F _quartet quartet-pretrain quartet-sft quartet-rm quartet-rlhf quartet-chat quartet-ckpt
