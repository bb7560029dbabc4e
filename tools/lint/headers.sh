# Every header compiles alone, twice included; the public one as C99 and as C++ too.
cc=${CC:-cc}
cxx=${CXX:-c++}
flags="-Wall -Wextra -Wpedantic -Werror -Iinclude -Isrc -Itests -fsyntax-only"
bad=0
arch=$($cc -dumpmachine)
for h in $(grep '\.h$' "$work/c"); do
    case $h in # written for one architecture
    src/kernels/x86/*) case $arch in x86_64*) ;; *) continue ;; esac ;;
    src/kernels/arm/*) case $arch in aarch64* | arm64*) ;; *) continue ;; esac ;;
    esac
    folder=$(dirname "$h")
    isa=''
    case $h in *_avx2*) isa='-mavx2 -mfma -mf16c' ;; *_avx512*) isa='-mavx512f -mavx512bw -mavx512vl -mavx512dq -mfma -mf16c' ;; esac
    name=$(basename "$h")
    printf '#include "%s"\n#include "%s"\ntypedef int not_empty;\n' "$name" "$name" >"$work/h.c"
    # shellcheck disable=SC2086
    $cc -std=c11 -D_GNU_SOURCE $flags $isa -I"$folder" -Wno-unused-function "$work/h.c" || {
        echo "$h:1: does not compile alone"
        bad=1
    }
done
printf '#include <npumoe/npumoe.h>\nint main(void) { return npumoe_version() == 0; }\n' >"$work/p.c"
cp "$work/p.c" "$work/p.cc"
$cc -std=c99 $flags "$work/p.c" || { echo "npumoe.h:1: is not C99"; bad=1; }
if command -v "$cxx" >/dev/null 2>&1; then
    $cxx -std=c++11 $flags "$work/p.cc" || { echo "npumoe.h:1: is not C++"; bad=1; }
else
    echo "no C++ compiler ($cxx) to try npumoe.h with; ./setup deps check installs one"
    bad=1
fi
exit $bad
