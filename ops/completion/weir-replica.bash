# bash completion for weir-replica: its flags and its one command, by what it says itself.
# ops/install puts it where bash-completion looks; or: source ops/completion/weir-replica.bash

_weir_replica() {
  local word=${COMP_WORDS[COMP_CWORD]} program=${COMP_WORDS[0]} command=() words
  # "--data_dirs=/nvme0" reaches us as three words; what follows = is a path as often as not.
  if [ "$word" = = ]; then word=""; elif [ "${COMP_WORDS[COMP_CWORD-1]}" != = ]; then
    if [ "$COMP_CWORD" -gt 1 ] && [ "${COMP_WORDS[1]}" = probe ]; then command=(probe); fi
    case "$word" in
    -*)
      words=$("$program" "${command[@]}" --help 2>/dev/null | grep -oE '^ +(-h,)?--[a-z][a-z_]*' | grep -oE -- '--[a-z_]+')
      mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
      return
      ;;
    esac
    if [ "$COMP_CWORD" = 1 ]; then mapfile -t COMPREPLY < <(compgen -W probe -- "$word"); return; fi
  fi
  mapfile -t COMPREPLY < <(compgen -f -- "$word")
}

complete -F _weir_replica weir-replica
