# Instruction sets: an object holds only what its file's suffix allows, so that a tier runs on every
# CPU that it is meant for. Looks at registers: ymm needs AVX; zmm, mask registers and xmm16 and up
# need AVX-512; tmm needs AMX. And at the mnemonics of extensions that share registers with the tier
# below: dot products of VNNI, bytes moved by VBMI, whatever converts to or multiplies bf16, fp16 arithmetic.
# On arm64 NEON is the baseline; dot products, matrix products and bf16 are extensions. A machine
# with the cross tools looks at its arm64 objects, too, where `make check-emulated` has built some.
bad=0
look_at_arm() { # OBJDUMP FOLDER
    dot='[[:space:]][su]dot[[:space:]]'
    i8mm='[[:space:]](us|s|u)mmla[[:space:]]|[[:space:]](us|su)dot[[:space:]]'
    bf16='[[:space:]]bf(dot|mmla|mlal[bt]|cvt[a-z0-9]*)[[:space:]]'
    for o in $(find "$2" -name '*.o'); do
        case $o in
        *_neondot.o) banned="$i8mm|$bf16" ;;
        *_neoni8mm.o) banned="$bf16" ;;
        *_neonbf16.o) banned="$dot|$i8mm" ;;
        *) banned="$dot|$i8mm|$bf16" ;;
        esac
        hit=$("$1" -d --no-show-raw-insn "$o" | grep -E -m 1 "$banned")
        [ -z "$hit" ] || { echo "$o: $hit"; bad=1; }
    done
}
command -v objdump >/dev/null 2>&1 || { echo "objdump (binutils) is missing"; exit 1; }
case $(${CC:-cc} -dumpmachine) in
x86_64*) ;;
aarch64* | arm64*) look_at_arm objdump build/release/src; exit $bad ;;
*) echo "note: no rules for this architecture"; exit 0 ;;
esac
cross=aarch64-linux-gnu-objdump
if [ -d build/aarch64-release/src ] && command -v $cross >/dev/null 2>&1; then
    look_at_arm $cross build/aarch64-release/src
    echo "note: arm64 objects, too"
fi
avx512='%zmm|%k[1-7]|%[xy]mm(1[6-9]|2[0-9]|3[01])'
vnni='vpdp[bw]'
vbmi='vperm([it]2)?b[[:space:]]|vpmultishiftqb'
above="$vbmi|"'%tmm|vdpbf16|vcvtne2?ps2bf16|v[a-z0-9]+ph[[:space:]]'
halves='vcvt(ps2ph|ph2ps)[[:space:]]' # F16C and AVX-512F have these two
for o in $(find build/release/src -name '*.o'); do
    case $o in
    *_amx.o) banned="$vnni" ;;
    *_avx512vnni.o) banned="$above" ;;
    *_avx512bf16.o) banned="%tmm|$vnni|$vbmi" ;;
    *_avx512.o) banned="$above|$vnni" ;;
    *_avxvnni.o) banned="$above|$avx512" ;;
    *_avx2.o) banned="$above|$vnni|$avx512" ;;
    *) banned="%ymm|$above|$vnni|$avx512" ;;
    esac
    hit=$(objdump -d --no-show-raw-insn "$o" | grep -Ev "$halves" | grep -E -m 1 "$banned")
    [ -z "$hit" ] || { echo "$o: $hit"; bad=1; }
done
exit $bad
