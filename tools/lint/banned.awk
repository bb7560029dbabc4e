# banned.awk: functions that are not called. Reads banned.allow ("path function" lines), then
# strip.awk's output.
BEGIN {
    # Everywhere: they write or read without a limit, or cannot report an error.
    split("sprintf vsprintf strcpy strcat strncat strtok atoi atol atoll atof gets alloca " \
          "asctime ctime tmpnam mktemp", list, " ")
    for (i in list) everywhere[list[i]] = 1
    # In the library: it never ends the process, prints, or reads the environment. rand keeps
    # global state, signal and setlocale change the caller's process. Memory comes from the caller's
    # allocator (base/alloc.h).
    split("exit _exit abort getenv setenv printf vprintf fprintf vfprintf dprintf puts fputs " \
          "putchar perror rand srand signal sigaction setlocale system popen " \
          "malloc calloc realloc strdup strndup aligned_alloc posix_memalign", list2, " ")
    for (i in list2) library[list2[i]] = 1
}
FILENAME ~ /\.allow$/ {
    if ($0 !~ /^#/ && NF == 2) { allow[$1 " " $2] = 1 }
    next
}
{
    split($0, part, "\t")
    file = part[1]
    line = part[2]
    rest = substr($0, length(file) + length(line) + 3)
    if (rest ~ /^[ ]*#[ ]*include/) next
    in_lib = file ~ /^src\// && file !~ /^src\/(cli|server)\//
    while (match(rest, /[A-Za-z_][A-Za-z0-9_]*[ ]*\(/)) {
        name = substr(rest, RSTART, RLENGTH)
        before = RSTART > 1 ? substr(rest, RSTART - 1, 1) : ""
        rest = substr(rest, RSTART + RLENGTH)
        sub(/[ ]*\($/, "", name)
        if (before == "." || before == ">") continue # a member
        is_bad = (name in everywhere) || (in_lib && (name in library)) ||
            (file ~ /^tests\// && name == "assert") # compiled out of release builds
        if (!is_bad) continue
        if ((file " " name) in allow) { used[file " " name] = 1; continue }
        print file ":" line ": " name "() is banned here"
        bad = 1
    }
}
END {
    for (a in allow)
        if (!(a in used)) { print "banned.allow: not needed any more: " a; bad = 1 }
    exit bad
}
