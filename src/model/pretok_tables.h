/* pretok_tables.h: the rules of pretok_tables.c, for pretok.c and the tests. */
#ifndef NM_MODEL_PRETOK_TABLES_H
#define NM_MODEL_PRETOK_TABLES_H

#include "model/tokenizer_priv.h"

#define NM_PRETOK_MAX_STEPS 6
#define NM_PRETOK_MAX_NAMES 12

typedef struct nm_pretok_step {
    nm_split_fn fn;      /* the pattern by hand; NULL = PCRE2 runs it */
    const char *pattern; /* NULL = end of the steps */
} nm_pretok_step;

typedef struct nm_pretok_rule {
    const char *names[NM_PRETOK_MAX_NAMES + 1]; /* tokenizer.ggml.pre; NULL-terminated */
    bool ignore_merges; /* a word that is a token is that token, whatever the merges make */
    bool add_bos;       /* when the file does not say */
    nm_pretok_step steps[NM_PRETOK_MAX_STEPS];
} nm_pretok_rule;

extern const nm_pretok_rule nm_pretok_rules[];
extern const size_t nm_pretok_n_rules;

/* NULL = unknown. */
const nm_pretok_rule *nm_pretok_find(nm_str name);

#endif
