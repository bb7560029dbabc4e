# strip.awk: C without comments and with empty strings and characters: file<TAB>line<TAB>code.
# Names in #include lines are kept. Knows nothing of trigraphs or of a backslash inside "//".
FNR == 1 { in_comment = 0 }
/^[ \t]*#[ \t]*include/ && !in_comment { print FILENAME "\t" FNR "\t" $0; next }
{
    out = ""
    rest = $0
    while (rest != "") {
        if (in_comment) {
            at = index(rest, "*/")
            if (!at) break
            rest = substr(rest, at + 2)
            in_comment = 0
            continue
        }
        if (!match(rest, /"|'|\/\*|\/\//)) { out = out rest; break }
        token = substr(rest, RSTART, RLENGTH)
        out = out substr(rest, 1, RSTART - 1)
        rest = substr(rest, RSTART + RLENGTH)
        if (token == "//") break
        if (token == "/*") { in_comment = 1; continue }
        out = out token token
        while (rest != "") { # to the closing quote
            c = substr(rest, 1, 1)
            rest = substr(rest, c == "\\" ? 3 : 2)
            if (c == token) break
        }
    }
    print FILENAME "\t" FNR "\t" out
}
