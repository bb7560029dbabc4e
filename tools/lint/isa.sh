# Instruction sets: an object holds only what its file's suffix allows, so that a tier runs on every
# CPU that it is meant for. Looks at registers: ymm needs AVX; zmm, mask registers and xmm16 and up
# need AVX-512. x86-64 only (arm64's NEON is its baseline).
case $(${CC:-cc} -dumpmachine) in x86_64*) ;; *) echo "note: not x86-64"; exit 0 ;; esac
command -v objdump >/dev/null 2>&1 || { echo "objdump (binutils) is missing"; exit 1; }
avx512='%zmm|%k[1-7]|%[xy]mm(1[6-9]|2[0-9]|3[01])'
bad=0
for o in $(find build/release/src -name '*.o'); do
    case $o in
    *_avx512.o) continue ;;
    *_avx2.o) banned=$avx512 ;;
    *) banned="%ymm|$avx512" ;;
    esac
    hit=$(objdump -d --no-show-raw-insn "$o" | grep -E -m 1 "$banned")
    [ -z "$hit" ] || { echo "$o: $hit"; bad=1; }
done
exit $bad
