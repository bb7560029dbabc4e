/* scripted_model.h: a model whose answer is known.
 *
 * One olmoe layer in which all matrices are zero, so the token embedding (the identity) passes
 * through, and an output matrix that says which token follows which:
 *
 *     3 "One" -> 4 " two" -> 5 " three" -> 6 " f" -> 7 "our" -> 8 "." -> 9, 10, 11 (the bytes of the
 *     euro sign) -> 2 </s> -> 12 "END" -> 13 (a lone byte F0) -> 2
 *     14 "loop-a" <-> 15 "loop-b"
 *
 * The tokenizer is SentencePiece's kind; token 16 is a control token. */
#ifndef TESTS_SUPPORT_SCRIPTED_MODEL_H
#define TESTS_SUPPORT_SCRIPTED_MODEL_H

#include "base/err.h"

enum {
    SCRIPTED_N_VOCAB = 64,
    SCRIPTED_N_EMBD = 64,
    SCRIPTED_N_HEAD = 2,
    SCRIPTED_N_FF = 32,
    SCRIPTED_N_CTX_TRAIN = 48,
    SCRIPTED_BOS = 1,
    SCRIPTED_EOS = 2,
};

npumoe_status scripted_model_write(const char *path, npumoe_error *err);

#endif
