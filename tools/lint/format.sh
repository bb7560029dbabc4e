# Every C file is as clang-format 14 with .clang-format writes it (other versions differ a little).
# Tables are exempt: they are laid out by hand or by a generator.
format=${CLANG_FORMAT:-clang-format}
if ! $format --version 2>/dev/null | grep -q 'version 14\.'; then
    echo "clang-format 14 is missing (found: $($format --version 2>/dev/null || echo none));" \
        "./setup deps check installs it"
    exit 1
fi
grep -v '_tables\.[ch]$' "$work/c" | xargs "$format" --dry-run -Werror
