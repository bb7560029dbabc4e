# tap.sh: helpers of the command-line tests (sourced). Each test is a shell script that prints TAP.
# The programs are $NPUMOE and $NPUMOE_BUILD/mkmodel, as tests/run's callers set them.
#
#   check NAME COMMAND...        ok when the command succeeds
#   run ARGS...                  runs npumoe: $code, $work/out, $work/err
#   is_code N NAME               the exit code of the last run
#   out_is NAME / err_is NAME    compares with the text on standard input, exactly
#   tiny FAMILY                  path of a small model of that family (made once)

cd "$(dirname "$0")/../.." || exit 1
NPUMOE=${NPUMOE:-build/release/npumoe}
NPUMOE_BUILD=${NPUMOE_BUILD:-build/release}
case $NPUMOE in /*) ;; *) NPUMOE=$PWD/$NPUMOE ;; esac
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
# What a user's environment sets must not change results.
unset NPUMOE_MODEL NPUMOE_THREADS NPUMOE_CTX_SIZE NPUMOE_SEED NPUMOE_TEMP NPUMOE_ISA NO_COLOR
# Counts are files: `echo TEXT | out_is NAME` runs out_is in a subshell.
echo 0 >"$work/count"
echo 0 >"$work/failed"

bump() { # NAME: the counter's new value, in $bumped
    bumped=$(($(cat "$work/$1") + 1))
    echo $bumped >"$work/$1"
}
pass() { bump count; echo "ok $bumped - $1"; }
fail() { bump failed; bump count; echo "not ok $bumped - $1"; }
skip() { bump count; echo "ok $bumped # SKIP $1"; }
done_testing() { echo "1..$(cat "$work/count")"; [ "$(cat "$work/failed")" -eq 0 ]; }

check() {
    check_name=$1
    shift
    if "$@" >"$work/check" 2>&1; then pass "$check_name"; else
        fail "$check_name"
        sed 's/^/#   /' "$work/check" >&2
    fi
}

run() { # standard input: none, unless the caller redirects it
    "$NPUMOE" "$@" >"$work/out" 2>"$work/err" </dev/null
    code=$?
}

is_code() {
    if [ "$code" -eq "$1" ]; then pass "$2"; else
        fail "$2"
        echo "#   exit code $code, expected $1" >&2
        sed 's/^/#   /' "$work/err" >&2
    fi
}

same_text() {
    cat >"$work/want"
    if cmp -s "$work/want" "$1"; then pass "$2"; else
        fail "$2"
        diff "$work/want" "$1" | sed 's/^/#   /' >&2
    fi
}

out_is() { same_text "$work/out" "$1"; }
err_is() { same_text "$work/err" "$1"; }

# Compares standard output with a file of tests/cli/expected; NPUMOE_SET_EXPECTED=1 writes it.
out_is_file() {
    if [ -n "$NPUMOE_SET_EXPECTED" ]; then cp "$work/out" "tests/cli/expected/$1"; fi
    same_text "$work/out" "$2" <"tests/cli/expected/$1"
}

tiny() {
    if [ ! -f "$work/$1.gguf" ]; then
        "$NPUMOE_BUILD/mkmodel" --preset "tiny-$1" --threads 1 "$work/$1.gguf" >"$work/mk" 2>&1 ||
            { echo "Bail out! mkmodel: $(cat "$work/mk")"; exit 255; }
    fi
    echo "$work/$1.gguf"
}
