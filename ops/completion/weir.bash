# bash completion for weir-replica, weir-volume, weir-csi, weir-nbd and weir-fuse: their flags, by what each says itself.
# ops/install puts it where bash-completion looks, once for each of them; or: source ops/completion/weir.bash

_weir() {
  local word=${COMP_WORDS[COMP_CWORD]} program=${COMP_WORDS[0]} command=() flag="" values words
  if [ "${program##*/}" = weir-replica ]; then
    # Abseil's help has no section for commands.
    if [ "$COMP_CWORD" = 1 ] && [[ $word != -* ]]; then mapfile -t COMPREPLY < <(compgen -W probe -- "$word"); return; fi
    if [ "${COMP_WORDS[1]}" = probe ]; then command=(probe); fi
  fi
  # "--data_dirs=/nvme0" reaches us as three words.
  if [ "$word" = = ]; then flag=${COMP_WORDS[COMP_CWORD-1]} word=""
  elif [ "${COMP_WORDS[COMP_CWORD-1]}" = = ]; then flag=${COMP_WORDS[COMP_CWORD-2]}
  fi
  if [ -n "$flag" ]; then
    # What it may be, if the help names that: --mode TEXT:{controller,node,all}. Else a path as often as not.
    values=$("$program" "${command[@]}" --help 2>/dev/null | sed -n "s/^ .*$flag[ ,][^{]*{\([^}]*\)}.*/\1/p" | tr ',' ' ')
    if [ -n "$values" ]; then mapfile -t COMPREPLY < <(compgen -W "$values" -- "$word"); return; fi
  elif [[ $word == -* ]]; then
    # CLI11 names a flag in both spellings, "--node-id,--node_id": the first one will do.
    words=$("$program" "${command[@]}" --help 2>/dev/null | grep -oE '^ {2,4}(-h,)?--[a-z][a-z_-]*' | grep -oE -- '--[a-z_-]+')
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
    return
  fi
  mapfile -t COMPREPLY < <(compgen -f -- "$word")
}

complete -F _weir weir-replica weir-volume weir-csi weir-nbd weir-fuse
