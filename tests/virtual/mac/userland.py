"""Which programs are where on a Mac, and which options the BSD ones know: /bin, /usr/bin, /usr/sbin of macOS 15.

A program that is not named here is not there, as `setsid`, `timeout`, `nproc` and `flock` are not on a Mac. Those with
options stand before the Linux one and refuse what BSD's getopt would: long options, letters it does not know. Options
behind an operand are operands there.
"""

from __future__ import annotations

AS_THEY_ARE = {
    "bin": "[ dash date dd echo expr hostname kill pwd sleep sync test zsh",
    "usr/bin": "awk basename cut dirname env false find grep id nohup printf sed sort tar tee tr true wc which xargs",
    "usr/sbin": "chown sshd",
}
"""Folder -> programs whose Linux namesakes do, in the few ways in which anybody calls them, what BSD's do."""

WITH_OPTIONS = {
    "bin": {
        "cat": "belnstuv",
        "chmod": "fhvRHLPECNai",
        "cp": "HLPRfiNnaclpSsvXx",
        "df": "abcgHhIiklmnPtTYy",
        "ln": "FfhiLnPsvw",
        "ls": "@ABCFGHILOPRSTUWabcdefghiklmnopqrstuvwxy1%,",
        "mkdir": "mpv",
        "mv": "fhinv",
        "ps": "AaCcEefhjlMmrSTvwXxGgOoptUu",
        "rm": "dfiIPRrvWx",
        "rmdir": "pv",
    },
    "usr/bin": {
        "head": "cn0123456789",
        "mktemp": "dpqtu",
        "readlink": "fn",
        "tail": "FfrqbcnV0123456789",
        "touch": "AacdfhmrtS",
    },
}
"""Folder -> program -> the letters of its options."""

BSD = """\
#!/private/linux/bin/dash
# {name} of a Mac: the Linux one, behind BSD's view of what an option is.
for word; do
    case $word in
    -- | - | [!-]*) break ;;
    -[{letters}]*) ;;
    *) echo "{name}: illegal option -- ${{word#-}}" >&2; exit 64 ;;
    esac
done
POSIXLY_CORRECT=1 exec /private/linux/bin/{name} "$@"
"""
