/* pretok_tables.c: how each family cuts a text into words before merging.
 *
 * The patterns are facts of the models: they stand in the tokenizer.json of each (sources by name
 * in docs/tokenizers.md). A rule is a list of steps; each step cuts every piece that the step
 * before left: the matches and what lies between them are the new pieces.
 *
 * Two changes of spelling, none of meaning:
 *   - \s is written out as the 25 code points of the Unicode property White_Space. PCRE2's own \s
 *     also takes U+180E; Rust's and Oniguruma's, which these models were trained with, do not.
 *   - (?i:'s) is written '[sS]: in Unicode mode /i would also take U+017F for s.
 * Where fn is set it is the fast form of the pattern (pretok_fast.c); the two are held against
 * each other in the tests.
 *
 * Left out, because a run of digits would cost its length squared: superbpe and tiny_aya. */
#include "model/pretok_tables.h"

// clang-format off
#define WS "\\x09-\\x0d\\x20\\x85\\xa0\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
#define S     "[" WS "]"
#define NOT_S "[^" WS "]"
#define SPACES S "*[\\r\\n]+|" S "+(?!" NOT_S ")|" S "+"

#define CONTRACTION_ANY "'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])"

#define GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^" WS "\\p{L}\\p{N}]+|" S "+(?!" NOT_S ")|" S "+"
#define CL100K(digits) CONTRACTION_ANY "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" digits "| ?[^" WS "\\p{L}\\p{N}]+[\\r\\n]*|" SPACES
#define QWEN35 CONTRACTION_ANY "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^" WS "\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|" SPACES

/* Words that begin with capitals, words of small letters, with what may follow (o200k, Tekken). */
#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define CASED(tail) "[^\\r\\n\\p{L}\\p{N}]?" UPPER "*" LOWER "+" tail "|[^\\r\\n\\p{L}\\p{N}]?" UPPER "+" LOWER "*" tail
#define O200K  CASED("(?:" CONTRACTION_ANY ")?") "|\\p{N}{1,3}| ?[^" WS "\\p{L}\\p{N}]+[\\r\\n/]*|" SPACES
#define TEKKEN CASED("") "|\\p{N}| ?[^" WS "\\p{L}\\p{N}]+[\\r\\n/]*|" SPACES

#define ASCII_PUNCT "[!-/:-@\\[-`{-~]"
#define DEEPSEEK3 ASCII_PUNCT "[A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|" SPACES

#define EAST_ASIAN "[\\x{4e00}-\\x{9fa5}\\x{800}-\\x{4e00}\\x{ac00}-\\x{d7ff}]+"

/* The letters with case of the Unicode version that DeepSeek's first tokenizer was made with. */
#define CASED_LETTERS \
    "A-Za-z\\x{b5}\\x{c0}-\\x{d6}\\x{d8}-\\x{f6}\\x{f8}-\\x{1ba}\\x{1bc}-\\x{1bf}" \
    "\\x{1c4}-\\x{293}\\x{295}-\\x{2af}\\x{370}-\\x{373}\\x{376}\\x{377}\\x{37b}-\\x{37d}" \
    "\\x{37f}\\x{386}\\x{388}-\\x{38a}\\x{38c}\\x{38e}-\\x{3a1}\\x{3a3}-\\x{3f5}" \
    "\\x{3f7}-\\x{481}\\x{48a}-\\x{52f}\\x{531}-\\x{556}\\x{10a0}-\\x{10c5}" \
    "\\x{13a0}-\\x{13f5}\\x{13f8}-\\x{13fd}\\x{1c90}-\\x{1cba}\\x{1cbd}-\\x{1cbf}" \
    "\\x{1d00}-\\x{1d2b}\\x{1d6b}-\\x{1d77}\\x{1d79}-\\x{1d9a}\\x{1e00}-\\x{1f15}" \
    "\\x{1f18}-\\x{1f1d}\\x{1f20}-\\x{1f45}\\x{1f48}-\\x{1f4d}\\x{1f50}-\\x{1f57}\\x{1f59}" \
    "\\x{1f5b}\\x{1f5d}\\x{1f5f}-\\x{1f7d}\\x{1f80}-\\x{1fb4}\\x{1fb6}-\\x{1fbc}\\x{1fbe}" \
    "\\x{1fc2}-\\x{1fc4}\\x{1fc6}-\\x{1fcc}\\x{1fd0}-\\x{1fd3}\\x{1fd6}-\\x{1fdb}" \
    "\\x{1fe0}-\\x{1fec}\\x{1ff2}-\\x{1ff4}\\x{1ff6}-\\x{1ffc}\\x{2102}\\x{2107}" \
    "\\x{210a}-\\x{2113}\\x{2115}\\x{2119}-\\x{211d}\\x{2124}\\x{2126}\\x{2128}" \
    "\\x{212a}-\\x{212d}\\x{212f}-\\x{2134}\\x{2139}\\x{213c}-\\x{213f}\\x{2145}-\\x{2149}" \
    "\\x{214e}\\x{2183}\\x{2184}\\x{2c00}-\\x{2c7b}\\x{2c7e}-\\x{2ce4}\\x{2ceb}-\\x{2cee}" \
    "\\x{2cf2}\\x{2cf3}\\x{a640}-\\x{a66d}\\x{a680}-\\x{a69b}\\x{a722}-\\x{a76f}" \
    "\\x{a771}-\\x{a787}\\x{a78b}-\\x{a78e}\\x{ab70}-\\x{abbf}\\x{fb00}-\\x{fb06}" \
    "\\x{fb13}-\\x{fb17}\\x{ff21}-\\x{ff3a}\\x{ff41}-\\x{ff5a}\\x{10400}-\\x{1044f}" \
    "\\x{104b0}-\\x{104d3}\\x{104d8}-\\x{104fb}\\x{10c80}-\\x{10cb2}\\x{10cc0}-\\x{10cf2}" \
    "\\x{118a0}-\\x{118df}\\x{1e900}-\\x{1e943}"


#define STEP_GPT2   {nm_split_gpt2, GPT2}
#define STEP_DIGIT  {nm_split_digit, "\\p{N}"}
#define STEP_CL100K {nm_split_cl100k, CL100K("\\p{N}{1,3}")}
#define STEP_QWEN2  {nm_split_qwen2, CL100K("\\p{N}")}
#define STEP_QWEN35 {nm_split_qwen35, QWEN35}

const nm_pretok_rule nm_pretok_rules[] = {
    {{"gpt-2", "olmo", "mpt", "phi-2", "jais", "trillion", "gigachat", "a.x-4.0", "mellum", "exaone4",
      "modern-bert", "granite-docling"},
     false, false, {STEP_GPT2}},
    {{"refact", "starcoder", "smollm", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2"},
     false, false, {STEP_DIGIT, STEP_GPT2}},
    {{"llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"},
     true, true, {STEP_CL100K}},
    {{"dbrx", "smaug-bpe", "glm4", "chatglm-bpe"},
     false, false, {STEP_CL100K}},
    {{"qwen2", "deepseek-r1-qwen", "kormo", "f2llmv2", "megrez", "stablelm2", "hunyuan", "solar-open",
      "grok-2", "bailingmoe", "bailingmoe2", "llada-moe"},
     false, false, {STEP_QWEN2}},
    {{"qwen35"},
     false, false, {STEP_QWEN35}},
    {{"laguna"},
     false, false, {{NULL, "\\n+"}, STEP_QWEN2}},
    {{"gpt-4o", "llama4", "kanana2", "minimax-m2", "talkie"},
     false, false, {{NULL, O200K}}},
    {{"tekken"},
     true, true, {{NULL, TEKKEN}}},
    {{"deepseek-llm"},
     false, false, {{NULL, "[\\r\\n]"},
                    {NULL, S "?[" CASED_LETTERS "]+"},
                    {NULL, S "?[!-/:-~\\x{ff01}-\\x{ff0f}\\x{ff1a}-\\x{ff5e}\\x{2018}-\\x{201f}\\x{3000}-\\x{3002}]+"},
                    {NULL, "(?<!" S ")" S "++\\z"}, /* the look-behind: else quadratic */
                    {NULL, EAST_ASIAN},
                    {NULL, "\\p{N}+"}}},
    {{"deepseek-coder"},
     false, false, {{NULL, "[\\r\\n]"},
                    {NULL, S "?\\p{L}+"},
                    {NULL, S "?\\p{P}+"},
                    {NULL, EAST_ASIAN},
                    STEP_DIGIT}},
    {{"deepseek-v3", "hunyuan-dense", "joyai-llm"},
     false, false, {{NULL, "\\p{N}{1,3}"},
                    {NULL, "[\\x{4e00}-\\x{9fa5}\\x{3040}-\\x{30ff}]+"},
                    {NULL, DEEPSEEK3}}},
    {{"falcon"},
     false, false, {{NULL, "[\\p{P}$+<=>^~|`]+"}, STEP_GPT2, {NULL, "[0-9][0-9][0-9]"}}},
    {{"default"},
     false, false, {{NULL, "[\\p{P}$+<=>^~|]+"}, STEP_GPT2, {NULL, "\\p{N}+"}, {NULL, "[0-9][0-9][0-9]"}}},
};
// clang-format on

const size_t nm_pretok_n_rules = sizeof nm_pretok_rules / sizeof *nm_pretok_rules;
