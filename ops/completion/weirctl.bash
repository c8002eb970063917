# bash completion for weirctl: it asks weirctl itself what may come next, so it knows every command and option.
# ops/install puts it where bash-completion looks; or: source ops/completion/weirctl.bash

_weirctl() {
  local word=${COMP_WORDS[COMP_CWORD]} program=${COMP_WORDS[0]} part help commands=() i
  # "--output=json" reaches us as three words.
  local before=${COMP_WORDS[COMP_CWORD-1]}
  if [ "$word" = = ]; then word="" before="=" ; fi
  if [ "$before" = = ]; then
    [ "${COMP_WORDS[COMP_CWORD-1]}" = = ] && part=${COMP_WORDS[COMP_CWORD-2]} || part=${COMP_WORDS[COMP_CWORD-1]}
    case "$part" in
    --output) mapfile -t COMPREPLY < <(compgen -W "table json" -- "$word") ;;
    --cluster) mapfile -t COMPREPLY < <(compgen -d -- "$word") ;;
    *) mapfile -t COMPREPLY < <(compgen -f -- "$word") ;;
    esac
    return
  fi
  # The commands so far: words that the help of those before them names.
  help=$("$program" --help 2>/dev/null) || return
  for ((i = 1; i < COMP_CWORD; i++)); do
    part=${COMP_WORDS[i]}
    case "$part" in -* | =) continue ;; esac
    [ "${COMP_WORDS[i-1]}" = = ] && continue
    _weirctl_commands "$help" | grep -qxF -- "$part" || continue
    commands+=("$part")
    help=$("$program" "${commands[@]}" --help 2>/dev/null) || return
  done
  case "$word" in
  -*)
    # The options of weirctl itself may stand anywhere.
    part=$(printf '%s\n%s\n' "$help" "$("$program" --help 2>/dev/null)" | grep -oE '^  (-h,)?--[a-z][a-z_,-]*' | tr ',' '\n' |
      grep -oE -- '--[a-z][a-z_-]*')
    mapfile -t COMPREPLY < <(compgen -W "$part" -- "$word")
    ;;
  *) mapfile -t COMPREPLY < <(compgen -W "$(_weirctl_commands "$help")" -- "$word") ;;
  esac
}

# The names in the section "Subcommands:" of a help, one a line.
_weirctl_commands() {
  printf '%s\n' "$1" | sed -n '/^Subcommands:/,/^$/s/^  \([a-z][a-z, -]*[a-z]\)  .*/\1/p' | tr -d ' ' | tr ',' '\n'
}

complete -F _weirctl weirctl
