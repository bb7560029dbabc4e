# Instruction sets: an object holds only what its file's suffix allows, so that a tier runs on every
# CPU that it is meant for. Looks at registers: ymm needs AVX; zmm, mask registers and xmm16 and up
# need AVX-512; tmm needs AMX. And at the mnemonics of extensions that share registers with the tier
# below: dot products of VNNI, whatever converts to or multiplies bf16, fp16 arithmetic.
# x86-64 only (arm64's NEON is its baseline).
case $(${CC:-cc} -dumpmachine) in x86_64*) ;; *) echo "note: not x86-64"; exit 0 ;; esac
command -v objdump >/dev/null 2>&1 || { echo "objdump (binutils) is missing"; exit 1; }
avx512='%zmm|%k[1-7]|%[xy]mm(1[6-9]|2[0-9]|3[01])'
vnni='vpdp[bw]'
above='%tmm|vdpbf16|vcvtne2?ps2bf16|v[a-z0-9]+ph[[:space:]]'
halves='vcvt(ps2ph|ph2ps)[[:space:]]' # F16C and AVX-512F have these two
bad=0
for o in $(find build/release/src -name '*.o'); do
    case $o in
    *_amx.o) banned="$vnni" ;;
    *_avx512vnni.o) banned="$above" ;;
    *_avx512bf16.o) banned="%tmm|$vnni" ;;
    *_avx512.o) banned="$above|$vnni" ;;
    *_avxvnni.o) banned="$above|$avx512" ;;
    *_avx2.o) banned="$above|$vnni|$avx512" ;;
    *) banned="%ymm|$above|$vnni|$avx512" ;;
    esac
    hit=$(objdump -d --no-show-raw-insn "$o" | grep -Ev "$halves" | grep -E -m 1 "$banned")
    [ -z "$hit" ] || { echo "$o: $hit"; bad=1; }
done
exit $bad
